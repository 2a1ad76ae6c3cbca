"""The words of supervision (OTP's) and one supervised child: how it is started, judged and stopped.

https://www.erlang.org/doc/system/sup_princ.html is the source of the words. What differs: restarts are
spaced by an exponential backoff with jitter, because brokers limit rates, and intensity is counted per
child, so that one account's executor cannot use up the patience meant for another's.
"""

import math
import random
from collections import deque
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any, Protocol

import msgspec
import trio

from engine.errors import EngineError
from engine.runtime.mailbox import Mailbox, MailboxStats


class Restart(StrEnum):
    """When a child is started again: always, only after an error, or never."""

    PERMANENT = "PERMANENT"
    TRANSIENT = "TRANSIENT"
    TEMPORARY = "TEMPORARY"


class OnEscalate(StrEnum):
    """What happens when a child fails too often: the supervisor fails too, or only the child's scope is blocked."""

    ESCALATE = "ESCALATE"
    TRIP = "TRIP"


class Status(StrEnum):
    """Where a child stands."""

    STARTING = "STARTING"
    RUNNING = "RUNNING"
    BACKOFF = "BACKOFF"
    STOPPED = "STOPPED"
    TRIPPED = "TRIPPED"


class Strategy(StrEnum):
    """Who is restarted with a crashed child: nobody, the ones started after it, or all."""

    ONE_FOR_ONE = "ONE_FOR_ONE"
    REST_FOR_ONE = "REST_FOR_ONE"
    ONE_FOR_ALL = "ONE_FOR_ALL"


class SupervisorNotRunning(EngineError):
    """Children can be added and restarted only while the supervisor runs."""


class Escalation(EngineError):
    """A child failed more often than its intensity allows; ``__cause__`` is its last error."""

    def __init__(self, message: str, *, child: str) -> None:
        super().__init__(message)
        self.child = child


class ChildReturned(EngineError):
    """A permanent child returned, which is a crash."""


class StartTimeout(EngineError):
    """A child did not call ``task_status.started()`` in time."""


class ShutdownOverrun(EngineError):
    """A child did not end by its shutdown deadline; no second instance may run beside it."""


class StartChild(Protocol):
    """A child's coroutine function: calls ``task_status.started()`` when ready, then runs until cancelled."""

    def __call__(self, *, task_status: trio.TaskStatus[Any]) -> Awaitable[object]:
        """Run the child."""


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds between a crash and the next start: ``initial * factor**n``, at most ``max``, spread by ±``jitter``."""

    initial: float = 0.1
    factor: float = 2.0
    max: float = 30.0
    jitter: float = 0.2

    def delay_s(self, crash_count: int, rng: random.Random) -> float:
        """Return the delay after the *crash_count*-th crash in a row (counted from 1)."""
        exponent = min(crash_count - 1, 64)
        spread = 1.0 + rng.uniform(-self.jitter, self.jitter)
        return min(self.max, self.initial * self.factor**exponent * spread)


class ChildSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How one child is run.

    ``start_s`` bounds its start, ``shutdown_s`` its stop: with ``stop`` it is first asked politely and
    given that long to return; it is cancelled then (or at once without ``stop``) and waited for as long
    again. ``max_restarts`` within ``window_s`` (seconds), ``backoff``: None means the supervisor's.
    ``on_trip`` blocks the child's own scope and must not wait; if it fails, the supervisor escalates.
    ``mailbox`` and ``tree`` are only shown in the snapshot. For a supervisor: `Supervisor.child_spec`.
    """

    name: str
    start: StartChild
    restart: Restart = Restart.PERMANENT
    start_s: float = 60.0
    shutdown_s: float = 5.0
    max_restarts: float | None = None
    window_s: float | None = None
    backoff: Backoff | None = None
    on_escalate: OnEscalate = OnEscalate.ESCALATE
    on_trip: Callable[[Escalation], None] | None = None
    stop: Callable[[], None] | None = None
    mailbox: Mailbox[Any] | None = None
    tree: Callable[[], "ChildState"] | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a child needs a name")
        if self.on_escalate is OnEscalate.TRIP and self.on_trip is None:
            raise ValueError(f"child {self.name}: on_escalate=TRIP needs an on_trip callback that blocks its scope")


class ChildState(msgspec.Struct, frozen=True, kw_only=True):
    """A child (or supervisor, then with children) at one instant; ``started_at`` is monotonic seconds."""

    name: str
    state: Status
    restarts: int
    last_error: str | None
    started_at: float | None
    mailbox: MailboxStats | None = None
    children: tuple["ChildState", ...] = ()


class EventKind(StrEnum):
    """What a supervisor reports."""

    STARTED = "STARTED"
    STOPPED = "STOPPED"
    CRASHED = "CRASHED"
    TRIPPED = "TRIPPED"
    ESCALATED = "ESCALATED"
    OVERRAN = "OVERRAN"


class SupervisorEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened to a child; ``delay_s`` is the backoff before the restart, if there is one."""

    kind: EventKind
    supervisor: str
    child: str
    restarts: int
    error: Exception | None = None
    delay_s: float | None = None


def leaf(error: Exception) -> Exception:
    """Return the only exception inside nested groups of one, else *error* itself."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def describe(error: Exception) -> str:
    """Return type and message of *error*, without its traceback."""
    return f"{type(error).__name__}: {error}"


class Child:
    """The record of one child, and its task status. Belongs to its supervisor."""

    __slots__ = (
        "_settled",
        "crashes",
        "dynamic",
        "ended",
        "has_started",
        "last_error",
        "on_started",
        "restarts",
        "scope",
        "spec",
        "start_error",
        "started_at",
        "status",
        "stopping",
    )

    def __init__(self, spec: ChildSpec, *, dynamic: bool) -> None:
        self.spec = spec
        self.dynamic = dynamic
        self.status = Status.STOPPED
        self.restarts = 0
        self.crashes: deque[float] = deque()
        self.last_error: str | None = None
        self.start_error: Exception | None = None
        self.started_at: float | None = None
        self.has_started = False
        self.stopping = False
        self.on_started: Callable[[Child], None] | None = None
        self.scope: trio.CancelScope | None = None
        self.ended: trio.Event | None = None
        self._settled: trio.Event | None = None

    @property
    def is_live(self) -> bool:
        """Whether a task of this child exists (running, starting or waiting to restart)."""
        return self.ended is not None

    def prepare(self, on_started: Callable[["Child"], None]) -> trio.Event:
        """Make ready for a new task; return the event set when its start has succeeded or failed."""
        self.on_started = on_started
        self.status = Status.STARTING
        self.stopping = False
        self.has_started = False
        self.start_error = None
        self.ended = trio.Event()
        self._settled = trio.Event()
        return self._settled

    def started(self, value: object = None) -> None:
        """Be the child's ``task_status``: it is ready (*value* is not used)."""
        if self.has_started:
            raise RuntimeError(f"child {self.spec.name} called task_status.started() twice")
        self._settle(is_running=True)
        if self.on_started is not None:
            self.on_started(self)

    def _settle(self, *, is_running: bool) -> None:
        self.has_started = True
        if is_running and not self.stopping:
            self.status = Status.RUNNING
            self.started_at = trio.current_time()
        if self.scope is not None:
            self.scope.deadline = math.inf
        if self._settled is not None:
            self._settled.set()

    def finish(self) -> None:
        """Say that the task is over."""
        self.scope = None
        if self._settled is not None:
            self._settled.set()
        if self.ended is not None:
            self.ended.set()
        self.ended = self._settled = None

    async def run_once(self) -> Exception | None:
        """Run the child once; return its error, or None if it ended rightly or was stopped.

        The scope is shielded: cancelling a supervisor stops its children in order, not all at once.
        Cancelled of other scopes, KeyboardInterrupt and SystemExit pass.
        """
        self.status = Status.STARTING
        self.has_started = False
        error: Exception | None = None
        has_returned = False
        with trio.CancelScope(shield=True, deadline=trio.current_time() + self.spec.start_s) as scope:
            self.scope = scope
            if self.stopping:
                return None
            try:
                await self.spec.start(task_status=self)
                has_returned = True
            except BaseExceptionGroup as group:
                _, rest = group.split(trio.Cancelled)
                if rest is None or not isinstance(rest, ExceptionGroup):
                    raise
                error = rest
            except Exception as exc:
                error = exc
        if error is None and not self.stopping:
            if not has_returned:
                error = StartTimeout(f"{self.spec.name} was not ready within {self.spec.start_s} s")
            elif self.spec.restart is Restart.PERMANENT:
                error = ChildReturned(f"{self.spec.name} returned, but is permanent")
            elif not self.has_started:
                self._settle(is_running=False)
        if error is not None:
            error = leaf(error)
            self.last_error = describe(error)
        return error

    async def pause(self, delay_s: float) -> None:
        """Wait out a backoff, cut short by a stop."""
        self.status = Status.BACKOFF
        with trio.CancelScope(shield=True) as scope:
            self.scope = scope
            if not self.stopping:
                await trio.sleep(delay_s)

    def cancel(self) -> None:
        """Ask the task to end, at once."""
        self.stopping = True
        if self.scope is not None:
            self.scope.cancel()

    async def stop(self) -> bool:
        """Stop the child within its deadlines; False if its task is still there after them."""
        ended = self.ended
        if ended is None:
            return True
        was_running = self.status is Status.RUNNING
        self.stopping = True
        if self.spec.stop is not None and was_running:
            try:
                self.spec.stop()
            except Exception as exc:
                # The siblings must be stopped too: a failed request is followed by the cancel below.
                self.last_error = describe(exc)
            else:
                with trio.move_on_after(self.spec.shutdown_s):
                    await ended.wait()
                    return True
        self.cancel()
        with trio.move_on_after(self.spec.shutdown_s):
            await ended.wait()
        return ended.is_set()

    def overrun(self) -> ShutdownOverrun:
        """Return the error that says this child is still there."""
        return ShutdownOverrun(f"{self.spec.name} did not end within {self.spec.shutdown_s} s")
