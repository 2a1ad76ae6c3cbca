"""A book of contracts around 29 November 2026: NIFTY weekly and monthly, BANKNIFTY monthly, crude oil, dollars."""

from datetime import date
from decimal import Decimal

from engine.domain.enums import Exchange
from engine.domain.instruments import Instrument, InstrumentBook

WEEKLY = (date(2026, 12, 1), date(2026, 12, 8), date(2026, 12, 15), date(2026, 12, 29), date(2027, 1, 26))
MONTHLY = (date(2026, 12, 29), date(2027, 1, 26))
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")


def _contract(
    exchange: Exchange, name: str, expiry: date, kind: str, strike: int | str = 0, lot: int = 1
) -> Instrument:
    day = f"{expiry:%d}{MONTHS[expiry.month - 1]}{expiry:%y}"
    return Instrument(
        exchange=exchange,
        symbol=f"{name}{day}{strike or ''}{kind}",
        name=name,
        token=1,
        tick_size=Decimal("0.05"),
        lot_size=lot,
        instrument_type=kind,
        segment=f"{exchange}-{'FUT' if kind == 'FUT' else 'OPT'}",
        expiry=expiry,
        strike=Decimal(strike) if strike else None,
    )


def _share(symbol: str, **fields: object) -> Instrument:
    defaults = {"tick_size": Decimal("0.05"), "lot_size": 1, "name": symbol, "token": 1}
    return Instrument(exchange=Exchange.NSE, symbol=symbol, **(defaults | fields))  # type: ignore[arg-type]


STRIKES = tuple(range(24000, 25050, 50))

CONTRACTS: tuple[Instrument, ...] = (
    *(_share(symbol) for symbol in ("INFY", "M&M", "BAJAJ-AUTO", "NIFTYBEES", "RELIANCE")),
    _share("NIFTY 50", segment="INDICES", tick_size=Decimal(0), lot_size=0),
    *(
        _contract(Exchange.NFO, "NIFTY", expiry, kind, strike, 65)
        for expiry in WEEKLY
        for kind in ("CE", "PE")
        for strike in STRIKES
    ),
    *(
        _contract(Exchange.NFO, "BANKNIFTY", expiry, kind, strike, 30)
        for expiry in MONTHLY
        for kind in ("CE", "PE")
        for strike in range(55000, 56100, 100)
    ),
    *(_contract(Exchange.NFO, name, expiry, "FUT", lot=65) for name in ("NIFTY", "RELIANCE") for expiry in MONTHLY),
    _contract(Exchange.NFO, "INFY", MONTHLY[0], "CE", 1500, 400),
    _contract(Exchange.BFO, "SENSEX", date(2026, 12, 3), "CE", 80000, 20),
    *(_contract(Exchange.MCX, "CRUDEOIL", day, "FUT") for day in (date(2026, 12, 18), date(2027, 1, 19))),
    *(_contract(Exchange.MCX, "CRUDEOIL", date(2026, 12, 16), "CE", strike) for strike in (5500, 5600, 5700)),
    _contract(Exchange.CDS, "USDINR", date(2026, 12, 29), "FUT"),
    *(_contract(Exchange.CDS, "USDINR", date(2026, 12, 29), "CE", strike) for strike in ("88.25", "88.5", "88.75")),
)

CHAIN = InstrumentBook(CONTRACTS)
