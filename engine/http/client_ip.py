"""Who is at the other end: the peer, or what a trusted proxy says about it.

X-Forwarded-For counts only when the peer itself is a trusted proxy; then the right-most hop that is
not one is the client. Headers are never counted by position (SEC-054, SEC-055).
"""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from engine.errors import ConfigError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
_MAX_HOPS = 32
UNKNOWN = "unknown"


def parse_address(text: str) -> Address | None:
    """Read an IP address strictly; an IPv4 address mapped into IPv6 is the IPv4 one, a zone is refused."""
    if "%" in text:
        return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def parse_networks(entries: Iterable[str], *, key: str = "server.trusted_proxies") -> tuple[Network, ...]:
    """Read addresses and networks. Raises ConfigError that names *key* and the entry.

    A network with host bits set (``10.0.0.1/0``) is refused: it rarely means what it says. So is a zone
    (``fe80::1%eth0``): `parse_address` knows none, and the entry could never match.
    """
    networks = []
    for entry in entries:
        if "%" in entry:
            raise ConfigError(f"{key}: {entry!r} has a zone: give the address without it")
        try:
            networks.append(ip_network(entry, strict=True))
        except ValueError as exc:
            raise ConfigError(f"{key}: {entry!r} is no IP address or network: {exc}") from None
    return tuple(networks)


def rate_key(client: str) -> str:
    """Return what a client is counted under: its IPv4 address, or the /64 that one IPv6 customer is given."""
    address = parse_address(client)
    return str(ip_network((address, 64), strict=False)) if isinstance(address, IPv6Address) else client


def is_in(address: Address, networks: Sequence[Network]) -> bool:
    """Tell whether *address* lies in one of *networks*."""
    return any(address.version == network.version and address in network for network in networks)


def client_ip(peer: str | None, forwarded_for: Sequence[str], trusted: Sequence[Network]) -> str:
    """Return the client's address as text.

    *peer* is the other end of the socket, *forwarded_for* the X-Forwarded-For header values in their
    order. A hop that cannot be read ends the walk: the last address that is certain counts.
    """
    address = None if peer is None else parse_address(peer)
    if address is None:
        return UNKNOWN
    if not is_in(address, trusted):
        return str(address)
    hops = [hop.strip() for value in forwarded_for for hop in value.split(",")][-_MAX_HOPS:]
    for hop in reversed(hops):
        named = parse_address(hop)
        if named is None:
            break
        address = named
        if not is_in(named, trusted):
            break
    return str(address)
