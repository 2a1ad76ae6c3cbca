"""How far beyond its trigger or the last price a protected order may fill: a policy of the account, or a table.

Source of the table: Zerodha's market price protection (kite.md 5.2): percent by the price and the instrument's type.
"""

from decimal import Decimal

from engine.domain.instruments import Instrument

# Percent of the price up to a price in rupees, and above the last of them.
_OPTIONS = ((Decimal(10), Decimal(5)), (Decimal(100), Decimal(3)), (Decimal(500), Decimal(2)))
_OPTIONS_ABOVE = Decimal(1)
_OTHERS = ((Decimal(100), Decimal(2)), (Decimal(500), Decimal(1)))
_OTHERS_ABOVE = Decimal("0.5")


def is_option(instrument: Instrument) -> bool:
    """Whether *instrument* is a call or a put."""
    return instrument.instrument_type in ("CE", "PE")


def protection_percent(instrument: Instrument, price: Decimal, *, policy: Decimal) -> Decimal:
    """Return the percent by which an order at about *price* (rupees) may be filled worse.

    *policy* is the account's or the signal's own percent; -1 is the broker's table.
    """
    if policy > 0:
        return policy
    bands, above = (_OPTIONS, _OPTIONS_ABOVE) if is_option(instrument) else (_OTHERS, _OTHERS_ABOVE)
    return next((share for below, share in bands if price < below), above)
