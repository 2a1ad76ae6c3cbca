"""Where the engine may connect to, said once: the hosts of the configuration and nothing else (SEC-060).

Addresses that a user gives (a webhook for alerts) are another matter: they may be anywhere, except where only
this machine or its network can reach. Such a name is looked up once, every address of it is judged, and the
connection is made to an address that was judged: what the name says a moment later does not count.
"""

import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
import trio

from engine.config import Config
from engine.errors import ValidationError

_LOOK_UP_S = 5.0
_NAT64 = IPv6Network("64:ff9b::/96")
# IANA's special-purpose registries; the standard library's idea of them differs between versions of Python
_SPECIAL: tuple[IPv4Network | IPv6Network, ...] = (
    IPv4Network("192.0.0.0/24"),
    IPv4Network("192.88.99.0/24"),
    IPv4Network("198.18.0.0/15"),
    IPv4Network("240.0.0.0/4"),
    IPv6Network("64:ff9b:1::/48"),
    IPv6Network("2001::/23"),
    IPv6Network("3fff::/20"),
    IPv6Network("5f00::/16"),
    IPv6Network("fec0::/10"),
)

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A place outside: host in small letters, and port."""

    host: str
    port: int


class Pinned(msgspec.Struct, frozen=True, kw_only=True):
    """A user's address, judged: ``address`` is where to connect to, ``host`` whom the certificate must name."""

    url: str
    host: str
    port: int
    address: str


def allowed_targets(config: Config) -> frozenset[Target]:
    """Return every place that the engine itself may connect to: the broker's two, Telegram's, alerts' and traces'."""
    kite = config.broker.kite
    traces = (config.tracing.otlp_url,) if config.tracing.otlp_url else ()
    urls = (kite.root_url, kite.ws_url, config.telegram.api_url, *config.alerts.addresses, *traces)
    return frozenset(_target(url) for url in urls)


def _target(url: str) -> Target:
    parts = urlsplit(url)
    default = 443 if parts.scheme in ("https", "wss") else 80
    return Target(host=(parts.hostname or "").lower(), port=parts.port or default)


class AllowListed(httpx.AsyncBaseTransport):
    """A transport that connects to *base_url*'s host and port only, whatever it is asked for.

    Raises httpx.UnsupportedProtocol for anything else: a redirect that was followed, an address put together from
    input.
    """

    def __init__(self, base_url: str, inner: httpx.AsyncBaseTransport) -> None:
        self._target = _target(base_url)
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send *request* if it goes where it may."""
        url = request.url
        asked = Target(host=url.host.lower(), port=url.port or (443 if url.scheme == "https" else 80))
        if asked != self._target:
            raise httpx.UnsupportedProtocol(f"{url.host}: not a host of the configuration")
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()


def client(base_url: str, *, timeout_s: float, **options: Any) -> httpx.AsyncClient:
    """Return a client for *base_url* alone; it verifies certificates, follows no redirect and uses no proxy."""
    transport = AllowListed(base_url, httpx.AsyncHTTPTransport(trust_env=False))
    return httpx.AsyncClient(transport=transport, timeout=timeout_s, trust_env=False, follow_redirects=False, **options)


def is_public(address: Address) -> bool:
    """Whether *address* is one of the internet's: not this machine, its networks, a cloud's metadata, or reserved."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if inner is None and address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None and not is_public(inner):
            return False
    if any(address.version == network.version and address in network for network in _SPECIAL):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


async def pin(url: str, *, resolve: Resolve | None = None) -> Pinned:
    """Judge *url*, which a user gave; return it with the address to connect to.

    Every address that *resolve* (default: the system's) gives must be public. Raises ValidationError that says what
    is wrong; the look-up has 5 seconds.
    """
    host, port = _given(url)
    try:
        with trio.fail_after(_LOOK_UP_S):
            found = [host] if _is_address(host) else await (resolve or _resolve)(host, port)
    except (OSError, UnicodeError, trio.TooSlowError):
        found = ()
    addresses = [ip_address(text.partition("%")[0]) for text in found]
    if not addresses:
        raise _refused(f"{host} cannot be looked up")
    if not all(is_public(address) for address in addresses):
        raise _refused(f"{host} is not on the internet: addresses of this machine and of private networks are refused")
    return Pinned(url=url, host=host, port=port, address=str(addresses[0]))


def _given(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _refused("it is not a URL") from None
    host = (parts.hostname or "").rstrip(".").lower()
    if not url.isascii() or not url.isprintable() or any(mark in url for mark in " \\"):
        raise _refused("it has white space, a backslash or a character that is not ASCII")
    if parts.scheme != "https" or not host or "@" in parts.netloc or "%" in parts.netloc:
        raise _refused("expected https://host/path, without user or password")
    if not _is_address(host) and host.rpartition(".")[2][:1].isdigit():
        # 0177.0.0.1, 2130706433, 0x7f.1: numbers that only some readers take for addresses
        raise _refused("the host is neither a name nor an address in its usual form")
    return host, 443 if port is None else port


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


async def _resolve(host: str, port: int) -> Sequence[str]:
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(target[0]) for *_, target in found]


def _refused(why: str) -> ValidationError:
    return ValidationError(f"this address cannot be used: {why}", details={"fields": {"url": why}})


async def post(pinned: Pinned, content: bytes, *, media_type: str, timeout_s: float = 5.0) -> int:
    """POST *content* to a judged address; return the status.

    The connection goes to the judged address, the certificate must be the host's, a redirect is an answer like any
    other. Raises httpx.HTTPError, trio.TooSlowError.
    """
    parts = urlsplit(pinned.url)
    shown = f"[{pinned.address}]" if ":" in pinned.address else pinned.address
    target = httpx.URL(pinned.url).copy_with(host=shown.strip("[]"))
    headers = {"Host": parts.netloc, "Content-Type": media_type}
    with trio.fail_after(timeout_s):
        async with httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=timeout_s) as sender:
            request = sender.build_request(
                "POST", target, content=content, headers=headers, extensions={"sni_hostname": pinned.host}
            )
            answer = await sender.send(request, stream=True)
            await answer.aclose()
            return answer.status_code
