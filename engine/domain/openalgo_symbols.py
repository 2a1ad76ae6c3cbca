"""OpenAlgo's names of instruments, and the instruments of the master that they name.

    share    RELIANCE on NSE or BSE, the exchange's trading symbol
    future   underlying + expiry + "FUT", such as NIFTY28MAR24FUT on NFO
    option   underlying + expiry + strike + "CE" or "PE", such as NIFTY28MAR2420800CE or VEDL25APR24292.5CE
    index    NIFTY on NSE_INDEX, SENSEX on BSE_INDEX: to be looked at, never traded

The expiry is DDMMMYY. Source: docs.openalgo.in, symbol format, and its mapping of Zerodha's master. A name that
could mean two contracts, or none that is listed, is refused: nothing is guessed. Pure.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal

import msgspec

from engine.domain.enums import Exchange
from engine.domain.instruments import Instrument, InstrumentBook
from engine.domain.money import plain
from engine.domain.signal import Refusal

INDEX_EXCHANGES: Mapping[str, Exchange] = {
    "NSE_INDEX": Exchange.NSE,
    "BSE_INDEX": Exchange.BSE,
    "MCX_INDEX": Exchange.MCX,
}
"""Where OpenAlgo lists indices, and the exchange on which Kite does."""

EXCHANGES = (*Exchange, *INDEX_EXCHANGES)

_INDEX_NAMES: Mapping[tuple[Exchange, str], str] = {
    (Exchange.NSE, "NIFTY 50"): "NIFTY",
    (Exchange.NSE, "NIFTY BANK"): "BANKNIFTY",
    (Exchange.NSE, "NIFTY FIN SERVICE"): "FINNIFTY",
    (Exchange.NSE, "NIFTY MID SELECT"): "MIDCPNIFTY",
    (Exchange.NSE, "NIFTY NEXT 50"): "NIFTYNXT50",
    (Exchange.BSE, "SNSX50"): "SENSEX50",
}
_CASH = (Exchange.NSE, Exchange.BSE)
_INDICES = "INDICES"
_OPTIONS = ("CE", "PE")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_TAIL = re.compile(r"([0-9]{2})([A-Z]{3})([0-9]{2})(?:(FUT)|([1-9][0-9]{0,6}(?:\.[0-9]{1,4})?|0\.[0-9]{1,4})(CE|PE))")
_MAX_LENGTH = 50
_EXAMPLE = "such as NIFTY28MAR24FUT or NIFTY28MAR2420800CE"


class OpenAlgoName(msgspec.Struct, frozen=True):
    """What OpenAlgo calls an instrument: its exchange and symbol there."""

    exchange: str
    symbol: str


class Reading(msgspec.Struct, frozen=True):
    """One way to read a contract's name; ``strike`` is rupees, 0 of a future."""

    underlying: str
    expiry: date
    kind: str
    strike: Decimal


def name_of(instrument: Instrument) -> OpenAlgoName:
    """Return OpenAlgo's name of an instrument."""
    exchange = instrument.exchange.value
    if instrument.segment == _INDICES:
        name = _INDEX_NAMES.get((instrument.exchange, instrument.symbol), instrument.symbol.replace(" ", ""))
        return OpenAlgoName(f"{exchange}_INDEX", name)
    if instrument.expiry is None or instrument.exchange in _CASH:
        return OpenAlgoName(exchange, instrument.symbol)
    stem = f"{instrument.name}{expiry_word(instrument.expiry)}"
    if instrument.instrument_type in _OPTIONS:
        return OpenAlgoName(exchange, f"{stem}{plain(instrument.strike or Decimal(0))}{instrument.instrument_type}")
    return OpenAlgoName(exchange, f"{stem}FUT")


def known_as(book: InstrumentBook, exchange: Exchange, symbol: str) -> OpenAlgoName:
    """Return OpenAlgo's name of what the engine calls *exchange*, *symbol*; that itself if the master lacks it."""
    found = book.get(exchange, symbol)
    return OpenAlgoName(exchange.value, symbol) if found is None else name_of(found)


def find(book: InstrumentBook, exchange: str, symbol: str) -> Instrument | Refusal:
    """Return the instrument that OpenAlgo calls *symbol* on *exchange* (both as written there)."""
    if exchange in INDEX_EXCHANGES:
        return _index(book, exchange, symbol)
    if exchange not in Exchange.__members__:
        return _refused("exchange", f"{exchange[:20]!r} is not traded here; use one of {', '.join(EXCHANGES)}")
    if not len(book):
        return _refused("symbol", "the instrument master has not been loaded yet; try again in a moment")
    at = Exchange(exchange)
    return _share(book, at, symbol) if at in _CASH else _contract(book, at, symbol)


def readings(symbol: str) -> Iterator[Reading]:
    """Yield every way to read *symbol* (upper case) as the name of a future or option."""
    if len(symbol) > _MAX_LENGTH:
        return
    for start in range(1, len(symbol)):
        found = _TAIL.fullmatch(symbol, start)
        expiry = None if found is None else _date(found[1], found[2], found[3])
        if found is not None and expiry is not None:
            strike = Decimal(found[5] or 0)
            yield Reading(symbol[:start], expiry, found[4] or found[6], strike)


def expiry_word(day: date) -> str:
    """Return an expiry as the names have it: 28MAR24."""
    return f"{day.day:02d}{_MONTHS[day.month - 1]}{day.year % 100:02d}"


def expiry_date(word: str) -> date | None:
    """Return the day that *word* (28MAR24) means, None for anything else."""
    return _date(word[:2], word[2:5], word[5:]) if re.fullmatch(r"[0-9]{2}[A-Z]{3}[0-9]{2}", word) else None


def dashed_expiry(day: date) -> str:
    """Return an expiry as answers have it: 28-MAR-24."""
    return f"{day.day:02d}-{_MONTHS[day.month - 1]}-{day.year % 100:02d}"


def _share(book: InstrumentBook, exchange: Exchange, symbol: str) -> Instrument | Refusal:
    found = book.get(exchange, symbol)
    if found is None:
        return _unknown(exchange, symbol, "check symbol and exchange")
    if found.segment == _INDICES:
        return _refused("symbol", f"{symbol[:40]!r} is an index: it is looked at on {exchange}_INDEX and not traded")
    return found


def _contract(book: InstrumentBook, exchange: Exchange, symbol: str) -> Instrument | Refusal:
    listed = []
    for reading in readings(symbol):
        chain = book.contracts(exchange, reading.underlying, reading.kind).get(reading.expiry, {})
        if reading.strike in chain:
            listed.append(chain[reading.strike])
    if not listed:
        return _unknown(exchange, symbol, f"a contract is written as underlying, expiry and strike, {_EXAMPLE}")
    if len(listed) > 1 or book.is_one_of_several(listed[0]):
        return _refused(
            "symbol", f"{exchange}:{symbol[:40]} could mean more than one contract; it is not guessed which"
        )
    return book.get(exchange, listed[0].symbol) or listed[0]


def _index(book: InstrumentBook, exchange: str, symbol: str) -> Instrument | Refusal:
    listed = [row for row in book.indices if name_of(row) == OpenAlgoName(exchange, symbol)]
    if len(listed) == 1:
        return listed[0]
    if listed:
        return _refused("symbol", f"{exchange}:{symbol[:40]} could mean more than one index; it is not guessed which")
    return _unknown(exchange, symbol, "check the name of the index")


def _date(day: str, month: str, year: str) -> date | None:
    if month not in _MONTHS:
        return None
    try:
        return date(2000 + int(year), _MONTHS.index(month) + 1, int(day))
    except ValueError:
        return None


def _unknown(exchange: str, symbol: str, mend: str) -> Refusal:
    return _refused("symbol", f"{symbol[:40]!r} is not in today's instrument master of {exchange}; {mend}")


def _refused(field: str, text: str) -> Refusal:
    return Refusal(code="UNKNOWN_SYMBOL", message=text, field=field)
