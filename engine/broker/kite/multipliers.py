"""How many units of the quoted price a lot is, where Kite counts in lots: MCX, CDS and BCD.

The dump does not say; Kite names a ``multiplier`` in positions only (kite.md 11). These are the exchanges'
contract specifications (lot over quotation unit): MCX gold is traded by the kilogram and quoted for 10 grams.
"""

from collections.abc import Mapping
from decimal import Decimal

from engine.domain.enums import Exchange

_ONE = Decimal(1)
_CURRENCY = Decimal(1000)
_CURRENCIES = frozenset({"USDINR", "EURINR", "GBPINR", "JPYINR"})

_COMMODITIES: Mapping[str, int] = {
    "GOLD": 100,
    "GOLDM": 10,
    "GOLDTEN": 1,
    "GOLDGUINEA": 1,
    "GOLDPETAL": 1,
    "SILVER": 30,
    "SILVERM": 5,
    "SILVERMIC": 1,
    "CRUDEOIL": 100,
    "CRUDEOILM": 10,
    "NATURALGAS": 1250,
    "NATGASMINI": 250,
    "COPPER": 2500,
    "ZINC": 5000,
    "ZINCMINI": 1000,
    "LEAD": 5000,
    "LEADMINI": 1000,
    "ALUMINIUM": 5000,
    "ALUMINI": 1000,
    "NICKEL": 1500,
    "MENTHAOIL": 360,
    "COTTONCNDY": 48,
    "KAPAS": 200,
}


def multiplier_of(exchange: Exchange, underlying: str) -> Decimal:
    """Return the multiplier of the contracts on *underlying*; 1 where quantities are units, or it is not known."""
    if exchange is Exchange.MCX:
        return Decimal(_COMMODITIES.get(underlying, 1))
    if exchange in (Exchange.CDS, Exchange.BCD) and underlying in _CURRENCIES:
        return _CURRENCY
    return _ONE
