"""What a run of signals comes to: pure arithmetic over what was sent and what the broker received."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest of *values* that *share* (0 to 1) of them do not exceed (nearest rank); NaN of none."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


class Sent(msgspec.Struct, kw_only=True):
    """One signal: its number, and when (CLOCK_MONOTONIC, ns) it was due, written and answered.

    ``status`` is that of the answer, 0 without one.
    """

    number: int
    due_ns: int
    sent_ns: int = 0
    answered_ns: int = 0
    status: int = 0

    @property
    def accepted(self) -> bool:
        """Whether its sender was told that it is taken in."""
        return 200 <= self.status < 300


class Received(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One order as the broker got it: when (CLOCK_MONOTONIC, ns), on which account, of which signal, with which tag."""

    at_ns: int
    account: str
    number: int
    tag: str


class Matched(msgspec.Struct, frozen=True, kw_only=True):
    """Signals and orders held against each other.

    ``lost`` were accepted and have no order on an account that should have one; ``doubled`` are orders beyond the
    first of a signal on an account; ``unanswered`` have an order though nobody was told that they are accepted;
    ``foreign`` are orders of no signal of the run. ``order_ms`` are from the time a signal was due to its last order
    at the broker, ``ack_ms`` to its answer.
    """

    sent: int
    accepted: int
    lost: int
    doubled: int
    unanswered: int
    foreign: int
    order_ms: Sequence[float]
    ack_ms: Sequence[float]
    orders_per_s: float


def match(sent: Sequence[Sent], received: Iterable[Received], accounts_of: Callable[[int], Sequence[str]]) -> Matched:
    """Hold *received* against *sent*: each signal is to become one order on each of the accounts of its number."""
    first: dict[tuple[int, str], int] = {}
    numbers = {each.number for each in sent}
    doubled = foreign = last = 0
    for order in received:
        if order.number not in numbers or order.account not in accounts_of(order.number):
            foreign += 1
        elif (order.number, order.account) in first:
            doubled += 1
        else:
            first[order.number, order.account] = order.at_ns
            last = max(last, order.at_ns)
    lost = unanswered = 0
    order_ms = []
    for each in sent:
        accounts = accounts_of(each.number)
        found = [at for account in accounts if (at := first.get((each.number, account))) is not None]
        if each.accepted:
            lost += len(accounts) - len(found)
        elif found:
            unanswered += 1
        if len(found) == len(accounts):
            order_ms.append((max(found) - each.due_ns) / 1e6)
    began = min((each.sent_ns for each in sent if each.sent_ns), default=0)
    return Matched(
        sent=len(sent),
        accepted=sum(each.accepted for each in sent),
        lost=lost,
        doubled=doubled,
        unanswered=unanswered,
        foreign=foreign,
        order_ms=order_ms,
        ack_ms=[(each.answered_ns - each.due_ns) / 1e6 for each in sent if each.accepted],
        orders_per_s=len(first) / ((last - began) / 1e9) if last > began else 0.0,
    )


def due_times(begin_ns: int, rate: float, seconds: float) -> list[int]:
    """Return when the signals of an open loop are due: evenly apart, whatever becomes of those before."""
    return [begin_ns + round(number * 1e9 / rate) for number in range(max(1, round(rate * seconds)))]


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One number over some runs: the median with the least and the greatest."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Figure":
        """Return the figure of *values*, one of each run."""
        known = [value for value in values if not math.isnan(value)]
        if not known:
            return cls(median=math.nan, least=math.nan, greatest=math.nan)
        ordered = sorted(known)
        middle = len(ordered) // 2
        median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
        return cls(median=median, least=ordered[0], greatest=ordered[-1])


def figures(runs: Sequence[Mapping[str, float]]) -> dict[str, Figure]:
    """Return the figure of every number that the runs have."""
    names = list(dict.fromkeys(name for run in runs for name in run))
    return {name: Figure.of([run[name] for run in runs if name in run]) for name in names}


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return how much y grows for each unit of x, by least squares; 0 where that cannot be said."""
    if len(points) < 2:
        return 0.0
    x_mean = sum(x for x, _ in points) / len(points)
    y_mean = sum(y for _, y in points) / len(points)
    spread = sum((x - x_mean) ** 2 for x, _ in points)
    return sum((x - x_mean) * (y - y_mean) for x, y in points) / spread if spread else 0.0
