"""The day of the demo: prices and happenings as a pure function of a seed, so that the same seed is the same day.

A day has 375 minutes. Among the seeded trades are scenes that every day has: an order that fills in pieces, signals
that risk refuses, some that wait for a person, a number that never came, and a kill-switch drill.
"""

from collections.abc import Iterator, Mapping
from decimal import ROUND_HALF_UP, Decimal
from random import Random

import msgspec

from engine.domain.enums import Exchange, OrderType, ProductType, TransactionType
from engine.domain.signal import Signal

MINUTES = 375
SYMBOLS = ("INFY", "SBIN", "RELIANCE", "ITC", "WIPRO", "NTPC")
SHEETS, MOMENTUM, REVERSAL, DESK = "sheets", "momentum-bot", "tradingview-reversal", "telegram-desk"
DRILLED = "arjun-main"

_TICK = Decimal("0.05")
_STEP = 0.0009
_WIDEST = 0.035
_TRADES = 14
_COUNTED, _AFTER_A_GAP = 0, 1
BUY, SELL = TransactionType.BUY, TransactionType.SELL


class Send(msgspec.Struct, frozen=True):
    """*source* sends a signal, with its *number* where it counts them."""

    source: str
    signal: Signal
    number: int | None = None


class Say(msgspec.Struct, frozen=True):
    """Somebody writes *text* in the chat of *source*."""

    source: str
    text: str


class Answer(msgspec.Struct, frozen=True):
    """A person approves or rejects the oldest signal that waits."""

    approve: bool


class Thin(msgspec.Struct, frozen=True):
    """Only *quantity* units of *symbol* trade from now on; None lifts it."""

    symbol: str
    quantity: int | None


class Drill(msgspec.Struct, frozen=True):
    """The kill switch of an account goes on, with everything squared off, or is let go again."""

    account: str
    on: bool


Act = Send | Say | Answer | Thin | Drill


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """``prices`` are rupees by symbol, one a minute; ``acts`` stand with their minute, in order."""

    prices: Mapping[str, tuple[Decimal, ...]]
    acts: tuple[tuple[int, Act], ...]


def day(seed: int, bases: Mapping[str, Decimal], *, first_number: int = 0, is_first: bool = True) -> Day:
    """Return the day of *seed*; *bases* are the prices that it begins from, *first_number* the first of the numbered
    signals. Days after the first have no drill and nothing that waits for a person."""
    dice = Random(seed)  # noqa: S311 -- a seeded play, no secret
    prices = {symbol: _path(dice, bases[symbol]) for symbol in SYMBOLS}
    acts = _trades(dice) + (_scenes(prices) if is_first else [])
    return Day(prices=prices, acts=tuple(_numbered(sorted(acts, key=lambda each: each[0]), first_number)))


def _numbered(acts: list[tuple[int, Act]], number: int) -> Iterator[tuple[int, Act]]:
    """Yield *acts* with the numbers of those that are counted, from *number* on in their order."""
    for minute, act in acts:
        if not isinstance(act, Send) or act.number is None:
            yield minute, act
            continue
        number += act.number
        yield minute, Send(act.source, act.signal, number)
        number += 1


def _path(dice: Random, base: Decimal) -> tuple[Decimal, ...]:
    drift, away = dice.uniform(-0.00008, 0.00008), 0.0
    found = []
    for _ in range(MINUTES + 1):
        found.append(_price(base * Decimal(repr(1 + away))))
        away = max(-_WIDEST, min(_WIDEST, away + drift + dice.gauss(0, _STEP)))
    return tuple(found)


def _price(value: Decimal) -> Decimal:
    return (value / _TICK).quantize(Decimal(1), ROUND_HALF_UP) * _TICK


def _trades(dice: Random) -> list[tuple[int, Act]]:
    """Return positions that are opened and closed again, by three sources in turn."""
    acts: list[tuple[int, Act]] = []
    for place in range(_TRADES * 3):
        source = (SHEETS, MOMENTUM, REVERSAL)[place % 3]
        symbol = dice.choice(SYMBOLS)
        begin = 3 + dice.randrange(MINUTES - 60)
        side = BUY if source == SHEETS or dice.random() < 0.6 else SELL
        count = _COUNTED if source == MOMENTUM else None
        acts.append((begin, Send(source, market(symbol, side, dice.randrange(5, 40)), count)))
        if dice.random() < 0.85:
            ends = min(MINUTES - 5, begin + 10 + dice.randrange(80))
            acts.append((ends, Send(source, flat(symbol))))
    return acts


def _scenes(prices: Mapping[str, tuple[Decimal, ...]]) -> list[tuple[int, Act]]:
    def at(symbol: str, minute: int, away: str = "0") -> Decimal:
        return _price(prices[symbol][minute] * (1 + Decimal(away)))

    def said(symbol: str, minute: int, units: int) -> Say:
        return Say(DESK, f"BUY {symbol} NSE {units} @ {at(symbol, minute, '0.002')} LIMIT MIS")

    protected = msgspec.structs.replace(
        market("INFY", BUY, 10), stop_loss=at("INFY", 2, "-0.02"), target=at("INFY", 2, "0.02")
    )
    return [
        (1, Send(SHEETS, msgspec.structs.replace(market("SBIN", BUY, 1)))),
        (2, Send(SHEETS, protected)),
        (20, Say(DESK, "good morning, nothing yet")),
        (40, Send(MOMENTUM, market("RELIANCE", BUY, 5000), _COUNTED)),
        (50, Send(MOMENTUM, limit("NTPC", BUY, 10, at("NTPC", 50, "0.19")))),
        (60, Thin("SBIN", 25)),
        (61, Send(REVERSAL, limit("SBIN", BUY, 60, at("SBIN", 61, "0.01")))),
        (70, said("ITC", 70, 25)),
        (85, Answer(approve=True)),
        (110, Thin("SBIN", None)),
        (120, said("WIPRO", 120, 20)),
        (135, Answer(approve=False)),
        # one number is left out: it never came
        (150, Send(MOMENTUM, market("WIPRO", BUY, 30), _AFTER_A_GAP)),
        (165, Send(REVERSAL, market("RELIANCE", BUY, 20))),
        (180, Drill(DRILLED, on=True)),
        (190, Send(REVERSAL, market("INFY", BUY, 5))),
        (230, Drill(DRILLED, on=False)),
        (300, said("ITC", 300, 40)),
        (340, Send(SHEETS, limit("ITC", BUY, 15, at("ITC", 340, "-0.03")))),
    ]


def market(symbol: str, side: TransactionType, quantity: int) -> Signal:
    """Return an intraday order at the market."""
    return Signal(
        symbol=symbol,
        exchange=Exchange.NSE,
        transaction_type=side,
        quantity=quantity,
        order_type=OrderType.MARKET,
        product_type=ProductType.MIS,
    )


def limit(symbol: str, side: TransactionType, quantity: int, price: Decimal) -> Signal:
    """Return an intraday order at *price* rupees."""
    return msgspec.structs.replace(market(symbol, side, quantity), order_type=OrderType.LIMIT, price=price)


def flat(symbol: str) -> Signal:
    """Return the wish to hold nothing of *symbol*."""
    return msgspec.structs.replace(market(symbol, SELL, 1), position_size=0)
