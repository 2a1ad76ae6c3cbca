"""``/_control/``: what tests and drills turn by hand. Loopback callers only; off unless configured."""

import ipaddress
from collections import Counter
from decimal import Decimal
from typing import TypeVar

import msgspec
from quart import Response, abort, request
from quart_trio import QuartTrio

from engine.exchange.config import Behaviour, ExchangeError, Limits
from engine.exchange.errors import bad_input
from engine.exchange.fault_gate import FaultGate
from engine.exchange.faults import FaultRule
from engine.exchange.ratelimit import RateLimiter
from engine.exchange.routes import Gateway, success

T = TypeVar("T", bound=msgspec.Struct)


class SetPrice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Pin the price of ``EXCHANGE:SYMBOL`` in rupees, or let it move again (null)."""

    key: str
    price: Decimal | None


class SetLiquidity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Let at most *quantity* units of a key trade from now on; null lifts the bound."""

    key: str
    quantity: int | None


class SetMarket(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Open or close the market."""

    open: bool


class SetFaults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Replace the rules by which the exchange misbehaves; an empty list ends it."""

    rules: list[FaultRule]


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An empty object."""


def add_control_routes(app: QuartTrio, gateway: Gateway, gate: FaultGate) -> None:
    """Add the control routes to *app*."""
    exchange, clock = gateway.exchange, gateway.clock

    async def done() -> Response:
        exchange.tick(clock.now())
        await gateway.settle()
        return success(True)

    @app.post("/_control/price")
    async def set_price() -> Response:
        asked = await _body(SetPrice)
        if exchange.roll(clock.now()).by_key.get(asked.key) is None:
            raise bad_input(f"`key`: {asked.key} is not in the master; write EXCHANGE:SYMBOL")
        exchange.market.pin(asked.key, asked.price)
        return await done()

    @app.post("/_control/liquidity")
    async def set_liquidity() -> Response:
        asked = await _body(SetLiquidity)
        if asked.quantity is None:
            exchange.desk.liquidity.pop(asked.key, None)
        else:
            exchange.desk.liquidity[asked.key] = asked.quantity
        return await done()

    @app.post("/_control/market")
    async def set_market() -> Response:
        asked = await _body(SetMarket)
        exchange.desk.market_open = asked.open
        return await done()

    @app.post("/_control/behaviour")
    async def set_behaviour() -> Response:
        exchange.behave(await _body(Behaviour))
        return await done()

    @app.post("/_control/release-amo")
    async def release_amo() -> Response:
        await _body(Nothing)
        exchange.release_amos(clock.now())
        return await done()

    @app.post("/_control/flush-sessions")
    async def flush_sessions() -> Response:
        await _body(Nothing)
        exchange.close_all_sessions(clock.now())
        return await done()

    @app.post("/_control/limits")
    async def set_limits() -> Response:
        # counted from here anew, the day's requests too
        exchange.limiter = RateLimiter(await _body(Limits))
        return await done()

    @app.post("/_control/faults")
    async def set_faults() -> Response:
        asked = await _body(SetFaults)
        try:
            gate.put(asked.rules)
        except ExchangeError as exc:
            raise bad_input(str(exc)) from exc
        return await done()

    @app.get("/_control/faults")
    async def faults() -> Response:
        _only_loopback()
        return success({"counts": gate.faults.counts, "hits": [msgspec.to_builtins(hit) for hit in gate.faults.hits]})

    @app.get("/_control/stats")
    async def stats() -> Response:
        _only_loopback()
        books = exchange.state.books.values()
        statuses = Counter(entry.order.status for book in books for entry in book.entries.values())
        return success(
            {
                "accounts": len(exchange.state.accounts),
                "sessions": len(exchange.state.sessions),
                "orders": exchange.state.orders,
                "trades": exchange.state.trades,
                "today": dict(statuses),
            }
        )


async def _body(kind: type[T]) -> T:
    _only_loopback()
    content: bytes = await request.get_data(cache=True, as_text=False, parse_form_data=False)
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.DecodeError as exc:
        raise bad_input(str(exc)) from exc


def _only_loopback() -> None:
    host = (request.scope.get("client") or ("",))[0]
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        abort(404)
