"""Rupees and prices as Decimal: reading, rounding to ticks, and writing what a broker accepts.

Nothing here goes through float. Text from outside is read by a narrow grammar, because
``Decimal`` itself takes NaN, exponents, underscores and the digits of every script.
"""

import re
from decimal import Decimal

# One share, lot or option has never been near a crore; what is above is a slip of the finger.
MAX_PRICE = Decimal(10_000_000)
# Capital and order values: keeps products of money inside the 28 digits of the default context.
MAX_AMOUNT = Decimal(1_000_000_000_000)
MAX_DECIMALS = 4

_PLAIN = re.compile(r"[0-9]{1,13}(\.[0-9]{1,4})?")
_MAX_EXPONENT = 60


def parse_rupees(text: str, *, maximum: Decimal = MAX_AMOUNT) -> Decimal:
    """Return the amount written in *text*: ASCII digits, at most 4 decimals, nothing else.

    Raises:
        ValueError: anything else (sign, exponent, NaN, separators, blanks) or more than *maximum*;
            the message says what to write instead.
    """
    if not _PLAIN.fullmatch(text):
        shown = text if len(text) <= 30 else f"{text[:30]}…"
        raise ValueError(
            f"{shown!r} is not an amount in rupees; write digits with at most {MAX_DECIMALS} decimals, such as 2450.50"
        )
    amount = Decimal(text)
    if amount > maximum:
        raise ValueError(f"{text} is more than {plain(maximum)} rupees; check the amount")
    return amount


def is_multiple(price: Decimal, tick: Decimal) -> bool:
    """Return whether *price* (rupees, up to `MAX_AMOUNT`) lies on a tick; nothing lies on a tick of 0."""
    return tick > 0 and price % tick == 0


def to_tick(price: Decimal, tick: Decimal, *, up: bool) -> Decimal:
    """Return the nearest price on a tick at or above (*up*) or at or below *price*, in rupees.

    Raises:
        ValueError: *tick* is not positive, or *price* is negative.
    """
    if tick <= 0:
        raise ValueError(f"a tick of {tick} cannot be rounded to; an index has no ticks and cannot be traded")
    if price < 0:
        raise ValueError(f"{price} is negative; a price is at least 0")
    rest = price % tick
    if not rest:
        return price
    return price - rest + (tick if up else 0)


def plain(amount: Decimal) -> str:
    """Return *amount* without exponent and without trailing zeros: ``100``, ``0.05``, ``2450.5``.

    Raises:
        ValueError: *amount* is not finite, or too large or small to be money.
    """
    if not amount.is_finite() or abs(amount.adjusted()) > _MAX_EXPONENT:
        raise ValueError(f"{amount} is not an amount of money")
    text = format(amount, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def rupees(amount: Decimal) -> str:
    """Return *amount* for people: at least two decimals, more only where they are not zero."""
    text = plain(amount)
    whole, _, decimals = text.partition(".")
    return f"{whole}.{decimals:0<2}"


def percent_of(amount: Decimal, percent: Decimal) -> Decimal:
    """Return *percent* percent of *amount*."""
    return amount * percent / 100
