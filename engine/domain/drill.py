"""Drills of the kill switch: what one observed, and whether it passed.

A drill trips the kill switch of an engine of its own at a paper exchange that misbehaves. The verdict is drawn from
what the exchange itself recorded, not from what the engine says of itself. Source: peers.md 1c item 14.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

_MOST_PROBLEMS = 20


class DrillVerdict(StrEnum):
    """How a drill ended; NOT_RUN is one that could not be run to its end."""

    PASS = "PASS"  # noqa: S105 -- a verdict
    FAIL = "FAIL"
    NOT_RUN = "NOT_RUN"


class _Told(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    pass


class FaultHit(_Told, frozen=True, kw_only=True):
    """A rule by which the exchange misbehaved (as `engine exchange --fault` takes it), and how often it struck."""

    rule: str
    hits: int


class Signals(_Told, frozen=True, kw_only=True):
    """Signals sent while the switch was tripped and until all was flat, by their answers.

    ``afterBlock`` were sent after the trip was answered; ``takenAfterBlock`` of them were accepted, which none may be.
    """

    sent: int
    accepted: int
    refused: int
    after_block: int
    taken_after_block: int


class DrillReport(_Told, frozen=True, kw_only=True):
    """What a drill came to. Times are seconds from the instant at which the trip was asked for.

    ``timeToBlockS`` is until no order could pass any more, ``timeToAnswerS`` until that was answered,
    ``timeToCancelledS`` until the last resting order was cancelled, ``timeToFlatS`` until two reads of the broker
    proved flat; null where it did not come to that. ``ordersRefused`` and ``exitsRefused`` count what the exchange
    did not take, faults included. ``ordersAfterBlock`` counts orders other than square-offs that reached the exchange
    after the block, ``overFlattens`` square-off trades that went beyond flat. ``positionsLeft`` and ``openOrdersLeft``
    are the exchange's at the end.
    """

    verdict: DrillVerdict
    problems: tuple[str, ...]
    started_at: datetime
    took_s: float
    seed: int
    orders: int
    positions: int
    faults: tuple[FaultHit, ...]
    time_to_block_s: float | None
    time_to_answer_s: float | None
    time_to_cancelled_s: float | None
    time_to_flat_s: float | None
    orders_sent: int
    orders_refused: int
    exits_sent: int
    exits_refused: int
    cancels_sent: int
    orders_after_block: int
    over_flattens: int
    positions_left: tuple[str, ...]
    open_orders_left: int
    signals: Signals
    certificate_id: str | None
    certificate_verified: bool


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """A request to place an order that reached the exchange (UTC); ``exit`` when it squares off."""

    at: datetime
    order_id: str | None
    tag: str
    accepted: bool
    exit: bool


class Filled(msgspec.Struct, frozen=True, kw_only=True):
    """A trade in the order of trading; ``units`` bought, or sold when below zero."""

    place: str
    units: int
    exit: bool


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """What the exchange recorded, and how the kill switch stood in the end.

    ``blocked_at`` is when the trip was answered (UTC). ``state`` is the kill switch's last state. ``resting`` and
    ``held`` are how many orders and positions there were when it was tripped.
    """

    blocked_at: datetime
    state: str
    resting: int
    held: int
    placed: Sequence[Placed]
    filled: Sequence[Filled]
    left: Sequence[str]
    open_orders: int
    signals: Signals
    certificate_flat: bool
    certificate_verified: bool


def after_block(placed: Iterable[Placed], blocked_at: datetime) -> list[Placed]:
    """Return the requests that reached the exchange after the block and do not square off."""
    return [each for each in placed if each.at > blocked_at and not each.exit]


def over_flattens(filled: Iterable[Filled]) -> list[Filled]:
    """Return the square-off trades that opened, enlarged or turned a position around."""
    held: dict[str, int] = {}
    found = []
    for trade in filled:
        before = held.get(trade.place, 0)
        after = before + trade.units
        if trade.exit and (before * after < 0 or abs(after) >= abs(before)):
            found.append(trade)
        held[trade.place] = after
    return found


def problems_of(observed: Observed, *, orders: int, positions: int) -> tuple[str, ...]:
    """Return why a drill with so many resting *orders* and *positions* has failed; () when it passed."""
    late = after_block(observed.placed, observed.blocked_at)
    over = over_flattens(observed.filled)
    found = [
        (observed.resting < orders, f"only {observed.resting} of {orders} orders rested when it was tripped"),
        (observed.held < positions, f"only {observed.held} of {positions} positions were held when it was tripped"),
        (not observed.signals.after_block, "no signal came after the block: nothing was proven of those"),
        (bool(late), f"{len(late)} order(s) reached the exchange after the block"),
        (
            bool(observed.signals.taken_after_block),
            f"{observed.signals.taken_after_block} signal(s) were accepted after the block",
        ),
        (bool(over), f"{len(over)} square-off trade(s) went beyond flat"),
        (bool(observed.left), f"positions are left: {', '.join(observed.left)}"),
        (bool(observed.open_orders), f"{observed.open_orders} order(s) are still open"),
        (observed.state != "FLAT_VERIFIED", f"the kill switch is {observed.state}, not FLAT_VERIFIED"),
        (not observed.certificate_flat, "there is no certificate of flatness with two clean reads"),
        (
            observed.certificate_flat and not observed.certificate_verified,
            "the certificate's signature does not hold",
        ),
    ]
    return tuple(text for is_so, text in found if is_so)[:_MOST_PROBLEMS]


class Drill(msgspec.Struct, frozen=True, kw_only=True):
    """A drill that the engine had run, or runs (no ``ended_at``). Instants are UTC.

    ``due_at`` is when the schedule wanted it, None for one that ``asked_by`` wanted at once. ``why`` says what kept it
    from passing.
    """

    id: UUID
    due_at: datetime | None
    asked_by: str
    started_at: datetime
    ended_at: datetime | None = None
    verdict: DrillVerdict | None = None
    why: str = ""
    report: DrillReport | None = None


class DrillEnd(msgspec.Struct, frozen=True, kw_only=True):
    """What running one came to: a report, or why there is none."""

    report: DrillReport | None = None
    why: str = ""


def ended(drill: Drill, end: DrillEnd, at: datetime) -> Drill:
    """Return *drill* as it ended at *at* (UTC)."""
    report = end.report
    return msgspec.structs.replace(
        drill,
        ended_at=at,
        verdict=DrillVerdict.NOT_RUN if report is None else report.verdict,
        why=end.why if report is None else "; ".join(report.problems),
        report=report,
    )


def read_report(text: str) -> DrillReport | None:
    """Return the report in what `engine drill --json` printed, None when there is none."""
    lines = text.splitlines()
    first = next((n for n, line in enumerate(lines) if line.startswith("{")), None)
    last = next((n for n in range(len(lines) - 1, -1, -1) if lines[n].startswith("}")), None)
    if first is None or last is None:
        return None
    try:
        return msgspec.json.decode("\n".join(lines[first : last + 1]), type=DrillReport)
    except msgspec.DecodeError:
        return None
