"""What orders under way may still do to positions: units by position, sides by instrument, and counts by the minute."""

from bisect import bisect_left, bisect_right
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

import msgspec

from engine.domain.enums import TransactionType
from engine.domain.position import PositionKey

_MINUTE = timedelta(seconds=60)
_STRIDE = 64


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """Between which prices (rupees) an exchange takes orders: circuit limits, limit price protection; None unknown."""

    lowest: Decimal | None = None
    highest: Decimal | None = None
    lpp_lowest: Decimal | None = None
    lpp_highest: Decimal | None = None


NO_BOUNDS = Bounds()


class Live:
    """What is on its way in one position: its net quantity and the units reserved on each side."""

    __slots__ = ("buys", "quantity", "sells")

    def __init__(self) -> None:
        self.quantity = 0
        self.buys = 0
        self.sells = 0

    def worst(self, buys: int = 0, sells: int = 0) -> int:
        """Return the largest size the position can reach if one side fills in full and the other not at all."""
        return max(abs(self.quantity + self.buys + buys), abs(self.quantity - self.sells - sells))

    @property
    def occupied(self) -> bool:
        """Whether the position is not flat or may soon not be."""
        return bool(self.quantity or self.buys or self.sells)


class Reservation:
    """What one order holds; ``counted_at`` and ``repeats`` are what taking it back has to undo, None once it stands."""

    __slots__ = ("counted_at", "key", "repeats", "side", "strategy_id", "units")

    def __init__(self, key: PositionKey, side: TransactionType, strategy_id: UUID | None) -> None:
        self.key = key
        self.side = side
        self.strategy_id = strategy_id
        self.units = 0
        self.counted_at: datetime | None = None
        self.repeats: tuple[tuple[object, ...], tuple[datetime, UUID] | None] | None = None


class MinuteCount:
    """Instants of the last minute's events, in order, and the number of the day's."""

    __slots__ = ("day_count", "instants")

    def __init__(self) -> None:
        self.instants: list[datetime] = []
        self.day_count = 0

    def add(self, at: datetime) -> datetime:
        """Count one, and return the instant that it is counted at."""
        instants = self.instants
        # A clock that steps back must not make room.
        counted = max(at, instants[-1]) if instants else at
        instants.append(counted)
        self.day_count += 1
        # in strides: the cost of looking for what is stale, and of moving the rest, is then shared by many
        if not self.day_count % _STRIDE:
            del instants[: bisect_right(instants, counted - _MINUTE)]
        return counted

    def take_back(self, at: datetime, *, today: bool) -> None:
        """Count one fewer: one of those counted at *at*; *today* says whether it counts in the day's number."""
        # one that is older than all has been cut off already
        if self.instants and at >= self.instants[0]:
            del self.instants[min(bisect_left(self.instants, at), len(self.instants) - 1)]
        if today:
            self.day_count = max(self.day_count - 1, 0)

    def in_minute(self, now: datetime) -> int:
        """Return how many fell in the 60 seconds up to *now*."""
        instants, since = self.instants, now - _MINUTE
        if not instants or instants[0] > since:
            return len(instants)
        return len(instants) - bisect_right(instants, since)


class Sides:
    """Units of live orders of one account in one instrument, by strategy and side; for the self-trade guard."""

    __slots__ = ("_units",)

    def __init__(self) -> None:
        self._units: dict[UUID | None, list[int]] = {}

    def change(self, strategy_id: UUID | None, side: TransactionType, units: int) -> None:
        """Add *units* of a strategy's orders on one side; None are orders by hand."""
        held = self._units.setdefault(strategy_id, [0, 0])
        held[side is TransactionType.SELL] += units
        if not any(held):
            del self._units[strategy_id]

    def opposing(self, strategy_id: UUID, side: TransactionType) -> str | None:
        """Return the strategy that has a live order on the other side, ``by hand`` for none, or None."""
        other = side is TransactionType.BUY
        for owner, units in self._units.items():
            if owner != strategy_id and units[other]:
                return "by hand" if owner is None else str(owner)
        return None
