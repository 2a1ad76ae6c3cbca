"""What becomes of an actor that keeps failing: nothing it was told waits for ever, and it gets another life.

The scope of a tripped actor is blocked by the time its caretaker comes. What waited on a tripped executor
is ended through the ledger, without any of the executor's own parts; signals of a user whose risk actor
tripped are ended as they come. Then, after a rest, the actor is started again: its scope is still
blocked, so that it sends nothing and only follows what is open; what was on the wire becomes UNKNOWN and
is settled by the order book. An ADMIN who lifts the block ends the rest at once.
"""

from collections.abc import Awaitable, Callable
from uuid import UUID

import structlog
import trio

from engine.actors.executor import Executor, ExecutorContext
from engine.actors.ledger_entry import LedgerEntry
from engine.actors.risk import Decide, RiskActor
from engine.actors.risk_messages import OrderChanged
from engine.clock import trading_day
from engine.domain.audit import AuditDraft
from engine.domain.enums import OrderStatus
from engine.domain.killswitch import KillSwitches
from engine.domain.order import Order, move
from engine.errors import MailboxFull, StoreUnavailable

_log = structlog.get_logger(__name__)

CODE = "ACTOR_FAILED"

_BARRIER_S = 30.0
_RETRY_S = 1.0
_REST_S = 60.0
_LONGEST_REST_S = 600.0
_LOOK_S = 1.0
_NO_ACCOUNT = UUID(int=0)


class Rests:
    """How long a tripped actor rests before its next life: longer each time, until one has lasted."""

    def __init__(self) -> None:
        self._rest_s: dict[str, float] = {}
        self._woken_at: dict[str, float] = {}

    def next_s(self, name: str, now_s: float) -> float:
        """Return the seconds of rest of actor *name* that has tripped now (monotonic seconds)."""
        lasted_s = now_s - self._woken_at.get(name, -_LONGEST_REST_S)
        before_s = self._rest_s.get(name)
        rest_s = _REST_S if before_s is None or lasted_s >= _LONGEST_REST_S else min(2 * before_s, _LONGEST_REST_S)
        self._rest_s[name] = rest_s
        return rest_s

    def woken(self, name: str, now_s: float) -> None:
        """Actor *name* begins another life."""
        self._woken_at[name] = now_s


async def tend_executor(executor: Executor, why: str, *, rest_s: float, restart: Callable[[], Awaitable[None]]) -> None:
    """End what waits on a tripped executor's account, then let it rest and start it again."""
    context = executor.context
    ended = await _end_queue(executor, context, why)
    context.alert(f"account:{executor.account_id}", f"{CODE}: {why}; {ended} waiting order(s) were ended")
    rest = _Rest(rest_s, lambda: _covering(context.kill, executor.user_id, executor.account_id))
    while not rest.is_over():  # noqa: ASYNC110 -- bounded; a switch that goes off has no event
        await trio.sleep(_LOOK_S)
    await restart()


class _Rest:
    """A rest that the lifting of the block ends."""

    def __init__(self, rest_s: float, is_blocked: Callable[[], bool]) -> None:
        self._until = trio.current_time() + rest_s
        self._is_blocked = is_blocked
        self._was_blocked = is_blocked()

    def is_over(self) -> bool:
        return trio.current_time() >= self._until or (self._was_blocked and not self._is_blocked())


def _covering(kill: KillSwitches, user_id: UUID, account_id: UUID) -> bool:
    return kill.covering(user_id=user_id, account_id=account_id, strategy_id=None) is not None


async def _end_queue(executor: Executor, context: ExecutorContext, why: str) -> int:
    while True:
        try:
            # what was admitted shall be in what is read
            if await context.ledger.barrier(timeout_s=_BARRIER_S):
                day = trading_day(context.clock.now())
                history = await context.load(executor.account_id, day)
                break
        except StoreUnavailable as error:
            _log.warning("caretaker.waits_for_ledger", account=str(executor.account_id), error=str(error))
        await trio.sleep(_RETRY_S)
    waiting = [order for order in history.live_orders if order.status is OrderStatus.PENDING]
    for order in waiting:
        executor.disown(order)
        _end(order, context, why)
    return len(waiting)


def _end(order: Order, context: ExecutorContext, why: str) -> None:
    now = context.clock.now()
    message = f"{CODE}: not sent, the account's executor has failed: {why}"
    ended, event = move(order, OrderStatus.FAILED, at=now, message=message)
    draft = AuditDraft(
        at=now,
        actor="system",
        action=f"ORDER_{ended.status}",
        subject=f"order:{order.id}",
        content={"from": order.status.value, "detail": message, "tag": order.tag},
    )
    context.ledger.append(LedgerEntry(order_updates=(ended,), order_events=(event,), audit=(draft,)))
    try:
        context.tell_risk(order.user_id, OrderChanged(order=ended))
    except MailboxFull as error:
        _log.error("risk.does_not_listen", account=str(order.account_id), error=str(error))


async def tend_risk(actor: RiskActor, why: str, *, rest_s: float, restart: Callable[[], Awaitable[None]]) -> None:
    """End the signals of a tripped risk actor's user as they come, then start it again.

    What its orders and positions do meanwhile stands in the ledger, where its next life reads it.
    """
    reason = f"{CODE}: nothing was sent, the user's risk actor has failed: {why}"
    actor.give_up(reason)
    rest = _Rest(rest_s, lambda: _covering(actor.kill, actor.user_id, _NO_ACCOUNT))
    while not rest.is_over():
        with trio.move_on_after(_LOOK_S):
            await actor.mailbox.wait()
        while actor.mailbox.depth:
            await trio.lowlevel.checkpoint()
            message = actor.mailbox.receive_nowait()
            if isinstance(message, Decide):
                actor.fail(message.passage, reason)
    await restart()
