"""Loop-lag watchdog: notices that the event loop was held up, and by what.

Trio tells when the loop begins to wait and when it goes on: what lies between the two of a round is how long every
other task that could have run had to wait, and what a wait took longer than it was to take is how late its timers
were. So no round goes unmeasured, and an idle engine is not woken to be measured. A thread looks at the round under
way meanwhile, because only from outside can the stack of a blocking call be seen while it blocks.
"""

import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable

import msgspec
import structlog
import trio

from engine.observability.metrics import Histogram

_log = structlog.get_logger(__name__)
_NS = 1_000_000_000
_RECENT_NS = 60 * _NS


class LagSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Lags in milliseconds since the start, the recent ones of the last minute, and stalls counted."""

    beats: int
    stalls: int
    last_ms: float
    max_ms: float
    recent_max_ms: float
    p50_ms: float
    p99_ms: float
    p999_ms: float


class Watchdog(trio.abc.Instrument):
    """Measures every round of the loop and keeps the worst of each *interval_s*; a lag over *stall_s* is a stall.

    A stall is counted, logged and told: *on_stall* gets the lag in seconds and must not wait; the guardian decides
    what it means. *now_ns* is a monotonic clock, not trio's (a test's trio clock never lags).
    """

    def __init__(
        self,
        *,
        interval_s: float = 0.05,
        stall_s: float = 0.1,
        on_stall: Callable[[float], None] | None = None,
        watch_stacks: bool = True,
        now_ns: Callable[[], int] = time.perf_counter_ns,
        lags: Histogram | None = None,
    ) -> None:
        self._interval_ns = int(interval_s * _NS)
        self._stall_ns = int(stall_s * _NS)
        self._on_stall = on_stall
        self._watch_stacks = watch_stacks
        self._now_ns = now_ns
        self._lags = lags or Histogram()
        # when each was kept, and the lag
        self._recent: deque[tuple[int, int]] = deque()
        self._stalls = 0
        self._worst_ns = 0
        self._kept_ns = 0
        # when the round under way began (None while the loop waits), and when the wait began
        self._began_ns: int | None = None
        self._waits_since_ns = 0
        self._stack: str | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Measure until cancelled."""
        self._began_ns = self._kept_ns = self._waits_since_ns = self._now_ns()
        is_over = threading.Lock()
        with is_over:
            if self._watch_stacks:
                watched = threading.get_ident()
                threading.Thread(target=self._watch, args=(watched, is_over), name="watchdog", daemon=True).start()
            trio.lowlevel.add_instrument(self)
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                trio.lowlevel.remove_instrument(self)

    def before_io_wait(self, timeout: float) -> None:
        """The round is over: the loop waits until something happens, for *timeout* seconds at most."""
        self._waits_since_ns = self._now_ns()
        if self._began_ns is not None:
            self._measured(self._waits_since_ns - self._began_ns)
        self._began_ns = None

    def after_io_wait(self, timeout: float) -> None:
        """The loop goes on; what the last round and this wait have shown is told here, where tasks may be woken."""
        self._began_ns = now = self._now_ns()
        self._measured(now - self._waits_since_ns - int(timeout * _NS))
        if now - self._kept_ns >= self._interval_ns or self._worst_ns > self._stall_ns:
            self._keep(now)

    def snapshot(self) -> LagSnapshot:
        """Return what was measured so far."""
        self._forget_before(self._now_ns() - _RECENT_NS)
        return LagSnapshot(
            beats=self._lags.count,
            stalls=self._stalls,
            last_ms=self._recent[-1][1] / 1e6 if self._recent else 0.0,
            max_ms=self._lags.max_ns / 1e6,
            recent_max_ms=max((lag_ns for _, lag_ns in self._recent), default=0) / 1e6,
            p50_ms=self._lags.quantile_ns(0.5) / 1e6,
            p99_ms=self._lags.quantile_ns(0.99) / 1e6,
            p999_ms=self._lags.quantile_ns(0.999) / 1e6,
        )

    def _measured(self, lag_ns: int) -> None:
        if lag_ns > self._worst_ns:
            self._worst_ns = lag_ns

    def _keep(self, now: int) -> None:
        lag_ns, self._worst_ns, self._kept_ns = self._worst_ns, 0, now
        self._lags.observe_ns(lag_ns)
        self._forget_before(now - _RECENT_NS)
        self._recent.append((now, lag_ns))
        stack, self._stack = self._stack, None
        if lag_ns <= self._stall_ns:
            return
        self._stalls += 1
        _log.warning("event_loop_stalled", lag_ms=round(lag_ns / 1e6, 1), stalls=self._stalls, stack=stack)
        if self._on_stall is not None:
            self._on_stall(lag_ns / _NS)

    def _forget_before(self, at_ns: int) -> None:
        while self._recent and self._recent[0][0] < at_ns:
            self._recent.popleft()

    def _watch(self, watched: int, is_over: threading.Lock) -> None:
        """Keep the loop thread's stack while its round takes too long (runs in a thread of its own)."""
        while not is_over.acquire(timeout=self._stall_ns / _NS):
            began_ns = self._began_ns
            if self._stack is None and began_ns is not None and self._now_ns() - began_ns > self._stall_ns:
                frame = sys._current_frames().get(watched)
                self._stack = None if frame is None else "".join(traceback.format_stack(frame, limit=12))
        is_over.release()
