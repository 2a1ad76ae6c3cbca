"""What the symbol of a signal means: a trading symbol, another name of one, or a contract in words.

The trading symbols of the instrument master go first, so that no alias can stand for another instrument
than the exchange's. Pure: the same arguments give the same instrument.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal

import msgspec

from engine.domain.calendar import Calendar
from engine.domain.contracts import SPOTS, choose, parse_contract, spot_key
from engine.domain.denial import Denial
from engine.domain.enums import Exchange
from engine.domain.instruments import Instrument, InstrumentBook
from engine.domain.money import plain
from engine.domain.signal import Signal

BUILT_IN: Mapping[str, str] = {
    "NIFTY50": "NIFTY",
    "NIFTY_50": "NIFTY",
    "NIFTY 50": "NIFTY",
    "BANK NIFTY": "BANKNIFTY",
    "BANK_NIFTY": "BANKNIFTY",
    "NIFTYBANK": "BANKNIFTY",
    "NIFTY BANK": "BANKNIFTY",
    "FIN NIFTY": "FINNIFTY",
    "NIFTY FIN SERVICE": "FINNIFTY",
    "MIDCAPNIFTY": "MIDCPNIFTY",
    "NIFTY MID SELECT": "MIDCPNIFTY",
    "NIFTYNEXT50": "NIFTYNXT50",
    "NIFTY NEXT 50": "NIFTYNXT50",
    "MM": "M&M",
    "M_M": "M&M",
    "MMFIN": "M&MFIN",
    "M_MFIN": "M&MFIN",
    "L&T": "LT",
    "L&TFH": "LTF",
    "BAJAJAUTO": "BAJAJ-AUTO",
    "BAJAJ_AUTO": "BAJAJ-AUTO",
    "INFOSYS": "INFY",
    "SBI": "SBIN",
    "ZOMATO": "ETERNAL",
    "MCDOWELL-N": "UNITDSPR",
    "CRUDE": "CRUDEOIL",
    "NATGAS": "NATURALGAS",
}
"""Spellings of other platforms and names of before a renaming, each of one instrument or underlying only."""

_INDEX_OF = {name: key for (_, name), key in SPOTS.items()}
_SERIES = "-EQ"


class Resolution(msgspec.Struct, frozen=True, kw_only=True):
    """What a signal comes to.

    ``signal`` bears the exchange's symbol; ``written`` is what stood there instead, None when nothing was
    resolved; ``detail`` says how, for the timeline. ``denial`` is why nothing can be chosen: the signal is as
    written then. ``spot_key`` names the price that the choice depends on.
    """

    signal: Signal
    written: str | None = None
    detail: str = ""
    denial: Denial | None = None
    spot_key: str | None = None


def resolve(
    signal: Signal,
    *,
    book: InstrumentBook,
    aliases: Mapping[str, str],
    calendar: Calendar,
    now: datetime,
    price: Callable[[str], Decimal | None],
) -> Resolution:
    """Return what *signal* means at *now*; *price* gives the last price (rupees) of an ``EXCHANGE:SYMBOL``.

    *aliases* are the user's own, upper case; they go before those built in. A symbol that stands for nothing
    known is returned as it is: that it is unknown is for the decision to say.
    """
    exchange = signal.exchange
    if not len(book) or book.get(exchange, signal.symbol) is not None:
        return Resolution(signal=signal)
    names = _names(signal.symbol, aliases)
    found = _listed(book, exchange, names)
    if found is not None:
        return _resolved(signal, found, f"{signal.symbol} is {found.key}")
    for name in names:
        contract = parse_contract(name)
        if contract is None:
            continue
        underlying = next(
            (known for known in _names(contract.underlying, aliases) if book.has_contracts(exchange, known)),
            contract.underlying,
        )
        contract = msgspec.structs.replace(contract, underlying=underlying)
        key = spot_key(contract, exchange=exchange, book=book, now=now, calendar=calendar)
        if isinstance(key, Denial):
            return Resolution(signal=signal, denial=key)
        spot = None if key is None else price(key)
        chosen = choose(contract, exchange=exchange, book=book, spot=spot, now=now, calendar=calendar)
        if isinstance(chosen, Denial):
            return Resolution(signal=signal, denial=chosen, spot_key=key)
        by = f" at {key} {plain(chosen.spot)}" if chosen.spot is not None else ""
        detail = f"{signal.symbol} is {chosen.instrument.key}{by}, expiry {chosen.instrument.expiry}"
        return msgspec.structs.replace(_resolved(signal, chosen.instrument, detail), spot_key=key)
    underlying = next((name for name in names if book.has_contracts(exchange, name)), "")
    if underlying:
        text = f"{underlying} names many contracts on {exchange}; write one, such as {underlying} FUT"
        return Resolution(signal=signal, denial=Denial(code="UNKNOWN_SYMBOL", text=text))
    return Resolution(signal=signal)


def _resolved(signal: Signal, instrument: Instrument, detail: str) -> Resolution:
    traded = msgspec.structs.replace(signal, symbol=instrument.symbol)
    return Resolution(signal=traded, written=signal.symbol, detail=detail)


def _names(symbol: str, aliases: Mapping[str, str]) -> list[str]:
    names = [symbol]
    for table in (aliases, BUILT_IN):
        if names[-1] in table:
            names.append(table[names[-1]])
    return names


def _listed(book: InstrumentBook, exchange: Exchange, names: list[str]) -> Instrument | None:
    for name in names:
        candidates = [name]
        if exchange is Exchange.NSE and name.endswith(_SERIES):
            # other brokers write the series; Kite does not for that of ordinary shares
            candidates.append(name.removesuffix(_SERIES))
        index = _INDEX_OF.get(name)
        if index is not None and index.startswith(f"{exchange}:"):
            candidates.append(index.partition(":")[2])
        for candidate in candidates:
            found = book.get(exchange, candidate)
            if found is not None:
                return found
    return None
