"""By which address order calls leave, for ``engine doctor``: Zerodha takes orders from registered addresses only.

Place, modify and cancel are checked against the static addresses of the developer account, one and a backup,
of which one may be changed in a calendar week (SEBI's rule for API orders; support.zerodha.com, static IP).
No packet is sent to find out: a datagram socket that is connected knows its route.
"""

import socket
from ipaddress import ip_address
from urllib.parse import urlsplit

import trio

from engine.config import Config, KiteConfig
from engine.errors import EngineError

_RESOLVE_S = 5.0
_RULE = (
    "Zerodha takes orders only from static addresses registered on the Kite developer console "
    "(a primary and a backup, one change a week); behind a router it sees the router's address"
)


async def order_address(settings: Config) -> str:
    """Say by which address order calls leave. Raises EngineError with the mend when they cannot."""
    if settings.broker.mode == "paper":
        return "paper mode: orders stay on this machine"
    kite = settings.broker.kite
    if kite.local_address:
        _check_is_here(kite.local_address)
    address = ip_address((await _route(kite)).partition("%")[0])
    if address.is_loopback:
        return f"order calls stay on this machine ({address})"
    if kite.local_address:
        why = "broker.kite.local_address"
    else:
        why = "broker.kite.ipv4_only" if kite.ipv4_only else "the system's choice"
    said = f"order calls leave by {address} ({why}); {_RULE}"
    if address.version == 6:
        said += ". This is IPv6: register it, or set broker.kite.ipv4_only = true"
    return said


def _check_is_here(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError as error:
        mend = "use one that `ip address` shows, or leave it empty"
        raise EngineError(f"broker.kite.local_address {address} is not an address of this machine; {mend}") from error


async def _route(kite: KiteConfig) -> str:
    parts = urlsplit(kite.root_url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with trio.fail_after(_RESOLVE_S):
            found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, trio.TooSlowError) as error:
        raise EngineError(f"{host} (broker.kite.root_url) cannot be looked up: {error or 'too slow'}") from error
    reasons: list[str] = []
    for family, _, _, _, target in found:
        # as the order wire does it: what cannot be reached from the bound address is passed over
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                if kite.leaves_by is not None:
                    probe.bind((kite.leaves_by, 0))
                probe.connect(target)
                return str(probe.getsockname()[0])
        except OSError as error:
            reasons.append(f"{target[0]}: {error.strerror or error}")
    by = "" if kite.leaves_by is None else f" from {kite.leaves_by}"
    mend = "check broker.kite.local_address, broker.kite.ipv4_only and the machine's routes"
    raise EngineError(f"there is no way to {host}{by} ({'; '.join(reasons)}); {mend}")
