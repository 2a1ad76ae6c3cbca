"""Planted bugs: each takes one safety line out of the engine (or its store). Every one must be found.

A bug is a function that is given the world of a run and returns what to put in place of what, as
(owner, name, value).
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any
from uuid import UUID

import msgspec

from engine import recovery
from engine.actors import journal_progress, lease_keeper, order_watch, sending
from engine.actors.audit_writer import AuditWriter
from engine.actors.executor import Executor
from engine.actors.ingest import Ingest
from engine.actors.killswitch_guardian import KillSwitchGuardian
from engine.actors.ledger_reader import LedgerReader
from engine.actors.order_index import OrderIndex
from engine.actors.order_queue import OrderQueue
from engine.actors.order_watch import OrderWatch
from engine.actors.position_desk import PositionDesk
from engine.actors.sending import Sender
from engine.broker.base import NotSent, Refused, Unknown
from engine.broker.kite import errors as kite_errors
from engine.domain import reconcile
from engine.domain.delivery import Delivery
from engine.domain.enums import OrderStatus
from engine.domain.freshness import Freshness
from engine.domain.killswitch import KillSwitches
from engine.domain.risk_state import RiskState
from engine.journal import entry as journal_entry
from tests.simulation.bugs_of_exits import BUGS_OF_EXITS
from tests.simulation.life import SimKillFile
from tests.simulation.runner import patched
from tests.simulation.world import World

Patch = tuple[Any, str, Any]
Plant = Callable[[World], Sequence[Patch]]

BUGS: dict[str, Plant] = {}


def bug(plant: Plant) -> Plant:
    """Register a bug under its function's name."""
    BUGS[plant.__name__] = plant
    return plant


def planted(name: str) -> Callable[[World], AbstractContextManager[None]]:
    """Return what `run_seed` takes to run with the bug of that name."""
    return lambda world: patched(list(BUGS[name](world)))


def _at_the_gate(world: World) -> tuple[Patch, Callable[[], bool]]:
    """Return a patch that notes when a send gate is being asked, and how to ask for it."""
    inside = [False]
    place = Sender._place

    async def wrapped(self: Sender, order: Any, gate: Any, departure: Any) -> Any:
        def noted() -> Any:
            inside[0] = True
            try:
                return gate()
            finally:
                inside[0] = False

        return await place(self, order, noted, departure)

    return (Sender, "_place", wrapped), lambda: inside[0]


# the gate


@bug
def gate_does_not_look_at_the_deadline(world: World) -> Sequence[Patch]:
    """An order may leave after its deadline, if it was young enough when it was written ahead."""
    at_gate, asked = _at_the_gate(world)
    stale = Freshness.stale
    return [at_gate, (Freshness, "stale", lambda self, *args: None if asked() else stale(self, *args))]


@bug
def gate_does_not_look_at_the_kill_switch(world: World) -> Sequence[Patch]:
    """The kill switch stops what waits, not what is about to leave."""
    at_gate, asked = _at_the_gate(world)
    covering = KillSwitches.covering
    return [at_gate, (KillSwitches, "covering", lambda self, **ids: None if asked() else covering(self, **ids))]


@bug
def gate_does_not_look_at_the_lease(world: World) -> Sequence[Patch]:
    """A write-ahead on disk is permission enough."""
    at_gate, asked = _at_the_gate(world)
    holds = lease_keeper.LeaseKeeper.holds
    return [at_gate, (lease_keeper.LeaseKeeper, "holds", lambda self: asked() or holds(self))]


@bug
def lease_believed_for_a_minute(world: World) -> Sequence[Patch]:
    """The leader believes in its lease longer than others wait for it."""
    return [(lease_keeper, "LIFE_S", 60.0)]


@bug
def send_window_missing(world: World) -> Sequence[Patch]:
    """A process that slept between commit and wire sends when it wakes."""
    return [(sending, "_SEND_WINDOW_NS", 10**18), (sending, "_WRITE_WINDOW_NS", 10**18)]


@bug
def write_window_missing(world: World) -> Sequence[Patch]:
    """When a slow ledger put the row on disk does not matter."""
    return [(sending, "_WRITE_WINDOW_NS", 10**18)]


# the write-ahead


@bug
def sent_before_it_is_on_disk(world: World) -> Sequence[Patch]:
    """The order goes to the wire while the ledger writes."""
    admit = Executor.admit

    def hasty(self: Executor, order: Any) -> Any:
        known = order.id in self.desk.orders
        admitted = admit(self, order)
        if admitted.status is OrderStatus.SUBMITTING and not known:
            self.committed(admitted)
        return admitted

    return [(Executor, "admit", hasty)]


@bug
def ledger_takes_any_epoch(world: World) -> Sequence[Patch]:
    """The ledger's transaction does not check the fencing epoch."""
    world.db.checks_epoch = False
    return []


@bug
def ledger_takes_repeats(world: World) -> Sequence[Patch]:
    """No unique key stands behind ingest's memory."""
    world.db.checks_repeats = False
    return []


@bug
def lost_answer_taken_for_no_commit(world: World) -> Sequence[Patch]:
    """A commit whose answer was lost is written again without looking."""

    async def never(self: AuditWriter, doubt: Any) -> bool:
        self._doubt = None
        self._nothing_in_flight()
        return False

    return [(AuditWriter, "_doubt_was_commit", never)]


# what is unknown


@bug
def unknown_is_sent_again(world: World) -> Sequence[Patch]:
    """An outcome that is not known is taken for a failure, and the order is sent again."""
    place = Sender._place

    async def wrapped(self: Sender, order: Any, gate: Any, departure: Any) -> Any:
        outcome = await place(self, order, gate, departure)
        return NotSent(reason=outcome.reason) if isinstance(outcome, Unknown) else outcome

    return [(Sender, "_place", wrapped)]


@bug
def bytes_that_left_are_forgotten(world: World) -> Sequence[Patch]:
    """A connection that broke counts as not sent, whatever had been written to it."""
    classify = kite_errors.classify
    return [(kite_errors, "classify", lambda **answer: classify(**(answer | _nothing_written(answer))))]


def _nothing_written(answer: dict[str, Any]) -> dict[str, Any]:
    return {"bytes_written": 0} if answer.get("failure") is not None else {}


@bug
def every_400_is_a_refusal(world: World) -> Sequence[Patch]:
    """What the words of a refusal leave open is not read."""
    return [
        (kite_errors, "is_ambiguous", lambda message: False),
        (kite_errors, "REFUSALS", kite_errors.REFUSALS | {(400, "OrderException")}),
    ]


@bug
def rate_limited_is_sent_again_blindly(world: World) -> Sequence[Patch]:
    """After a 429 the order is sent again without a look at the book."""
    place = Sender._place

    async def wrapped(self: Sender, order: Any, gate: Any, departure: Any) -> Any:
        outcome = await place(self, order, gate, departure)
        limited = isinstance(outcome, Refused) and outcome.rate_limited
        return NotSent(reason="rate limited") if limited else outcome

    return [(Sender, "_place", wrapped)]


@bug
def restart_takes_submitting_for_pending(world: World) -> Sequence[Patch]:
    """What was on the wire when the engine died is sent by the next one."""
    account = LedgerReader.account

    async def rewound(self: LedgerReader, account_id: UUID, day: Any) -> Any:
        found = await account(self, account_id, day)
        orders = [
            msgspec.structs.replace(o, status=OrderStatus.PENDING) if o.status is OrderStatus.SUBMITTING else o
            for o in found.live_orders
        ]
        return msgspec.structs.replace(found, live_orders=orders)

    return [(LedgerReader, "account", rewound)]


@bug
def restart_forgets_what_was_in_doubt(world: World) -> Sequence[Patch]:
    """Nobody looks for orders that an earlier life left in doubt."""
    restore = OrderWatch.restore

    def forgetful(self: OrderWatch) -> None:
        restore(self)
        self._proofs.clear()

    return [(OrderWatch, "restore", forgetful)]


@bug
def doubt_does_not_hold_the_instrument(world: World) -> Sequence[Patch]:
    """Other orders of the same instrument go on while one is in doubt."""
    doubt = OrderWatch.doubt

    def free(self: OrderWatch, order: Any, why: str, *, after_restart: bool = False) -> None:
        doubt(self, order, why, after_restart=after_restart)
        self._free(order)

    return [(OrderWatch, "doubt", free), (OrderQueue, "is_alone", lambda self, key, order_id: True)]


# the order book


@bug
def tag_is_not_looked_up(world: World) -> Sequence[Patch]:
    """Only the broker's own id finds an order in the book."""
    find = OrderIndex.find
    return [
        (
            OrderIndex,
            "find",
            lambda self, row: find(self, row) if row.broker_order_id in self.by_broker_id else None,
        )
    ]


@bug
def tags_are_not_looked_at(world: World) -> Sequence[Patch]:
    """A tag that the broker shows among others is not seen."""
    find = OrderIndex.find
    return [(OrderIndex, "find", lambda self, row: find(self, msgspec.structs.replace(row, tags=())))]


@bug
def book_without_known_orders_is_believed(world: World) -> Sequence[Patch]:
    """A book that lacks orders known of the day counts as proof of absence."""
    clean_read = reconcile.clean_read
    return [
        (
            order_watch,
            "clean_read",
            lambda known, ids, started_at, sent_at: clean_read(frozenset(), ids, started_at, sent_at),
        )
    ]


@bug
def read_counts_from_its_end(world: World) -> Sequence[Patch]:
    """A book that was asked for before the horizon counts by when it came."""
    judge = OrderWatch._judge
    return [(OrderWatch, "_judge", lambda self, started_at, known, book: judge(self, self._steady.now(), known, book))]


@bug
def one_read_is_proof(world: World) -> Sequence[Patch]:
    """One clean book is enough to believe that an order was never placed."""
    return [(reconcile, "CLEAN_READS", 1)]


@bug
def horizon_of_two_minutes(world: World) -> Sequence[Patch]:
    """Absence is believed before the broker's known delays are over."""
    init = reconcile.AbsenceProof.__init__

    def short(self: Any, sent_at: Any, *, horizon_s: float = 0) -> None:
        init(self, sent_at, horizon_s=120)

    return [(reconcile.AbsenceProof, "__init__", short)]


@bug
def fills_are_counted_twice(world: World) -> Sequence[Patch]:
    """A trade that is seen again is booked again."""
    take_trades = PositionDesk.take_trades

    def again(self: PositionDesk, trades: Any, order_of: Any) -> None:
        take_trades(self, trades, order_of)
        seen = self._booked
        repeats = [
            msgspec.structs.replace(trade, trade_id=f"{trade.trade_id}0")
            for trade in trades
            if trade.broker_order_id in seen and trade.trade_id in seen[trade.broker_order_id].fills
        ]
        take_trades(self, repeats, order_of)

    return [(PositionDesk, "take_trades", again)]


# the journal


@bug
def cursor_runs_ahead_of_the_intents(world: World) -> Sequence[Patch]:
    """The cursor passes entries of which the ledger has nothing yet."""
    return [(journal_progress, "_is_in", lambda item, batch: True)]


@bug
def journal_takes_repeats(world: World) -> Sequence[Patch]:
    """The check for a repeat is not one step with the append."""
    world.valkey.dedupes = False
    return []


@bug
def replay_skips_the_first_entry(world: World) -> Sequence[Patch]:
    """Replay begins one entry too late."""
    page = recovery.Recovery._page

    async def skipping(self: Any, epoch: UUID, entries: Any) -> int:
        return await page(self, epoch, entries[1:])

    return [(recovery.Recovery, "_page", skipping)]


@bug
def seal_of_entries_is_not_checked(world: World) -> Sequence[Patch]:
    """Whoever can write to the journal's server can trade."""

    def decode(entry: bytes, _key: bytes) -> Delivery:
        return journal_entry._decoder.decode(entry[33:])

    return [(recovery, "decode", decode)]


@bug
def replay_makes_signals_young(world: World) -> Sequence[Patch]:
    """A signal that waited in the journal is as good as new."""
    replay = Ingest.replay

    async def refreshed(self: Ingest, deliveries: Any, positions: Any = ()) -> int:
        now = self._clock.now()
        return await replay(self, [msgspec.structs.replace(d, received_at=now) for d in deliveries], positions)

    return [(Ingest, "replay", refreshed)]


# order and risk


@bug
def instruments_are_not_serialised(world: World) -> Sequence[Patch]:
    """Orders of one instrument are on the wire side by side."""
    return [
        (OrderQueue, "is_free", lambda self, key: True),
        (OrderQueue, "is_alone", lambda self, key, order_id: True),
    ]


@bug
def reservation_is_not_released(world: World) -> Sequence[Patch]:
    """What an order reserved stays reserved when it is over."""
    return [(RiskState, "release", lambda self, order_id: None)]


@bug
def approved_orders_are_not_counted(world: World) -> Sequence[Patch]:
    """An approved order reserves nothing."""
    return [(RiskState, "reserve", lambda self, request, order_id, *, units=None: None)]


@bug
def kill_switch_is_not_kept(world: World) -> Sequence[Patch]:
    """The kill switch is in memory only."""
    spread = KillSwitchGuardian._spread

    def forgets(self: KillSwitchGuardian, record: Any, lanes: Any, *, advances: bool = False) -> None:
        spread(self, record, [lane for lane in lanes if lane is not self._ledger], advances=advances)

    return [
        (SimKillFile, "append", lambda self, record: self._life.world.filed(self._life.host, record)),
        (KillSwitchGuardian, "_spread", forgets),
    ]


BUGS.update(BUGS_OF_EXITS)
