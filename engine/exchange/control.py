"""``/_control/``: what tests and drills turn by hand. Loopback callers only; off unless configured.

On the exchange's own port, and, where one is configured, on a port of its own.
"""

import secrets
from collections import Counter
from decimal import Decimal
from typing import Annotated, TypeVar

import msgspec
from quart import Response, request
from quart_trio import QuartTrio

from engine.exchange.config import DEFAULT_REDIRECT, Behaviour, ExchangeError, Limits
from engine.exchange.errors import bad_input
from engine.exchange.fault_gate import FaultGate
from engine.exchange.faults import FaultRule
from engine.exchange.loopback import only_loopback
from engine.exchange.push_faults import PushRule
from engine.exchange.ratelimit import RateLimiter
from engine.exchange.routes import bare_app
from engine.exchange.static_ip import read_addresses
from engine.exchange.ticker import Ticker
from engine.exchange.web import Gateway, success

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


class SetTickerFaults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Replace the rules by which the ticker misbehaves; an empty list ends it."""

    rules: list[PushRule]


class SetStaticIps(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Take order writes from these addresses only; an empty list lifts the rule."""

    addresses: list[str]


class AddAccount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Add an account, or set the capital (rupees) of one anew. Keys left out are kept, or made."""

    user_id: Annotated[str, msgspec.Meta(min_length=1, max_length=32)]
    capital: Decimal = Decimal(1_000_000)
    api_key: str | None = None
    api_secret: str | None = None
    redirect_url: str | None = None


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An empty object."""


def build_control_app(gateway: Gateway, gate: FaultGate, ticker: Ticker) -> QuartTrio:
    """Return an application of the control routes alone."""
    app = bare_app(gateway)
    add_control_routes(app, gateway, gate, ticker)
    return app


def add_control_routes(app: QuartTrio, gateway: Gateway, gate: FaultGate, ticker: Ticker) -> None:
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
        only_loopback()
        return success({"counts": gate.faults.counts, "hits": [msgspec.to_builtins(hit) for hit in gate.faults.hits]})

    @app.post("/_control/ticker-faults")
    async def set_ticker_faults() -> Response:
        ticker.put_faults((await _body(SetTickerFaults)).rules)
        return await done()

    @app.get("/_control/ticker-faults")
    async def ticker_faults() -> Response:
        only_loopback()
        return success({"counts": ticker.faults.counts})

    @app.post("/_control/static-ip")
    async def set_static_ips() -> Response:
        asked = await _body(SetStaticIps)
        try:
            exchange.static_ips = read_addresses(asked.addresses)
        except ExchangeError as exc:
            raise bad_input(str(exc)) from exc
        return await done()

    @app.post("/_control/accounts")
    async def add_account() -> Response:
        asked = await _body(AddAccount)
        if not asked.capital.is_finite() or asked.capital <= 0:
            raise bad_input(f"`capital`: {asked.capital} is not above 0; write rupees")
        known = exchange.state.accounts.get(asked.user_id)
        key = asked.api_key or (known.api_key if known else secrets.token_hex(8))
        secret = asked.api_secret or (known.api_secret if known else secrets.token_hex(16))
        redirect = asked.redirect_url or (known.redirect_url if known else DEFAULT_REDIRECT)
        try:
            exchange.add_account(key, secret, asked.user_id, asked.capital, redirect, now=clock.now())
        except ExchangeError as exc:
            raise bad_input(str(exc)) from exc
        await gateway.settle()
        return success({"user_id": asked.user_id, "api_key": key, "api_secret": secret})

    @app.get("/_control/stats")
    async def stats() -> Response:
        only_loopback()
        books = exchange.state.books.values()
        statuses = Counter(entry.order.status for book in books for entry in book.entries.values())
        return success(
            {
                "accounts": len(exchange.state.accounts),
                "sessions": len(exchange.state.sessions),
                "ticker_connections": len(ticker.connections),
                "orders": exchange.state.orders,
                "trades": exchange.state.trades,
                "today": dict(statuses),
            }
        )


async def _body(kind: type[T]) -> T:
    only_loopback()
    content: bytes = await request.get_data(cache=True, as_text=False, parse_form_data=False)
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.DecodeError as exc:
        raise bad_input(str(exc)) from exc
