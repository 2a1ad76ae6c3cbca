"""What a drill is made of: how many orders and positions, in which symbols, and how the exchange misbehaves."""

from collections.abc import Mapping
from random import Random
from typing import Any

import msgspec

from engine.exchange.config import ExchangeError
from engine.exchange.faults import FaultRule, read_rule

MOST_ORDERS = 200
POSITION_SYMBOLS = ("SBIN", "RELIANCE", "ITC", "HDFCBANK", "TCS", "ICICIBANK", "AXISBANK", "LT", "WIPRO", "NTPC")
LOAD_SYMBOLS = ("INFY", "TATASTEEL", "TECHM", "ONGC")
"""The signals that keep coming name these, so that a rule of a position's symbol hits exits only."""

_UNSAID: Mapping[str, Any] = {field.name: field.default for field in msgspec.structs.fields(FaultRule)}


class DrillPlan(msgspec.Struct, frozen=True, kw_only=True):
    """``orders`` rest and ``positions`` are held when it is tripped; ``faults`` are in force from just before on."""

    orders: int
    positions: int
    faults: tuple[FaultRule, ...]
    seed: int

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols of the positions."""
        return POSITION_SYMBOLS[: self.positions]


def default_faults(positions: int, seed: int) -> tuple[FaultRule, ...]:
    """Return the usual misfortunes: exits refused and lost, an order book that is slow and torn, entries in doubt.

    An exit is refused twice, another one is taken two seconds after "timed out"; two of the entries that are on the
    wire when it is tripped get no answer and are taken two seconds after the caller gave up.
    """
    held = list(POSITION_SYMBOLS[:positions])
    Random(seed).shuffle(held)  # noqa: S311 -- which position has bad luck
    exits = [
        *[FaultRule(on="place", takes="never", answer="bad_input", symbol=symbol, count=2) for symbol in held[:1]],
        *[
            FaultRule(on="place", takes="late", late_s=2.0, answer="timed_out", symbol=symbol, count=1)
            for symbol in held[1:2]
        ],
    ]
    return (
        *exits,
        *[
            FaultRule(on="place", takes="late", late_s=2.0, answer="none", symbol=symbol, count=1)
            for symbol in LOAD_SYMBOLS[:2]
        ],
        FaultRule(on="orders", answer="partial", count=2, skip=1),
        FaultRule(on="orders", delay_s=0.8, count=3),
    )


def read_faults(texts: list[str] | None, *, positions: int, seed: int) -> tuple[FaultRule, ...]:
    """Return the rules that *texts* write (None: the usual ones, "none": none). Raises ExchangeError."""
    if not texts:
        return default_faults(positions, seed)
    if texts == ["none"]:
        return ()
    if "none" in texts:
        raise ExchangeError('--faults "none" stands alone')
    return tuple(map(read_rule, texts))


def written(rule: FaultRule) -> str:
    """Return *rule* as `engine exchange --fault` takes it."""
    said = {name: value for name, value in msgspec.structs.asdict(rule).items() if value != _UNSAID[name]}
    return ",".join(f"{name}={value}" for name, value in ({"on": rule.on, "answer": rule.answer} | said).items())
