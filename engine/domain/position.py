"""Positions from fills, with the broker's own arithmetic of profit and loss.

The formulas are Kite Connect v3's (portfolio/positions): ``value = sell_value - buy_value``,
``pnl = value + quantity * last_price * multiplier``, where the values already hold the multiplier.
A position without a known last price is marked at its own average: it has no unrealised part.
"""

from decimal import Decimal
from uuid import UUID

import msgspec

from engine.domain.enums import Exchange, ProductType, TransactionType
from engine.domain.fill import Fill

PositionKey = tuple[UUID, Exchange, str, ProductType]
"""Account, exchange, symbol and product: what a position is one of."""


class Position(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Net position of an account in one instrument and product.

    Quantities are signed units (negative is short); prices and values are rupees; ``buy_value`` and
    ``sell_value`` include the multiplier and the overnight part; ``day_*`` cover today's fills only.
    ``close_price`` is the previous close that overnight quantity is valued at for the day's
    mark-to-market.
    """

    account_id: UUID
    exchange: Exchange
    symbol: str
    product_type: ProductType
    quantity: int = 0
    overnight_quantity: int = 0
    buy_quantity: int = 0
    buy_value: Decimal = Decimal(0)
    sell_quantity: int = 0
    sell_value: Decimal = Decimal(0)
    day_buy_quantity: int = 0
    day_buy_value: Decimal = Decimal(0)
    day_sell_quantity: int = 0
    day_sell_value: Decimal = Decimal(0)
    close_price: Decimal = Decimal(0)
    last_price: Decimal = Decimal(0)
    multiplier: Decimal = Decimal(1)
    strategy_id: UUID | None = None

    @property
    def key(self) -> PositionKey:
        """Identity of the position."""
        return (self.account_id, self.exchange, self.symbol, self.product_type)


def apply_fill(position: Position, fill: Fill) -> Position:
    """Return *position* with *fill* (price in rupees, quantity in units) taken in.

    Raises:
        ValueError: the fill is of another account, instrument or product.
    """
    key = (fill.account_id, fill.exchange, fill.symbol, fill.product_type)
    if key != position.key:
        raise ValueError(
            f"a fill of {fill.exchange}:{fill.symbol} {fill.product_type} is not of position {position.key}"
        )
    cash = fill.quantity * fill.price * position.multiplier
    if fill.transaction_type is TransactionType.BUY:
        return msgspec.structs.replace(
            position,
            quantity=position.quantity + fill.quantity,
            buy_quantity=position.buy_quantity + fill.quantity,
            buy_value=position.buy_value + cash,
            day_buy_quantity=position.day_buy_quantity + fill.quantity,
            day_buy_value=position.day_buy_value + cash,
        )
    return msgspec.structs.replace(
        position,
        quantity=position.quantity - fill.quantity,
        sell_quantity=position.sell_quantity + fill.quantity,
        sell_value=position.sell_value + cash,
        day_sell_quantity=position.day_sell_quantity + fill.quantity,
        day_sell_value=position.day_sell_value + cash,
    )


def undo_fill(position: Position, fill: Fill) -> Position:
    """Return *position* as it was before *fill*, which was of the same day."""
    cash = fill.quantity * fill.price * position.multiplier
    if fill.transaction_type is TransactionType.BUY:
        return msgspec.structs.replace(
            position,
            quantity=position.quantity - fill.quantity,
            buy_quantity=position.buy_quantity - fill.quantity,
            buy_value=position.buy_value - cash,
            day_buy_quantity=position.day_buy_quantity - fill.quantity,
            day_buy_value=position.day_buy_value - cash,
        )
    return msgspec.structs.replace(
        position,
        quantity=position.quantity + fill.quantity,
        sell_quantity=position.sell_quantity - fill.quantity,
        sell_value=position.sell_value - cash,
        day_sell_quantity=position.day_sell_quantity - fill.quantity,
        day_sell_value=position.day_sell_value - cash,
    )


def with_last_price(position: Position, price: Decimal) -> Position:
    """Return *position* marked at *price* (rupees)."""
    return msgspec.structs.replace(position, last_price=price)


def value(position: Position) -> Decimal:
    """Return the cash that the position has brought so far, in rupees; negative once it has cost more."""
    return position.sell_value - position.buy_value


def average_price(position: Position) -> Decimal:
    """Return the average price in rupees: of all buys when long, of all sells when short, 0 when flat.

    Not rounded; round at the edge. 0 too for a row that holds what it says was never traded.
    """
    if position.quantity > 0 and position.buy_quantity:
        return position.buy_value / (position.buy_quantity * position.multiplier)
    if position.quantity < 0 and position.sell_quantity:
        return position.sell_value / (position.sell_quantity * position.multiplier)
    return Decimal(0)


def pnl(position: Position, last: Decimal | None = None) -> Decimal:
    """Return the profit and loss in rupees since the position was opened, at *last* or its last price."""
    return value(position) + _market_value(position, last)


def m2m(position: Position, last: Decimal | None = None) -> Decimal:
    """Return the day's profit and loss in rupees: as `pnl`, the overnight part valued at the close price.

    An overnight part without a close price is valued as `pnl` does, at what it cost.
    """
    if not position.overnight_quantity or not position.close_price:
        return pnl(position, last)
    overnight = position.overnight_quantity * position.close_price * position.multiplier
    return position.day_sell_value - position.day_buy_value - overnight + _market_value(position, last)


def unrealised(position: Position, last: Decimal | None = None) -> Decimal:
    """Return the part of `pnl` in rupees that is not cash yet: quantity times (last less average)."""
    if not position.quantity:
        return Decimal(0)
    return _market_value(position, last) - position.quantity * average_price(position) * position.multiplier


def realised(position: Position) -> Decimal:
    """Return the part of `pnl` in rupees that is cash; of a flat position, all of it."""
    if not position.quantity:
        return value(position)
    return value(position) + position.quantity * average_price(position) * position.multiplier


def at_close(position: Position) -> Position:
    """Return *position* as if its overnight part had been opened today, at the close that the day's mark begins from.

    What `realised` and `unrealised` of it add up to is `m2m`.
    """
    if not position.overnight_quantity or not position.close_price:
        return position
    worth = abs(position.overnight_quantity) * position.close_price * position.multiplier
    long, short = max(position.overnight_quantity, 0), max(-position.overnight_quantity, 0)
    return msgspec.structs.replace(
        position,
        buy_quantity=position.day_buy_quantity + long,
        buy_value=position.day_buy_value + (worth if long else 0),
        sell_quantity=position.day_sell_quantity + short,
        sell_value=position.day_sell_value + (worth if short else 0),
    )


def roll_day(position: Position, close_price: Decimal) -> Position:
    """Return the position as a new day begins: what is held is overnight, carried at its average price.

    *close_price* (rupees) is the close of the day that ended. What the ended day realised is gone from
    the row, as from the broker's. Shares bought for delivery leave the positions for the holdings; that
    is not done here.
    """
    cost = abs(position.quantity) * average_price(position) * position.multiplier
    long, short = max(position.quantity, 0), max(-position.quantity, 0)
    return msgspec.structs.replace(
        position,
        overnight_quantity=position.quantity,
        buy_quantity=long,
        buy_value=cost if long else Decimal(0),
        sell_quantity=short,
        sell_value=cost if short else Decimal(0),
        day_buy_quantity=0,
        day_buy_value=Decimal(0),
        day_sell_quantity=0,
        day_sell_value=Decimal(0),
        close_price=close_price,
    )


def _market_value(position: Position, last: Decimal | None) -> Decimal:
    price = last or position.last_price or average_price(position)
    return position.quantity * price * position.multiplier
