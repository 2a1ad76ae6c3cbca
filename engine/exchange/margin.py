"""What orders and positions block of an account's money: flat percentages under Kite's names.

Delivery pays in full; intraday shares block a fifth, MTF a quarter; futures 12 % of the contract as
"span" and 3 % as "exposure"; bought options their premium; sold options the same shares of the
strike's value. One pool of money serves every segment. What reduces a position blocks nothing.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal

import msgspec

from engine.domain.instruments import Instrument
from engine.exchange.orders import Lane, Order
from engine.exchange.portfolio import Portfolio, PositionKey, PositionTotals

_INTRADAY = Decimal("0.20")
_MTF = Decimal("0.25")
_SPAN = Decimal("0.12")
_EXPOSURE = Decimal("0.03")

Find = Callable[[str], Instrument | None]


class MarginParts(msgspec.Struct, frozen=True, kw_only=True):
    """What an order blocks, in rupees, by Kite's names; ``var`` is that of shares."""

    span: Decimal = Decimal(0)
    exposure: Decimal = Decimal(0)
    option_premium: Decimal = Decimal(0)
    var: Decimal = Decimal(0)

    @property
    def total(self) -> Decimal:
        """All of it."""
        return self.span + self.exposure + self.option_premium + self.var

    def plus(self, other: "MarginParts") -> "MarginParts":
        """Return the sum of both."""
        return MarginParts(
            span=self.span + other.span,
            exposure=self.exposure + other.exposure,
            option_premium=self.option_premium + other.option_premium,
            var=self.var + other.var,
        )


class Funds(msgspec.Struct, frozen=True, kw_only=True):
    """Money of an account in rupees. ``realised`` and ``unrealised`` are today's profit (losses negative);
    ``unrealised`` counts losses only. ``delivery`` is spent on shares today, ``positions`` blocked by positions,
    ``orders`` by working orders."""

    cash: Decimal
    delivery: Decimal
    positions: MarginParts
    orders: Decimal
    realised: Decimal
    unrealised: Decimal

    @property
    def used(self) -> Decimal:
        """All that is not available: blocked money and losses, less profit."""
        return self.delivery + self.positions.total + self.orders - self.realised - self.unrealised

    @property
    def net(self) -> Decimal:
        """What a new order may block."""
        return self.cash - self.used


def unit_margin(product: str, sign: int, price: Decimal, instrument: Instrument) -> Decimal:
    """Return the rupees that one unit of an order at *price* blocks; a delivery sale blocks none."""
    if product == "CNC" and sign < 0:
        return Decimal(0)
    return _parts(product, sign, price * instrument.multiplier, 1, instrument).total


def exit_capacity(order: Order, portfolio: Portfolio, queued: int) -> int:
    """Return how much of the account's position *order* can still close.

    *queued* is what other working orders of its lane may close already.
    """
    return max(0, _held_against(order.lane, portfolio) - queued)


def order_price(price: Decimal, trigger_price: Decimal, last_price: Decimal) -> Decimal:
    """Return the price that an order is charged at: its limit, its trigger, or the last price."""
    return price or trigger_price or last_price


def funds_of(
    capital: Decimal,
    portfolio: Portfolio,
    lanes: Mapping[tuple[str, str, int], Lane],
    find: Find,
    last_price: Callable[[str], Decimal],
) -> Funds:
    """Return the money of an account whose working orders add up to *lanes*; prices are asked by key.

    The part of a lane that closes a position blocks nothing; it is taken off all its orders alike.
    """
    delivery = realised = unrealised = Decimal(0)
    blocked = MarginParts()
    for key, totals in portfolio.positions.items():
        if key.product == "CNC":
            delivery += totals.buy_value - totals.sell_value
            continue
        realised += totals.realised
        instrument = find(key.instrument)
        if totals.quantity and instrument is not None:
            sign = 1 if totals.quantity > 0 else -1
            blocked = blocked.plus(_parts(key.product, sign, totals.open_value, abs(totals.quantity), instrument))
            unrealised += min(Decimal(0), _unrealised(totals, last_price(key.instrument)))
    orders = Decimal(0)
    for name, lane in lanes.items():
        opening = lane.remaining - max(0, _held_against(name, portfolio))
        if opening > 0:
            orders += lane.blocked * opening / lane.remaining
    return Funds(
        cash=capital + portfolio.cash,
        delivery=delivery,
        positions=blocked,
        orders=orders,
        realised=realised,
        unrealised=unrealised,
    )


def _held_against(lane: tuple[str, str, int], portfolio: Portfolio) -> int:
    """Units of the position that orders of *lane* would close, negative for one they would enlarge."""
    instrument, product, sign = lane
    exchange, _, symbol = instrument.partition(":")
    totals = portfolio.positions.get(PositionKey(exchange, symbol, product))
    return -sign * totals.quantity if totals else 0


def _unrealised(totals: PositionTotals, last_price: Decimal) -> Decimal:
    worth = last_price * totals.multiplier * totals.quantity
    return worth - totals.open_value if totals.quantity > 0 else worth + totals.open_value


def margin_parts(product: str, sign: int, price: Decimal, quantity: int, instrument: Instrument) -> MarginParts:
    """Return what *quantity* units of an order at *price* rupees block, apart by kind; a delivery sale blocks none."""
    if product == "CNC" and sign < 0:
        return MarginParts()
    return _parts(product, sign, price * quantity * instrument.multiplier, quantity, instrument)


def _parts(product: str, sign: int, value: Decimal, quantity: int, instrument: Instrument) -> MarginParts:
    match instrument.instrument_type:
        case "CE" | "PE" if sign > 0:
            return MarginParts(option_premium=value)
        case "CE" | "PE":
            strike_value = (instrument.strike or Decimal(0)) * quantity * instrument.multiplier
            return MarginParts(span=strike_value * _SPAN, exposure=strike_value * _EXPOSURE)
        case "FUT":
            return MarginParts(span=value * _SPAN, exposure=value * _EXPOSURE)
    if product == "CNC":
        return MarginParts(var=value)
    return MarginParts(var=value * (_MTF if product == "MTF" else _INTRADAY))
