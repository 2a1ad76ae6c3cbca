"""The standing watch: tells a person of what is wrong with the engine itself and lasts.

A store that is away, a kill record that a store lacks, an order book that cannot be read: each is bridged by the
engine, and each is for a person when it does not end by itself. Reads memory once a second. No mailbox. Restart:
permanent.
"""

from collections.abc import Callable, Iterable, Sequence
from math import inf

import trio

from engine.actors.executor import Executor
from engine.actors.kill_lanes import Lane
from engine.domain.standing import Condition, Standing
from engine.runtime.beat import beat

_LOOK_S = 1.0
_STORE_PATIENCE_S = 3.0
_KILL_PATIENCE_S = 5.0
_BOOK_PATIENCE_S = 15.0
_LOGS_CALM_S = 60.0


class StandingWatch:
    """Looks at *stores_away* (names of stores), the *lanes* of the kill switch and every executor's order book."""

    def __init__(
        self,
        *,
        stores_away: Callable[[], Sequence[str]],
        lanes: Callable[[], Sequence[Lane]],
        executors: Callable[[], Iterable[Executor]],
        alert: Callable[[str, str], None],
        log_lines_lost: Callable[[], int] = lambda: 0,
    ) -> None:
        self._stores_away = stores_away
        self._lanes = lanes
        self._executors = executors
        self._alert = alert
        self._log_lines_lost = log_lines_lost
        self._lost, self._lost_at = 0, -inf
        self._standing = Standing()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look until cancelled."""
        task_status.started()
        while True:
            await beat(_LOOK_S)
            self.look(trio.current_time())

    def look(self, now_s: float) -> None:
        """Tell of what has lasted, and of what is over, at *now_s* (monotonic seconds)."""
        for subject, text in self._standing.look(now_s, dict(self._conditions(now_s))):
            self._alert(subject, text)

    def _conditions(self, now_s: float) -> Iterable[tuple[str, Condition]]:
        lost = self._log_lines_lost()
        if lost > self._lost:
            self._lost, self._lost_at = lost, now_s
        if now_s - self._lost_at < _LOGS_CALM_S:
            yield (
                "logs",
                Condition(
                    subject="logs",
                    text="LOGS_LOST: log lines cannot be written: look at the disk; trading goes on, the audit log too",
                    over="LOGS_WRITTEN: log lines are written again",
                    patience_s=0.0,
                ),
            )
        for store in self._stores_away():
            yield (
                f"store:{store}",
                Condition(
                    subject=store,
                    text=f"STORE_AWAY: the {store} does not answer; what was accepted is kept, new signals may get 503",
                    over=f"STORE_BACK: the {store} answers again",
                    patience_s=_STORE_PATIENCE_S,
                ),
            )
        for lane in self._lanes():
            if lane.waiting:
                yield (
                    f"kill:{lane.name}",
                    Condition(
                        subject=f"killswitch:{lane.name}",
                        text=f"KILL_NOT_STORED: the kill switch holds, but its {lane.name} copy cannot be written",
                        over=f"KILL_STORED: the {lane.name} copy of the kill switch is written",
                        patience_s=_KILL_PATIENCE_S,
                    ),
                )
        for executor in self._executors():
            for_s = executor.unreachable_s
            if for_s >= _BOOK_PATIENCE_S:
                yield (
                    f"book:{executor.account_id}",
                    Condition(
                        subject=f"account:{executor.account_id}",
                        text=f"BOOK_UNREADABLE: no order book could be read for {for_s:.0f} s; orders in doubt stay "
                        "UNKNOWN until it can",
                        over="BOOK_READABLE: its order book can be read again",
                        patience_s=0.0,
                    ),
                )
