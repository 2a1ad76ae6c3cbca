"""How the engine meets other machines, for ``engine doctor``: its certificate, where it connects to, who runs it."""

import os
from datetime import timedelta
from pathlib import Path

from cryptography import x509

from engine.clock import Clock
from engine.config import Config
from engine.egress import allowed_targets
from engine.errors import EngineError
from engine.http.exposure import secured

_RENEW_WITHIN = timedelta(days=7)
_CODE = Path(__file__).resolve().parents[1]


def certificate(settings: Config, clock: Clock) -> str:
    """Say how the API is encrypted. Raises EngineError with the mend: a start would refuse, or browsers soon will."""
    server = settings.server
    if secured(server) is None:
        if server.trusted_proxies:
            return "plain HTTP, for the proxies of trusted_proxies"
        return "plain HTTP, on purpose" if server.allow_plain_http else "plain HTTP, on this machine only"
    try:
        (found, *_) = x509.load_pem_x509_certificates(Path(server.tls_cert).read_bytes())
    except ValueError as error:
        raise EngineError(f"[server] tls_cert {server.tls_cert}: {error}") from None
    left = found.not_valid_after_utc - clock.now()
    if left < timedelta():
        raise EngineError(
            f"[server] tls_cert {server.tls_cert} ran out on {found.not_valid_after_utc:%Y-%m-%d}: renew it"
        )
    if left < _RENEW_WITHIN:
        raise EngineError(f"[server] tls_cert {server.tls_cert} runs out in {left.days} days: renew it")
    return f"HTTPS, the certificate is good for {left.days} days"


def outbound(settings: Config) -> str:
    """Say what a firewall must let out: nothing else is ever connected to, but the stores."""
    targets = sorted(f"{target.host}:{target.port}" for target in allowed_targets(settings))
    return f"connects to {', '.join(targets)}; certificates verified, no redirects, no proxy of the environment"


def running_user() -> str:
    """Say as whom the engine would run, and what is wrong with that."""
    if os.geteuid() == 0:
        return "root: let it run as a user of its own, who owns the data directory and nothing else"
    if os.access(_CODE, os.W_OK):
        return f"user {os.geteuid()}, who may change the engine's own code in {_CODE}: install it as another user"
    return f"user {os.geteuid()}, who may not change the engine's code"
