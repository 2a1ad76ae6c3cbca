"""The actors that exist on demand: a risk actor per user, an executor per account.

Senders get the actor object at once; its task is started by the crew's own task and reads its mailbox
from the beginning, so nothing told meanwhile is lost. Each kind hangs under a supervisor of its own,
where an actor that keeps failing trips alone: its user or account is blocked, the box goes on.
"""

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import structlog
import trio

from engine.actors.cancel_all import Ended
from engine.actors.caretaker import Rests, tend_executor, tend_risk
from engine.actors.executor import Executor
from engine.actors.intake import Passage
from engine.actors.risk import Message, RiskActor
from engine.domain.directory import Directory
from engine.domain.order import Order
from engine.runtime.child import ChildSpec, Escalation, OnEscalate, SupervisorNotRunning
from engine.runtime.mailbox import Mailbox, Overflow, Reply
from engine.runtime.supervisor import Strategy, Supervisor

_log = structlog.get_logger(__name__)

_START_MAILBOX = 50_000
_COUNT_S = 0.02
_WAKE_RETRY_S = 1.0


class Crew:
    """Makes and finds risk actors and executors."""

    def __init__(
        self,
        *,
        make_risk: Callable[[UUID], RiskActor],
        make_executor: Callable[[UUID], Executor],
        trip: Callable[[str, str], None],
    ) -> None:
        self._make_risk = make_risk
        self._make_executor = make_executor
        self._trip = trip
        self.risk_actors: dict[UUID, RiskActor] = {}
        self.executors: dict[UUID, Executor] = {}
        self._draining = False
        # accounts of which orders have waited since they were looked at
        self._queued: set[UUID] = set()
        self._waiting_orders = 0
        self._count_again_at = 0.0
        self.users = Supervisor("risk", Strategy.ONE_FOR_ONE)
        self.accounts = Supervisor("execution", Strategy.ONE_FOR_ONE)
        # what has tripped, until it has another life
        self._tripped: dict[str, tuple[Supervisor, ChildSpec, str]] = {}
        self._trips: Mailbox[str] = Mailbox("crew-trips", capacity=_START_MAILBOX, overflow=Overflow.REFUSE)
        self._rests = Rests()
        self._to_start: Mailbox[tuple[Supervisor, ChildSpec]] = Mailbox(
            "crew", capacity=_START_MAILBOX, overflow=Overflow.REFUSE
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Start the tasks of actors as they are called for, and tend those that have tripped."""
        task_status.started()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tend_all, nursery)
            async for supervisor, spec in self._to_start:
                # side by side: a signal to a thousand accounts must not wait for the first of them to start
                nursery.start_soon(self._add, supervisor, spec)

    async def _add(self, supervisor: Supervisor, spec: ChildSpec) -> None:
        tries = 0
        while spec.name not in supervisor:
            try:
                await supervisor.add_child(spec)
            except SupervisorNotRunning:
                # it is itself being restarted, or stopped for good and this task with it
                await trio.sleep(min(0.05 * 2**tries, 2.0))
                tries += 1
            except Exception as error:  # an actor that cannot even start blocks its scope, not the box
                _log.exception("actor.start_failed", actor=spec.name)
                if spec.on_trip is not None:
                    spec.on_trip(Escalation(f"{spec.name} cannot start: {error}", child=spec.name))
                return

    async def _tend_all(self, nursery: trio.Nursery) -> None:
        self._trips.take_all()  # those of an earlier life are in the dictionary too
        for name in list(self._tripped):
            nursery.start_soon(self._tend, name)
        async for name in self._trips:
            nursery.start_soon(self._tend, name)

    async def _tend(self, name: str) -> None:
        tripped = self._tripped[name]
        supervisor, spec, why = tripped
        rest_s = self._rests.next_s(name, trio.current_time())

        async def restart() -> None:
            self._rests.woken(name, trio.current_time())
            await self._wake_up(supervisor, spec)
            if self._tripped.get(name) is tripped:
                del self._tripped[name]

        actor_id = UUID(name.partition(":")[2])
        try:
            if supervisor is self.accounts:
                await tend_executor(self.executors[actor_id], why, rest_s=rest_s, restart=restart)
            else:
                await tend_risk(self.risk_actors[actor_id], why, rest_s=rest_s, restart=restart)
        except Exception:  # its scope stays blocked; the caretakers of the others go on
            _log.exception("actor.not_tended", actor=name)

    async def _wake_up(self, supervisor: Supervisor, spec: ChildSpec) -> None:
        while spec.name in supervisor:
            try:
                return await supervisor.restart_child(spec.name)
            except SupervisorNotRunning:
                # it is itself being restarted, and leaves alone what has tripped
                await trio.sleep(_WAKE_RETRY_S)
        return await self._add(supervisor, spec)

    def risk(self, user_id: UUID) -> RiskActor:
        """Return the risk actor of a user."""
        actor = self.risk_actors.get(user_id)
        if actor is None:
            actor = self._make_risk(user_id)
            self._start(self.users, f"risk:{user_id}", f"user:{user_id}", actor.run, actor.mailbox)
            self.risk_actors[user_id] = actor
        return actor

    def executor(self, account_id: UUID) -> Executor:
        """Return the executor of an account."""
        actor = self.executors.get(account_id)
        if actor is None:
            actor = self._make_executor(account_id)
            if self._draining:
                actor.drain()
            self._start(self.accounts, f"executor:{account_id}", f"account:{account_id}", actor.run, actor.mailbox)
            self.executors[account_id] = actor
        return actor

    def _start(self, supervisor: Supervisor, name: str, scope: str, run: Any, mailbox: Mailbox[Any]) -> None:
        def trip(escalation: Escalation) -> None:
            self._trip(scope, str(escalation))
            self._tripped[name] = (supervisor, spec, str(escalation))
            self._trips.tell_nowait(name)

        spec = ChildSpec(
            name=name,
            start=run,
            mailbox=mailbox,
            on_escalate=OnEscalate.TRIP,
            on_trip=trip,
            start_s=120,
            max_restarts=5,
            window_s=60,
        )
        self._to_start.tell_nowait((supervisor, spec))

    # what the others call

    def decide(self, passage: Passage) -> bool:
        """Hand a delivery to its user's risk actor; tell whether that has decided about it."""
        return self.risk(passage.delivery.user_id).decide(passage)

    def tell_risk(self, user_id: UUID, message: Message) -> None:
        """Hand a user's risk actor what happened on an account."""
        self.risk(user_id).tell(message)

    def admit(self, order: Order) -> Order:
        """Hand an approved order to its account's executor."""
        return self.executor(order.account_id).admit(order)

    def committed(self, orders: Sequence[Order]) -> None:
        """Tell the executors that these orders are on disk."""
        for order in orders:
            self.executor(order.account_id).committed(order)

    def withdraw(self, orders: Sequence[Order]) -> None:
        """Tell the executors that these orders never will be on disk."""
        for order in orders:
            self.executor(order.account_id).withdraw(order)

    def cancel_intent(self, account_id: UUID, intent_id: UUID, *, by: str) -> Reply[Ended]:
        """Begin to cancel what an account still has of an intent's own orders; the reply says what became of each."""
        return self.executor(account_id).start_cancel_all(by=by, intent_id=intent_id)

    def wake(self) -> None:
        """Let every executor look at its queue again, and every risk actor at what waits for a person."""
        for executor in self.executors.values():
            executor.wake()
        for actor in self.risk_actors.values():
            actor.approvals.look()

    @property
    def waiting_orders(self) -> int:
        """Orders that wait for their turn, of all accounts, as counted within the last 20 ms."""
        now = trio.current_time()
        if now >= self._count_again_at:
            self._count_again_at = now + _COUNT_S
            self._waiting_orders = self._count_waiting()
        return self._waiting_orders

    def note_queued(self, account_id: UUID) -> None:
        """An order of the account waits: with every signal it is asked how many do, and accounts may be thousands."""
        self._queued.add(account_id)

    def _count_waiting(self) -> int:
        found = {each: len(self.executors[each].queue) for each in self._queued if each in self.executors}
        self._queued = {each for each, waiting in found.items() if waiting}
        return sum(found.values())

    @property
    def in_flight(self) -> int:
        """Requests on the wire, of all accounts."""
        return sum(executor.in_flight for executor in self.executors.values())

    async def drain(self, *, timeout_s: float) -> bool:
        """Start no further order and wait until none is on the wire; False when time ran out."""
        self._draining = True
        for executor in self.executors.values():
            executor.drain()
        with trio.move_on_after(timeout_s) as scope:
            while self.in_flight:  # noqa: ASYNC110 -- one look in 20 ms, once, at the stop
                await trio.sleep(0.02)
        return not scope.cancelled_caught


def accounts_of_strategy(strategy_id: UUID, directory: Directory, crew: Crew) -> list[UUID]:
    """Return the accounts on which a strategy may have orders or positions: its own, and its owner's with business."""
    strategy = directory.strategies.get(strategy_id)
    named = set() if strategy is None else {target.account_id for target in strategy.targets}
    # one that is no longer among its targets may hold positions of it all the same, and so may all when it was
    # deleted; of books that are still read nobody knows
    return [
        account.id
        for account in directory.accounts.values()
        if account.id in named
        or (
            (strategy is None or account.user_id == strategy.user_id)
            and account.id in crew.executors
            and (crew.executors[account.id].has_business or not crew.executors[account.id].is_ready)
        )
    ]
