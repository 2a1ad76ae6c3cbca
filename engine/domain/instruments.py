"""Instruments and the static rules of an order on one: tick, lot, freeze quantity.

Source of the rules: Kite Connect v3, instruments (https://kite.trade/docs/connect/v3/market-quotes/).
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from decimal import Decimal

import msgspec

from engine.domain.denial import Denial
from engine.domain.enums import Exchange, OrderType, ProductType, TransactionType, Variety
from engine.domain.freeze import FreezeTable, freeze_from_refusal
from engine.domain.money import MAX_PRICE, is_multiple, plain, rupees, to_tick

__all__ = [
    "MAX_SLICES",
    "SLICED",
    "Instrument",
    "InstrumentBook",
    "check_order",
    "freeze_from_refusal",
    "iceberg_quantity",
    "slices",
]

MAX_SLICES = 50
"""Most orders that one quantity is split into; a larger one is refused: it is a typing error."""

SLICED = (Variety.REGULAR, Variety.AMO)
"""Varieties of which an exchange takes an order up to its freeze quantity only: the engine splits larger ones."""

_DELIVERY = frozenset({ProductType.CNC, ProductType.MTF})
_CASH = frozenset({Exchange.NSE, Exchange.BSE})
_NO_STRIKE = Decimal(0)


class Instrument(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One row of the instrument master.

    ``tick_size`` and ``last_price`` are rupees (``last_price`` 0 when the master has none);
    ``lot_size`` is units on NSE, BSE, NFO and BFO, lots (1) on MCX, CDS and BCD; ``freeze_quantity``
    is the largest single order the exchange takes, None when not known; ``multiplier`` turns
    price times quantity into rupees (1 for equities).
    """

    exchange: Exchange
    symbol: str
    token: int
    tick_size: Decimal
    lot_size: int
    name: str = ""
    instrument_type: str = "EQ"
    segment: str = ""
    expiry: date | None = None
    strike: Decimal | None = None
    last_price: Decimal = Decimal(0)
    freeze_quantity: int | None = None
    multiplier: Decimal = Decimal(1)

    @property
    def key(self) -> str:
        """``EXCHANGE:SYMBOL``, as Kite's quote calls spell it."""
        return f"{self.exchange}:{self.symbol}"

    @property
    def is_tradable(self) -> bool:
        """Whether orders can be placed on it: index rows have neither tick nor lot."""
        return self.segment != "INDICES" and self.lot_size > 0 and self.tick_size > 0

    @property
    def underlying(self) -> str:
        """The name that all contracts on the same underlying share; empty for a share."""
        return "" if self.exchange in _CASH else self.name


class InstrumentBook:
    """The instrument master of one day, found by exchange and symbol; a later row replaces an earlier.

    ``freeze`` supplies the freeze quantities, which no dump has; a new table holds from the next look-up on.
    ``indices`` are the rows that are no more than a number to look at.
    """

    def __init__(self, instruments: Iterable[Instrument] = (), *, freeze: FreezeTable | None = None) -> None:
        self._by_key = {(row.exchange, row.symbol): row for row in instruments}
        self._contracts: dict[tuple[Exchange, str, str], dict[date, dict[Decimal, Instrument]]] = {}
        self._underlyings: set[tuple[Exchange, str]] = set()
        self._alike: set[tuple[Exchange, str, str, date, Decimal]] = set()
        self.indices = tuple(row for row in self._by_key.values() if row.segment == "INDICES")
        for row in self._by_key.values():
            if row.expiry is not None and row.underlying:
                chain = self._contracts.setdefault((row.exchange, row.underlying, row.instrument_type), {})
                strike = row.strike or _NO_STRIKE
                series = chain.setdefault(row.expiry, {})
                if strike in series:
                    self._alike.add((row.exchange, row.underlying, row.instrument_type, row.expiry, strike))
                series[strike] = row
                self._underlyings.add((row.exchange, row.underlying))
        self.freeze = freeze or FreezeTable()

    def get(self, exchange: Exchange, symbol: str) -> Instrument | None:
        """Return the instrument with its freeze quantity, or None when the master does not have it."""
        row = self._by_key.get((exchange, symbol))
        if row is None:
            return None
        frozen = self.freeze.find(exchange, symbol, row.underlying)
        if frozen is None or frozen.quantity == row.freeze_quantity:
            return row
        return msgspec.structs.replace(row, freeze_quantity=frozen.quantity)

    def contracts(
        self, exchange: Exchange, underlying: str, instrument_type: str
    ) -> Mapping[date, Mapping[Decimal, Instrument]]:
        """Return the contracts (FUT, CE or PE) on an underlying by expiry and strike; a future's strike is 0."""
        return self._contracts.get((exchange, underlying, instrument_type), {})

    def is_one_of_several(self, row: Instrument) -> bool:
        """Whether another contract has the same underlying, kind, expiry and strike: those do not tell them apart."""
        if row.expiry is None:
            return False
        place = (row.exchange, row.underlying, row.instrument_type, row.expiry, row.strike or _NO_STRIKE)
        return place in self._alike

    def has_contracts(self, exchange: Exchange, underlying: str) -> bool:
        """Whether any contract on *underlying* is listed on *exchange*."""
        return (exchange, underlying) in self._underlyings

    def symbols(self, exchange: Exchange | None = None) -> tuple[str, ...]:
        """Return the trading symbols in order, each once, of one exchange or of all."""
        return tuple(sorted({symbol for at, symbol in self._by_key if exchange in (None, at)}))

    def __len__(self) -> int:
        return len(self._by_key)

    def __iter__(self) -> Iterator[Instrument]:
        return iter(self._by_key.values())


def check_order(
    instrument: Instrument,
    *,
    quantity: int,
    price: Decimal | None,
    trigger_price: Decimal | None,
    order_type: OrderType,
    product_type: ProductType,
    variety: Variety = Variety.REGULAR,
    transaction_type: TransactionType | None = None,
    may_slice: bool = False,
) -> tuple[Denial, ...]:
    """Return every static reason why the exchange would refuse this order; empty when there is none.

    Prices are rupees, *quantity* is units. With *transaction_type* the trigger of an SL order is also
    held against its price. With *may_slice* a quantity over the freeze quantity is no reason: it will be
    split by `slices`. Codes: INSTRUMENT_NOT_TRADABLE, QUANTITY_REQUIRED, LOT_SIZE,
    FREEZE_QUANTITY, PRODUCT_NOT_ALLOWED, PRICE_REQUIRED, PRICE_NOT_ALLOWED, TRIGGER_PRICE_REQUIRED,
    TRIGGER_PRICE_NOT_ALLOWED, PRICE_RANGE, TICK_SIZE, TRIGGER_PRICE_SIDE.
    """
    if not instrument.is_tradable:
        return (
            Denial(code="INSTRUMENT_NOT_TRADABLE", text=f"{instrument.key} is an index; trade its future or option"),
        )
    denials = _check_quantity(instrument, quantity, variety, may_slice)
    if not product_type.is_orderable:
        text = f"no order is placed in {product_type}; exit it by cancelling its stop order"
        denials.append(Denial(code="PRODUCT_NOT_ALLOWED", text=text))
    if product_type in _DELIVERY and instrument.exchange not in _CASH:
        text = f"{product_type} is for shares; on {instrument.exchange} use NRML or MIS"
        denials.append(Denial(code="PRODUCT_NOT_ALLOWED", text=text))
    if variety is Variety.CO and product_type is not ProductType.MIS:
        denials.append(Denial(code="PRODUCT_NOT_ALLOWED", text=f"a cover order is MIS, not {product_type}"))
    # A cover order carries the trigger of its stop leg whatever the type of its entry.
    needs_trigger = order_type.needs_trigger or variety is Variety.CO
    denials += _check_price(instrument, "price", price, needed=order_type.needs_price, order_type=order_type)
    denials += _check_price(instrument, "trigger price", trigger_price, needed=needs_trigger, order_type=order_type)
    if not denials and order_type is OrderType.SL and price and trigger_price and transaction_type is not None:
        denials += _check_trigger_side(price, trigger_price, transaction_type)
    return tuple(denials)


def slices(quantity: int, instrument: Instrument) -> tuple[int, ...]:
    """Split *quantity* into orders of whole lots, none over the freeze quantity; they sum to it.

    Raises:
        ValueError: *quantity* is not a whole number of lots, or one lot is over the freeze quantity.
    """
    lot = instrument.lot_size
    if not instrument.is_tradable or quantity < 1 or quantity % lot:
        raise ValueError(f"{quantity} is not a whole number of lots of {instrument.key} (lot size {lot})")
    if instrument.freeze_quantity is None:
        return (quantity,)
    largest = instrument.freeze_quantity // lot * lot
    if largest < 1:
        raise ValueError(
            f"the freeze quantity {instrument.freeze_quantity} of {instrument.key} is less than a lot of {lot}"
        )
    full, rest = divmod(quantity, largest)
    return (largest,) * full + ((rest,) if rest else ())


def iceberg_quantity(quantity: int, legs: int, instrument: Instrument) -> int:
    """Return the units of the first leg of an iceberg order: whole lots, the larger part of an odd rest.

    31 lots in 2 legs are 16 and 15 (kite.trade forum 51625).

    Raises:
        ValueError: there are fewer lots than legs.
    """
    lots = quantity // instrument.lot_size
    if lots < legs:
        raise ValueError(f"{quantity} units of {instrument.key} are {lots} lots, too few for {legs} legs")
    return -(-lots // legs) * instrument.lot_size


def _check_quantity(instrument: Instrument, quantity: int, variety: Variety, may_slice: bool) -> list[Denial]:
    if quantity < 1:
        return [
            Denial(code="QUANTITY_REQUIRED", text=f"{quantity} is not a quantity; write a positive number of units")
        ]
    denials = []
    lot, freeze = instrument.lot_size, instrument.freeze_quantity
    if quantity % lot:
        below = quantity // lot * lot
        nearest = f"{below} or {below + lot}" if below else f"{lot}"
        text = f"{quantity} is not a multiple of the lot size {lot} of {instrument.key}; use {nearest}"
        denials.append(Denial(code="LOT_SIZE", text=text))
    if may_slice and freeze is not None and freeze >= lot:
        if quantity > freeze // lot * lot * MAX_SLICES:
            text = f"{quantity} would be over {MAX_SLICES} orders of at most {freeze} on {instrument.key}; check it"
            denials.append(Denial(code="TOO_MANY_SLICES", text=text))
    # The exchange sees the legs of an iceberg, not its whole.
    elif freeze is not None and quantity > freeze and variety is not Variety.ICEBERG:
        nearest = f"use at most {freeze // lot * lot}"
        text = f"{quantity} exceeds {freeze}, the largest single order on {instrument.key}; {nearest}"
        denials.append(Denial(code="FREEZE_QUANTITY", text=text))
    return denials


def _check_trigger_side(price: Decimal, trigger: Decimal, side: TransactionType) -> list[Denial]:
    # The limit must reach beyond the trigger, or the order could not fill where it wakes.
    if (price - trigger) * side.sign >= 0:
        return []
    where = "at or above" if side is TransactionType.BUY else "at or below"
    text = f"the price {rupees(price)} of a {side} SL must be {where} its trigger {rupees(trigger)}"
    return [Denial(code="TRIGGER_PRICE_SIDE", text=text)]


def _check_price(
    instrument: Instrument, what: str, price: Decimal | None, *, needed: bool, order_type: OrderType
) -> list[Denial]:
    prefix = what.upper().replace(" ", "_")
    # Kite's wire has 0 for "none"; both spellings mean the same here.
    if not price:
        if needed:
            return [Denial(code=f"{prefix}_REQUIRED", text=f"this order (type {order_type}) needs a {what}; add one")]
        return []
    if not needed:
        return [
            Denial(code=f"{prefix}_NOT_ALLOWED", text=f"an order of type {order_type} takes no {what}; leave it out")
        ]
    if not price.is_finite() or not 0 < price <= MAX_PRICE:
        return [
            Denial(code="PRICE_RANGE", text=f"the {what} {price} is not between 0 and {plain(MAX_PRICE)}; check it")
        ]
    tick = instrument.tick_size
    if is_multiple(price, tick):
        return []
    below, above = to_tick(price, tick, up=False), to_tick(price, tick, up=True)
    nearest = f"{rupees(below)} or {rupees(above)}" if below else rupees(above)
    text = f"the {what} {rupees(price)} is not a multiple of the tick {plain(tick)} of {instrument.key}; use {nearest}"
    return [Denial(code="TICK_SIZE", text=text)]
