"""Who is at the other end: the peer, or what a trusted proxy says about it.

X-Forwarded-For and Forwarded (RFC 7239) count only when the peer itself is a trusted proxy; then the
right-most hop that is not one is the client. Hops are never counted by position (SEC-054, SEC-055).
A proxy sets one of the two and may pass on the other as its client wrote it: when they disagree, nobody
can say which is true.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from engine.errors import BadRequestError, ConfigError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
_MAX_HOPS = 32
UNKNOWN = "unknown"
# RFC 7239 section 4, strictly: a quoted value holds neither quotes nor backslashes. Possessive: linear time.
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_VALUE = rf'(?:{_WORD}|"[^"\\]*+")'
_ONE = rf"[ \t]*+(?:{_WORD}={_VALUE})?+[ \t]*+"
_ELEMENT = re.compile(rf"{_ONE}(?:;{_ONE})*+(?=,|\Z)", re.ASCII)
_PAIR = re.compile(rf"({_WORD})=({_VALUE})", re.ASCII)
_REMEMBERED = 4_096
_NODE = re.compile(r"([0-9]+(?:\.[0-9]+){3})(?::[0-9]{1,5})?|\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?", re.ASCII)


@lru_cache(maxsize=_REMEMBERED)
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


@lru_cache(maxsize=_REMEMBERED)
def rate_key(client: str) -> str:
    """Return what a client is counted under: its IPv4 address, or the /64 that one IPv6 customer is given."""
    address = parse_address(client)
    return str(ip_network((address, 64), strict=False)) if isinstance(address, IPv6Address) else client


@lru_cache(maxsize=_REMEMBERED)
def wide_key(client: str) -> str:
    """Return what the first requests of a client are counted under: its IPv4 address, or the /48 of a site."""
    address = parse_address(client)
    return str(ip_network((address, 48), strict=False)) if isinstance(address, IPv6Address) else client


def is_in(address: Address, networks: Sequence[Network]) -> bool:
    """Tell whether *address* lies in one of *networks*."""
    return any(address.version == network.version and address in network for network in networks)


def forwarded_hops(values: Sequence[str]) -> list[str]:
    """Return the ``for`` addresses of Forwarded header values in their order, without their ports.

    What is no address (``unknown``, a name that hides one, an element without ``for``) is an empty text;
    a header that is not RFC 7239's form is one empty text.
    """
    hops = []
    for value in values:
        at = 0
        while True:
            element = _ELEMENT.match(value, at)
            if element is None:
                return [""]
            hops.append(_node(element[0]))
            at = element.end()
            if at == len(value):
                break
            at += 1  # the comma
    return hops


def _node(element: str) -> str:
    nodes = [pair[2] for pair in _PAIR.finditer(element) if pair[1].lower() == "for"]
    if len(nodes) != 1:
        return ""
    found = _NODE.fullmatch(nodes[0].strip('"'))
    return "" if found is None else found[1] or found[2]


def client_ip(
    peer: str | None, forwarded_for: Sequence[str], trusted: Sequence[Network], *, forwarded: Sequence[str] = ()
) -> str:
    """Return the client's address as text.

    *peer* is the other end of the socket, *forwarded_for* and *forwarded* the X-Forwarded-For and Forwarded
    header values in their order. A hop that cannot be read ends the walk: the last address that is certain
    counts. Raises BadRequestError when a trusted proxy sends both and they name different clients.
    """
    address = None if peer is None else parse_address(peer)
    if address is None:
        return UNKNOWN
    if not is_in(address, trusted):
        return str(address)
    plain = [hop.strip() for value in forwarded_for for hop in value.split(",")]
    if not forwarded:
        return str(_walk(address, plain, trusted))
    client = _walk(address, forwarded_hops(forwarded), trusted)
    if forwarded_for and _walk(address, plain, trusted) != client:
        raise BadRequestError(
            "X-Forwarded-For and Forwarded name different clients: let the proxy set one and remove the other",
            code="FORWARDED_AMBIGUOUS",
        )
    return str(client)


def _walk(peer: Address, hops: Sequence[str], trusted: Sequence[Network]) -> Address:
    address = peer
    for hop in reversed(hops[-_MAX_HOPS:]):
        named = parse_address(hop)
        if named is None:
            break
        address = named
        if not is_in(named, trusted):
            break
    return address
