"""Where the account at the broker differs from our books, and when a difference may be believed.

One read proves nothing: the broker's order book, trade book and positions disagree for moments (trades
are ahead of orders, orders ahead of positions: kite.md 8.3), and our own orders are on their way. A
sighting is believed once a second read shows it unchanged, with nothing of ours stirring in between.
What is then taken over is the broker's figure, never one worked out here.
"""

from collections.abc import Hashable, Mapping
from collections.abc import Set as AbstractSet
from enum import StrEnum
from typing import Generic, TypeVar

import msgspec

from engine.domain.enums import ProductType
from engine.domain.position import Position, PositionKey

K = TypeVar("K", bound=Hashable)

STUBBORN_READS = 6
"""So many reads believe an order of somebody else although our own never rest: no echo lasts so long."""

# Shares bought for delivery are a position today and a holding tomorrow; sold from the holdings they are a
# negative position for the day (kite.md 9.1).
_DELIVERED = frozenset({ProductType.CNC, ProductType.MTF})


class DifferenceKind(StrEnum):
    """What a difference looks like."""

    DIFFERS = "DIFFERS"
    ABSENT = "ABSENT"
    DELIVERED = "DELIVERED"


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A position whose net quantity is not the broker's; ``theirs`` is flat when the broker has no row of it."""

    kind: DifferenceKind
    ours: Position
    theirs: Position

    @property
    def key(self) -> PositionKey:
        """The position it is about."""
        return self.ours.key

    @property
    def figures(self) -> tuple[int, int]:
        """The net quantities, ours and theirs: while they stay, it is the same difference."""
        return (self.ours.quantity, self.theirs.quantity)


def differences(ours: Mapping[PositionKey, Position], theirs: Mapping[PositionKey, Position]) -> list[Difference]:
    """Return the positions whose net quantities are not the same.

    Values are not compared: the broker rounds averages, and between midnight and its own turn of the day
    calls yesterday's what we already call overnight.
    """
    found: list[Difference] = []
    for key in [*ours, *(key for key in theirs if key not in ours)]:
        row = theirs.get(key)
        mine = ours.get(key) or _flat_like(theirs[key])
        them = row or _flat_like(mine)
        if mine.quantity != them.quantity:
            found.append(Difference(kind=_kind(mine, row), ours=mine, theirs=them))
    return found


def absent_rows(required: AbstractSet[PositionKey], theirs: Mapping[PositionKey, Position]) -> list[PositionKey]:
    """Return the rows that a whole answer must have and this one lacks.

    What traded today stands in the positions until the day ends, flat or not (kite.md 9.1): an answer
    without it is partial, and what it lacks otherwise is not believed to be gone.
    """
    return [key for key in required if key not in theirs]


def _kind(ours: Position, row: Position | None) -> DifferenceKind:
    quantity, carried = (0, 0) if row is None else (row.quantity, row.overnight_quantity)
    gone = ours.overnight_quantity
    if ours.product_type in _DELIVERED and gone and not carried and quantity == ours.quantity - gone:
        return DifferenceKind.DELIVERED
    return DifferenceKind.ABSENT if row is None else DifferenceKind.DIFFERS


def _flat_like(position: Position) -> Position:
    return Position(
        account_id=position.account_id,
        exchange=position.exchange,
        symbol=position.symbol,
        product_type=position.product_type,
        last_price=position.last_price,
        multiplier=position.multiplier,
    )


class _Sighting:
    __slots__ = ("figures", "first_at", "reads", "stir")

    def __init__(self, figures: Hashable, stir: int, at: float) -> None:
        self.figures = figures
        self.stir = stir
        self.first_at = at
        self.reads = 1


class TwoReads(Generic[K]):
    """What successive reads showed, and what of it has survived two of them.

    ``apart_s`` is how many seconds the two must at least be apart; ``stubborn`` after how many reads
    something is believed although it stirred between all of them (None: never).
    """

    def __init__(self, *, apart_s: float, stubborn: int | None = None) -> None:
        self._apart_s = apart_s
        self._stubborn = stubborn
        self._seen: dict[K, _Sighting] = {}

    def __len__(self) -> int:
        return len(self._seen)

    def clear(self) -> None:
        """Forget every sighting: the day turned, or the books were rebuilt."""
        self._seen.clear()

    def add(self, at_s: float, sightings: Mapping[K, tuple[Hashable, int]]) -> frozenset[K]:
        """Take in what a read showed; return what has survived two.

        *at_s* is when the read began, in monotonic seconds. Each sighting has its figures and the number
        of the last local stir about it: another figure or another stir begins the wait anew. What the
        read does not show is forgotten.
        """
        for key in [key for key in self._seen if key not in sightings]:
            del self._seen[key]
        survived: set[K] = set()
        for key, (figures, stir) in sightings.items():
            before = self._seen.get(key)
            if before is None or before.figures != figures:
                self._seen[key] = _Sighting(figures, stir, at_s)
                continue
            before.reads += 1
            if before.stir == stir and at_s - before.first_at >= self._apart_s:
                survived.add(key)
            elif before.stir != stir:
                before.stir, before.first_at = stir, at_s
                if self._stubborn is not None and before.reads >= self._stubborn:
                    survived.add(key)
        return frozenset(survived)

    def drop(self, key: K) -> None:
        """Forget one sighting: it has been acted on."""
        self._seen.pop(key, None)
