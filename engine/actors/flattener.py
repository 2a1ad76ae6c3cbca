"""Ending what an account has at its broker: drain, cancel, flatten, verify, and then keep watching.

The steps K2 to K6 of reliability.md 5.4 for one account, on `engine.domain.flatten_plan`, which decides. What it
does it does through `Hands`, so that it works inside an executor and, with other hands, in a command when no engine
runs. Nothing in it is remembered over a death: a new life begins at K2 with what the broker and the write-ahead
rows show, and what may have been sent is looked for before anything else goes to its place.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

import structlog
import trio

from engine.broker.outcome import Accepted, NotSent, PlaceOutcome, Refused, Unknown, WriteOutcome
from engine.domain.flatten import BookRow, Demand, Held, Place, Stage, Standing, Step, Ticket
from engine.domain.flatten_plan import Planner
from engine.domain.flatten_reads import Reads
from engine.domain.flatten_world import Surroundings
from engine.errors import BrokerUnavailable
from engine.runtime.crashpoint import crashpoint

_log = structlog.get_logger(__name__)

DRAIN_S = 7.0
TICKET_LIFE_S = 2.0
"""How long after the look that it follows from a ticket may leave: what is held may be another thing then."""
_CANCELLING_S = 1.0
_SOON_S = 0.3
_WATCH_S = 5.0
# Cancels that the broker does not answer must not keep positions open: orders that close go beside them after that.
_CANCELS_FIRST_S = 10.0
_CANCELS_A_SECOND = 8
_CANCELS_FIRST_MOST_S = 60.0
_PLACES_AT_ONCE = 10

StillWanted = Callable[[], str | None]
"""Asked right before the first byte: None, or why the ticket must not go any more."""


class Hands(Protocol):
    """What flattening one account needs of the world. Reads raise BrokerUnavailable, and nothing else."""

    async def orders(self) -> Sequence[BookRow]:
        """Return the order book of today, every state, whose strategy each order is."""

    async def positions(self) -> Sequence[Held]:
        """Return the net positions, flat rows included."""

    async def drain(self, timeout_s: float) -> tuple[int, int]:
        """Wait for the answers of requests that are on the wire; return how many there were, and are still."""

    def unresolved(self) -> Sequence[tuple[Ticket, float]]:
        """Return tickets of earlier lives that may be at the broker, and how many seconds ago they were sent."""

    def used(self) -> frozenset[UUID]:
        """Return the ids of the tickets of earlier lives, whatever became of them."""

    def carried(self) -> Mapping[Place, int]:
        """Return the signed units that our own books have as held over night; empty without books."""

    def end_resting(self, demands: Sequence[Demand]) -> None:
        """Have everything of *demands* ended that is no order at the broker: what waits here, triggers (GTT)."""

    async def cancel(self, row: BookRow) -> WriteOutcome:
        """Ask the broker to cancel an order."""

    async def place(self, ticket: Ticket, still_wanted: StillWanted) -> PlaceOutcome:
        """Write *ticket* ahead, durably, then send it once. NotSent proves that not one byte left.

        Raises BrokerUnavailable only before anything was sent.
        """

    def told(self, standings: Sequence[Standing]) -> None:
        """Hear how the demands stand now."""

    def alarm(self, text: str) -> None:
        """Tell a person."""


class Flattener:
    """Works on the demands of one account until they are met or taken back; *now* gives wall-clock instants (UTC)."""

    def __init__(self, hands: Hands, world: Surroundings, *, now: Callable[[], datetime]) -> None:
        self._hands = hands
        self._world = world
        self._now = now
        self.demands: dict[str, Demand] = {}
        self.standings: dict[str, Standing] = {}
        self.drained = (0, 0)
        self._planner: Planner | None = None
        self._cancelling: set[str] = set()
        self._cancels_since = 0.0
        self._cancels_first_s = 0.0
        self._wake = trio.Event()

    # what is wanted

    def want(self, demand: Demand) -> None:
        """Begin to end what *demand* says, or go on with it; another of its name takes its place."""
        if self.demands.get(demand.name) != demand:
            self.demands[demand.name] = demand
            self._wake.set()

    def drop(self, name: str) -> None:
        """Take a demand back: nothing of it is sent from this instant on."""
        if self.demands.pop(name, None) is not None:
            self.standings.pop(name, None)
            self._wake.set()

    def look_soon(self) -> None:
        """Look at the broker without waiting for the next turn."""
        self._wake.set()

    # the work

    async def run(self) -> None:
        """Work until cancelled."""
        self._planner = None
        self._cancelling.clear()
        async with trio.open_nursery() as nursery:
            while True:
                rest = await self._turn(nursery) if self.demands else None
                if rest is None:
                    self._planner = None
                    rest = float("inf")
                with trio.move_on_after(rest):
                    await self._wake.wait()
                self._wake = trio.Event()

    async def _turn(self, nursery: trio.Nursery) -> float:
        """Look once and do what follows; return the seconds to rest."""
        planner = self._planner or await self._begin()
        self._planner = planner
        demands = tuple(self.demands.values())
        self._hands.end_resting(demands)
        flattens = any(demand.flatten for demand in demands)
        if await self._read_book(planner):
            self._start_cancels(planner, planner.cancels(demands, trio.current_time()), nursery)
            if flattens and await self._read_positions(planner) and await self._read_book(planner):
                crashpoint("K5.looked")
        looked_at = trio.current_time()
        # what was taken back meanwhile gets nothing
        demands = tuple(demand for demand in demands if self.demands.get(demand.name) == demand)
        step = planner.step(demands, looked_at)
        for text in step.alarms:
            self._hands.alarm(text)
        self._start_cancels(planner, step.cancels, nursery)
        self._start_tickets(planner, step, looked_at, nursery)
        self.standings = {standing.name: standing for standing in step.standings}
        if step.standings:
            self._hands.told(step.standings)
        if step.tickets:
            return _SOON_S
        if all(standing.stage is Stage.DONE or standing.failed for standing in step.standings):
            return _WATCH_S
        return _CANCELLING_S if step.cancels or self._cancelling else _SOON_S

    async def _begin(self) -> Planner:
        crashpoint("K2.begun")
        self.drained = await self._hands.drain(DRAIN_S)
        in_flight, left = self.drained
        _log.warning("flatten.begun", account=str(self._world.account_id), in_flight=in_flight, unresolved=left)
        planner = Planner(self._world, Reads(self._hands.carried()), self._hands.used())
        now = trio.current_time()
        for ticket, age_s in self._hands.unresolved():
            planner.restore(ticket, at_s=now - age_s)
        return planner

    async def _read_book(self, planner: Planner) -> bool:
        began_s, at = trio.current_time(), self._now()
        try:
            rows = await self._hands.orders()
        except BrokerUnavailable as error:
            _log.warning("flatten.book_unreadable", account=str(self._world.account_id), error=str(error))
            return False
        if not planner.reads.take_book(rows, began_s=began_s, at=at):
            _log.warning("flatten.book_partial", account=str(self._world.account_id))
            return False
        planner.book_taken()
        return True

    async def _read_positions(self, planner: Planner) -> bool:
        began_s, at = trio.current_time(), self._now()
        try:
            held = await self._hands.positions()
        except BrokerUnavailable as error:
            _log.warning("flatten.positions_unreadable", account=str(self._world.account_id), error=str(error))
            return False
        planner.reads.take_positions(held, began_s=began_s, at=at)
        crashpoint("K4.positions_read")
        return True

    # cancels

    def _start_cancels(self, planner: Planner, rows: Sequence[BookRow], nursery: trio.Nursery) -> None:
        for row in rows:
            if row.order_id in self._cancelling:
                continue
            if not self._cancelling:
                self._cancels_since = trio.current_time()
                self._cancels_first_s = _CANCELS_FIRST_S
            self._cancels_first_s = min(self._cancels_first_s + 1 / _CANCELS_A_SECOND, _CANCELS_FIRST_MOST_S)
            self._cancelling.add(row.order_id)
            nursery.start_soon(self._cancel, planner, row)

    async def _cancel(self, planner: Planner, row: BookRow) -> None:
        try:
            crashpoint("K3.before_cancel")
            outcome = await self._hands.cancel(row)
            crashpoint("K3.cancelled")
            if not isinstance(outcome, Accepted):
                # one that is over already is refused: the next look shows it
                _log.info("flatten.not_cancelled", order=row.order_id, outcome=str(outcome))
        except BrokerUnavailable as error:
            _log.warning("flatten.not_cancelled", order=row.order_id, outcome=str(error))
        finally:
            self._cancelling.discard(row.order_id)
            planner.cancel_asked(row, trio.current_time())

    # tickets

    def _start_tickets(self, planner: Planner, step: Step, looked_at: float, nursery: trio.Nursery) -> None:
        now = trio.current_time()
        if self._cancelling and now - self._cancels_since < self._cancels_first_s:
            return  # the calls of the budget go to the cancels first
        by_place: dict[Place, list[Ticket]] = {}
        for ticket in step.tickets:
            if len(by_place) >= _PLACES_AT_ONCE and ticket.place not in by_place:
                break  # they would wait for the calls of the others until the look is too old for them
            by_place.setdefault(ticket.place, []).append(ticket)
            # all of a place from now on: until the last slice has gone nobody else may close what it is for
            planner.begin_ticket(ticket, now)
        for tickets in by_place.values():
            nursery.start_soon(self._send_all, planner, tickets, looked_at + TICKET_LIFE_S)

    async def _send_all(self, planner: Planner, tickets: Sequence[Ticket], until_s: float) -> None:
        stop = ""
        for ticket in tickets:
            if stop:
                planner.ticket_unsent(ticket, stop, trio.current_time(), rest=False)
                continue
            outcome = await self._send(planner, ticket, until_s)
            now = trio.current_time()
            match outcome:
                case Accepted(broker_order_id=broker_id):
                    planner.ticket_accepted(ticket, broker_id, now)
                    crashpoint("K4.placed")
                    continue
                case Unknown(reason=stop):
                    planner.ticket_unknown(ticket, now)
                case Refused(message=stop):
                    planner.ticket_refused(ticket, stop, now)
                case NotSent(reason=stop, gated=gated):
                    # one that its gate held back is made anew from the next look
                    planner.ticket_unsent(ticket, stop, now, rest=not gated)
            stop = stop or "the one before it was not placed"
            _log.warning("flatten.not_placed", ticket=str(ticket.id), outcome=str(outcome))
        self._wake.set()

    async def _send(self, planner: Planner, ticket: Ticket, until_s: float) -> PlaceOutcome:
        def still_wanted() -> str | None:
            held = self.demands.get(ticket.demand)
            if held is None or held.version != ticket.version:
                return "NOT_WANTED: the flattening was taken back"
            if trio.current_time() > until_s:
                return "LATE: what is held may have changed since it was read"
            return planner.crossed(ticket)

        why = still_wanted()
        if why is not None:
            return NotSent(reason=why, gated=True)
        try:
            return await self._hands.place(ticket, still_wanted)
        except BrokerUnavailable as error:
            return NotSent(reason=str(error))
