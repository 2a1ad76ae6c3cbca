"""Positions, holdings and money of one account, folded from its trades (kite.md 9).

Today's trades make the day's positions. When the IST day rolls, delivery (CNC) purchases become
holdings, everything else stays as an overnight position at its average price, and what was realised
moves into cash. A contract past its expiry is closed at its average price.
"""

from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from decimal import Decimal

import msgspec

from engine.clock import trading_day
from engine.exchange.events import PositionConverted
from engine.exchange.orders import Trade, average


class PositionKey(msgspec.Struct, frozen=True):
    """Identity of a position at Kite."""

    exchange: str
    tradingsymbol: str
    product: str

    @property
    def instrument(self) -> str:
        """``EXCHANGE:SYMBOL``."""
        return f"{self.exchange}:{self.tradingsymbol}"


class Holding(msgspec.Struct, kw_only=True):
    """Delivered shares (``quantity``) and those of the last day (``t1_quantity``); ``value`` is their cost."""

    instrument_token: int
    quantity: int = 0
    t1_quantity: int = 0
    value: Decimal = Decimal(0)

    @property
    def total(self) -> int:
        """All shares held."""
        return self.quantity + self.t1_quantity


class PositionTotals(msgspec.Struct, kw_only=True):
    """What was carried into the day and what was traded in it; values hold the multiplier."""

    instrument_token: int
    multiplier: Decimal = Decimal(1)
    overnight_quantity: int = 0
    overnight_value: Decimal = Decimal(0)
    day_buy_quantity: int = 0
    day_buy_value: Decimal = Decimal(0)
    day_sell_quantity: int = 0
    day_sell_value: Decimal = Decimal(0)

    @property
    def quantity(self) -> int:
        """Signed net quantity."""
        return self.overnight_quantity + self.day_buy_quantity - self.day_sell_quantity

    @property
    def buy_quantity(self) -> int:
        """Bought, the overnight part included."""
        return max(self.overnight_quantity, 0) + self.day_buy_quantity

    @property
    def sell_quantity(self) -> int:
        """Sold, the overnight part included."""
        return max(-self.overnight_quantity, 0) + self.day_sell_quantity

    @property
    def buy_value(self) -> Decimal:
        """Rupees bought for, the overnight part included."""
        return (self.overnight_value if self.overnight_quantity > 0 else Decimal(0)) + self.day_buy_value

    @property
    def sell_value(self) -> Decimal:
        """Rupees sold for, the overnight part included."""
        return (self.overnight_value if self.overnight_quantity < 0 else Decimal(0)) + self.day_sell_value

    @property
    def open_value(self) -> Decimal:
        """Cost (or proceeds) of the net quantity, positive."""
        if self.quantity > 0:
            return self.buy_value * self.quantity / self.buy_quantity
        return self.sell_value * -self.quantity / self.sell_quantity if self.quantity < 0 else Decimal(0)

    @property
    def realised(self) -> Decimal:
        """Profit of what was closed: sales minus purchases, the open part at cost left out."""
        signed_open = self.open_value if self.quantity > 0 else -self.open_value
        return self.sell_value - self.buy_value + signed_open

    def day_only(self) -> "PositionTotals":
        """Return the same without what was carried in."""
        return msgspec.structs.replace(self, overnight_quantity=0, overnight_value=Decimal(0))


class Portfolio:
    """The fold. ``cash`` is rupees gained or lost before today, relative to the account's capital."""

    def __init__(self) -> None:
        self.day: date | None = None
        self.cash = Decimal(0)
        self.positions: dict[PositionKey, PositionTotals] = {}
        self.holdings: dict[str, Holding] = {}
        self.authorised: dict[str, int] = {}

    def apply(self, trade: Trade) -> None:
        """Take up a trade; trades come in the order of their time."""
        self.roll_to(trading_day(trade.at))
        key = PositionKey(trade.exchange, trade.tradingsymbol, trade.product)
        totals = self._totals(key, trade.instrument_token, trade.multiplier)
        if trade.transaction_type == "BUY":
            totals.day_buy_quantity += trade.quantity
            totals.day_buy_value += trade.value
        else:
            totals.day_sell_quantity += trade.quantity
            totals.day_sell_value += trade.value

    def convert(self, conversion: PositionConverted) -> None:
        """Take a part of a position into another product, at the average price of that part."""
        exchange, symbol, quantity = conversion.exchange, conversion.tradingsymbol, conversion.quantity
        old = self.positions[PositionKey(exchange, symbol, conversion.old_product)]
        new = self._totals(PositionKey(exchange, symbol, conversion.new_product), old.instrument_token, old.multiplier)
        if conversion.is_overnight:
            value = old.overnight_value * quantity / abs(old.overnight_quantity)
            signed = quantity if old.overnight_quantity > 0 else -quantity
            old.overnight_quantity -= signed
            old.overnight_value -= value
            new.overnight_quantity += signed
            new.overnight_value += value
        elif conversion.transaction_type == "BUY":
            value = old.day_buy_value * quantity / old.day_buy_quantity
            old.day_buy_quantity -= quantity
            old.day_buy_value -= value
            new.day_buy_quantity += quantity
            new.day_buy_value += value
        else:
            value = old.day_sell_value * quantity / old.day_sell_quantity
            old.day_sell_quantity -= quantity
            old.day_sell_value -= value
            new.day_sell_quantity += quantity
            new.day_sell_value += value

    def convertible(self, key: PositionKey, transaction_type: str, *, is_overnight: bool) -> int:
        """Return how much of a position's part, bought or sold, can go to another product."""
        totals = self.positions.get(key)
        if totals is None:
            return 0
        sign = 1 if transaction_type == "BUY" else -1
        traded = totals.day_buy_quantity if sign > 0 else totals.day_sell_quantity
        part = sign * totals.overnight_quantity if is_overnight else traded
        return max(0, min(part, sign * totals.quantity))

    def authorise(self, quantities: Mapping[str, int]) -> None:
        """Let these shares leave the account today, by ``EXCHANGE:SYMBOL``."""
        for key, quantity in quantities.items():
            self.authorised[key] = self.authorised.get(key, 0) + quantity

    def unauthorised(self, instrument: str, selling: int) -> int:
        """Return how many of *selling* shares would leave the account without having been authorised."""
        exchange, _, symbol = instrument.partition(":")
        totals = self.positions.get(PositionKey(exchange, symbol, "CNC"))
        delivered = selling - (totals.quantity if totals else 0)
        return max(0, delivered - self.authorised.get(instrument, 0))

    def before(self, trades: Iterable[Trade]) -> dict[PositionKey, PositionTotals]:
        """Return the positions as they were before the *trades*, the latest ones; none of them changes."""
        earlier = {key: msgspec.structs.replace(totals) for key, totals in self.positions.items()}
        for trade in trades:
            totals = earlier.get(PositionKey(trade.exchange, trade.tradingsymbol, trade.product))
            if totals is None:
                continue
            if trade.transaction_type == "BUY":
                totals.day_buy_quantity = max(0, totals.day_buy_quantity - trade.quantity)
                totals.day_buy_value = max(Decimal(0), totals.day_buy_value - trade.value)
            else:
                totals.day_sell_quantity = max(0, totals.day_sell_quantity - trade.quantity)
                totals.day_sell_value = max(Decimal(0), totals.day_sell_value - trade.value)
        return {key: totals for key, totals in earlier.items() if totals.buy_quantity or totals.sell_quantity}

    def roll_to(self, today: date) -> None:
        """Close the books of the days before *today*."""
        if self.day is None:
            self.day = today
        if today <= self.day:
            return
        self.authorised = {}
        self._settle_deliveries()
        self._roll_positions()
        if today - self.day > timedelta(days=1):
            self._settle_deliveries()
        self.day = today

    def expire(self, gone: Iterable[PositionKey]) -> None:
        """Close positions whose contract has expired, at their average price."""
        for key in gone:
            self.cash += self.positions.pop(key).realised

    def sold_from_holdings(self, instrument: str) -> int:
        """Shares of ``EXCHANGE:SYMBOL`` held in the morning that were sold today."""
        exchange, _, symbol = instrument.partition(":")
        totals = self.positions.get(PositionKey(exchange, symbol, "CNC"))
        return max(0, -totals.quantity) if totals else 0

    def sellable(self, instrument: str) -> int:
        """Shares that may be sold as delivery: holdings and what was bought today, less what was sold."""
        exchange, _, symbol = instrument.partition(":")
        totals = self.positions.get(PositionKey(exchange, symbol, "CNC"))
        holding = self.holdings.get(instrument)
        return (holding.total if holding else 0) + (totals.quantity if totals else 0)

    def _totals(self, key: PositionKey, instrument_token: int, multiplier: Decimal) -> PositionTotals:
        totals = self.positions.get(key)
        if totals is None:
            totals = self.positions[key] = PositionTotals(instrument_token=instrument_token, multiplier=multiplier)
        return totals

    def _settle_deliveries(self) -> None:
        for holding in self.holdings.values():
            holding.quantity, holding.t1_quantity = holding.total, 0

    def _roll_positions(self) -> None:
        carried: dict[PositionKey, PositionTotals] = {}
        for key, totals in self.positions.items():
            if key.product == "CNC":
                self.cash += totals.sell_value - totals.buy_value
                self._deliver(key, totals)
                continue
            self.cash += totals.realised
            if totals.quantity:
                carried[key] = PositionTotals(
                    instrument_token=totals.instrument_token,
                    multiplier=totals.multiplier,
                    overnight_quantity=totals.quantity,
                    overnight_value=totals.open_value,
                )
        self.positions = carried

    def _deliver(self, key: PositionKey, totals: PositionTotals) -> None:
        holding = self.holdings.setdefault(key.instrument, Holding(instrument_token=totals.instrument_token))
        if totals.quantity >= 0:
            holding.t1_quantity += totals.quantity
            holding.value += totals.open_value
        else:
            holding.value -= average(holding.value, holding.total) * -totals.quantity
            holding.quantity += totals.quantity
        if holding.total == 0:
            del self.holdings[key.instrument]
