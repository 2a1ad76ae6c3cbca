"""Futures and options written in words: ``NIFTY ATM CE``, ``BANKNIFTY OTM3 PE MONTHLY``, ``CRUDEOIL FUT NEXT``.

    contract = underlying [ date ] "FUT" [ "NEXT" ]
             | underlying [ date ] level ( "CE" | "PE" ) [ "WEEKLY" | "MONTHLY" | "NEXT" ]
    level    = "ATM" [ ( "+" | "-" ) n ] | "ITM" n | "OTM" n | strike
    date     = DDMMMYY, such as 02DEC26; it stands instead of the word at the end

Without date and word the nearest expiry is meant; today's counts until trading in it ends. ATM is the strike
nearest to the underlying's price (of two equally near the lower), ``ATM+2`` two strikes above it and
``ATM-2`` two below, for calls and puts alike; ``OTM2`` is two strikes out of the money (a call's above, a
put's below), ``ITM2`` two in it. Pure: price, instruments, sessions and now are arguments.
"""

import re
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from enum import StrEnum

import msgspec

from engine.clock import IST
from engine.domain.calendar import Calendar, close_of
from engine.domain.denial import Denial
from engine.domain.enums import Exchange
from engine.domain.instruments import Instrument, InstrumentBook
from engine.domain.money import plain

EXCHANGES = (Exchange.NFO, Exchange.BFO, Exchange.MCX, Exchange.CDS, Exchange.BCD)
"""Where contracts are traded."""

SPOTS: Mapping[tuple[Exchange, str], str] = {
    (Exchange.NFO, "NIFTY"): "NSE:NIFTY 50",
    (Exchange.NFO, "BANKNIFTY"): "NSE:NIFTY BANK",
    (Exchange.NFO, "FINNIFTY"): "NSE:NIFTY FIN SERVICE",
    (Exchange.NFO, "MIDCPNIFTY"): "NSE:NIFTY MID SELECT",
    (Exchange.NFO, "NIFTYNXT50"): "NSE:NIFTY NEXT 50",
    (Exchange.BFO, "SENSEX"): "BSE:SENSEX",
    (Exchange.BFO, "BANKEX"): "BSE:BANKEX",
    (Exchange.BFO, "SENSEX50"): "BSE:SNSX50",
}
"""Where the price of an index is found, by the exchange of its contracts and their name there."""

HINT = "a contract in words is written as NIFTY FUT, NIFTY ATM CE, NIFTY OTM2 PE MONTHLY or NIFTY 02DEC26 24500 CE"
"""What to answer to words that mean a contract and are in no order that is known."""

_CASH_OF = {Exchange.NFO: Exchange.NSE, Exchange.BFO: Exchange.BSE}
# Currency contracts end at 12:30 on their last day (NSE, contract specifications); all others at the close.
_LAST_DAY_ENDS = {Exchange.CDS: time(12, 30), Exchange.BCD: time(12, 30)}
_REGULAR_END = time(15, 30)

_MAX_LENGTH = 40
_WORD = re.compile(r"[A-Z0-9&_\-.]{1,40}")
_DATE = re.compile(r"([0-9]{2})([A-Z]{3})([0-9]{2})")
_LEVEL = re.compile(r"(?:(ATM)(?:([+-])([1-9][0-9]?))?|(ITM|OTM)([1-9][0-9]?)|([1-9][0-9]{0,6}(?:\.[0-9]{1,4})?))")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_KEYWORDS = frozenset({"FUT", "CE", "PE", "WEEKLY", "MONTHLY", "NEXT", "ATM", "ITM", "OTM"})


class Period(StrEnum):
    """Which expiry, when no date is written."""

    NEAREST = "NEAREST"
    WEEKLY = "WEEKLY"
    MONTHLY = "MONTHLY"
    NEXT = "NEXT"


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """A future or option in words.

    ``kind`` is FUT, CE or PE. Of an option, ``strike`` (rupees) is set when it was written as a number;
    otherwise ``level`` is ATM, ITM or OTM and ``steps`` counts strikes (signed for ATM).
    """

    underlying: str
    kind: str
    strike: Decimal | None = None
    level: str | None = None
    steps: int = 0
    expiry: date | None = None
    period: Period = Period.NEAREST

    @property
    def needs_price(self) -> bool:
        """Whether the choice depends on the price of the underlying."""
        return self.level is not None


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """The instrument that was meant, and the price by which it was chosen (None where none was needed)."""

    instrument: Instrument
    spot: Decimal | None = None


def parse_contract(text: str) -> Contract | None:
    """Read *text* (upper case, words separated by spaces); None when it is no contract in words."""
    words = text.split(" ") if len(text) <= _MAX_LENGTH else []
    period = Period(words.pop()) if words and words[-1] in ("WEEKLY", "MONTHLY", "NEXT") else Period.NEAREST
    kind = words.pop() if words else ""
    if kind not in ("FUT", "CE", "PE") or (kind == "FUT" and period not in (Period.NEAREST, Period.NEXT)):
        return None
    level = _LEVEL.fullmatch(words.pop()) if kind != "FUT" and words else None
    if kind != "FUT" and level is None:
        return None
    expiry = _date(words[-1]) if len(words) > 1 else None
    if expiry is not None:
        words.pop()
        if period is not Period.NEAREST:
            return None
    if not words or any(not _WORD.fullmatch(word) or word in _KEYWORDS for word in words):
        return None
    made = Contract(underlying=" ".join(words), kind=kind, expiry=expiry, period=period)
    return made if level is None else _at(made, level)


def is_like_contract(text: str) -> bool:
    """Whether *text* (upper case) has a word of contracts, so that whoever wrote it may have meant one."""
    words = text.split(" ")
    return len(words) > 1 and not _KEYWORDS.isdisjoint(words)


def _at(contract: Contract, level: re.Match[str]) -> Contract:
    atm, sign, above, word, steps, strike = level.groups()
    if strike is not None:
        return msgspec.structs.replace(contract, strike=Decimal(strike))
    count = int(above or steps or 0)
    return msgspec.structs.replace(contract, level=atm or word, steps=-count if sign == "-" else count)


def _date(word: str) -> date | None:
    found = _DATE.fullmatch(word)
    if found is None or found[2] not in _MONTHS:
        return None
    try:
        return date(2000 + int(found[3]), _MONTHS.index(found[2]) + 1, int(found[1]))
    except ValueError:
        return None


def spot_key(
    contract: Contract, *, exchange: Exchange, book: InstrumentBook, now: datetime, calendar: Calendar
) -> str | Denial | None:
    """Return the ``EXCHANGE:SYMBOL`` whose last price the choice depends on, None when it depends on none.

    An index or share for NFO and BFO; for commodities and currencies the future that runs at least as long as
    the option (an MCX option is one on the future).
    """
    if not contract.needs_price:
        return None
    # what is not listed has no price to ask for either
    expiry = _expiry(contract, exchange=exchange, book=book, now=now, calendar=calendar)
    if isinstance(expiry, Denial):
        return expiry
    if exchange in _CASH_OF:
        return SPOTS.get((exchange, contract.underlying), f"{_CASH_OF[exchange]}:{contract.underlying}")
    futures = book.contracts(exchange, contract.underlying, "FUT")
    until = min((day for day in futures if day >= expiry), default=None)
    if until is None:
        text = f"{contract.underlying} has no future on {exchange} that runs to {expiry}; write the strike as a number"
        return Denial(code="PRICE_UNAVAILABLE", text=text)
    return next(iter(futures[until].values())).key


def choose(
    contract: Contract,
    *,
    exchange: Exchange,
    book: InstrumentBook,
    spot: Decimal | None,
    now: datetime,
    calendar: Calendar,
) -> Chosen | Denial:
    """Return the instrument that *contract* means on *exchange* at *now*; *spot* is the underlying's price.

    Denials: NO_SUCH_CONTRACT, NO_SUCH_EXPIRY, NO_SUCH_STRIKE, PRICE_UNAVAILABLE; each says what there is.
    """
    expiry = _expiry(contract, exchange=exchange, book=book, now=now, calendar=calendar)
    if isinstance(expiry, Denial):
        return expiry
    listed = book.contracts(exchange, contract.underlying, contract.kind)[expiry]
    if contract.kind == "FUT":
        return Chosen(instrument=next(iter(listed.values())))
    strikes = sorted(listed)
    name = f"{contract.underlying} {contract.kind} of {expiry}"
    if contract.strike is not None:
        if contract.strike not in listed:
            near = ", ".join(plain(strike) for strike in _nearest(strikes, contract.strike, 2))
            text = f"{name} has no strike {plain(contract.strike)}; the nearest: {near}"
            return Denial(code="NO_SUCH_STRIKE", text=text)
        return Chosen(instrument=listed[contract.strike])
    if spot is None or spot <= 0:
        text = f"no last price of {contract.underlying} is known, so its strikes cannot be told; try again"
        return Denial(code="PRICE_UNAVAILABLE", text=text)
    (middle,) = _nearest(strikes, spot, 1)
    steps = contract.steps if (contract.level == "ATM") or _is_upwards(contract) else -contract.steps
    place = strikes.index(middle) + steps
    if not 0 <= place < len(strikes):
        there = strikes.index(middle) if steps < 0 else len(strikes) - 1 - strikes.index(middle)
        side = "below" if steps < 0 else "above"
        text = f"{name} has {there} strikes {side} {plain(middle)}, not {abs(steps)}"
        return Denial(code="NO_SUCH_STRIKE", text=text)
    return Chosen(instrument=listed[strikes[place]], spot=spot)


def _is_upwards(contract: Contract) -> bool:
    return (contract.level == "OTM") == (contract.kind == "CE")


def _nearest(strikes: list[Decimal], price: Decimal, count: int) -> list[Decimal]:
    return sorted(strikes, key=lambda strike: (abs(strike - price), strike))[:count]


def _expiry(
    contract: Contract, *, exchange: Exchange, book: InstrumentBook, now: datetime, calendar: Calendar
) -> date | Denial:
    name = f"{contract.underlying} {contract.kind}"
    if exchange not in EXCHANGES:
        text = f"{name} is a contract, and {exchange} has none; give as exchange {', '.join(EXCHANGES)}"
        return Denial(code="NO_SUCH_CONTRACT", text=text)
    running = [
        day
        for day in sorted(book.contracts(exchange, contract.underlying, contract.kind))
        if _runs(exchange, day, now, calendar)
    ]
    if not running:
        text = f"{exchange} lists no {name}; check the name of the underlying and the exchange"
        return Denial(code="NO_SUCH_CONTRACT", text=text)
    if contract.expiry is not None:
        found = contract.expiry if contract.expiry in running else None
        wanted = str(contract.expiry)
    else:
        found = _of_period(contract.period, running)
        wanted = f"{contract.period} expiry"
    if found is None:
        listed = ", ".join(str(day) for day in running[:4])
        return Denial(code="NO_SUCH_EXPIRY", text=f"{name} has no {wanted} on {exchange}; the next are {listed}")
    return found


def _runs(exchange: Exchange, last_day: date, now: datetime, calendar: Calendar) -> bool:
    local = now.astimezone(IST)
    if last_day != local.date():
        return last_day > local.date()
    ends = _LAST_DAY_ENDS.get(exchange) or close_of(exchange, last_day, calendar) or _REGULAR_END
    return local.time() < ends


def _of_period(period: Period, running: list[date]) -> date | None:
    months = {day: (day.year, day.month) for day in running}
    match period:
        case Period.NEAREST:
            return running[0]
        case Period.NEXT:
            return running[1] if len(running) > 1 else None
        case Period.WEEKLY:
            # an underlying that never has two in a month has no weekly ones
            return running[0] if len(set(months.values())) < len(running) else None
        case Period.MONTHLY:
            # the last of its month: the months after the nearest are listed whole
            return max(day for day in running if months[day] == months[running[0]])
