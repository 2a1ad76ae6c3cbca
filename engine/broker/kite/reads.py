"""The broker's reads, and the token exchange: one of these per origin, shared by the accounts.

Apart from the order wire, so that a slow read never stands in an order's way. What the order protocol reads (where
orders, trades, positions and triggers stand) goes over lean connections (`ReadWire`), everything else over httpx:
instruments, prices, funds, holdings, the profile, logins. A limiter as large as httpx's pool stands in front of both:
without one, cancelling under contention leaks the pool's slots (encode/httpcore#1093).
"""

import ssl
import zlib
from collections.abc import Callable, Mapping, Sequence
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx
import msgspec
import trio

from engine.broker.base import BrokerAuthError, BrokerNotPermitted
from engine.broker.kite.denied import judge
from engine.broker.kite.origin import Origin
from engine.broker.kite.read_wire import ReadWire
from engine.broker.outcome import LOGIN_CODES
from engine.egress import AllowListed
from engine.errors import BrokerUnavailable
from engine.observability.redaction import escape_controls

_MAX_BODY = 64 << 20
# Above this a body takes milliseconds to unpack, which is for a worker thread.
_THREAD_FROM_BYTES = 16 * 1024

Params = Sequence[tuple[str, str]]


class _Error(msgspec.Struct):
    message: Any = None
    error_type: Any = None


_error = msgspec.json.Decoder(_Error)


class ReadRateLimited(BrokerUnavailable):
    """The broker answered 429 to a read: it is up, and has had enough."""


class KiteReads:
    """Reads from *origin*. *timeout_s* bounds each phase of a request, *total_s* the whole of it.

    *local_address* is the address to leave by, as for the order wire. *heard* is told the ``Date`` of every
    answer and how many seconds after the request it came.
    """

    def __init__(
        self,
        origin: Origin,
        *,
        timeout_s: float = 7.0,
        total_s: float = 30.0,
        max_connections: int = 16,
        ssl_context: ssl.SSLContext | None = None,
        heard: Callable[[str | None, float], None] | None = None,
        local_address: str | None = None,
    ) -> None:
        self._heard = heard
        # Loading the certificate store takes some 20 ms: not for plain HTTP.
        verify = (
            (ssl_context or ssl.create_default_context()) if origin.is_tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        )
        self._total_s = total_s
        self._limiter = trio.CapacityLimiter(max_connections)
        self._wire = ReadWire(
            origin,
            timeout_s=timeout_s,
            max_bytes=_MAX_BODY,
            context=verify if origin.is_tls else None,
            local_address=local_address,
            heard=heard,
        )
        self._client = httpx.AsyncClient(
            base_url=str(origin),
            # shared by the accounts: what an answer to one of them sets must not go out with another's request
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(timeout_s),
            transport=AllowListed(
                str(origin),
                httpx.AsyncHTTPTransport(
                    verify=verify,
                    trust_env=False,
                    limits=httpx.Limits(max_connections=max_connections, max_keepalive_connections=max_connections),
                    local_address=local_address,
                ),
            ),
        )

    async def get(self, path: str, *, headers: Mapping[str, str], params: Params = ()) -> bytes:
        """Return the body of a 200 answer. Raises BrokerUnavailable, BrokerAuthError for a dead session."""
        status, _, body = await self.request("GET", path, headers=headers, params=params)
        return checked(path, status, body)

    async def look(self, path: str, *, headers: Mapping[str, str]) -> bytes:
        """As `get`, by the lean wire: for what the order protocol reads."""
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        try:
            with trio.fail_after(self._total_s):
                async with self._limiter:
                    answer = await self._wire.get(path, f"{head}Accept: */*\r\nAccept-Encoding: gzip\r\n")
                body = await _unpacked(path, answer.body) if answer.encoding == "gzip" else answer.body
        except trio.TooSlowError as exc:
            raise BrokerUnavailable(f"{path}: no answer within {self._total_s:g} s") from exc
        return checked(path, answer.status, body)

    async def post(self, path: str, form: Mapping[str, str], *, headers: Mapping[str, str]) -> bytes:
        """Return the body of a 200 answer to a form. Raises BrokerUnavailable or BrokerAuthError."""
        status, _, body = await self.request("POST", path, headers=headers, form=form)
        return checked(path, status, body)

    async def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        params: Params = (),
        form: Mapping[str, str] | None = None,
    ) -> tuple[int, httpx.Headers, bytes]:
        """Return status, headers and body of any answer. Raises BrokerUnavailable when there is none."""
        if self._client.is_closed:
            raise BrokerUnavailable(f"{path}: the client is closed")
        try:
            with trio.fail_after(self._total_s):
                asked = trio.current_time()
                async with (
                    self._limiter,
                    self._client.stream(
                        method,
                        path,
                        headers={**headers, "Accept-Encoding": "gzip"},
                        params=list(params) or None,
                        data=form,
                    ) as response,
                ):
                    if self._heard is not None:
                        self._heard(response.headers.get("date"), trio.current_time() - asked)
                    raw = await _drain(path, response)
                    if response.headers.get("content-encoding", "").lower() == "gzip":
                        raw = await _unpacked(path, raw)
                    return response.status_code, response.headers, raw
        except trio.TooSlowError as exc:
            raise BrokerUnavailable(f"{path}: no answer within {self._total_s:g} s") from exc
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL) as exc:
            raise BrokerUnavailable(f"{path}: {type(exc).__name__}: {exc}") from exc

    async def aclose(self) -> None:
        """Close the connections."""
        await self._wire.aclose()
        await self._client.aclose()


async def _drain(path: str, response: httpx.Response) -> bytes:
    chunks: list[bytes] = []
    size = 0
    # To the end even when it is too long, for the deadline stands anyway: leaving httpx's nested
    # generators half-way would leave their clean-up to the garbage collector.
    async for chunk in response.aiter_raw():
        size += len(chunk)
        if size <= _MAX_BODY:
            chunks.append(chunk)
    if size > _MAX_BODY:
        raise BrokerUnavailable(f"{path}: the answer is over {_MAX_BODY} bytes")
    return b"".join(chunks)


async def _unpacked(path: str, raw: bytes) -> bytes:
    if len(raw) < _THREAD_FROM_BYTES:
        return _gunzip(path, raw)
    return await trio.to_thread.run_sync(_gunzip, path, raw)


def _gunzip(path: str, raw: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        body = unpacker.decompress(raw, _MAX_BODY + 1)
    except zlib.error as exc:
        raise BrokerUnavailable(f"{path}: the answer is no gzip: {exc}") from exc
    if len(body) > _MAX_BODY or not unpacker.eof:
        raise BrokerUnavailable(f"{path}: the unpacked answer is cut or over {_MAX_BODY} bytes")
    return body


def checked(path: str, status: int, body: bytes) -> bytes:
    """Return *body* if *status* is 200.

    Raises BrokerAuthError for a dead session, BrokerNotPermitted when the app may not read this,
    ReadRateLimited for 429, BrokerUnavailable for anything else.
    """
    if status == 200:
        return body
    try:
        found = _error.decode(body)
    except (msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError):
        found = _Error(message=body[:120].decode("utf-8", "replace"))
    message = escape_controls(f"{path}: HTTP {status}: {str(found.message)[:300]}")
    if status == 403 and isinstance(found.error_type, str):
        code = judge(found.error_type, str(found.message))
        if code in LOGIN_CODES:
            raise BrokerAuthError(message, code)
        raise BrokerNotPermitted(message)
    if status == 429:
        raise ReadRateLimited(message)
    raise BrokerUnavailable(message)
