"""From a signal's quantity to the quantity of one account's order."""

from decimal import Decimal

import msgspec

from engine.domain.denial import Denial
from engine.domain.enums import SizingMode
from engine.domain.money import percent_of, plain

MAX_QUANTITY = 1_000_000_000


class Sized(msgspec.Struct, frozen=True, kw_only=True):
    """A quantity in units: positive and a whole number of lots."""

    quantity: int


def size(
    *,
    mode: SizingMode,
    value: Decimal,
    signal_quantity: int,
    lot_size: int,
    capital: Decimal | None,
    price: Decimal | None,
    multiplier: Decimal = Decimal(1),
    stop_loss: Decimal | None = None,
) -> Sized | Denial:
    """Size one account's order, rounding down to whole lots (contract section 6).

    ``multiplier``: *value* times the signal's quantity. ``fixed``: *value* units. ``lots``: *value*
    lots. ``capital_pct``: what *value* percent of *capital* buys at *price* (rupees; *multiplier* is
    the instrument's). ``risk_pct``: what loses *value* percent of *capital* when it is bought at *price* and the
    stop loss at *stop_loss* (rupees) is hit. Denials: SIZE_ZERO, SIZE_TOO_LARGE, SIZE_NEEDS_STOP, CAPITAL_UNKNOWN,
    PRICE_UNAVAILABLE, INSTRUMENT_NOT_TRADABLE.
    """
    if lot_size < 1:
        return Denial(code="INSTRUMENT_NOT_TRADABLE", text=f"the lot size is {lot_size}; an index cannot be traded")
    wanted: Decimal
    match mode:
        case SizingMode.MULTIPLIER:
            wanted = signal_quantity * value
        case SizingMode.FIXED:
            wanted = value
        case SizingMode.LOTS:
            wanted = int(value) * Decimal(lot_size)
        case SizingMode.CAPITAL_PCT:
            if capital is None or capital <= 0:
                return Denial(
                    code="CAPITAL_UNKNOWN",
                    text="sizing by capital needs the account's capital; set its field capital",
                )
            if price is None or price <= 0:
                return Denial(code="PRICE_UNAVAILABLE", text="sizing by capital needs a price, and none is known")
            wanted = percent_of(capital, value) / (price * multiplier)
        case SizingMode.RISK_PCT:
            if stop_loss is None:
                return Denial(code="SIZE_NEEDS_STOP", text="sizing by risk needs stopLoss on the signal; add it")
            if capital is None or capital <= 0:
                return Denial(
                    code="CAPITAL_UNKNOWN",
                    text="sizing by risk needs the account's capital; set its field capital",
                )
            if price is None or price <= 0:
                return Denial(code="PRICE_UNAVAILABLE", text="sizing by risk needs a price, and none is known")
            distance = abs(price - stop_loss)
            if not distance:
                text = f"stopLoss is the price itself, {plain(price)}: the distance between them is what sizes"
                return Denial(code="SIZE_NEEDS_STOP", text=text)
            wanted = percent_of(capital, value) / (distance * multiplier)
    if wanted > MAX_QUANTITY:
        return Denial(code="SIZE_TOO_LARGE", text=f"{mode} {plain(value)} gives more than {MAX_QUANTITY} units")
    lots = int(wanted) // lot_size
    if lots < 1:
        return Denial(
            code="SIZE_ZERO",
            text=f"{mode} {plain(value)} gives {max(int(wanted), 0)} units, less than one lot of {lot_size}",
        )
    return Sized(quantity=lots * lot_size)
