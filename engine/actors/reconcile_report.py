"""What a reconciliation of an account with its broker found."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from engine.domain.difference import Difference
from engine.domain.order import Order


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A difference of positions, and what became of it: ``held`` says why it was not acted on (yet)."""

    difference: Difference
    is_adopted: bool = False
    held: str = ""


class ReconcileReport(msgspec.Struct, frozen=True, kw_only=True):
    """One reconciliation.

    ``orders``, ``trades`` and ``positions`` count the broker's rows (None where a light look did not read
    them). ``adopted`` are orders of somebody else that were taken into the books, ``unknown`` orders of ours
    whose outcome is not settled, ``unreadable`` rows in words that the engine does not have. ``is_whole`` tells
    whether every witness could be read and none contradicts what is known.
    """

    read_at: datetime
    orders: int
    trades: int | None
    positions: int | None
    is_whole: bool
    adopted: Sequence[Order] = ()
    differences: Sequence[Found] = ()
    unknown: Sequence[UUID] = ()
    unreadable: Sequence[str] = ()

    @property
    def open_differences(self) -> Sequence[Found]:
        """Positions that differ still: they were not taken over."""
        return [found for found in self.differences if not found.is_adopted]
