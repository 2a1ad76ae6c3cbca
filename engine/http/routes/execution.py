"""/executions: orders, positions and trades."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec

from engine.clock import trading_day
from engine.domain.enums import OrderStatus
from engine.errors import (
    NotFoundError,
    ValidationError,
)
from engine.http.endpoint import ApiRequest, Page, endpoint
from engine.http.paging import PageQuery, PageWindow
from engine.http.permissions import Permission
from engine.http.services import Services
from engine.http.views.ownership import may_reach, visible_to
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
    broker_order_id: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] | None = None


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
        visible=visible_to(request.user),
        status=query.status,
        symbol=upper(query.symbol),
        account_id=query.account_id,
        strategy_id=query.strategy_id,
        intent_id=query.intent_id,
        broker_order_id=query.broker_order_id,
        start=window.start,
        end=window.end,
        after=window.after(),
    )
    await services.read_your_writes()
    found = await services.database.run(lambda connection: orders.list_orders(connection, wanted))
    page = Page.cut(found, window, key=lambda story: (story.order.created_at, story.order.id))
    return page.map(lambda story: shown_order(services, story))


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
    return shown_order(request.services, await find_order(request))


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
        visible=visible_to(request.user),
        account_id=query.account_id,
        symbol=upper(query.symbol),
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
        visible=visible_to(request.user),
        account_id=query.account_id,
        strategy_id=query.strategy_id,
        symbol=upper(query.symbol),
        order_id=query.order_id,
        start=window.start,
        end=window.end,
        after=_place(window, tuple[datetime, UUID, str]),
    )
    await services.read_your_writes()
    found = await services.database.run(lambda connection: holdings.list_trades(connection, wanted))
    return Page.cut(found, window, key=lambda trade: trade.place).map(trade_view)


def shown_order(services: Services, story: orders.OrderStory) -> OrderView:
    """Return an order as the API shows it."""
    return order_view(story, services.master.book.get(story.order.exchange, story.order.symbol))


async def find_order(request: ApiRequest, order_id: UUID | None = None) -> orders.OrderStory:
    """Return an order of the caller's with its story, that of the path if none is named. Raises NotFoundError."""
    order_id = order_id or request.path["id"]
    services: Services = request.services
    await services.read_your_writes()
    story = await services.database.run(lambda connection: orders.find_order(connection, order_id))
    if story is None or not may_reach(request.user, story.order.user_id, story.order.account_id):
        raise NotFoundError("there is no such order")
    return story


def upper(symbol: str | None) -> str | None:
    """Return a symbol as the exchanges write it."""
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
