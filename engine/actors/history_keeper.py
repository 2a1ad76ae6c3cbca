"""The history keeper: makes the parts that history is written into ahead of time, and drops the oldest.

Owns nothing: PostgreSQL has the parts. Looks soon after a start, which waits for nothing here, and every six hours, so
that a month and the audit log's next part are there long before they are needed; without them rows are caught all the
same (migration 0020). What is dropped are whole months of timelines and risk verdicts, never intents, orders, fills or
the audit log. What fails is logged and tried again. Restart: permanent.
"""

from collections.abc import Awaitable, Callable
from datetime import date

import structlog
import trio

from engine.actors.audit_writer import AuditWriter
from engine.clock import Clock, trading_day
from engine.domain.audit import AuditDraft
from engine.errors import MailboxFull, StoreUnavailable

_log = structlog.get_logger(__name__)

_FIRST_S = 20.0
_LOOK_S = 6 * 3600.0
_RETRY_S = 300.0


def kept_since(today: date, months: int) -> date:
    """Return the first day of the months that are kept: *months* whole ones before that of *today*."""
    number = today.year * 12 + today.month - 1 - months
    return date(number // 12, number % 12 + 1, 1)


class HistoryKeeper:
    """Keeps *months* of history; *keep* makes the parts ahead, *drop* drops the months that ended before a day."""

    def __init__(
        self,
        months: int,
        *,
        keep: Callable[[], Awaitable[int]],
        drop: Callable[[date], Awaitable[list[str]]],
        ledger: AuditWriter,
        clock: Clock,
    ) -> None:
        self._months = months
        self._keep = keep
        self._drop = drop
        self._ledger = ledger
        self._clock = clock

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until cancelled."""
        task_status.started()
        await trio.sleep(_FIRST_S)
        while True:
            done = await self.look()
            await trio.sleep(_LOOK_S if done else _RETRY_S)

    async def look(self) -> bool:
        """Make and drop what is due; False when the store did not let it."""
        now = self._clock.now()
        before = kept_since(trading_day(now), self._months)
        try:
            made = await self._keep()
            dropped = await self._drop(before)
        except StoreUnavailable as error:
            _log.warning("history.not_kept", error=str(error))
            return False
        if made:
            _log.info("history.parts_made", count=made)
        if dropped:
            _log.info("history.dropped", parts=dropped)
            draft = AuditDraft(
                at=now,
                actor="system",
                action="HISTORY_DROPPED",
                subject="engine",
                content={"before": before.isoformat(), "parts": dropped},
            )
            try:
                self._ledger.record(draft)
            except MailboxFull as error:
                _log.error("history.not_recorded", error=str(error))
        return True
