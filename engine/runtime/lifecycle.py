"""The end of the engine: signals start a drain, the drain stops things in order, each step bounded.

First SIGTERM or SIGINT: drain. Second: cancel everything. A crash takes neither road; recovery is the
same start-up in all three cases.
"""

import signal
from collections.abc import Awaitable, Callable
from enum import StrEnum

import msgspec
import structlog
import trio

from engine.errors import ConfigError
from engine.runtime.child import describe, leaf
from engine.runtime.crashpoint import crashpoint

# The container's stop timeout must be longer than this.
MAX_DRAIN_S = 15.0

_log = structlog.get_logger(__name__)


class SignalWatcher:
    """Owns the process's stop signals. Start it first: `nursery.start(watcher.run)`."""

    def __init__(self, root_scope: trio.CancelScope) -> None:
        self.draining = trio.Event()
        self._root_scope = root_scope

    def request_drain(self, reason: str) -> None:
        """Start the drain, as a first signal would; later calls change nothing."""
        if not self.draining.is_set():
            _log.warning("drain_requested", reason=reason)
            self.draining.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Turn the first signal into `draining`; a signal while draining cancels the root scope."""
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
            task_status.started()
            async for number in received:
                name = signal.Signals(number).name
                if self.draining.is_set():
                    _log.warning("stop_forced", signal=name)
                    self._root_scope.cancel(reason=f"{name} while draining")
                    return
                self.request_drain(name)


class StepOutcome(StrEnum):
    """How a drain step ended; SKIPPED means that the total time was used up before it."""

    DONE = "DONE"
    OVERRAN = "OVERRAN"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"


class StepReport(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a drain: what came of it, seconds it took, and its error if it failed."""

    name: str
    outcome: StepOutcome
    took_s: float
    error: str | None = None


class DrainReport(msgspec.Struct, frozen=True, kw_only=True):
    """A finished drain, steps in the order in which they ran."""

    steps: tuple[StepReport, ...]
    took_s: float

    @property
    def is_clean(self) -> bool:
        """Whether every step was done in time."""
        return all(step.outcome is StepOutcome.DONE for step in self.steps)

    @property
    def overran(self) -> tuple[str, ...]:
        """Names of the steps that did not end in their time, or had none left."""
        late = (StepOutcome.OVERRAN, StepOutcome.SKIPPED)
        return tuple(step.name for step in self.steps if step.outcome in late)


class Drain:
    """Named stop steps, run in the order added, each within its own deadline and all within *total_s*."""

    def __init__(self, *, total_s: float = MAX_DRAIN_S) -> None:
        if not 0 < total_s <= MAX_DRAIN_S:
            raise ConfigError(f"drain total_s must be over 0 and at most {MAX_DRAIN_S} s, got {total_s}")
        self._total_s = total_s
        self._steps: list[tuple[str, Callable[[], Awaitable[object]], float]] = []

    def add(self, name: str, step: Callable[[], Awaitable[object]], deadline_s: float) -> None:
        """Add a step: *step* is cancelled *deadline_s* seconds after it began."""
        self._steps.append((name, step, deadline_s))

    async def run(self, *, shield: bool = False) -> DrainReport:
        """Run the steps. One that fails or overruns is reported, and the next one runs.

        With *shield* the steps run although the surrounding scope is cancelled (bounded all the same);
        without, a second signal cuts the drain short.
        """
        began = trio.current_time()
        reports: list[StepReport] = []
        for name, step, deadline_s in self._steps:
            left_s = began + self._total_s - trio.current_time()
            crashpoint("T.before_step")
            report = await _run_step(name, step, min(deadline_s, left_s), shield=shield)
            log = _log.info if report.outcome is StepOutcome.DONE else _log.error
            log("drain_step", step=name, outcome=report.outcome, took_s=round(report.took_s, 3), error=report.error)
            reports.append(report)
            crashpoint("T.after_step")
        return DrainReport(steps=tuple(reports), took_s=trio.current_time() - began)


async def _run_step(name: str, step: Callable[[], Awaitable[object]], limit_s: float, *, shield: bool) -> StepReport:
    if limit_s <= 0:
        return StepReport(name=name, outcome=StepOutcome.SKIPPED, took_s=0.0)
    began = trio.current_time()
    error: Exception | None = None
    with trio.move_on_after(limit_s, shield=shield) as scope:
        try:
            await step()
        except BaseExceptionGroup as group:
            _, rest = group.split(trio.Cancelled)
            if not isinstance(rest, ExceptionGroup):
                raise
            error = rest
        except Exception as exc:
            error = exc
    took_s = trio.current_time() - began
    if error is not None:
        return StepReport(name=name, outcome=StepOutcome.FAILED, took_s=took_s, error=describe(leaf(error)))
    outcome = StepOutcome.OVERRAN if scope.cancelled_caught else StepOutcome.DONE
    return StepReport(name=name, outcome=outcome, took_s=took_s)
