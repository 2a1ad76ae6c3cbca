"""The static-IP rule: order writes come from registered addresses only, reads from anywhere (kite.md 3.3, 4.2)."""

import ipaddress
from collections.abc import Collection

from engine.exchange.config import ExchangeError
from engine.exchange.errors import KiteRefusal

_HELP = "https://support.zerodha.com/category/trading-and-markets/general-kite/kite-api/articles/static-ip"


def read_addresses(texts: Collection[str]) -> frozenset[str]:
    """Return the addresses in the form in which a peer's is compared. Raises ExchangeError for what is none."""
    try:
        return frozenset(_plain(text) for text in texts)
    except ValueError as exc:
        raise ExchangeError(f"static IP: {exc}; write an address such as 203.0.113.9") from exc


def check_address(address: str | None, allowed: frozenset[str]) -> None:
    """Raise KiteRefusal 403 for an order write from an address that is not *allowed*; an empty set allows all.

    An address that is not known (None) is not among the allowed ones.
    """
    if not allowed:
        return
    try:
        seen = _plain(address or "")
    except ValueError:
        seen = "unknown"
    if seen not in allowed:
        message = (
            f"IP ({seen}) is not allowed to place orders for this app. "
            f"Update allowed IPs on the Kite developer console. Learn more - {_HELP}"
        )
        raise KiteRefusal(403, "PermissionException", message)


def _plain(text: str) -> str:
    address = ipaddress.ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
