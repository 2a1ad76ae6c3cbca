"""Money on its way in and out: exact decimals, at most four places (contract section 3)."""

from decimal import Decimal

_PLACES = Decimal("0.0001")
_MOST = Decimal(10) ** 13


def tidy(amount: Decimal) -> Decimal:
    """Return *amount* rounded to four decimals, without trailing zeros or an exponent."""
    rounded = amount.quantize(_PLACES).normalize()
    if not rounded:
        return Decimal(0)
    exponent = rounded.as_tuple().exponent
    return rounded.quantize(Decimal(1)) if isinstance(exponent, int) and exponent > 0 else rounded


def tidy_or_none(amount: Decimal | None) -> Decimal | None:
    """Return `tidy` of *amount*, None for None."""
    return None if amount is None else tidy(amount)


def amount_fault(amount: Decimal, *, least: Decimal = Decimal(0), above: bool = False) -> str | None:
    """Return why *amount* cannot be taken in, or None.

    It must be finite, below 10^13, have at most four decimals and be *least* or more (more than
    *least* with *above*).
    """
    if not amount.is_finite() or abs(amount) >= _MOST:
        return "must be a plain number below 10000000000000"
    if amount < least or (above and amount == least):
        return f"must be {'more than' if above else 'at least'} {least}"
    if amount != amount.quantize(_PLACES):
        return "may have at most 4 decimals"
    return None
