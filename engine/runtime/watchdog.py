"""Loop-lag watchdog: notices that the event loop was held up, and by what.

A task sleeps a short while and measures how much later it woke: that is how late every other task of
the process was. A thread watches the task's heartbeat meanwhile, because only from outside can the
stack of a blocking call be seen while it blocks.
"""

import math
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


class LagSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Lags in milliseconds since the start, the recent ones of the last minute or so, and stalls counted."""

    beats: int
    stalls: int
    last_ms: float
    max_ms: float
    recent_max_ms: float
    p50_ms: float
    p99_ms: float
    p999_ms: float


class Watchdog:
    """Measures wake-up lag every *interval_s*; a lag over *stall_s* is a stall: counted, logged, told.

    *on_stall* gets the lag in seconds and must not wait; the guardian decides what it means.
    *now_ns* is a monotonic clock, not trio's (a test's trio clock never lags).
    """

    def __init__(
        self,
        *,
        interval_s: float = 0.05,
        stall_s: float = 0.1,
        on_stall: Callable[[float], None] | None = None,
        watch_stacks: bool = True,
        now_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._interval_s = interval_s
        self._stall_ns = int(stall_s * _NS)
        self._on_stall = on_stall
        self._watch_stacks = watch_stacks
        self._now_ns = now_ns
        self._lags = Histogram()
        self._recent: deque[int] = deque(maxlen=max(1, math.ceil(60 / interval_s)))
        self._stalls = 0
        self._beat_ns = 0
        self._stack: str | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Measure until cancelled."""
        self._beat_ns = self._now_ns()
        is_over = threading.Event()
        if self._watch_stacks:
            watched = threading.get_ident()
            threading.Thread(target=self._watch, args=(watched, is_over), name="watchdog", daemon=True).start()
        task_status.started()
        try:
            while True:
                began = self._now_ns()
                await trio.sleep(self._interval_s)
                now = self._now_ns()
                self._beat_ns = now
                self._record(now - began - int(self._interval_s * _NS))
        finally:
            is_over.set()

    def snapshot(self) -> LagSnapshot:
        """Return what was measured so far."""
        return LagSnapshot(
            beats=self._lags.count,
            stalls=self._stalls,
            last_ms=self._recent[-1] / 1e6 if self._recent else 0.0,
            max_ms=self._lags.max_ns / 1e6,
            recent_max_ms=max(self._recent, default=0) / 1e6,
            p50_ms=self._lags.quantile_ns(0.5) / 1e6,
            p99_ms=self._lags.quantile_ns(0.99) / 1e6,
            p999_ms=self._lags.quantile_ns(0.999) / 1e6,
        )

    def _record(self, lag_ns: int) -> None:
        lag_ns = max(lag_ns, 0)
        self._lags.observe_ns(lag_ns)
        self._recent.append(lag_ns)
        stack, self._stack = self._stack, None
        if lag_ns <= self._stall_ns:
            return
        self._stalls += 1
        _log.warning("event_loop_stalled", lag_ms=round(lag_ns / 1e6, 1), stalls=self._stalls, stack=stack)
        if self._on_stall is not None:
            self._on_stall(lag_ns / _NS)

    def _watch(self, watched: int, is_over: threading.Event) -> None:
        """Keep the loop thread's stack while its heartbeat is overdue (runs in a thread of its own)."""
        overdue_ns = int(self._interval_s * _NS) + self._stall_ns
        while not is_over.wait(self._interval_s):
            if self._stack is None and self._now_ns() - self._beat_ns > overdue_ns:
                frame = sys._current_frames().get(watched)
                self._stack = None if frame is None else "".join(traceback.format_stack(frame, limit=12))
