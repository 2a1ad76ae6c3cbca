"""The broker as an engine speaks with it: order requests, reads, and all the ways in which they fail.

Answers to order requests go through the engine's own classification of them.
"""

import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import trio

from engine.broker.base import (
    Accepted,
    Broker,
    BrokerAuthError,
    BrokerOrder,
    BrokerPosition,
    BrokerPositions,
    BrokerTrade,
    Gate,
    NotSent,
    OrderNotCommitted,
    PlaceOutcome,
    WriteOutcome,
)
from engine.broker.kite import errors as kite_errors
from engine.broker.kite.errors import Failure
from engine.domain.enums import Exchange, OrderStatus, TransactionType, Variety
from engine.domain.instruments import Instrument
from engine.domain.order import Order
from engine.errors import BrokerUnavailable
from tests.simulation.book import Book, Weather
from tests.simulation.market import CAP
from tests.simulation.plan import PRICE, SYMBOLS, UNPRICED
from tests.simulation.scheduling import start_as
from tests.support.standing_blocks import StandingBlocks

_BYTES = 400
_TIMEOUT_S = 7.0


class _Post:
    """A request on its way; it arrives whatever becomes of its sender."""

    def __init__(self, order: Order, way: str) -> None:
        self.order = order
        self.way = way
        self.answered = trio.Event()
        self.answer: dict[str, Any] | None = None

    def reply(self, status: int, body: dict[str, Any] | bytes) -> None:
        """Have the answer arrive at the sender, if it is still there."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.answer = {"status": status, "content_type": "application/json", "body": content}
        self.answered.set()

    def error(self, status: int, error_type: str, message: str) -> None:
        """Answer with an error of Kite's form."""
        self.reply(status, {"status": "error", "error_type": error_type, "message": message, "data": None})

    def cut(self) -> None:
        """Have the connection break."""
        self.answer = {"failure": Failure.LOST}
        self.answered.set()


def _change_refused(status: int, error_type: str, message: str) -> WriteOutcome:
    body = json.dumps({"status": "error", "error_type": error_type, "message": message, "data": None}).encode()
    return kite_errors.classify(
        status=status, body=body, content_type="application/json", bytes_written=_BYTES, change=True
    )


_TIMED_OUT = "Order request timed out. Please check the order book and confirm before placing again."


class SimBroker(Broker):
    """One life's session with one account."""

    def __init__(self, life: Any, book: Book) -> None:
        self._order_blocks: StandingBlocks[BrokerOrder] = StandingBlocks()
        self._trade_blocks: StandingBlocks[BrokerTrade] = StandingBlocks()
        self._life = life
        self._book = book
        self._world = book.world
        self._token = book.token
        self.closed = False

    # writes

    async def place(self, order: Order, gate: Gate) -> PlaceOutcome:
        if order.status is not OrderStatus.SUBMITTING:
            raise OrderNotCommitted(f"{order.id} is {order.status}")
        world, life = self._world, self._life
        weather: Weather = world.weather
        way = world.way_of_post(order)
        life.point("post.before")
        refused = weather.refuses > 0
        if way == "connect_slow":
            await trio.sleep(world.dice.choice((0.3, 0.9, 1.5, 2.5)))
        else:
            await trio.sleep(0.0005)
        if way == "connect" or refused:
            return kite_errors.classify(status=None, bytes_written=0, failure=Failure.CONNECT, detail="refused")
        if life.is_dead:
            return NotSent(reason="the process is dead")
        stop = gate()
        if stop is not None:
            world.note("gated", order=order, why=stop)
            return NotSent(reason=stop, gated=True)
        world.left(life, order, way)
        life.point("post.left")
        post = _Post(order, way)
        start_as(None, world.nursery, self._serve, post, self._token)
        with trio.move_on_after(_TIMEOUT_S):
            await post.answered.wait()
        life.point("post.answered")
        if post.answer is None:
            return kite_errors.classify(
                status=None, bytes_written=_BYTES, failure=Failure.DEADLINE, detail="no answer in 7 s"
            )
        return kite_errors.classify(**({"status": None} | post.answer), bytes_written=_BYTES)

    async def _serve(self, post: _Post, token: int) -> None:
        book, dice = self._book, self._world.dice
        way, order = post.way, post.order
        await trio.sleep(dice.uniform(0.0005, 0.02))
        self._world.arrived(order)
        if token != book.token and way != "rate_limited":
            post.error(403, "TokenException", "Incorrect `api_key` or `access_token`.")
            return
        match way:
            case "refused":
                post.error(400, "MarginException", "Insufficient funds. Required margin is 95417.84.")
            case "frozen":
                lots = f"({order.quantity} lots)"
                most = self._world.market.freeze[order.symbol]
                post.error(
                    400,
                    "InputException",
                    f"The order quantity {order.quantity} {lots} is higher than the maximum quantity of {most} "
                    f"({most} lots) allowed by the exchanges. Please reduce the order quantity or use iceberg orders.",
                )
            case "trigger_met":
                side, than = ("sell", "lower") if order.transaction_type is TransactionType.SELL else ("buy", "higher")
                text = f"Trigger price for stoploss {side} orders should be {than} than the last traded price."
                post.error(400, "InputException", text)
            case "exit_refused":
                text = "Trigger price for stoploss sell orders cannot be below the lower circuit price."
                post.error(400, "InputException", text)
            case "false_refusal":
                post.error(400, "InputException", _TIMED_OUT)
                await trio.sleep(dice.uniform(0, 8))
                book.accept(order, way)
            case "order_exception_unplaced":
                post.error(400, "OrderException", "Internal error.")
            case "order_exception_rejected":
                book.accept(order, way, OrderStatus.REJECTED)
                post.error(400, "OrderException", "RMS:Margin Exceeds")
            case "timeout_text_placed":
                post.error(400, "OrderException", _TIMED_OUT)
                await trio.sleep(dice.uniform(0, 9))
                book.accept(order, way)
            case "timeout_text_unplaced":
                post.error(400, "InputException", _TIMED_OUT)
            case "server_error_placed":
                book.accept(order, way)
                post.error(dice.choice((500, 502, 503, 504)), "GeneralException", "Something broke")
            case "server_error_unplaced":
                post.error(dice.choice((500, 502, 503, 504)), "NetworkException", "OMS is not reachable")
            case "rate_limited":
                post.error(429, "NetworkException", "Too many requests")
            case "rate_limited_lie":
                weather: Weather = self._world.weather
                # a refusal that is none is found by one look, if that shows the book as it is
                if not (weather.stale_s or weather.drop or weather.frozen_reads or weather.book_down):
                    book.accept(order, way)
                post.error(429, "NetworkException", "Too many requests")
            case "cut_before":
                post.cut()
            case "cut_after":
                book.accept(order, way)
                post.cut()
            case "silent_placed":
                book.accept(order, way)
            case "silent_unplaced":
                return
            case "late_8" | "late_30" | "late_83" | "late_170" | "late_600":
                await trio.sleep(float(way.removeprefix("late_")))
                book.accept(order, way)
            case "cut_late_170":
                post.cut()
                await trio.sleep(170.0)
                book.accept(order, way)
            case "token":
                book.token += 1
                post.error(403, "TokenException", "Incorrect `api_key` or `access_token`.")
            case "garbage":
                book.accept(order, way)
                post.reply(200, b"<html>gateway</html>")
            case _:
                broker_id = book.accept(order, way)
                await trio.sleep(dice.uniform(1, 6) if way == "slow" else dice.uniform(0.0005, 0.03))
                post.reply(200, {"status": "success", "data": {"order_id": broker_id}})

    async def cancel(
        self, broker_order_id: str, variety: Variety, *, parent_order_id: str | None = None, gate: Gate | None = None
    ) -> WriteOutcome:
        self._life.point("cancel.before")
        await trio.sleep(0.01)
        self._check()
        reason = None if gate is None else gate()
        if reason is not None:
            return NotSent(reason=reason, gated=True)
        self._world.note("cancel", broker_id=broker_order_id)
        way = self._world.market.way_of_change()
        if way == "busy":
            return _change_refused(400, "InputException", "Order cannot be cancelled as it is being processed.")
        if way == "lost":
            return kite_errors.classify(status=None, bytes_written=_BYTES, failure=Failure.LOST, change=True)
        if way in ("slow", "untold"):
            start_as(None, self._world.nursery, self._cancel_late, broker_order_id)
            if way == "untold":
                return kite_errors.classify(status=None, bytes_written=_BYTES, failure=Failure.LOST, change=True)
            return Accepted(broker_order_id=broker_order_id)
        if way == "dropped":
            return Accepted(broker_order_id=broker_order_id)
        if broker_order_id not in self._book.rows or not self._book.end(broker_order_id, OrderStatus.CANCELLED):
            return _change_refused(400, "InputException", "Order does not exist")
        return Accepted(broker_order_id=broker_order_id)

    async def _cancel_late(self, broker_order_id: str) -> None:
        await trio.sleep(self._world.dice.uniform(0.05, 4.0))
        if broker_order_id in self._book.rows:
            self._book.end(broker_order_id, OrderStatus.CANCELLED)

    async def replace(
        self, broker_order_id: str, variety: Variety, *, gate: Gate | None = None, **terms: Any
    ) -> WriteOutcome:
        self._life.point("modify.before")
        await trio.sleep(0.01)
        self._check()
        reason = None if gate is None else gate()
        if reason is not None:
            return NotSent(reason=reason, gated=True)
        given = {name: value for name, value in terms.items() if value is not None}
        row = self._book.rows.get(broker_order_id)
        way = self._world.market.way_of_change()
        self._world.note("modify", broker_id=broker_order_id, way=way, terms=given)
        if row is None or not row.status.is_working or way == "busy":
            text = "Order cannot be modified as it is being processed. Try later."
            return _change_refused(400, "InputException", text)
        if self._book.changes.get(broker_order_id, 0) >= CAP:
            return _change_refused(429, "NetworkException", "Maximum allowed order modifications exceeded.")
        if way in ("ok", "untold"):
            self._book.change(broker_order_id, given)
        elif way == "slow":
            start_as(None, self._world.nursery, self._change_late, broker_order_id, given)
        elif way == "dropped":
            # taken, and refused by the exchange after that
            self._book.changes[broker_order_id] = self._book.changes.get(broker_order_id, 0) + 1
        await trio.sleep(0.005)
        self._life.point("modify.after")
        if way in ("lost", "untold"):
            return kite_errors.classify(status=None, bytes_written=_BYTES, failure=Failure.LOST, change=True)
        return Accepted(broker_order_id=broker_order_id)

    async def _change_late(self, broker_order_id: str, terms: dict[str, Any]) -> None:
        await trio.sleep(self._world.dice.uniform(0.05, 4.0))
        if self._book.rows[broker_order_id].status.is_working:
            self._book.change(broker_order_id, terms)

    # reads

    def _check(self) -> None:
        if self._life.is_dead:
            raise BrokerUnavailable("the process is dead")
        if self._world.weather.refuses:
            raise BrokerUnavailable("connection refused")
        if self._token != self._book.token:
            raise BrokerAuthError("Incorrect `api_key` or `access_token`.")

    async def _read(self, look: Callable[[], Any], *, slow: bool = False) -> Any:
        """Read: what is looked at is seen in the middle of a way that may be long."""
        world = self._world
        await trio.sleep(0.001)
        self._check()
        weather: Weather = world.weather
        if weather.book_down:
            raise BrokerUnavailable("HTTP 503")
        found = look()
        await trio.sleep(max(weather.slow_s) if weather.slow_s and slow else 0.002)
        self._check()
        return found

    def _book_now(self) -> list[BrokerOrder]:
        weather: Weather = self._world.weather
        book = self._book
        if weather.frozen_reads:
            return book.as_of(weather.frozen_reads.pop(0))
        rows = list(book.rows.values())
        if weather.stale_s:
            rows = book.as_of(trio.current_time() - max(weather.stale_s))
        if weather.drop:
            dice = self._world.dice
            count = max(weather.drop)
            gone = set(dice.sample(range(len(rows)), min(len(rows), count)))
            known = {o.broker_order_id for o in self._world.db.orders.values()}
            # a book that lacks nothing known cannot be told from a whole one, by anybody
            if any(rows[number].broker_order_id in known for number in gone):
                rows = [row for number, row in enumerate(rows) if number not in gone]
        return rows

    async def orders(self) -> Sequence[BrokerOrder]:
        return self._order_blocks.book(await self._read(self._book_now, slow=True))

    async def order_history(self, broker_order_id: str) -> list[BrokerOrder]:
        found: list[BrokerOrder] = await self._read(
            lambda: [row for _, row in self._book.log if row.broker_order_id == broker_order_id]
        )
        return found

    def _trades_now(self) -> list[BrokerTrade]:
        now = trio.current_time()
        return [trade for _, visible_at, trade in self._book.trades if visible_at <= now]

    async def trades(self) -> Sequence[BrokerTrade]:
        return self._trade_blocks.book(await self._read(self._trades_now))

    async def order_trades(self, broker_order_id: str) -> list[BrokerTrade]:
        return [trade for trade in await self.trades() if trade.broker_order_id == broker_order_id]

    def _positions_now(self) -> BrokerPositions:
        # positions lag behind trades
        until = trio.current_time() - (self._world.dice.choice((0.0, 0.3, 1.5)) if self._world.plan.trade_lag else 0.0)
        rows = tuple(
            BrokerPosition(exchange="NSE", symbol=symbol, product=product, quantity=quantity, last_price=PRICE)
            for (symbol, product), quantity in sorted(self._book.net(until=until).items())
        )
        return BrokerPositions(net=rows, day=rows)

    async def positions(self) -> BrokerPositions:
        found: BrokerPositions = await self._read(self._positions_now)
        return found

    async def holdings(self) -> list[Any]:
        return []

    async def instruments(self, exchange: str | None = None) -> list[Instrument]:
        await trio.sleep(0.01)
        self._check()
        return INSTRUMENTS

    async def last_prices(self, keys: Sequence[str]) -> dict[str, Decimal]:
        await trio.sleep(self._world.quote_s)
        self._check()
        return {key: self._world.market.price(key.partition(":")[2]) for key in keys}

    async def price_bounds(self, keys: Sequence[str]) -> dict[str, Any]:
        return {}

    async def margins(self) -> Any:
        raise BrokerUnavailable("not simulated")

    async def profile(self) -> Any:
        raise BrokerUnavailable("not simulated")

    async def aclose(self) -> None:
        self.closed = True


INSTRUMENTS = [
    Instrument(
        token=number,
        exchange=Exchange.NSE,
        symbol=symbol,
        lot_size=1,
        tick_size=Decimal("0.05"),
        # exchanges take no SL-M on options
        instrument_type="CE" if symbol == "TCS" else "EQ",
        last_price=Decimal(0) if symbol == UNPRICED else PRICE,
    )
    for number, symbol in enumerate(SYMBOLS, 1)
]
