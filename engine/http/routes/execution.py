"""/executions: orders, positions and trades."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec

from engine.clock import trading_day
from engine.domain.enums import OrderStatus
from engine.errors import ConflictError, NotFoundError, OrderExecutionError, UnavailableError, ValidationError
from engine.http.endpoint import ApiRequest, Page, endpoint
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

Symbol = Annotated[str, msgspec.Meta(min_length=1, max_length=40)]


class OrderQuery(PageQuery, frozen=True, kw_only=True):
    """Filters of the list; ``from`` and ``to`` speak of the time of making."""

    status: OrderStatus | None = None
    symbol: Symbol | None = None
    account_id: UUID | None = None
    strategy_id: UUID | None = None
    intent_id: UUID | None = None


class PositionQuery(PageQuery, frozen=True, kw_only=True):
    """Filters of the list; ``from`` and ``to`` speak of the last change."""

    account_id: UUID | None = None
    symbol: Symbol | None = None


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
    return page.map(order_view)


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
    return order_view(await _find(request))


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
    return order_view(await _find(request))


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
    """Positions of the caller, those that today closed included, the one that changed last first."""
    services: Services = request.services
    query: PositionQuery = request.query
    window = query.window()
    wanted = holdings.PositionFilter(
        limit=window.limit + 1,
        day=trading_day(services.clock.now()),
        user_id=only_owner(request.user),
        account_id=query.account_id,
        symbol=_upper(query.symbol),
        start=window.start,
        end=window.end,
        after=_place(window, tuple[datetime, UUID, str, str, str]),
    )
    await services.read_your_writes()
    found = await services.database.run(lambda connection: holdings.list_positions(connection, wanted))
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


async def _find(request: ApiRequest) -> orders.OrderStory:
    services: Services = request.services
    order_id: UUID = request.path["id"]
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
