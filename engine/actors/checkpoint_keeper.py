"""The keeper of checkpoints: signs the end of the audit chain, outside of the database, while it grows.

Every minute in which something was written, at the change of the trading day and at the stop, a line goes into
``audit/checkpoints-DAY.jsonl``. How far the files have come goes into the audit log in return: at every start and
stop, at the day's close, and every ten minutes of work. The day's head goes to the log files and to *push* too, so that
it is known outside of this box. A disk that cannot be written is tried again, with one alert. No mailbox.
Restart: permanent.
"""

from collections.abc import Callable
from datetime import date
from typing import Any

import msgspec
import structlog
import trio

from engine.actors.audit_writer import AuditWriter
from engine.clock import Clock, trading_day
from engine.domain.audit import AuditDraft
from engine.domain.checkpoints import CLAIM_KEY, Kind
from engine.errors import MailboxFull
from engine.security.checkpoint_book import CheckpointBook, CheckpointsDamaged

_log = structlog.get_logger(__name__)

EVERY_S = 60.0
_FIRST_S = 2.0
_CLAIM_EVERY = 10


def _nobody(_text: str) -> None:
    return None


class CheckpointKeeper:
    """Keeps *book* in step with *ledger*."""

    def __init__(self, book: CheckpointBook, *, ledger: AuditWriter, clock: Clock) -> None:
        self._book = book
        self._ledger = ledger
        self._clock = clock
        self._is_open = False
        self._own = 0
        self._since_claim = 0
        self._failed = False
        self.alert: Callable[[str, str], None] = lambda subject, text: _log.error("alert", subject=subject, text=text)
        self.push: Callable[[str], None] = _nobody
        """Tells somebody outside of this box the head of a day."""

    async def open(self) -> None:
        """Find where the files end; what is wrong with them is an alert, and keeps no engine from starting."""
        try:
            await trio.to_thread.run_sync(self._book.open)
        except (OSError, CheckpointsDamaged) as error:
            self._fail(error)
        else:
            self._is_open, self._failed = True, False

    def is_ahead_of(self, seq: int) -> bool:
        """Whether more records were signed than the log had, which ends at *seq*: its database is an older one."""
        last = self._book.last if self._is_open else None
        return last is not None and last.size > seq

    @property
    def claim(self) -> dict[str, Any]:
        """What a record of the audit log says of the files; empty while they are not open."""
        return {CLAIM_KEY: msgspec.to_builtins(self._book.claim)} if self._is_open else {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write checkpoints until cancelled."""
        task_status.started()
        # what the start itself writes is on disk by then
        await trio.sleep(_FIRST_S)
        await self.look("start")
        while True:
            await trio.sleep(EVERY_S)
            await self.look("interval")

    async def look(self, kind: Kind) -> None:
        """Close the day if it is over, and write a checkpoint of *kind* if something was written since the last."""
        if not self._is_open:
            await self.open()
        head, now = self._ledger.head, self._clock.now()
        if head is None or not head.seq or not self._is_open:
            return
        last, today = self._book.last, trading_day(now)
        try:
            if last is not None and last.day != today.isoformat() and last.kind != "day":
                await self._close_day(head.seq, head.hash)
                last = self._book.last
            if last is None or (last.size < head.seq and head.seq != self._own):
                await self._append(kind, head.seq, head.hash)
        except OSError as error:
            self._fail(error)

    async def _append(self, kind: Kind, size: int, head: bytes) -> None:
        now = self._clock.now()
        await trio.to_thread.run_sync(
            lambda: self._book.append(kind, day=trading_day(now), at=now, size=size, head=head), abandon_on_cancel=False
        )
        self._failed = False
        self._since_claim += 1
        if self._since_claim >= _CLAIM_EVERY:
            self._record("AUDIT_CHECKPOINTS", {})
            # a log of nothing but this record needs no checkpoint
            self._own = size + 1

    async def _close_day(self, size: int, head: bytes) -> None:
        last, now = self._book.last, self._clock.now()
        assert last is not None  # noqa: S101 -- narrows the type
        day = last.day
        await trio.to_thread.run_sync(
            lambda: self._book.append("day", day=date.fromisoformat(day), at=now, size=size, head=head),
            abandon_on_cancel=False,
        )
        _log.info("audit.day_head", day=day, size=size, head=head.hex())
        self._record("AUDIT_DAY_CLOSED", {"day": day, "size": size, "head": head.hex()})
        self.push(f"audit log of {day}: {size} records, head {head.hex()}")

    def _record(self, action: str, content: dict[str, Any]) -> None:
        self._since_claim = 0
        draft = AuditDraft(
            at=self._clock.now(), actor="system", action=action, subject="audit", content={**content, **self.claim}
        )
        try:
            self._ledger.record(draft)
        except MailboxFull as error:
            _log.error("audit.claim_not_recorded", error=str(error))

    def _fail(self, error: Exception) -> None:
        _log.error("audit.checkpoint_not_written", error=str(error))
        if not self._failed:
            self.alert("audit", f"the audit log's checkpoints cannot be written: {error}")
        self._failed = True
