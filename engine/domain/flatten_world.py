"""What the planning of a flattening asks of the world, what it knows of its tickets, and what reads say of a demand."""

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from uuid import UUID

import msgspec

from engine.domain.enums import TransactionType
from engine.domain.flatten import Demand, Held, Place, Proof, Ticket, TicketState
from engine.domain.flatten_reads import Reads


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What the planner asks of the world, in plain calls that do not wait.

    ``tag`` names a ticket at the broker, ``freeze`` is the largest order of a place and ``lot`` its lot;
    ``protection`` is the account's policy in percent (-1: automatic). ``share`` is a strategy's own signed units at
    a place. ``shut`` says why nothing can be sent to an exchange now for a demand. ``doubts`` are orders of unknown
    outcome, tickets that the books have not settled yet among them: place and strategy. ``awaited`` are those of
    them that may still turn up any moment, with their side. ``behind`` tells that something has filled in an
    instrument of which the strategies' shares do not know yet.
    """

    account_id: UUID
    tag: Callable[[UUID], str]
    freeze: Callable[[Place], int | None]
    lot: Callable[[Place], int]
    protection: Callable[[], Decimal]
    share: Callable[[UUID, Place], int]
    shut: Callable[[Demand, str], str | None]
    doubts: Callable[[], Iterable[tuple[Place, UUID | None]]]
    awaited: Callable[[], Iterable[tuple[Place, UUID | None, TransactionType]]] = tuple
    behind: Callable[[Place], bool] = lambda _place: False


class Sent(msgspec.Struct, kw_only=True):
    """A ticket that was sent, and what is known of it; ``at_s`` (monotonic) is when its last byte can have left.

    ``others`` are the signed units that orders of others had moved at its place when it was made.
    """

    ticket: Ticket
    state: TicketState
    at_s: float
    broker_id: str | None = None
    others: int = 0
    clean_reads: int = 0
    was_lost: bool = False


def proof_of(reads: Reads, demand: Demand, believed: Mapping[Place, Held] | None) -> Proof | None:
    """Return what the last look showed of *demand*; None when it proves nothing."""
    book = reads.book
    if book is None or (demand.flatten and believed is None):
        return None
    rows = [row for row in book.rows.values() if demand.covers_order(row.place, row.strategy_id)]
    held = [row for place, row in sorted((believed or {}).items()) if demand.covers_position(place)]
    read = reads.positions if demand.flatten else None
    return Proof(
        book_at=book.at,
        positions_at=None if read is None else read.at,
        open_orders=tuple(row.order_id for row in rows if row.is_open),
        orders=len(rows),
        filled=sum(row.filled for row in rows),
        positions=tuple(held),
    )


def nets_of(
    reads: Reads, world: Surroundings, demand: Demand, believed: Mapping[Place, Held] | None
) -> dict[Place, tuple[int | None, str | None]]:
    """Return what is left at each place that *demand* covers: units, None where that is not proven, and why."""
    nets: dict[Place, tuple[int | None, str | None]] = {}
    if not demand.flatten or believed is None:
        return nets
    for place in {*believed, *reads.unproven}:
        if not demand.covers_position(place):
            continue
        row = believed.get(place)
        if row is None:
            nets[place] = (None, "positions and order book do not tell of the same trades")
            continue
        left, why = row.quantity, None
        if demand.strategy_id is not None:
            left = world.share(demand.strategy_id, place)
            if left and left * row.quantity <= 0:
                why = "NETTED: others hold the other side; closing it would open a position at the broker"
        if left:
            nets[place] = (left, why)
    return nets
