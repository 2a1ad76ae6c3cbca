"""A fill: what the exchange executed of an order, as the broker's trade book states it."""

from collections.abc import Container, Iterable
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import msgspec

from engine.domain.enums import Exchange, ProductType, TransactionType

# A broker's average carries rounding noise far below a paisa; what is divided out of it stops here.
_PRICE_QUANTUM = Decimal("1e-8")


class Fill(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One trade of an order.

    ``trade_id`` is the exchange's and unique only together with account, day, exchange and order
    (kite.trade forum; Kite Connect v3 trades). ``price`` is rupees, ``quantity`` positive units,
    ``filled_at`` aware UTC. ``synthetic`` marks a fill worked out from the cumulative average of the
    order, to be replaced when the trade book shows the trade.
    """

    trade_id: str
    order_id: UUID
    account_id: UUID
    broker_order_id: str
    exchange: Exchange
    symbol: str
    product_type: ProductType
    transaction_type: TransactionType
    quantity: int
    price: Decimal
    filled_at: datetime
    synthetic: bool = False


def incremental_price(prev_filled: int, prev_avg: Decimal, filled: int, avg: Decimal) -> Decimal:
    """Return the price in rupees of what filled between two snapshots of one order.

    Both averages are cumulative: ``(avg*filled - prev_avg*prev_filled) / (filled - prev_filled)``
    (Kite Connect v3 orders; exact prices come from the trade book only). A broker that corrected its
    average downwards can make the result odd, even negative; it still makes the cash add up.

    Raises:
        ValueError: nothing filled in between.
    """
    if not 0 <= prev_filled < filled:
        raise ValueError(
            f"filled went from {prev_filled} to {filled}; an incremental price needs it to grow from 0 or more"
        )
    if prev_filled == 0:
        return avg
    return ((avg * filled - prev_avg * prev_filled) / (filled - prev_filled)).quantize(_PRICE_QUANTUM)


def new_fills(known_trade_ids: Container[str], fills: Iterable[Fill]) -> tuple[Fill, ...]:
    """Return those *fills* of one order that are not known yet, each once, in the order given.

    Raises:
        ValueError: the fills belong to several orders. Both sides of a trade with oneself bear one
            trade id, so ids known from one order must not hide the fills of another.
    """
    fresh: dict[str, Fill] = {}
    orders: set[UUID] = set()
    for fill in fills:
        orders.add(fill.order_id)
        if fill.trade_id not in known_trade_ids:
            fresh.setdefault(fill.trade_id, fill)
    if len(orders) > 1:
        raise ValueError(f"fills of {len(orders)} orders in one call; call it once for each order")
    return tuple(fresh.values())
