"""Historical candles (kite.md 12), out of the same process or file that the last prices come from.

A price is a function of the instant, so nothing is kept: a candle is what the process did, looked at every
20 seconds. All intervals look at the same instants, so that five candles of a minute make one of five minutes. The
market has candles when it trades: the clock round where it never closes, else in its exchange's hours on
weekdays. What was pinned by hand shows in the last candle only.
"""

import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from engine.clock import IST
from engine.domain.instruments import Instrument
from engine.exchange.errors import bad_input
from engine.exchange.hours import session_of
from engine.exchange.instruments import Master
from engine.exchange.market import Market
from engine.exchange.rows import number

# seconds of an interval, and how many days may be asked for at a time (the caps: kite.md 12)
INTERVALS: Mapping[str, tuple[int, int]] = {
    "minute": (60, 60),
    "3minute": (180, 100),
    "5minute": (300, 100),
    "10minute": (600, 100),
    "15minute": (900, 200),
    "30minute": (1800, 200),
    "60minute": (3600, 400),
    "day": (86_400, 2000),
}
_STEP_S = 20
# a contract has candles of its own for this long before it expires
_LIFE = timedelta(days=100)
_MOMENT = timedelta(microseconds=1)
_UNIX = datetime(1970, 1, 1, tzinfo=UTC)
_FORMATS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d")


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request for candles: both ends included. ``continuous``: of a future, also before its own life."""

    instrument: Instrument
    interval: str
    start: datetime
    end: datetime
    continuous: bool = False
    with_oi: bool = False


def read_request(token: str, interval: str, args: Mapping[str, str], master: Master) -> Asked:
    """Return what is asked for. Raises KiteRefusal 400; the wording of the refusals is from memory of Kite's."""
    instrument = master.by_token.get(int(token)) if token.isascii() and token.isdigit() else None
    if instrument is None:
        raise bad_input("invalid token")
    if interval not in INTERVALS:
        raise bad_input("invalid interval")
    start, end = _instant("from", args), _instant("to", args)
    if start > end:
        raise bad_input("from date cannot be after to date")
    most = INTERVALS[interval][1]
    if end - start > timedelta(days=most):
        raise bad_input(f"interval exceeds max limit: {most} days")
    return Asked(
        instrument=instrument,
        interval=interval,
        start=start,
        end=end,
        continuous=_flag("continuous", args),
        with_oi=_flag("oi", args),
    )


def candles(asked: Asked, market: Market, now: datetime) -> list[list[Any]]:
    """Return ``[time, open, high, low, close, volume(, oi)]`` of each candle begun by *now*; use a thread."""
    found = []
    instrument, length = asked.instrument, timedelta(seconds=INTERVALS[asked.interval][0])
    start = asked.start
    if instrument.expiry is not None and not asked.continuous:
        start = max(start, datetime.combine(instrument.expiry, time(), IST) - _LIFE)
    for opens, closes in _sessions(instrument, start, min(asked.end, now), market):
        # a day's candle is named by its midnight, the others by when they begin
        named = datetime.combine(opens.astimezone(IST).date(), time(), IST) if asked.interval == "day" else opens
        begin = opens
        while begin < closes and begin <= now:
            until = closes if asked.interval == "day" else min(begin + length, closes)
            if start <= named <= asked.end and (prices := _prices(instrument, market, begin, until, now)):
                volume = market.volume(instrument, min(until - _MOMENT, now))
                volume -= market.volume(instrument, begin - _MOMENT) if begin > opens else 0
                row = [named.isoformat(timespec="seconds").replace("+05:30", "+0530"), *map(number, prices), volume]
                found.append([*row, market.open_interest(instrument, min(until, now))] if asked.with_oi else row)
            named = begin = until
    return found


def _sessions(
    instrument: Instrument, start: datetime, end: datetime, market: Market
) -> Iterator[tuple[datetime, datetime]]:
    day = start.astimezone(IST).date()
    while day <= end.astimezone(IST).date():
        hours = session_of(instrument.exchange, day, all_day=market.all_day)
        if hours is not None:
            yield hours
        day += timedelta(days=1)


def _prices(
    instrument: Instrument, market: Market, begin: datetime, until: datetime, now: datetime
) -> tuple[Decimal, Decimal, Decimal, Decimal] | None:
    """Open, high, low and close; None where a replayed file has no row."""
    if market.replay is not None and instrument.key in market.replay:
        rows = [row.price for row in market.replay.between(instrument.key, begin, min(until, now))]
        if not rows:
            return None
        opened, high, low, close = rows[0], max(rows), min(rows), rows[-1]
    else:
        since, last = (begin - _UNIX).total_seconds(), (min(until, now) - _UNIX).total_seconds()
        count = max(math.ceil((last - since) / _STEP_S), 1)
        swing = market.swing(instrument)
        swings = [swing(since + i * _STEP_S) for i in range(count)]
        first, top, bottom, final = swings[0], max(swings), min(swings), swings[-1]
        opened = market.price_of(instrument, first)
        high = opened if top == first else market.price_of(instrument, top)
        low = opened if bottom == first else market.price_of(instrument, bottom)
        close = market.price_of(instrument, final)
    if begin <= now < until:
        close = market.last_price(instrument, now)
    return opened, max(high, close), min(low, close), close


def _instant(name: str, args: Mapping[str, str]) -> datetime:
    for form in _FORMATS:
        try:
            return datetime.strptime(args.get(name, ""), form).replace(tzinfo=IST)
        except ValueError:
            continue
    raise bad_input(f"invalid {name} date")


def _flag(name: str, args: Mapping[str, str]) -> bool:
    text = args.get(name, "0").lower()
    if text not in ("0", "1", "false", "true", ""):
        raise bad_input(f"invalid {name}")
    return text in ("1", "true")
