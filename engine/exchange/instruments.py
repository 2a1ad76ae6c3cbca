"""The instrument master of a day, and its CSV exactly as Kite dumps it (kite.md 11).

Derivative expiries follow from the day: contracts of NSE expire on the last Tuesday of the month and weekly
ones on Tuesdays, those of BSE on Thursdays. An instrument's token is its exchange token times 256 plus
the segment's code; the token of a derivative follows from underlying, expiry, strike and kind alone, so
that it does not change over its life; long after its expiry another one gets it, as on Kite.
"""

import gzip
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache

import msgspec

from engine.domain.enums import Exchange
from engine.domain.instruments import Instrument
from engine.exchange.contracts import Underlying, equity_tick, underlyings
from engine.exchange.expiries import coming_months, coming_weeks, monthly_expiry
from engine.exchange.universe import (
    BSE_EQUITIES,
    INDICES,
    NSE_EQUITIES,
    NSE_SMALLER,
    NSE_TRADE_TO_TRADE,
    SMALLER_FROM,
)

CSV_HEADER = (
    "instrument_token,exchange_token,tradingsymbol,name,last_price,expiry,strike,"
    "tick_size,lot_size,instrument_type,segment,exchange"
)
SEGMENT_CODE = {"NSE": 1, "NFO": 2, "CDS": 3, "BSE": 4, "BFO": 5, "BCD": 6, "MCX": 7, "INDICES": 9}
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKLY_MONTHS = "123456789OND"
_KINDS = {"FUT": 0, "CE": 1, "PE": 2}


class Master:
    """The instruments of one day, by key and by token. Not to be changed: exchanges of one process share it."""

    def __init__(self, day: date, instruments: Mapping[str, Instrument]) -> None:
        self.day = day
        self.by_key = dict(instruments)
        self.by_token = {instrument.token: instrument for instrument in instruments.values()}
        self._csv: dict[str | None, bytes] = {}
        self._zipped: dict[str | None, bytes] = {}

    def find(self, name: str) -> Instrument | None:
        """Return the instrument of ``EXCHANGE:SYMBOL`` or of a token in digits; None when unknown."""
        if name.isascii() and name.isdigit():
            return self.by_token.get(int(name))
        return self.by_key.get(name)

    def csv(self, exchange: str | None = None) -> bytes:
        """Return the dump of *exchange* (None: of all) as Kite's CSV."""
        if exchange not in self._csv:
            rows = [_csv_row(i) for i in self.by_key.values() if exchange in (None, i.exchange)]
            self._csv[exchange] = "\n".join([CSV_HEADER, *rows, ""]).encode()
        return self._csv[exchange]

    def zipped_csv(self, exchange: str | None = None) -> bytes:
        """Return `csv` compressed with gzip."""
        if exchange not in self._zipped:
            self._zipped[exchange] = gzip.compress(self.csv(exchange), compresslevel=6, mtime=0)
        return self._zipped[exchange]


@lru_cache(maxsize=8)
def build_master(day: date) -> Master:
    """Return the master of *day* (an IST date): equities, indices, and derivatives not yet expired."""
    return Master(day, {instrument.key: instrument for instrument in _all(day)})


def with_closes(master: Master, closes: Mapping[str, Decimal]) -> Master:
    """Return *master* with other previous closes (rupees), by ``EXCHANGE:SYMBOL``; unknown names are left out."""
    known = {key: price for key, price in closes.items() if key in master.by_key}
    if not known:
        return master
    changed = {key: msgspec.structs.replace(master.by_key[key], last_price=price) for key, price in known.items()}
    return Master(master.day, {**master.by_key, **changed})


def round_to_tick(price: Decimal, tick: Decimal, rounding: str = ROUND_HALF_UP) -> Decimal:
    """Return *price* as a multiple of *tick* (of 0.05 where the tick is 0), at least one tick."""
    step = tick or Decimal("0.05")
    return max(step, (price / step).quantize(Decimal(1), rounding=rounding) * step)


def _all(day: date) -> Iterator[Instrument]:
    yield from _equities(Exchange.NSE, NSE_EQUITIES)
    yield from _equities(Exchange.NSE, _smaller())
    yield from _equities(Exchange.NSE, NSE_TRADE_TO_TRADE)
    yield from _equities(Exchange.BSE, BSE_EQUITIES)
    yield from _indices()
    counted: dict[str, int] = {}
    for underlying in underlyings():
        number = counted[underlying.exchange] = counted.get(underlying.exchange, 0) + 1
        yield from _futures(underlying, number, day)
        if underlying.strike_step is not None:
            yield from _options(underlying, number, day)


def _smaller() -> str:
    pairs = (pair.split() for pair in NSE_SMALLER.replace("\n", " ").split(","))
    return "\n".join(f"{symbol}|{SMALLER_FROM + n}|{symbol}|{price}" for n, (symbol, price) in enumerate(pairs))


def _equities(exchange: Exchange, table: str) -> Iterator[Instrument]:
    for line in table.strip().splitlines():
        symbol, token, name, price = line.split("|")
        tick = equity_tick(Decimal(price))
        yield Instrument(
            exchange=exchange,
            symbol=symbol,
            token=int(token) * 256 + SEGMENT_CODE[exchange],
            tick_size=tick,
            lot_size=1,
            name=name,
            segment=exchange,
            last_price=round_to_tick(Decimal(price), tick),
        )


def _indices() -> Iterator[Instrument]:
    for line in INDICES.strip().splitlines():
        exchange, symbol, token, price = line.split("|")
        yield Instrument(
            exchange=Exchange(exchange),
            symbol=symbol,
            token=int(token) * 256 + SEGMENT_CODE["INDICES"],
            tick_size=Decimal(0),
            lot_size=0,
            name=symbol,
            segment="INDICES",
            last_price=Decimal(price),
        )


def _futures(underlying: Underlying, number: int, day: date) -> Iterator[Instrument]:
    for ahead, expiry in enumerate(coming_months(underlying.expiry_rule, day, underlying.futures)):
        symbol = f"{underlying.symbol}{expiry:%y}{_MONTHS[expiry.month - 1]}FUT"
        carry = 1 + Decimal("0.005") * (ahead + 1)
        token = _token(underlying.exchange, number, expiry, 0, "FUT")
        yield _derivative(underlying, symbol, token, expiry, "FUT", underlying.price * carry, None)


def _options(underlying: Underlying, number: int, day: date) -> Iterator[Instrument]:
    expiries = set(coming_months(underlying.expiry_rule, day, underlying.option_months))
    if underlying.weekly_options:
        expiries.update(coming_weeks(underlying.expiry_rule, day, underlying.weekly_options))
    for expiry in sorted(expiries):
        days = (expiry - day).days
        at_the_money = underlying.price * Decimal("0.0035") * Decimal(days + 1).sqrt()
        for symbol, token, strike, kind in _series(underlying, number, expiry):
            premium = _premium(underlying.price, strike, kind, at_the_money)
            yield _derivative(underlying, symbol, token, expiry, kind, premium, strike)


@lru_cache(maxsize=1024)
def _series(underlying: Underlying, number: int, expiry: date) -> tuple[tuple[str, int, Decimal, str], ...]:
    """Symbol, token, strike and kind of every option of one expiry: they stay the same from day to day."""
    step = underlying.strike_step or Decimal(1)
    is_monthly = expiry == monthly_expiry(underlying.expiry_rule, expiry.year, expiry.month)
    month = _MONTHS[expiry.month - 1] if is_monthly else f"{_WEEKLY_MONTHS[expiry.month - 1]}{expiry:%d}"
    middle = int(underlying.price / step)
    found = []
    for slot in range(max(middle - underlying.strikes, 1), middle + underlying.strikes + 1):
        strike = slot * step
        text = f"{strike.normalize():f}"
        found += [
            (
                f"{underlying.symbol}{expiry:%y}{month}{text}{kind}",
                _token(underlying.exchange, number, expiry, slot, kind),
                Decimal(text),
                kind,
            )
            for kind in ("CE", "PE")
        ]
    return tuple(found)


def _token(exchange: str, number: int, expiry: date, slot: int, kind: str) -> int:
    """7 bits for the underlying, 6 for the week of expiry, 9 for the strike, 2 for the kind: 24 in all."""
    week = expiry.toordinal() // 7 % 64
    exchange_token = number << 17 | week << 11 | slot % 512 << 2 | _KINDS[kind]
    return exchange_token << 8 | SEGMENT_CODE[exchange]


def _premium(spot: Decimal, strike: Decimal, kind: str, at_the_money: Decimal) -> Decimal:
    """A plausible premium: intrinsic value plus time value that falls off with moneyness and time."""
    intrinsic = max(Decimal(0), spot - strike if kind == "CE" else strike - spot)
    return intrinsic + at_the_money / (1 + abs(spot - strike) / at_the_money)


def _derivative(
    underlying: Underlying, symbol: str, token: int, expiry: date, kind: str, price: Decimal, strike: Decimal | None
) -> Instrument:
    tick = underlying.tick_size if kind == "FUT" else underlying.option_tick
    return Instrument(
        exchange=Exchange(underlying.exchange),
        symbol=symbol,
        token=token,
        tick_size=tick,
        lot_size=underlying.lot_size,
        name=underlying.symbol,
        instrument_type=kind,
        segment=f"{underlying.exchange}-{'FUT' if kind == 'FUT' else 'OPT'}",
        expiry=expiry,
        strike=strike,
        last_price=round_to_tick(price, tick),
        freeze_quantity=underlying.freeze_quantity,
        multiplier=underlying.multiplier,
    )


def _csv_row(instrument: Instrument) -> str:
    name = instrument.name if "," not in instrument.name else f'"{instrument.name}"'
    return ",".join(
        (
            str(instrument.token),
            str(instrument.token // 256),
            instrument.symbol,
            name,
            str(instrument.last_price),
            instrument.expiry.isoformat() if instrument.expiry else "",
            str(instrument.strike) if instrument.strike is not None else "0.0",
            str(instrument.tick_size),
            str(instrument.lot_size),
            instrument.instrument_type,
            instrument.segment,
            instrument.exchange,
        )
    )
