"""The price process: the price of an instrument is a function of seed, symbol and instant.

Each symbol swings round its previous close in three sine waves (about a minute, half an hour and five
hours long) whose phases follow from seed and symbol, so that a replay sees the same prices and no
state has to be kept. INFY and SBIN swing a fifth as far as others: within a minute they stay inside
0.03 %. There is no spread: both sides trade at the last price. A price can be pinned by hand, and the
instruments of a replayed file follow the file.
"""

import math
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from functools import lru_cache
from hashlib import blake2b

import msgspec

from engine.clock import IST
from engine.domain.instruments import Instrument
from engine.exchange.hours import last_open, midnight, session_of, traded_seconds
from engine.exchange.instruments import round_to_tick
from engine.exchange.replay import Replay

# length in seconds and swing as a share of the price
_WAVES = ((53.0, 0.0003), (1511.0, 0.0015), (19007.0, 0.006))
_CALM = {"INFY": 0.2, "SBIN": 0.2}
_SAMPLES_A_DAY = 48
_UNIX = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_S = 86_400.0
_IST_OFFSET = timedelta(hours=5, minutes=30)


class Quote(msgspec.Struct, frozen=True, kw_only=True):
    """One instrument at an instant. Prices are rupees, ``close`` is the previous day's, quantities are units.

    ``average_price`` is of the day's trades; the open interest ``oi`` is 0 but for derivatives. Of an index only
    the prices mean something.
    """

    last_price: Decimal
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    lower_circuit: Decimal
    upper_circuit: Decimal
    volume: int
    last_quantity: int
    average_price: Decimal
    last_trade_at: datetime
    oi: int
    oi_day_high: int
    oi_day_low: int


class _Shape(msgspec.Struct, frozen=True):
    """How an instrument moves: ``swing`` by the second since 1970, ``pace`` is the units traded in a second."""

    swing: Callable[[float], float]
    pace: float
    oi_lots: int


class Market:
    """Prices of every instrument. Holds only what was set by hand and the day's extremes seen.

    *all_day*: the market never closes; otherwise prices stand still outside the exchange's hours.
    """

    def __init__(self, seed: int, replay: Replay | None = None, *, all_day: bool = True) -> None:
        self._seed = seed
        self._all_day = all_day
        self.replay = replay
        self._shapes: dict[str, _Shape] = {}
        self._pins: dict[str, Decimal] = {}
        self._latest: dict[str, tuple[Instrument, datetime, Decimal]] = {}
        # previous close and begin of the day that they are of, then open, high and low
        self._days: dict[str, tuple[Decimal, datetime, Decimal, Decimal, Decimal]] = {}

    @property
    def all_day(self) -> bool:
        """Whether the market never closes."""
        return self._all_day

    @property
    def keeps_to_limits(self) -> bool:
        """Whether no price can lie outside the circuit limits: none is pinned, none comes from a file."""
        return not self._pins and self.replay is None

    def pin(self, key: str, price: Decimal | None) -> None:
        """Hold ``EXCHANGE:SYMBOL`` at *price* rupees; None lets it move again."""
        if price is None:
            self._pins.pop(key, None)
        else:
            self._pins[key] = price

    def closes(self, day: date) -> Mapping[str, Decimal]:
        """Return the previous closes that the replayed file gives for an IST day; the rest have the master's."""
        return self.replay.closes(day) if self.replay is not None else {}

    def last_price(self, instrument: Instrument, now: datetime) -> Decimal:
        """Return the last traded price at *now*, a multiple of the tick within the circuit limits."""
        key = instrument.key
        pinned = self._pins.get(key)
        if pinned is not None:
            return pinned
        latest = self._latest.get(key)
        if latest is None or latest[0] is not instrument or latest[1] != now:
            # one order asks for the same price up to four times
            latest = self._latest[key] = (instrument, now, self.price_at(instrument, now))
        return latest[2]

    def price_at(self, instrument: Instrument, moment: datetime) -> Decimal:
        """Return the price of process or file at *moment*, whatever is pinned."""
        if self.replay is not None and instrument.key in self.replay:
            return self.replay.at(instrument.key, moment).price
        if not self._all_day:
            moment = last_open(instrument.exchange, moment)
        return self.price_of(instrument, self.swing(instrument)((moment - _UNIX).total_seconds()))

    def swing(self, instrument: Instrument) -> Callable[[float], float]:
        """Return how far the process is from the close, as a share of it, by the seconds since 1970."""
        return self._shape(instrument).swing

    def price_of(self, instrument: Instrument, swing: float) -> Decimal:
        """Return the price in rupees that a swing amounts to; it grows with the swing."""
        price = round_to_tick(instrument.last_price * Decimal(repr(1 + swing)), instrument.tick_size)
        lower, upper = circuit_limits(instrument)
        return min(max(price, lower), upper)

    def volume(self, instrument: Instrument, now: datetime) -> int:
        """Return the units traded in *now*'s IST day so far; 0 of an index."""
        if instrument.segment == "INDICES":
            return 0
        if self.replay is not None and instrument.key in self.replay:
            row = self.replay.at(instrument.key, now)
            if row.volume is not None:
                return row.volume if midnight(now) <= row.at <= now else 0
        return int(self._shape(instrument).pace * traded_seconds(instrument.exchange, now, all_day=self._all_day))

    def open_interest(self, instrument: Instrument, now: datetime) -> int:
        """Return the open interest in units: over a day it rises by 2 %, over the next it falls back."""
        if instrument.expiry is None:
            return 0
        days, share = divmod((now.astimezone(UTC) - _UNIX + _IST_OFFSET).total_seconds(), _DAY_S)
        grown = share / _DAY_S if int(days) % 2 == 0 else 1 - share / _DAY_S
        return int(self._shape(instrument).oi_lots * (1 + 0.02 * grown)) * instrument.lot_size

    def quote(self, instrument: Instrument, now: datetime) -> Quote:
        """Return the prices at *now*; the day's open, high and low are counted from when trading began."""
        moment = now if self._all_day else last_open(instrument.exchange, now)
        hours = session_of(instrument.exchange, moment.astimezone(IST).date(), all_day=self._all_day)
        begin = midnight(moment) if hours is None else hours[0]
        last = self.last_price(instrument, now)
        first, high, low = self._widen(instrument, begin, moment, last)
        lower, upper = circuit_limits(instrument)
        oi, oi_before = self.open_interest(instrument, now), self.open_interest(instrument, midnight(now))
        places = 4 if instrument.tick_size and instrument.tick_size < Decimal("0.01") else 2
        return Quote(
            last_price=last,
            open=first,
            high=high,
            low=low,
            close=instrument.last_price,
            lower_circuit=lower,
            upper_circuit=upper,
            volume=self.volume(instrument, now),
            last_quantity=instrument.lot_size,
            average_price=round((first + high + low + last) / 4, places),
            last_trade_at=moment,
            oi=oi,
            oi_day_high=max(oi, oi_before),
            oi_day_low=min(oi, oi_before),
        )

    def _widen(
        self, instrument: Instrument, begin: datetime, now: datetime, last: Decimal
    ) -> tuple[Decimal, Decimal, Decimal]:
        """The day's open, high and low, *last* among them."""
        seen = self._days.get(instrument.key)
        if seen is None or seen[:2] != (instrument.last_price, begin):
            first, (high, low) = self.price_at(instrument, begin), self._sampled(instrument, begin, now)
        else:
            _, _, first, high, low = seen
        high, low = max(high, last), min(low, last)
        self._days[instrument.key] = (instrument.last_price, begin, first, high, low)
        return first, high, low

    def _sampled(self, instrument: Instrument, begin: datetime, now: datetime) -> tuple[Decimal, Decimal]:
        if self.replay is not None and instrument.key in self.replay:
            prices = [self.price_at(instrument, begin)]
            prices += [row.price for row in self.replay.between(instrument.key, begin, now)]
            return max(prices), min(prices)
        since, until = (begin - _UNIX).total_seconds(), (now - _UNIX).total_seconds()
        step = _DAY_S / _SAMPLES_A_DAY
        count = max(int((until - since) / step), 0) + 1
        swing = self.swing(instrument)
        swings = [swing(since + i * step) for i in range(count)]
        return self.price_of(instrument, max(swings)), self.price_of(instrument, min(swings))

    def _shape(self, instrument: Instrument) -> _Shape:
        shape = self._shapes.get(instrument.key)
        if shape is None:
            digest = blake2b(f"{self._seed}:{instrument.key}".encode(), digest_size=12).digest()
            habits = blake2b(instrument.key.encode(), digest_size=3).digest()
            phases = [int.from_bytes(digest[i : i + 4]) / 2**32 * 2 * math.pi for i in (0, 4, 8)]
            scale = _CALM.get(instrument.symbol, 6.0 if instrument.instrument_type in ("CE", "PE") else 1.0)
            shape = self._shapes[instrument.key] = _Shape(
                swing=_swing(scale, phases),
                pace=(5 + habits[0] % 60) * max(instrument.lot_size, 1) / (1 if instrument.expiry is None else 50),
                oi_lots=500 + int.from_bytes(habits[1:]) % 20_000,
            )
        return shape


def _swing(scale: float, phases: list[float]) -> Callable[[float], float]:
    # written out: candles of years call it millions of times
    (w1, s1), (w2, s2), (w3, s3) = ((2 * math.pi / length, share) for length, share in _WAVES)
    p1, p2, p3 = phases
    sin = math.sin
    return lambda t: scale * (s1 * sin(w1 * t + p1) + s2 * sin(w2 * t + p2) + s3 * sin(w3 * t + p3))


def circuit_limits(instrument: Instrument) -> tuple[Decimal, Decimal]:
    """Return the lowest and highest price of the day: 10 % round the previous close.

    Shares below 100 rupees have 20 %, options 90 %; indices have none on the wire, here 20 %.
    """
    close, tick = instrument.last_price, instrument.tick_size
    if instrument.instrument_type in ("CE", "PE"):
        band = Decimal("0.90")
    elif instrument.segment == "INDICES" or close < 100:
        band = Decimal("0.20")
    else:
        band = Decimal("0.10")
    return _limits(close, str(tick), band)


# asked several times for each order, of an instrument that does not change over its day; the tick is text
# because it gives the limits their decimals, and 0.1 and 0.10 are the same key
@lru_cache(maxsize=16_384)
def _limits(close: Decimal, tick_text: str, band: Decimal) -> tuple[Decimal, Decimal]:
    tick = Decimal(tick_text)
    return (
        round_to_tick(close * (1 - band), tick, ROUND_CEILING),
        round_to_tick(close * (1 + band), tick, ROUND_FLOOR),
    )
