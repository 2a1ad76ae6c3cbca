"""One TLS context for the test process: making one reads every root certificate, some 35 ms of CPU for each client."""

import functools
import os
import ssl
from typing import Any

from httpx._config import create_ssl_context as _make
from httpx._transports import default as transport


@functools.cache
def _usual(_where: tuple[str | None, str | None], trust_env: bool) -> ssl.SSLContext:
    return _make(trust_env=trust_env)


def _shared(verify: Any = True, cert: Any = None, trust_env: bool = True) -> ssl.SSLContext:
    if verify is not True or cert is not None:
        return _make(verify=verify, cert=cert, trust_env=trust_env)
    return _usual((os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")), trust_env)


def share() -> None:
    """Let clients of httpx that trust the usual roots share their context."""
    vars(transport)["create_ssl_context"] = _shared
