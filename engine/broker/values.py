"""What a broker's reads answer with, translated into the engine's words.

Names of exchanges, products, order types and sides stay strings here: an account may hold things
that the engine does not trade, and one foreign row must not make a whole order book unreadable.
"""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import TypeVar
from uuid import UUID

import msgspec

from engine.domain.enums import Exchange, OrderStatus, ProductType, TransactionType
from engine.domain.fill import Fill
from engine.domain.order import OrderReport
from engine.domain.position import Position
from engine.errors import BrokerUnavailable

E = TypeVar("E", bound=StrEnum)


class BrokerOrder(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One row of the broker's order book, or one snapshot of an order's history.

    Quantities are units, prices rupees; ``filled_quantity`` and ``average_price`` are cumulative.
    Times are aware UTC. ``status`` is translated, ``raw_status`` as sent. ``order_type``, ``price``
    and ``market_protection`` may differ from what was sent (a protected MARKET order becomes a LIMIT
    one in the book), so never tell an order by them: tell it by its tag.
    """

    broker_order_id: str
    status: OrderStatus
    raw_status: str
    filled_quantity: int = 0
    average_price: Decimal = Decimal(0)
    quantity: int = 0
    exchange: str = ""
    symbol: str = ""
    transaction_type: str = ""
    product: str = ""
    order_type: str = ""
    validity: str = ""
    variety: str = ""
    price: Decimal = Decimal(0)
    trigger_price: Decimal = Decimal(0)
    market_protection: Decimal = Decimal(0)
    tag: str | None = None
    tags: tuple[str, ...] = ()
    status_message: str | None = None
    exchange_order_id: str | None = None
    parent_order_id: str | None = None
    order_timestamp: datetime | None = None
    exchange_timestamp: datetime | None = None
    exchange_update_timestamp: datetime | None = None

    def has_tag(self, tag: str) -> bool:
        """Whether *tag*, in any case, is on the order, in either of the two places where Kite shows tags."""
        wanted = tag.upper()
        return any(found is not None and found.upper() == wanted for found in (self.tag, *self.tags))

    def as_report(self) -> OrderReport:
        """Return what this row says of the order, for the fold in engine.domain.order."""
        return OrderReport(
            broker_order_id=self.broker_order_id,
            status=self.status,
            filled_quantity=self.filled_quantity,
            average_price=self.average_price,
            status_message=self.status_message,
        )


class BrokerTrade(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One execution in the broker's trade book: ``quantity`` units at ``price`` rupees, time in UTC."""

    trade_id: str
    broker_order_id: str
    exchange: str
    symbol: str
    product: str
    transaction_type: str
    quantity: int
    price: Decimal
    filled_at: datetime
    exchange_order_id: str | None = None

    def as_fill(self, *, order_id: UUID, account_id: UUID) -> Fill:
        """Return the fill of order *order_id* on *account_id*.

        Raises BrokerUnavailable naming the field when exchange, product or side is none of ours, or when the
        row is no trade that a store would take.
        """
        if self.quantity <= 0 or self.price < 0 or not (self.trade_id and self.trade_id.isprintable()):
            raise BrokerUnavailable(f"trade {self.trade_id!r}: {self.quantity} at {self.price} is no trade")
        return Fill(
            trade_id=self.trade_id,
            order_id=order_id,
            account_id=account_id,
            broker_order_id=self.broker_order_id,
            exchange=member(Exchange, "exchange", self.exchange),
            symbol=self.symbol,
            product_type=member(ProductType, "product", self.product),
            transaction_type=member(TransactionType, "transaction_type", self.transaction_type),
            quantity=self.quantity,
            price=self.price,
            filled_at=self.filled_at,
        )


class BrokerPosition(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the positions: signed ``quantity``, prices and values in rupees, multiplier included.

    Formulas: Kite Connect v3, portfolio/positions. ``last_price`` is cached by the broker and lags.
    """

    exchange: str
    symbol: str
    product: str
    quantity: int
    overnight_quantity: int = 0
    multiplier: Decimal = Decimal(1)
    average_price: Decimal = Decimal(0)
    close_price: Decimal = Decimal(0)
    last_price: Decimal = Decimal(0)
    pnl: Decimal = Decimal(0)
    m2m: Decimal = Decimal(0)
    buy_quantity: int = 0
    buy_value: Decimal = Decimal(0)
    sell_quantity: int = 0
    sell_value: Decimal = Decimal(0)
    day_buy_quantity: int = 0
    day_buy_value: Decimal = Decimal(0)
    day_sell_quantity: int = 0
    day_sell_value: Decimal = Decimal(0)

    def as_position(self, *, account_id: UUID) -> Position:
        """Return the row as a position of account *account_id*, every figure the broker's.

        Raises BrokerUnavailable naming the field when exchange or product is none of ours.
        """
        return Position(
            account_id=account_id,
            exchange=member(Exchange, "exchange", self.exchange, what="position"),
            symbol=self.symbol,
            product_type=member(ProductType, "product", self.product, what="position"),
            quantity=self.quantity,
            overnight_quantity=self.overnight_quantity,
            buy_quantity=self.buy_quantity,
            buy_value=self.buy_value,
            sell_quantity=self.sell_quantity,
            sell_value=self.sell_value,
            day_buy_quantity=self.day_buy_quantity,
            day_buy_value=self.day_buy_value,
            day_sell_quantity=self.day_sell_quantity,
            day_sell_value=self.day_sell_value,
            close_price=self.close_price,
            last_price=self.last_price,
            multiplier=self.multiplier or Decimal(1),
        )


class BrokerPositions(msgspec.Struct, frozen=True, kw_only=True):
    """Positions: ``net`` is what is held, overnight included; ``day`` is today's activity only."""

    net: tuple[BrokerPosition, ...] = ()
    day: tuple[BrokerPosition, ...] = ()


class BrokerHolding(msgspec.Struct, frozen=True, kw_only=True):
    """Shares in the demat account: ``quantity`` settled, ``t1_quantity`` not yet, prices in rupees.

    ``used_quantity`` is what today has sold of them. ``mtf_quantity`` is what is held on margin and not sold today,
    None when the broker does not say.
    """

    exchange: str
    symbol: str
    quantity: int
    t1_quantity: int = 0
    used_quantity: int = 0
    mtf_quantity: int | None = None
    average_price: Decimal = Decimal(0)
    last_price: Decimal = Decimal(0)
    pnl: Decimal = Decimal(0)


class MarginSegment(msgspec.Struct, frozen=True, kw_only=True):
    """Funds of a segment, rupees: what came in, what is used, and what can be deployed now.

    ``collateral`` is the part of ``available`` that pledged holdings stand for.
    """

    available: Decimal = Decimal(0)
    used: Decimal = Decimal(0)
    net: Decimal = Decimal(0)
    collateral: Decimal = Decimal(0)
    enabled: bool = True


class BrokerMargins(msgspec.Struct, frozen=True, kw_only=True):
    """Funds of the account."""

    equity: MarginSegment
    commodity: MarginSegment


class BrokerProfile(msgspec.Struct, frozen=True, kw_only=True):
    """Who the session belongs to and what the account may use, in the broker's own words."""

    user_id: str
    user_name: str = ""
    exchanges: tuple[str, ...] = ()
    products: tuple[str, ...] = ()
    order_types: tuple[str, ...] = ()


def member(kind: type[E], field: str, value: str, *, what: str = "trade") -> E:
    """Return *value* as a member of *kind*. Raises BrokerUnavailable naming *what* and *field* for other words."""
    try:
        return kind(value)
    except ValueError as exc:
        raise BrokerUnavailable(f"{what}: {field} {value!r} is not one the engine trades") from exc
