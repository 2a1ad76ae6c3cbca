"""What a trade costs at Zerodha: brokerage, STT or CTT, exchange, SEBI, stamp duty and GST.

Rates are fractions of the turnover and hold from a date on; the trade's date chooses. Sources: kite.md
10 (the published contract note of July 2023, which these rates reproduce), Zerodha's list of charges
(https://zerodha.com/charges) as it stood in 2023, October 2024 and 2026, the Finance Acts of 2023,
2024 and 2026 for STT, and the Indian Stamp Act as amended from 1 July 2020. NSE's own dates between
those lists are not published there, so within a few months of a change the exchange's part may be
off by a tenth. Stamp duty is charged in whole rupees, as contract notes have it; nothing else is
rounded. GST is shown as IGST. Not modelled: STT of exercised options, charges of the depository, the
call-and-trade and auto square-off fees, exemptions of farm commodities from CTT.
"""

from collections.abc import Mapping
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from typing import Literal

import msgspec

from engine.domain.enums import Exchange, ProductType, TransactionType
from engine.domain.instruments import Instrument

Kind = Literal[
    "delivery", "intraday", "futures", "options",
    "currency_futures", "currency_options", "commodity_futures", "commodity_options",
]  # fmt: skip
Rates = tuple[tuple[date, Decimal], ...]

# before it, stamp duty was a matter of each state
FIRST_DAY = date(2020, 7, 1)
_APRIL_2021 = date(2021, 4, 1)
_APRIL_2023 = date(2023, 4, 1)
_APRIL_2024 = date(2024, 4, 1)
_OCTOBER_2024 = date(2024, 10, 1)
_APRIL_2026 = date(2026, 4, 1)


def _rates(first: str, *later: tuple[date, str]) -> Rates:
    """Percentages as fractions: the first holds from `FIRST_DAY` on."""
    return tuple((since, Decimal(percent) / 100) for since, percent in ((FIRST_DAY, first), *later))


_NOTHING = _rates("0")
_FUTURES_TAX = _rates("0.01", (_APRIL_2023, "0.0125"), (_OCTOBER_2024, "0.02"), (_APRIL_2026, "0.05"))
_OPTIONS_TAX = _rates("0.05", (_APRIL_2023, "0.0625"), (_OCTOBER_2024, "0.1"), (_APRIL_2026, "0.15"))

# of purchases and of sales
_TAX: Mapping[Kind, tuple[Rates, Rates]] = {
    "delivery": (_rates("0.1"), _rates("0.1")),
    "intraday": (_NOTHING, _rates("0.025")),
    "futures": (_NOTHING, _FUTURES_TAX),
    "options": (_NOTHING, _OPTIONS_TAX),
    "currency_futures": (_NOTHING, _NOTHING),
    "currency_options": (_NOTHING, _NOTHING),
    "commodity_futures": (_NOTHING, _rates("0.01")),
    "commodity_options": (_NOTHING, _rates("0.05")),
}
_NSE_SHARES = _rates(
    "0.00345",
    (_APRIL_2023, "0.00335"),
    (_APRIL_2024, "0.00322"),
    (_OCTOBER_2024, "0.00297"),
    (_APRIL_2026, "0.00307"),
)
_BSE_SHARES = _rates("0.00345", (_APRIL_2023, "0.00375"))
_TURNOVER: Mapping[tuple[Exchange, Kind], Rates] = {
    (Exchange.NSE, "delivery"): _NSE_SHARES,
    (Exchange.NSE, "intraday"): _NSE_SHARES,
    (Exchange.BSE, "delivery"): _BSE_SHARES,
    (Exchange.BSE, "intraday"): _BSE_SHARES,
    (Exchange.NFO, "futures"): _rates(
        "0.002",
        (_APRIL_2023, "0.0019"),
        (_APRIL_2024, "0.00183"),
        (_OCTOBER_2024, "0.00173"),
        (_APRIL_2026, "0.00183"),
    ),
    (Exchange.NFO, "options"): _rates(
        "0.053",
        (_APRIL_2023, "0.05"),
        (_APRIL_2024, "0.0495"),
        (_OCTOBER_2024, "0.03503"),
        (_APRIL_2026, "0.03553"),
    ),
    (Exchange.BFO, "futures"): _NOTHING,
    (Exchange.BFO, "options"): _rates("0.0495", (_OCTOBER_2024, "0.0325")),
    (Exchange.CDS, "currency_futures"): _rates("0.0009", (_OCTOBER_2024, "0.00035")),
    (Exchange.CDS, "currency_options"): _rates("0.035", (_OCTOBER_2024, "0.0311")),
    (Exchange.BCD, "currency_futures"): _rates("0.00022", (_OCTOBER_2024, "0.00045")),
    (Exchange.BCD, "currency_options"): _rates("0.001"),
    (Exchange.MCX, "commodity_futures"): _rates("0.0026", (_OCTOBER_2024, "0.0021")),
    (Exchange.MCX, "commodity_options"): _rates("0.05", (_OCTOBER_2024, "0.0418")),
}
_STAMP: Mapping[Kind, Rates] = {
    "delivery": _rates("0.015"),
    "intraday": _rates("0.003"),
    "futures": _rates("0.002"),
    "options": _rates("0.003"),
    "currency_futures": _rates("0.0001"),
    "currency_options": _rates("0.0001"),
    "commodity_futures": _rates("0.002"),
    "commodity_options": _rates("0.003"),
}
# ten rupees a crore; half of it during the pandemic
_SEBI = _rates("0.00005", (_APRIL_2021, "0.0001"))
_GST = _rates("18")
_FLAT = frozenset({"options", "commodity_options"})
_MOST_BROKERAGE = Decimal(20)
_BROKERAGE = Decimal("0.0003")
_MTF_BROKERAGE = Decimal("0.003")


class Charges(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of what a trade costs, in rupees, not rounded but for ``stamp_duty``.

    ``transaction_tax`` is STT, of commodities CTT; ``gst`` is 18 % of brokerage, exchange and SEBI charges.
    """

    transaction_tax: Decimal
    is_commodity: bool
    exchange_turnover: Decimal
    sebi_turnover: Decimal
    brokerage: Decimal
    stamp_duty: Decimal
    gst: Decimal

    @property
    def total(self) -> Decimal:
        """All of it."""
        taxed = self.exchange_turnover + self.sebi_turnover + self.brokerage
        return self.transaction_tax + taxed + self.stamp_duty + self.gst


def charges_of(
    instrument: Instrument,
    product_type: ProductType,
    transaction_type: TransactionType,
    quantity: int,
    price: Decimal,
    on: date,
) -> Charges:
    """Return what one executed order of *quantity* (Kite's units) at *price* rupees costs on the IST date *on*.

    Raises:
        ValueError: *on* is before 1 July 2020.
    """
    kind = kind_of(instrument, product_type)
    turnover = price * quantity * instrument.multiplier
    return _charges(instrument.exchange, kind, product_type, transaction_type, turnover, on)


def charges_of_turnover(
    exchange: Exchange,
    symbol: str,
    product_type: ProductType,
    transaction_type: TransactionType,
    turnover: Decimal,
    on: date,
) -> Decimal:
    """Return what one executed order of *turnover* rupees (all its trades, multiplier included) costs in all.

    The contract is told from the symbol, options end in CE or PE, so that the instrument master need not be loaded:
    the sum is the same at any time. 0 before 1 July 2020, of which no charges are known.
    """
    if on < FIRST_DAY or not turnover:
        return Decimal(0)
    kind = _kind(exchange, product_type, is_option=symbol.endswith(("CE", "PE")))
    return _charges(exchange, kind, product_type, transaction_type, turnover, on).total


def _charges(
    exchange: Exchange,
    kind: Kind,
    product_type: ProductType,
    transaction_type: TransactionType,
    turnover: Decimal,
    on: date,
) -> Charges:
    is_buy = transaction_type is TransactionType.BUY
    purchases, sales = _TAX[kind]
    exchange_turnover = turnover * _on(_TURNOVER[exchange, kind], on)
    sebi_turnover = turnover * _on(_SEBI, on)
    brokerage = _brokerage(kind, product_type, turnover)
    stamp_duty = turnover * _on(_STAMP[kind], on) if is_buy else Decimal(0)
    return Charges(
        transaction_tax=turnover * _on(purchases if is_buy else sales, on),
        is_commodity=exchange is Exchange.MCX,
        exchange_turnover=exchange_turnover,
        sebi_turnover=sebi_turnover,
        brokerage=brokerage,
        stamp_duty=stamp_duty.quantize(Decimal(1), rounding=ROUND_HALF_UP),
        gst=(brokerage + exchange_turnover + sebi_turnover) * _on(_GST, on),
    )


def kind_of(instrument: Instrument, product_type: ProductType) -> Kind:
    """Return the row of the list of charges that a trade belongs to."""
    return _kind(instrument.exchange, product_type, is_option=instrument.instrument_type in ("CE", "PE"))


def _kind(exchange: Exchange, product_type: ProductType, *, is_option: bool) -> Kind:
    match exchange:
        case Exchange.NSE | Exchange.BSE:
            return "delivery" if product_type in (ProductType.CNC, ProductType.MTF) else "intraday"
        case Exchange.NFO | Exchange.BFO:
            return "options" if is_option else "futures"
        case Exchange.MCX:
            return "commodity_options" if is_option else "commodity_futures"
        case _:
            return "currency_options" if is_option else "currency_futures"


def _brokerage(kind: Kind, product_type: ProductType, turnover: Decimal) -> Decimal:
    if kind in _FLAT:
        return _MOST_BROKERAGE
    if product_type is ProductType.MTF:
        return min(_MOST_BROKERAGE, turnover * _MTF_BROKERAGE)
    return Decimal(0) if kind == "delivery" else min(_MOST_BROKERAGE, turnover * _BROKERAGE)


def _on(rates: Rates, day: date) -> Decimal:
    if day < FIRST_DAY:
        raise ValueError(f"no charges are known for {day}; the table begins on {FIRST_DAY}")
    return next(rate for since, rate in reversed(rates) if since <= day)
