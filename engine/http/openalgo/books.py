"""orderbook, tradebook, positionbook, orderstatus, openposition: what the engine's own books have.

A book that cannot be read is an error, never an empty list: a program that is told "flat" trades on it.
"""

from datetime import UTC, datetime, time, timedelta
from functools import partial

from msgspec import UNSET, UnsetType

from engine.clock import IST, trading_day
from engine.domain.openalgo_symbols import find
from engine.domain.signal import Refusal
from engine.domain.tickets import place_of
from engine.errors import ConflictError, UnavailableError
from engine.http.endpoint import ApiRequest
from engine.http.openalgo.answers import (
    AccountQuantity,
    OpenPositionAnswer,
    OrderBookAnswer,
    OrderBookData,
    OrderStatusAnswer,
    PositionBookAnswer,
    TradeBookAnswer,
)
from engine.http.openalgo.bodies import KeyBody, OpenPositionBody, OrderIdBody
from engine.http.openalgo.door import check_loaded, enter, only, openalgo, refused
from engine.http.openalgo.ids import orders_named
from engine.http.openalgo.rows import intent_row, order_row, position_row, statistics_of, trade_row
from engine.http.openalgo.whose import accounts_of, executors_of, labels_of, strategy_of
from engine.http.permissions import Permission
from engine.http.services import Services
from engine.signals.openalgo import word
from engine.store.queries.holdings import PositionFilter, list_positions
from engine.store.queries.placed import orders_of_day, trades_since

MOST_ROWS = 5000
"""Rows of a book in one answer; the newest are kept."""

_LOOK_BACK = timedelta(days=5)


@openalgo(
    "/orderbook",
    needs=Permission.READ,
    summary="List the orders of the day (OpenAlgo)",
    body=KeyBody,
    response=OrderBookAnswer,
)
async def order_book(request: ApiRequest) -> OrderBookAnswer:
    """Orders of the caller's accounts today, by hand and exits included, newest first."""
    fields = enter(request, Permission.READ)
    services: Services = request.services
    accounts = [account.id for account in accounts_of(request, fields)]
    only(fields)
    now = services.clock.now()
    user_id, day = request.user.user_id, trading_day(now)
    await services.read_your_writes()
    found = await services.database.run(
        lambda connection: orders_of_day(
            connection, user_id, accounts, day, since=now - _LOOK_BACK, limit=MOST_ROWS + 1
        )
    )
    labels = labels_of(services)
    rows = tuple(order_row(order, services.master.book, labels) for order in found[:MOST_ROWS])
    data = OrderBookData(orders=rows, statistics=statistics_of(rows))
    return OrderBookAnswer(status="success", data=data, message=_cut(len(found)))


@openalgo(
    "/tradebook",
    needs=Permission.READ,
    summary="List the trades of the day (OpenAlgo)",
    body=KeyBody,
    response=TradeBookAnswer,
)
async def trade_book(request: ApiRequest) -> TradeBookAnswer:
    """Trades of the caller's accounts today, newest first."""
    fields = enter(request, Permission.READ)
    services: Services = request.services
    accounts = [account.id for account in accounts_of(request, fields)]
    only(fields)
    start = datetime.combine(trading_day(services.clock.now()), time(), IST).astimezone(UTC)
    await services.read_your_writes()
    found = await services.database.run(lambda connection: trades_since(connection, accounts, start, MOST_ROWS + 1))
    labels = labels_of(services)
    rows = tuple(trade_row(trade, services.master.book, labels) for trade in found[:MOST_ROWS])
    return TradeBookAnswer(status="success", data=rows, message=_cut(len(found)))


@openalgo(
    "/positionbook",
    needs=Permission.READ,
    summary="List the positions of the day (OpenAlgo)",
    body=KeyBody,
    response=PositionBookAnswer,
)
async def position_book(request: ApiRequest) -> PositionBookAnswer:
    """Net positions of the caller's accounts, whoever made them, those that today closed included."""
    fields = enter(request, Permission.READ)
    services: Services = request.services
    accounts = {account.id for account in accounts_of(request, fields)}
    only(fields)
    wanted = PositionFilter(limit=MOST_ROWS + 1, day=trading_day(services.clock.now()), user_id=request.user.user_id)
    await services.read_your_writes()
    found = await services.database.run(lambda connection: list_positions(connection, wanted))
    labels = labels_of(services)
    rows = tuple(
        position_row(
            held.position,
            services.prices.get(f"{held.position.exchange}:{held.position.symbol}"),
            services.master.book,
            labels,
        )
        for held in found[:MOST_ROWS]
        if held.position.account_id in accounts
    )
    return PositionBookAnswer(status="success", data=rows, message=_cut(len(found)))


@openalgo(
    "/orderstatus",
    needs=Permission.READ,
    summary="Show an order (OpenAlgo)",
    body=OrderIdBody,
    response=OrderStatusAnswer,
)
async def order_status(request: ApiRequest) -> OrderStatusAnswer:
    """One order, or the first of a signal by its intent's id; a signal without orders is shown as what it asks for."""
    fields = enter(request, Permission.READ)
    services: Services = request.services
    _, found = await orders_named(request, fields)
    only(fields)
    labels = labels_of(services)
    rows = tuple(order_row(order, services.master.book, labels) for order in found.orders)
    if not rows and found.intent is not None:
        rows = (intent_row(found.intent, services.master.book),)
    return OrderStatusAnswer(status="success", data=rows[0], orders=rows)


@openalgo(
    "/openposition",
    needs=Permission.READ,
    summary="Show the size of a position (OpenAlgo)",
    body=OpenPositionBody,
    response=OpenPositionAnswer,
)
async def open_position(request: ApiRequest) -> OpenPositionAnswer:
    """Net units of an instrument and product on the strategy's first account, whoever made them, and on all of them."""
    fields = enter(request, Permission.READ)
    services: Services = request.services
    strategy = strategy_of(request, fields)
    check_loaded(services)
    words = {name: word(fields, name) for name in ("symbol", "exchange", "product")}
    only(fields, *words)
    texts: dict[str, str] = {}
    for name, text in words.items():
        if isinstance(text, Refusal):
            raise refused(text)
        texts[name] = text.upper()
    instrument = partial(find, services.master.book)(texts["exchange"], texts["symbol"])
    if isinstance(instrument, Refusal):
        raise refused(instrument)
    if texts["product"] not in ("CNC", "NRML", "MIS"):
        raise refused(Refusal(code="INVALID_VALUE", message="product must be one of CNC, NRML, MIS", field="product"))
    named = {target.account_id for target in strategy.targets}
    known, blind = await executors_of(services, strategy)
    if blind is not None:
        raise UnavailableError(blind, retry_after_s=2)
    executors = [executor for executor in known if executor.account_id in named]
    if not executors:
        raise ConflictError(f"the strategy {strategy.name} trades no account; give it one", code="NO_ACCOUNTS")
    place = (instrument.exchange.value, instrument.symbol, texts["product"])
    labels = labels_of(services)
    rows = tuple(
        AccountQuantity(
            account=labels.get(executor.account_id, "?"),
            quantity=str(sum(p.quantity for p in executor.desk.holdings.positions.values() if place_of(p) == place)),
            strategy_quantity=str(executor.square_off.share(strategy.id, place)),
        )
        for executor in executors
    )
    return OpenPositionAnswer(status="success", quantity=rows[0].quantity, accounts=rows)


def _cut(found: int) -> str | UnsetType:
    return f"only the newest {MOST_ROWS} are listed; name an account" if found > MOST_ROWS else UNSET
