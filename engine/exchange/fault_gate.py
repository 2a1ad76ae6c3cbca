"""Where the rules of `engine.exchange.faults` meet the requests: an ASGI layer in front of the routes.

Without rules it hands every request on and looks at nothing. What the exchange does of a request is
done by its own routes in every case, so that the truth record knows of it as always; this layer
only decides whether and when they see the request, and what of their answer the caller sees.
"""

import socket
import struct
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any
from urllib.parse import parse_qsl

import trio

from engine.exchange import rows
from engine.exchange.fault_answers import ANSWERS, Odd, emptied, partial
from engine.exchange.faults import Asked, FaultRule, Faults
from engine.exchange.routes import Gateway

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Any, Receive, Send], Awaitable[None]]

_WRITES = {"POST": "place", "PUT": "modify", "DELETE": "cancel"}
_READS = {"orders": "orders", "trades": "trades", "quote": "quotes"}
_RST_ON_CLOSE = struct.pack("ii", 1, 0)


class _Answer:
    """What the routes answered, kept from the wire."""

    def __init__(self) -> None:
        self.status = 500
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""

    async def take(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], list(message.get("headers", []))
        else:
            self.body += message.get("body", b"")


class FaultGate:
    """The application with faults in front; late effects are tasks of *nursery*."""

    def __init__(self, app: Any, gateway: Gateway, faults: Faults, nursery: trio.Nursery) -> None:
        self._app = app
        self._gateway = gateway
        self._nursery = nursery
        self._snapshots: dict[tuple[str, str], bytes] = {}
        self._dice = Random(1)  # noqa: S311 -- which rows a partial book lacks
        self.faults = faults

    def put(self, rules: list[FaultRule]) -> None:
        """Replace the rules; "stale" reads go on showing what is there now. Raises ExchangeError."""
        self.faults.put(rules)
        self._snapshots.clear()
        if any(rule.answer == "stale" for rule in rules):
            exchange, now = self._gateway.exchange, self._gateway.clock.now()
            for account in exchange.state.accounts.values():
                for kind, content in (
                    ("orders", exchange.orders(account, now)),
                    ("trades", rows.encode(exchange.trades(account, now))),
                    ("positions", rows.encode(exchange.positions(account, now))),
                ):
                    self._snapshots[kind, account.api_key] = b'{"status":"success","data":' + content + b"}"

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if not self.faults.are_on or scope["type"] != "http" or scope["path"].startswith("/_control/"):
            await self._app(scope, receive, send)
            return
        body = await _whole(receive)
        if body is None:
            return  # the caller went away before the request was whole
        rule = self.faults.pick(_asked(scope, body), self._gateway.clock.now())
        if rule is None:
            await self._app(scope, _replay(body, receive), send)
        else:
            await self._misbehave(rule, scope, body, receive, send)

    async def _misbehave(self, rule: FaultRule, scope: Any, body: bytes, receive: Receive, send: Send) -> None:
        answer = _Answer()
        if rule.answer == "logout":
            self._gateway.exchange.close_all_sessions(self._gateway.clock.now())
        if rule.takes == "now":
            await self._app(scope, _replay(body), answer.take)
        with trio.move_on_after(rule.delay_s) as waiting:
            await _gone(receive)
        if rule.delay_s and not waiting.cancelled_caught:
            self._take_late(rule, scope, body)
            return
        try:
            await self._answer(rule, scope, answer, receive, send)
        finally:
            self._take_late(rule, scope, body)

    def _take_late(self, rule: FaultRule, scope: Any, body: bytes) -> None:
        async def take() -> None:
            await trio.sleep(rule.late_s)
            await self._app(scope, _replay(body), _Answer().take)

        if rule.takes == "late":
            self._nursery.start_soon(take)

    async def _answer(self, rule: FaultRule, scope: Any, answer: _Answer, receive: Receive, send: Send) -> None:
        match rule.answer:
            case "none":
                await _gone(receive)
            case "drop" | "reset":
                await _hang_up(send, with_reset=rule.answer == "reset")
            case "cut":
                await _say(send, answer.status, answer.headers, answer.body[: rule.after_bytes], is_whole=False)
                await _hang_up(send, with_reset=True)
            case "own" | "logout":
                await _say(send, answer.status, answer.headers, answer.body)
            case "stale" | "empty" | "partial":
                await _say_odd(send, self._altered(rule, scope, answer))
            case name:
                await _say_odd(send, ANSWERS[name])

    def _altered(self, rule: FaultRule, scope: Any, answer: _Answer) -> Odd:
        body = answer.body
        if answer.status == 200 and rule.answer == "stale":
            body = self._snapshots.get((_asked(scope, b"").kind, _api_key(scope)), body)
        elif answer.status == 200:
            body = emptied(body) if rule.answer == "empty" else partial(body, self._dice)
        return Odd(status=answer.status, content_type="application/json", body=body)


def kind_of(method: str, path: str) -> str:
    """Return as what kind of request the rules see it."""
    words = path.strip("/").split("/")
    if words[0] == "orders" and method in _WRITES:
        return _WRITES[method]
    if words[:2] == ["portfolio", "positions"]:
        return "positions"
    # /quote/ltp and /quote/ohlc are quotes as well; /orders/ID and /trades/ID are not the books
    is_whole = len(words) == 1 or words[0] == "quote"
    return _READS.get(words[0], "other_read") if is_whole else "other_read"


def _asked(scope: Any, body: bytes) -> Asked:
    kind = kind_of(scope["method"], scope["path"])
    if kind not in _WRITES.values():
        return Asked(kind=kind)
    form = dict(parse_qsl(body.decode("utf-8", "replace")))
    return Asked(kind=kind, symbol=form.get("tradingsymbol"), tag=form.get("tag"), quantity=form.get("quantity"))


def _api_key(scope: Any) -> str:
    header: bytes = dict(scope["headers"]).get(b"authorization", b"")
    return header.decode("latin-1").removeprefix("token ").partition(":")[0]


async def _whole(receive: Receive) -> bytes | None:
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        chunk: bytes = message.get("body", b"")
        body += chunk
        if not message.get("more_body", False):
            return body


def _replay(body: bytes, then: Receive = trio.sleep_forever) -> Receive:
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        return messages.pop() if messages else await then()

    return receive


async def _gone(receive: Receive) -> None:
    """Wait until the caller has gone; bounded by the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _say(
    send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes, *, is_whole: bool = True
) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": not is_whole})


async def _say_odd(send: Send, odd: Odd) -> None:
    headers = [(b"content-length", str(len(odd.body)).encode())]
    if odd.content_type is not None:
        headers.append((b"content-type", odd.content_type.encode()))
    await _say(send, odd.status, headers, odd.body)


async def _hang_up(send: Any, *, with_reset: bool) -> None:
    """Close the connection under the server, which ASGI has no word for."""
    # HTTPStream.app_send -> H11Protocol.stream_send -> TCPServer.protocol_send (hypercorn is pinned)
    stream = send.__self__.send.__self__.send.__self__.stream
    if with_reset:
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
    await trio.aclose_forcefully(stream)
