"""Tickets of a flattening and the orders that they are: the write-ahead row of one, and the one that a row was."""

from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Protocol
from uuid import UUID

from engine.domain.enums import Exchange, OrderStatus, OrderType, ProductType
from engine.domain.flatten import Place, Ticket
from engine.domain.order import Order, OrderOrigin

_LIFE = timedelta(seconds=60)


class _Placed(Protocol):
    @property
    def exchange(self) -> Exchange: ...
    @property
    def symbol(self) -> str: ...
    @property
    def product_type(self) -> ProductType: ...


def place_of(thing: _Placed) -> Place:
    """Return the place of an order, a trigger or a position of ours."""
    return (thing.exchange.value, thing.symbol, thing.product_type.value)


def order_of(ticket: Ticket, *, account_id: UUID, user_id: UUID, epoch: int, trading_day: date, now: datetime) -> Order:
    """Return the write-ahead row of *ticket*, made at *now* (UTC) on the IST *trading_day*."""
    exchange, symbol, product = ticket.place
    return Order(
        id=ticket.id,
        account_id=account_id,
        user_id=user_id,
        exchange=Exchange(exchange),
        symbol=symbol,
        transaction_type=ticket.side,
        quantity=ticket.quantity,
        order_type=OrderType.MARKET,
        product_type=ProductType(product),
        market_protection=ticket.protection,
        status=OrderStatus.SUBMITTING,
        tag=ticket.tag,
        attempt=1,
        epoch=epoch,
        trading_day=trading_day,
        deadline=now + _LIFE,
        created_at=now,
        updated_at=now,
        submitting_at=now,
        strategy_id=ticket.strategy_id,
        origin=OrderOrigin.SQUARE_OFF,
    )


def ticket_of(order: Order) -> Ticket:
    """Return the ticket that a write-ahead row was, for looking for it: what it belonged to is not known any more."""
    return Ticket(
        id=order.id,
        tag=order.tag,
        place=place_of(order),
        side=order.transaction_type,
        quantity=order.quantity,
        protection=order.market_protection or Decimal(-1),
        round=0,
        slice=0,
        demand="",
        version=0,
        strategy_id=order.strategy_id,
    )
