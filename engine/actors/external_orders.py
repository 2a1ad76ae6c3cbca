"""Orders at the broker that this engine did not send: rows of the book as orders of our own books.

Placed by hand, by the broker (an intraday square-off), by another program, or, if ever, by an engine
that lost its ledger. Nothing is invented: a row in words that we do not have stays unadopted.
"""

import re
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID, uuid5

from engine.broker.values import BrokerOrder, E, member
from engine.domain.enums import Exchange, OrderStatus, OrderType, ProductType, TransactionType, Validity, Variety
from engine.domain.order import Order, OrderOrigin
from engine.errors import BrokerUnavailable

# What no store refuses and a path may hold: letters of the wire, without controls.
_NAME = re.compile(r"[\x21-\x7e][\x20-\x7e]{0,63}")
# The largest that the ledger's columns hold.
_MOST = {"price": Decimal(10) ** 14, "trigger_price": Decimal(10) ** 14, "market_protection": Decimal(10) ** 5}


def external_order(row: BrokerOrder, *, account_id: UUID, user_id: UUID, epoch: int, day: date, now: datetime) -> Order:
    """Return the order that *row* of the book of the IST *day* is, nothing of it filled yet.

    Its id and its tag follow from account, day and the broker's id: the same row is the same order
    whoever adopts it. Raises BrokerUnavailable naming the field that is in no words of ours.
    """
    if row.quantity <= 0 or not all(_NAME.fullmatch(name) for name in (row.broker_order_id, row.symbol)):
        raise BrokerUnavailable(f"order {row.broker_order_id!r}: quantity {row.quantity} of {row.symbol!r} is no order")
    for field, most in _MOST.items():
        if abs(getattr(row, field)) >= most:
            raise BrokerUnavailable(f"order {row.broker_order_id}: {field} {getattr(row, field)} is no price")
    placed_at = row.order_timestamp or now
    order_id = uuid5(account_id, f"external\x00{day}\x00{row.broker_order_id}")
    return Order(
        id=order_id,
        account_id=account_id,
        user_id=user_id,
        exchange=_read(Exchange, row, "exchange", row.exchange),
        symbol=row.symbol,
        transaction_type=_read(TransactionType, row, "transaction_type", row.transaction_type),
        quantity=row.quantity,
        order_type=_read(OrderType, row, "order_type", row.order_type),
        product_type=_read(ProductType, row, "product", row.product),
        status=OrderStatus.SUBMITTED,
        tag=f"EXTERNAL:{row.broker_order_id}:{day}:{order_id.hex[:8]}",
        attempt=0,
        epoch=epoch,
        trading_day=day,
        deadline=min(placed_at, now),
        created_at=min(placed_at, now),
        updated_at=now,
        price=row.price or None,
        trigger_price=row.trigger_price or None,
        market_protection=row.market_protection or None,
        validity=_read(Validity, row, "validity", row.validity),
        variety=_read(Variety, row, "variety", row.variety),
        broker_order_id=row.broker_order_id,
        origin=OrderOrigin.EXTERNAL,
    )


def _read(kind: type[E], row: BrokerOrder, field: str, value: str) -> E:
    return member(kind, field, value, what=f"order {row.broker_order_id}")
