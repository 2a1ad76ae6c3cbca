"""Which of an account's orders may go next: in accepted order per instrument, one at a time on the wire.

Pure bookkeeping, no I/O: the executor owns one. An instrument is busy from the moment an order of it
is written ahead until the broker's answer is known; the orders of other instruments go on meanwhile.
An order that the ledger does not have yet keeps its place and blocks what stands behind it. The first
order of each instrument stands in a lane, exits or entries, in accepted order; a lane never lets an order
overtake one of its own instrument.

Heaps with stale entries that are skipped when they come up: no operation walks the whole queue but
`waiting` and the rare removal from the middle.
"""

from collections import deque
from heapq import heappop, heappush
from uuid import UUID

from engine.domain.enums import Exchange
from engine.domain.lanes import Lane

Key = tuple[Exchange, str]


class OrderQueue:
    """Waiting orders by instrument, and the instruments that are busy."""

    def __init__(self) -> None:
        self._waiting: dict[Key, deque[UUID]] = {}
        self._busy: dict[Key, set[UUID]] = {}
        # place in line of everything that waits: the order in which it was pushed
        self._places: dict[UUID, int] = {}
        self._unrecorded: set[UUID] = set()
        self._overdue: dict[UUID, Key] = {}
        self._heads: dict[Lane, list[tuple[int, Key, UUID]]] = {Lane.EXIT: [], Lane.ENTRY: []}
        # which of those that wait are exits
        self._exits: set[UUID] = set()
        self._deadlines: list[tuple[int, int, Key, UUID]] = []
        self._next = 0
        self._first = 0

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, order_id: UUID) -> bool:
        return order_id in self._places

    def is_free(self, key: Key) -> bool:
        """Whether an order of *key* could go at once: none on the wire, none ahead of it."""
        return key not in self._busy and key not in self._waiting

    def is_alone(self, key: Key, order_id: UUID) -> bool:
        """Whether *order_id* holds its instrument, and no other order does."""
        return self._busy.get(key) == {order_id}

    def hold(self, key: Key, order_id: UUID) -> None:
        """*order_id* is on the wire, or nobody knows: nothing else of *key* goes until it is freed."""
        self._busy.setdefault(key, set()).add(order_id)

    def free(self, key: Key, order_id: UUID) -> None:
        """What became of *order_id* is known."""
        held = self._busy.get(key)
        if held is not None:
            held.discard(order_id)
            if not held:
                del self._busy[key]
                self._offer(key)

    def push(self, key: Key, order_id: UUID, deadline_ns: int, *, recorded: bool = True, first: bool = False) -> None:
        """Queue an order behind those of its instrument; until it is recorded it only keeps its place.

        *deadline_ns* is on the boot-time clock. One that goes in the place of an order which is over comes *first*.
        """
        queue = self._waiting.setdefault(key, deque())
        if first:
            self._first -= 1
            place = self._first
            queue.appendleft(order_id)
        else:
            self._next += 1
            place = self._next
            queue.append(order_id)
        self._places[order_id] = place
        if not recorded:
            self._unrecorded.add(order_id)
        heappush(self._deadlines, (deadline_ns, place, key, order_id))
        self._offer(key)

    def record(self, key: Key, order_id: UUID) -> None:
        """The ledger has *order_id* now."""
        self._unrecorded.discard(order_id)
        self._offer(key)

    def next(self, lane: Lane) -> tuple[Key, UUID] | None:
        """Return the order of *lane* that may go next, the longest waiting one, or None; it stays in the queue."""
        heads = self._heads[lane]
        while heads:
            _, key, order_id = heads[0]
            if self._is_next_of(key, order_id) and self._lane(order_id) is lane:
                return key, order_id
            heappop(heads)
        return None

    def instruments(self) -> list[Key]:
        """Return the instruments that orders wait for."""
        return list(self._waiting)

    def head(self, key: Key) -> UUID | None:
        """Return the order of an instrument that may go next, or None."""
        queue = self._waiting.get(key)
        return queue[0] if queue and self._is_next_of(key, queue[0]) else None

    def sort(self, key: Key, order_id: UUID, lane: Lane) -> None:
        """Put a waiting order into *lane*; it keeps its place."""
        if order_id not in self._places or self._lane(order_id) is lane:
            return
        if lane is Lane.EXIT:
            self._exits.add(order_id)
        else:
            self._exits.discard(order_id)
        self._offer(key)

    def _lane(self, order_id: UUID) -> Lane:
        return Lane.EXIT if order_id in self._exits else Lane.ENTRY

    def expired(self, now_ns: int) -> list[tuple[Key, UUID]]:
        """Return what still waits past its deadline, busy instruments included; each is told once."""
        late = [(key, order_id) for order_id, key in self._overdue.items() if order_id not in self._unrecorded]
        for _, order_id in late:
            del self._overdue[order_id]
        while self._deadlines and self._deadlines[0][0] <= now_ns:
            _, place, key, order_id = heappop(self._deadlines)
            if self._places.get(order_id) != place:
                continue
            if order_id in self._unrecorded:
                self._overdue[order_id] = key
            else:
                late.append((key, order_id))
        return late

    def remove(self, key: Key, order_id: UUID) -> bool:
        """Take an order out of the queue; False when it is not in it."""
        if self._places.pop(order_id, None) is None:
            return False
        self._unrecorded.discard(order_id)
        self._exits.discard(order_id)
        self._overdue.pop(order_id, None)
        queue = self._waiting[key]
        queue.remove(order_id)
        if queue:
            self._offer(key)
        else:
            del self._waiting[key]
        return True

    def waiting(self) -> list[tuple[Key, UUID]]:
        """Return everything recorded that waits, longest waiting first."""
        found = [(self._places[order_id], key, order_id) for key, queue in self._waiting.items() for order_id in queue]
        return [(key, order_id) for _, key, order_id in sorted(found) if order_id not in self._unrecorded]

    def _offer(self, key: Key) -> None:
        queue = self._waiting.get(key)
        if queue and self._is_next_of(key, queue[0]):
            heappush(self._heads[self._lane(queue[0])], (self._places[queue[0]], key, queue[0]))

    def _is_next_of(self, key: Key, order_id: UUID) -> bool:
        queue = self._waiting.get(key)
        if not queue:
            return False
        return queue[0] == order_id and key not in self._busy and order_id not in self._unrecorded
