"""Supervisors: start children in order, watch them, restart them, escalate, stop them in reverse order.

A supervisor is itself a child (`Supervisor.child_spec`), so trees nest. Each child runs in a task of its
own with a shielded cancel scope; the task catches the child's errors and decides, the nursery never does.
For ONE_FOR_ONE the child's own task waits out the backoff, so that thousands of children restart
independently; for the group strategies the supervisor's task stops and starts the ones affected.
"""

import contextvars
import functools
import math
import random
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

import msgspec
import trio

from engine.errors import EngineError
from engine.runtime.child import (
    Backoff,
    Child,
    ChildReturned,
    ChildSpec,
    ChildState,
    Escalation,
    EventKind,
    OnEscalate,
    Restart,
    ShutdownOverrun,
    StartTimeout,
    Status,
    Strategy,
    SupervisorEvent,
    SupervisorNotRunning,
    describe,
)
from engine.runtime.roster import Announcer, Patience, Roster

__all__ = [
    "Backoff",
    "ChildReturned",
    "ChildSpec",
    "ChildState",
    "Escalation",
    "EventKind",
    "OnEscalate",
    "Restart",
    "ShutdownOverrun",
    "StartTimeout",
    "Status",
    "Strategy",
    "Supervisor",
    "SupervisorEvent",
    "SupervisorNotRunning",
]


class Supervisor:
    """Keeps children running.

    *intensity* is (restarts allowed, seconds): one crash more within the window escalates. It is counted
    per child (`ChildSpec` may override it); the group strategies count all crashes together as well.
    *on_event* is told everything (log it, alert on it); it must not wait.
    """

    def __init__(
        self,
        name: str,
        strategy: Strategy,
        children: Iterable[ChildSpec] = (),
        *,
        intensity: tuple[float, float] = (3, 60.0),
        backoff: Backoff | None = None,
        rng: random.Random | None = None,
        on_event: Callable[[SupervisorEvent], None] | None = None,
    ) -> None:
        self.name = name
        self.strategy = strategy
        self._in_group = strategy is not Strategy.ONE_FOR_ONE
        self._children = Roster(name)
        for spec in children:
            self._children.register(spec, dynamic=False)
        rng = rng or random.Random()  # noqa: S311 -- spreads restarts, guards nothing
        self._patience = Patience(intensity, backoff or Backoff(), rng, in_group=self._in_group)
        self._tell = Announcer(name, on_event)
        self._is_running = False
        self._nursery: trio.Nursery | None = None
        self._context = contextvars.Context()
        self._failure: Escalation | None = None
        self._fallen: deque[tuple[Child, float]] = deque()
        self._bell = trio.Event()
        self._regroup_scope: trio.CancelScope | None = None
        # Serialises starts and stops of group members; ONE_FOR_ONE children do not need it.
        self._order = trio.Lock()

    # running

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Start the children in order, call ``task_status.started()``, supervise until cancelled.

        Raises what the first start of a child raised, or `Escalation` (unwrapped, never in a group).
        On every way out the children are stopped first, last started first. A child that is TRIPPED
        stays so when the supervisor itself is restarted. A child that shields itself from its cancel
        without a deadline is reported as OVERRAN, and keeps this from returning.
        """
        if self._is_running:
            raise EngineError(f"supervisor {self.name} runs already")
        self._is_running = True
        self._failure = None
        self._fallen.clear()
        self._patience.reset()
        failure: Exception | None = None
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                # Children added on behalf of a request must not inherit that request's log context.
                self._context = contextvars.copy_context()
                try:
                    await self._start_all()
                    task_status.started()
                    await self._watch()
                except Exception as exc:
                    failure = exc
                finally:
                    self._nursery = None
                    await self._stop_all()
        finally:
            self._is_running = False
        if failure is not None:
            raise failure

    async def _start_all(self) -> None:
        for child in self._children:
            child.crashes.clear()
            if child.status is not Status.TRIPPED:
                await self._launch(child)

    async def _watch(self) -> None:
        while self._failure is None:
            if not self._fallen:
                self._bell = trio.Event()
                await self._bell.wait()
                continue
            child, delay_s = self._fallen.popleft()
            if child.is_live or child not in self._children:
                continue  # restarted with its group, or removed, since it fell
            with trio.CancelScope() as self._regroup_scope:
                await self._regroup(child, delay_s)
            self._regroup_scope = None
        raise self._failure

    async def _stop_all(self) -> None:
        try:
            with trio.CancelScope(shield=True):  # each child has its deadlines
                if not self._in_group:
                    # Children on demand may be thousands: they are independent and stop together.
                    async with trio.open_nursery() as nursery:
                        for child in reversed(list(self._children)):
                            if child.dynamic:
                                nursery.start_soon(self._stop, child)
                for child in reversed(list(self._children)):
                    if not child.stopping or not child.is_live:
                        await self._stop(child)
        finally:
            # Shielded tasks would keep the nursery open for ever, should the stop be interrupted.
            for child in self._children:
                child.cancel()

    # children on demand

    async def add_child(self, spec: ChildSpec) -> None:
        """Start *spec* as the last child and return once it has started.

        Raises what its start raised (it is not registered then), `ValueError` if the name is taken,
        `SupervisorNotRunning`. If the caller is cancelled meanwhile, the child is taken away again.
        Under a group strategy a child must not call this before it has itself started.
        """
        await self._require_nursery()
        child = self._children.register(spec, dynamic=True)
        try:
            async with self._ordered():
                await self._launch(child)
        except BaseException:
            with trio.CancelScope(shield=True):  # bounded by the child's shutdown deadline
                await self._stop(child)
            self._children.forget(child)
            raise

    async def remove_child(self, name: str) -> None:
        """Stop child *name* and forget it. Raises `KeyError`, or `ShutdownOverrun` (then it stays registered)."""
        child = self._children[name]
        async with self._ordered():
            await self._stop_or_raise(child)
        self._children.forget(child)

    async def restart_child(self, name: str) -> None:
        """Start child *name* anew with a clean record: how a TRIPPED child comes back.

        Raises `KeyError`, `ShutdownOverrun`, `SupervisorNotRunning`, or what its start raised (a child
        that was tripped stays so then).
        """
        await self._require_nursery()
        child = self._children[name]
        before = child.status
        async with self._ordered():
            await self._stop_or_raise(child)
            if child.is_live:
                raise SupervisorNotRunning(f"{name} is being started by somebody else")
            child.crashes.clear()
            child.restarts += 1
            try:
                await self._launch(child)
            except BaseException:
                with trio.CancelScope(shield=True):  # bounded by the child's shutdown deadline
                    await self._stop(child)
                child.status = Status.TRIPPED if before is Status.TRIPPED else Status.STOPPED
                raise

    def __contains__(self, name: str) -> bool:
        return name in self._children.names()

    def __len__(self) -> int:
        return len(self._children)

    def snapshot(self) -> ChildState:
        """Return the tree below (and with) this supervisor as it stands."""
        return ChildState(
            name=self.name,
            state=Status.STOPPED if self._nursery is None else Status.RUNNING,
            restarts=sum(child.restarts for child in self._children),
            last_error=None if self._failure is None else describe(self._failure),
            started_at=None,
            children=self._children.states(),
        )

    def child_spec(self, **settings: Any) -> ChildSpec:
        """Return this supervisor as a child; *settings* are fields of `ChildSpec` to set otherwise.

        Start and stop have no deadline of their own here: every child below has one.
        """
        spec = ChildSpec(name=self.name, start=self.run, start_s=math.inf, shutdown_s=math.inf, tree=self.snapshot)
        return msgspec.structs.replace(spec, **settings)

    # one child

    async def _launch(self, child: Child) -> None:
        nursery = self._nursery
        if nursery is None or child not in self._children or child.is_live:
            await trio.lowlevel.checkpoint_if_cancelled()
            raise SupervisorNotRunning(f"{child.spec.name} cannot be started by {self.name} now")
        settled = child.prepare(functools.partial(self._tell, EventKind.STARTED))
        # The name is what a stack dump shows.
        name = f"{self.name}/{child.spec.name}"
        self._context.run(functools.partial(nursery.start_soon, self._mind, child, name=name))
        await settled.wait()
        if child.start_error is not None:
            raise child.start_error
        if not child.has_started:
            raise SupervisorNotRunning(f"{child.spec.name} was stopped before it had started")

    async def _mind(self, child: Child) -> None:
        try:
            is_first = True
            while True:
                error = await child.run_once()
                if child.stopping:
                    child.status = Status.STOPPED
                    return self._tell(EventKind.STOPPED, child, error)
                if is_first and error is not None and not child.has_started:
                    error.add_note(f"while starting {child.spec.name} of supervisor {self.name}")
                    child.start_error, child.status = error, Status.STOPPED
                    return None
                delay_s = self._judge(child, error)
                if delay_s is None:
                    return None
                if self._in_group:
                    self._fallen.append((child, delay_s))
                    return self._bell.set()
                is_first = False
                await child.pause(delay_s)
                child.restarts += not child.stopping
        finally:
            child.finish()
            if child.spec.restart is Restart.TEMPORARY and child.start_error is None:
                self._children.forget(child)

    def _judge(self, child: Child, error: Exception | None) -> float | None:
        """Decide about a child that ended by itself: return the backoff in seconds, or None for no restart."""
        if error is None or child.spec.restart is Restart.TEMPORARY:
            child.status = Status.STOPPED
            self._tell(EventKind.STOPPED if error is None else EventKind.CRASHED, child, error)
            return None
        delay_s = self._patience.delay_s(child)
        if delay_s is None:
            self._give_up(child, error)
            return None
        child.status = Status.BACKOFF
        self._tell(EventKind.CRASHED, child, error, delay_s)
        return delay_s

    def _give_up(self, child: Child, error: Exception) -> None:
        name = child.spec.name
        escalation = Escalation(f"{self.name}/{name} keeps failing, last with {describe(error)}", child=name)
        escalation.__cause__ = error
        child.status = Status.STOPPED
        if child.spec.on_escalate is OnEscalate.TRIP and child.spec.on_trip is not None:
            child.status = Status.TRIPPED
            try:
                child.spec.on_trip(escalation)
            except Exception as exc:
                # A scope that could not be blocked is worse than a supervisor that fails.
                escalation.add_note(f"its on_trip callback failed: {describe(exc)}")
            else:
                return self._tell(EventKind.TRIPPED, child, error)
        return self._fail(child, escalation)

    def _fail(self, child: Child, escalation: Escalation) -> None:
        self._tell(EventKind.ESCALATED, child, escalation)
        self._failure = self._failure or escalation
        self._bell.set()
        if self._regroup_scope is not None:
            self._regroup_scope.cancel()

    # groups

    async def _regroup(self, culprit: Child, delay_s: float) -> None:
        while True:
            async with self._order:
                if not await self._stop_group(culprit):
                    return
            await trio.sleep(delay_s)
            async with self._order:
                failed = await self._restart_group(culprit)
            if failed is None:
                return
            culprit, verdict = failed
            # Without a verdict the culprit was tripped (the others go on) or the whole supervisor fails.
            delay_s = delay_s if verdict is None else verdict

    async def _stop_group(self, culprit: Child) -> bool:
        for child in reversed(self._affected(culprit)):
            if not await self._stop(child):
                name = child.spec.name
                # Two instances of one actor must never run side by side.
                escalation = Escalation(f"{self.name}/{name} could not be stopped for a restart", child=name)
                escalation.__cause__ = child.overrun()
                self._fail(child, escalation)
                return False
            if child.status is not Status.TRIPPED:
                child.status = Status.BACKOFF
        return True

    async def _restart_group(self, culprit: Child) -> tuple[Child, float | None] | None:
        """Start what is down from *culprit* on; return the one that failed to, with the verdict on it."""
        for child in self._affected(culprit):
            if child.is_live or child.status is Status.TRIPPED:
                continue
            child.restarts += 1
            try:
                await self._launch(child)
            except Exception as exc:
                if child.start_error is None:
                    raise
                return child, self._judge(child, exc)
        return None

    def _affected(self, culprit: Child) -> list[Child]:
        return self._children.from_child(culprit) if self.strategy is Strategy.REST_FOR_ONE else list(self._children)

    # small parts

    async def _stop(self, child: Child) -> bool:
        if not await child.stop():
            self._tell(EventKind.OVERRAN, child)
            return False
        if child.status is not Status.TRIPPED:
            child.status = Status.STOPPED
        if child.spec.restart is Restart.TEMPORARY:
            self._children.forget(child)
        return True

    async def _stop_or_raise(self, child: Child) -> None:
        if not await self._stop(child):
            raise child.overrun()

    def _ordered(self) -> AbstractAsyncContextManager[object]:
        return self._order if self._in_group else nullcontext()

    async def _require_nursery(self) -> None:
        if self._nursery is None:
            # a caller that is being stopped together with the supervisor is cancelled, it has not failed
            await trio.lowlevel.checkpoint_if_cancelled()
            raise SupervisorNotRunning(f"supervisor {self.name} does not run")
