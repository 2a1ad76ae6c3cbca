"""Which names a request may be addressed to, and from which pages a browser may send one.

A page of a stranger can make a browser on this machine send requests here: under its own name, which it
lets point here (DNS rebinding), or across origins. The first is told by the Host header, the second by
Sec-Fetch-Site and Origin, none of which a page can choose (SEC-029, SEC-056).
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urlsplit

from engine.config.checks import is_loopback
from engine.http.client_ip import Network, is_in, parse_address

_NAME = r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?"
_HOST = re.compile(rf"(?P<host>{_NAME}|\[[0-9A-Fa-f:.]{{2,45}}\])(?::(?P<port>[0-9]{{0,5}}))?", re.ASCII)
_READS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_REMEMBERED = 1_024
_FROM_HERE = frozenset({"same-origin", "none"})


class Fault(NamedTuple):
    """Why a request is refused: status, code and text of the answer."""

    status: int
    code: str
    text: str


class Names:
    """The names of the engine: *allowed* and that of *public_url*; those in *proxies* answer for what they pass on."""

    def __init__(self, allowed: Iterable[str], public_url: str, proxies: Sequence[Network]) -> None:
        public = urlsplit(public_url)
        self._public_origin = f"{public.scheme}://{public.netloc}".lower() if public_url else ""
        self._listed = frozenset(name.strip("[]").lower() for name in allowed)
        self._known = self._listed | {(public.hostname or "").lower()}
        self._proxies = proxies
        # nearly every request has the host and the peer of the one before
        self._is_ours = lru_cache(maxsize=_REMEMBERED)(self._judge)

    def fault(self, method: str, headers: Iterable[tuple[bytes, bytes]], peer: str | None, scheme: str) -> Fault | None:
        """Return why a request is refused by its names, None when it may pass."""
        host, sites, origins = "", [], []
        for name, value in headers:
            if name == b"host":
                host = value.decode("latin-1")
            elif name == b"sec-fetch-site":
                sites.append(value.decode("latin-1").lower())
            elif name == b"origin":
                origins.append(value.decode("latin-1").lower())
        if host and not self._is_ours(host, peer):
            text = f"this engine does not go by that name; if it should: [server] allowed_hosts = [{_shown(host)}]"
            return Fault(HTTPStatus.MISDIRECTED_REQUEST, "HOST_NOT_ALLOWED", text)
        if method in _READS or not self._is_foreign(sites, origins, host.lower(), scheme):
            return None
        return Fault(HTTPStatus.FORBIDDEN, "CROSS_ORIGIN", "a page of another origin may not send this")

    def _judge(self, host: str, peer: str | None) -> bool:
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = found["host"].strip("[]").rstrip(".").lower()
        if name in self._known:
            return True
        address = parse_address(peer or "")
        if address is not None and is_in(address, self._proxies):
            return True
        is_here = address is not None and address.is_loopback
        if self._listed:
            # a probe of this machine's own, by address
            return is_here and is_loopback(name)
        # a name that a stranger can point here has a dot; from other machines the engine is reached in the open
        return not is_here or "." not in name or name.endswith(".localhost") or parse_address(name) is not None

    def _is_foreign(self, sites: Sequence[str], origins: Sequence[str], host: str, scheme: str) -> bool:
        if sites:
            return any(site not in _FROM_HERE for site in sites)
        ours = {f"http://{host}", f"https://{host}"} if scheme == "http" else {f"https://{host}"}
        return any(origin not in ours and origin != self._public_origin for origin in origins)


def _shown(host: str) -> str:
    found = _HOST.fullmatch(host)
    return f'"{found["host"].strip("[]")}"' if found else "…"
