"""The seeded price process: the price of an instrument is a function of seed, symbol and instant.

Each symbol swings round its previous close in three sine waves (about a minute, half an hour and five
hours long) whose phases follow from seed and symbol, so that a replay sees the same prices and no
state has to be kept. INFY and SBIN swing a fifth as far as others: within a minute they stay inside
0.03 %. There is no spread: both sides trade at the last price. A price can be pinned by hand.
"""

import math
from datetime import UTC, datetime, time, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from functools import lru_cache
from hashlib import blake2b

import msgspec

from engine.clock import IST
from engine.domain.instruments import Instrument
from engine.exchange.instruments import round_to_tick

# length in seconds and swing as a share of the price
_WAVES = ((53.0, 0.0003), (1511.0, 0.0015), (19007.0, 0.006))
_CALM = {"INFY": 0.2, "SBIN": 0.2}
_SAMPLES_A_DAY = 48
_UNIX = datetime(1970, 1, 1, tzinfo=UTC)


class Quote(msgspec.Struct, frozen=True, kw_only=True):
    """Prices of one instrument at an instant, in rupees; ``close`` is the previous day's."""

    last_price: Decimal
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    lower_circuit: Decimal
    upper_circuit: Decimal
    volume: int


class Market:
    """Prices of every instrument. Holds only what was set by hand and the day's extremes seen."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._shapes: dict[str, tuple[float, tuple[float, ...]]] = {}
        self._pins: dict[str, Decimal] = {}
        self._latest: dict[str, tuple[Instrument, datetime, Decimal]] = {}
        self._extremes: dict[str, tuple[datetime, Decimal, Decimal]] = {}

    def pin(self, key: str, price: Decimal | None) -> None:
        """Hold ``EXCHANGE:SYMBOL`` at *price* rupees; None lets it move again."""
        if price is None:
            self._pins.pop(key, None)
        else:
            self._pins[key] = price

    def last_price(self, instrument: Instrument, now: datetime) -> Decimal:
        """Return the last traded price at *now*, a multiple of the tick within the circuit limits."""
        pinned = self._pins.get(instrument.key)
        if pinned is not None:
            return pinned
        latest = self._latest.get(instrument.key)
        if latest is None or latest[0] is not instrument or latest[1] != now:
            # one order asks for the same price up to four times
            latest = self._latest[instrument.key] = (instrument, now, self._at(instrument, now))
        return latest[2]

    def quote(self, instrument: Instrument, now: datetime) -> Quote:
        """Return the prices at *now*; the day's open, high and low are counted from IST midnight."""
        midnight = datetime.combine(now.astimezone(IST).date(), time(), IST)
        last = self.last_price(instrument, now)
        seen = self._extremes.get(instrument.key)
        if seen is None or seen[0] != midnight:
            samples = [self._at(instrument, moment) for moment in _moments(midnight, now)]
            seen = (midnight, max(samples), min(samples))
        high, low = max(seen[1], last), min(seen[2], last)
        self._extremes[instrument.key] = (midnight, high, low)
        lower, upper = circuit_limits(instrument)
        return Quote(
            last_price=last,
            open=self._at(instrument, midnight),
            high=high,
            low=low,
            close=instrument.last_price,
            lower_circuit=lower,
            upper_circuit=upper,
            volume=int((now - midnight).total_seconds()) * 25,
        )

    def _at(self, instrument: Instrument, moment: datetime) -> Decimal:
        scale, phases = self._shape(instrument)
        seconds = (moment - _UNIX).total_seconds()
        swing = sum(
            share * math.sin(2 * math.pi * seconds / length + phase)
            for (length, share), phase in zip(_WAVES, phases, strict=True)
        )
        price = round_to_tick(instrument.last_price * Decimal(repr(1 + scale * swing)), instrument.tick_size)
        lower, upper = circuit_limits(instrument)
        return min(max(price, lower), upper)

    def _shape(self, instrument: Instrument) -> tuple[float, tuple[float, ...]]:
        shape = self._shapes.get(instrument.key)
        if shape is None:
            digest = blake2b(f"{self._seed}:{instrument.key}".encode(), digest_size=12).digest()
            phases = tuple(int.from_bytes(digest[i : i + 4]) / 2**32 * 2 * math.pi for i in (0, 4, 8))
            scale = _CALM.get(instrument.symbol, 6.0 if instrument.instrument_type in ("CE", "PE") else 1.0)
            shape = self._shapes[instrument.key] = (scale, phases)
        return shape


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


def _moments(midnight: datetime, now: datetime) -> list[datetime]:
    step = timedelta(days=1) / _SAMPLES_A_DAY
    return [midnight + i * step for i in range(_SAMPLES_A_DAY) if midnight + i * step <= now]
