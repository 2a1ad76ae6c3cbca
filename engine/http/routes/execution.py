"""/executions: orders, positions and trades."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import trio

from engine.actors.modifying import Terms, with_terms
from engine.clock import trading_day
from engine.domain.enums import OrderStatus, OrderType, Validity
from engine.domain.gtt import GttStatus
from engine.errors import (
    ConflictError,
    KillSwitchError,
    NotFoundError,
    OrderExecutionError,
    RiskViolationError,
    UnavailableError,
    ValidationError,
)
from engine.http.endpoint import ApiBody, ApiRequest, ApiStruct, Page, endpoint
from engine.http.paging import PageQuery, PageWindow
from engine.http.permissions import Permission
from engine.http.ratelimit import RateClass
from engine.http.services import Services
from engine.http.views.ownership import may_reach, only_owner
from engine.http.views.trading import (
    OrderView,
    PositionView,
    TradeView,
    order_view,
    position_view,
    trade_view,
)
from engine.store.queries import holdings, orders

_TAGS = ("executions",)

_CANCEL_ALL_S = 15.0

Symbol = Annotated[str, msgspec.Meta(min_length=1, max_length=40)]


class OrderQuery(PageQuery, frozen=True, kw_only=True):
    """Filters of the list; ``from`` and ``to`` speak of the time of making."""

    status: OrderStatus | None = None
    symbol: Symbol | None = None
    account_id: UUID | None = None
    strategy_id: UUID | None = None
    intent_id: UUID | None = None


class PositionQuery(PageQuery, frozen=True, kw_only=True):
    """Filters of the list; ``from`` and ``to`` speak of the last change.

    ``by=strategy`` lists the books that the positions are made of, ``strategyId`` those of one strategy.
    """

    account_id: UUID | None = None
    symbol: Symbol | None = None
    strategy_id: UUID | None = None
    by: Literal["strategy"] | None = None


class TradeQuery(PageQuery, frozen=True, kw_only=True):
    """Filters of the list; ``from`` and ``to`` speak of the time of the trade."""

    account_id: UUID | None = None
    strategy_id: UUID | None = None
    order_id: UUID | None = None
    symbol: Symbol | None = None


@endpoint(
    "GET",
    "/executions/orders",
    permission=Permission.READ,
    summary="List orders",
    query=OrderQuery,
    list_of=OrderView,
    tags=_TAGS,
)
async def list_orders(request: ApiRequest) -> Page[OrderView]:
    """Orders of the caller with their events and fills, newest first; an ADMIN sees those of everybody."""
    services: Services = request.services
    query: OrderQuery = request.query
    window = query.window()
    wanted = orders.OrderFilter(
        limit=window.limit + 1,
        user_id=only_owner(request.user),
        status=query.status,
        symbol=_upper(query.symbol),
        account_id=query.account_id,
        strategy_id=query.strategy_id,
        intent_id=query.intent_id,
        start=window.start,
        end=window.end,
        after=window.after(),
    )
    await services.read_your_writes()
    found = await services.database.run(lambda connection: orders.list_orders(connection, wanted))
    page = Page.cut(found, window, key=lambda story: (story.order.created_at, story.order.id))
    return page.map(lambda story: _shown(services, story))


@endpoint(
    "GET",
    "/executions/orders/{id}",
    permission=Permission.READ,
    summary="Show an order",
    response=OrderView,
    errors=(NotFoundError,),
    tags=_TAGS,
)
async def show_order(request: ApiRequest) -> OrderView:
    """One order with its events and fills."""
    return _shown(request.services, await _find(request))


@endpoint(
    "POST",
    "/executions/orders/{id}/cancel",
    permission=Permission.TRADE,
    summary="Cancel an order",
    response=OrderView,
    errors=(NotFoundError, ConflictError, OrderExecutionError, UnavailableError),
    rate=RateClass.KILL_SWITCH,
    tags=_TAGS,
)
async def cancel_order(request: ApiRequest) -> OrderView:
    """Takes an order back that was not sent yet, or asks the broker to cancel it and waits up to 2 s for its word.

    An order may still fill while the broker cancels it: the state in the answer is what counts.
    """
    services: Services = request.services
    order = (await _find(request)).order
    if order.status.is_terminal:
        raise ConflictError(f"the order is {order.status} already", code="ORDER_FINISHED")
    try:
        await services.crew.executor(order.account_id).cancel(order.id, by=f"user:{request.user.user_id}")
    except NotFoundError:
        # it exists: its books have closed it, or have not been opened again after a start
        raise ConflictError("the order is not open; read it again", code="ORDER_NOT_OPEN") from None
    return _shown(request.services, await _find(request))


class OrderChange(ApiBody, frozen=True, kw_only=True):
    """What to change of an open order; what is left out stays.

    ``quantity`` is the new total in units, the filled part included; prices are rupees.
    """

    quantity: int | None = None
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    order_type: OrderType | None = None
    validity: Validity | None = None


@endpoint(
    "PATCH",
    "/executions/orders/{id}",
    permission=Permission.TRADE,
    summary="Change an order",
    body=OrderChange,
    response=OrderView,
    errors=(NotFoundError, ConflictError, RiskViolationError, KillSwitchError, OrderExecutionError, UnavailableError),
    tags=_TAGS,
)
async def change_order(request: ApiRequest) -> OrderView:
    """Asks the broker to change an order that works there, and waits up to 2 s until its order book shows it.

    The broker takes 25 changes of one order; after them it is cancelled and what is left of it is placed anew,
    and the answer is the new order, whose ``parentId`` is the old one (of an attached exit: still its entry). A
    change passes the same limits as an order. The order may fill meanwhile: the state in the answer is what counts.
    """
    services: Services = request.services
    order = (await _find(request)).order
    if order.status.is_terminal:
        raise ConflictError(f"the order is {order.status} already", code="ORDER_FINISHED")
    terms = _terms(request.body)
    killed = services.guardian.switches.covering(
        user_id=order.user_id,
        account_id=order.account_id,
        strategy_id=order.strategy_id,
        source_id=order.source_id,
    )
    if killed is not None:
        raise KillSwitchError(f"{killed.scope} is blocked: {killed.reason}")
    executor = services.crew.executor(order.account_id)
    order = executor.desk.orders.get(order.id, order)
    wanted = with_terms(order, terms)
    denials = services.crew.risk(order.user_id).judge_change(order, wanted)
    if denials:
        raise RiskViolationError("; ".join(map(str, denials)), code=denials[0].code)
    try:
        changed = await executor.modify(order.id, terms, by=f"user:{request.user.user_id}")
    except NotFoundError:
        raise ConflictError("the order is not open; read it again", code="ORDER_NOT_OPEN") from None
    return _shown(services, await _story(request, changed.id))


class CancelAllBody(ApiBody, frozen=True, kw_only=True):
    """Which orders to cancel: all that the caller owns, or those of one account, symbol or strategy."""

    account_id: UUID | None = None
    symbol: Symbol | None = None
    strategy_id: UUID | None = None


class CancelledView(ApiStruct, frozen=True, kw_only=True):
    """What became of one order: its state at the end, and why it is not cancelled, or null."""

    order_id: UUID
    account_id: UUID
    symbol: str
    status: OrderStatus
    problem: str | None


class EndedGttView(ApiStruct, frozen=True, kw_only=True):
    """What became of one trigger (GTT): its state at the end, and why it stands, or null."""

    gtt_id: UUID
    account_id: UUID
    symbol: str
    status: GttStatus
    problem: str | None


class CancelAllView(ApiStruct, frozen=True, kw_only=True):
    """Every live order and trigger that was asked for; ``remaining`` counts those not at their end yet."""

    orders: tuple[CancelledView, ...]
    gtts: tuple[EndedGttView, ...]
    remaining: int


@endpoint(
    "POST",
    "/executions/orders/cancel-all",
    permission=Permission.TRADE,
    summary="Cancel every open order",
    body=CancelAllBody,
    body_required=False,
    response=CancelAllView,
    errors=(NotFoundError, UnavailableError),
    rate=RateClass.KILL_SWITCH,
    tags=_TAGS,
)
async def cancel_all_orders(request: ApiRequest) -> CancelAllView:
    """Cancels live orders of the caller in whatever state they are, attached exits and orders by hand included.

    Triggers that the broker keeps (GTT) end too, unless one strategy's orders are asked for. Positions stay.
    Everything is ended at the same time; the answer comes within 15 s and says of each what it is now.
    """
    services: Services = request.services
    body: CancelAllBody = request.body or CancelAllBody()
    accounts = [
        account
        for account in services.directory.accounts.values()
        if may_reach(request.user, account.user_id) and body.account_id in (None, account.id)
    ]
    if body.account_id is not None and not accounts:
        raise NotFoundError("there is no such account")
    symbol = _upper(body.symbol)
    by = f"user:{request.user.user_id}"
    asked = [
        executor.start_cancel_all(by=by, symbol=symbol, strategy_id=body.strategy_id)
        for account in accounts
        if (executor := services.crew.executors.get(account.id)) is not None
    ]
    done: list[CancelledView] = []
    triggers: list[EndedGttView] = []
    with trio.move_on_after(_CANCEL_ALL_S):
        for reply in asked:
            ended = await reply.wait()
            done += [
                CancelledView(
                    order_id=end.order.id,
                    account_id=end.order.account_id,
                    symbol=end.order.symbol,
                    status=end.order.status,
                    problem=end.problem,
                )
                for end in ended.orders
            ]
            triggers += [
                EndedGttView(
                    gtt_id=end.gtt.id,
                    account_id=end.gtt.account_id,
                    symbol=end.gtt.symbol,
                    status=end.gtt.status,
                    problem=end.problem,
                )
                for end in ended.gtts
            ]
    live = sum(not end.status.is_terminal for end in done) + sum(end.status.is_live for end in triggers)
    return CancelAllView(orders=tuple(done), gtts=tuple(triggers), remaining=live)


def _terms(body: OrderChange) -> Terms:
    faults: dict[str, str] = {}
    if body.quantity is not None and body.quantity < 1:
        faults["quantity"] = "must be a number above 0"
    for name, price in (("price", body.price), ("triggerPrice", body.trigger_price)):
        if price is not None and (not price.is_finite() or not 0 < price < 10**9 or price != round(price, 4)):
            faults[name] = "must be rupees above 0 with at most 4 decimals"
    if body.validity is Validity.TTL:
        faults["validity"] = "can be changed to DAY or IOC only"
    terms = Terms(
        quantity=body.quantity,
        price=body.price,
        trigger_price=body.trigger_price,
        order_type=body.order_type,
        validity=body.validity,
    )
    if not terms.given():
        faults["quantity"] = "give at least one thing to change"
    if faults:
        raise ValidationError("the change is not usable", details={"fields": faults})
    return terms


@endpoint(
    "GET",
    "/executions/positions",
    permission=Permission.READ,
    summary="List positions",
    query=PositionQuery,
    list_of=PositionView,
    tags=_TAGS,
)
async def list_positions(request: ApiRequest) -> Page[PositionView]:
    """Positions of the caller, those that today closed included, the one that changed last first.

    They are the broker's net numbers. ``by=strategy`` lists what of each is which strategy's, and with ``strategyId``
    null what was done by hand: these add up to the broker's.
    """
    services: Services = request.services
    query: PositionQuery = request.query
    window = query.window()
    by_book = query.by is not None or query.strategy_id is not None
    wanted = holdings.PositionFilter(
        limit=window.limit + 1,
        day=trading_day(services.clock.now()),
        user_id=only_owner(request.user),
        account_id=query.account_id,
        symbol=_upper(query.symbol),
        strategy_id=query.strategy_id,
        start=window.start,
        end=window.end,
        after=_place(window, holdings.BookPlace if by_book else holdings.PositionPlace),
    )
    await services.read_your_writes()
    read = holdings.list_books if by_book else holdings.list_positions
    found = await services.database.run(lambda connection: read(connection, wanted))
    page = Page.cut(found, window, key=lambda held: held.place)
    return page.map(lambda held: position_view(held, services.prices.get(_price_key(held))))


@endpoint(
    "GET",
    "/executions/trades",
    permission=Permission.READ,
    summary="List trades",
    query=TradeQuery,
    list_of=TradeView,
    tags=_TAGS,
)
async def list_trades(request: ApiRequest) -> Page[TradeView]:
    """Trades of the caller, newest first; an ADMIN sees those of everybody."""
    services: Services = request.services
    query: TradeQuery = request.query
    window = query.window()
    wanted = holdings.TradeFilter(
        limit=window.limit + 1,
        user_id=only_owner(request.user),
        account_id=query.account_id,
        strategy_id=query.strategy_id,
        symbol=_upper(query.symbol),
        order_id=query.order_id,
        start=window.start,
        end=window.end,
        after=_place(window, tuple[datetime, UUID, str]),
    )
    await services.read_your_writes()
    found = await services.database.run(lambda connection: holdings.list_trades(connection, wanted))
    return Page.cut(found, window, key=lambda trade: trade.place).map(trade_view)


def _shown(services: Services, story: orders.OrderStory) -> OrderView:
    return order_view(story, services.master.book.get(story.order.exchange, story.order.symbol))


async def _find(request: ApiRequest) -> orders.OrderStory:
    return await _story(request, request.path["id"])


async def _story(request: ApiRequest, order_id: UUID) -> orders.OrderStory:
    services: Services = request.services
    await services.read_your_writes()
    story = await services.database.run(lambda connection: orders.find_order(connection, order_id))
    if story is None or not may_reach(request.user, story.order.user_id):
        raise NotFoundError("there is no such order")
    return story


def _upper(symbol: str | None) -> str | None:
    return None if symbol is None else symbol.upper()


def _price_key(held: holdings.HeldPosition) -> str:
    return f"{held.position.exchange}:{held.position.symbol}"


def _place(window: PageWindow, shape: Any) -> Any:
    if window.cursor is None:
        return None
    try:
        return msgspec.convert(window.cursor, shape)
    except msgspec.ValidationError:
        mend = "must be the nextCursor of the previous page"
        raise ValidationError("cursor is not usable", details={"fields": {"cursor": mend}}) from None
