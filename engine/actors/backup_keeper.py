"""Daily backups: made once a day at the time that was asked for, or as soon after it as the engine runs; old ones go.

The work is a child's, at low priority: nothing of it touches the path of orders. Each file is then taken off the box,
if that is wanted. What fails is told to a person and tried again, and it is told when the last backup is too old. A day
is done when its file is there, so no start makes it twice. Restart: permanent.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Protocol

import structlog
import trio

from engine.actors.audit_writer import AuditWriter
from engine.clock import IST, Clock
from engine.domain.audit import AuditDraft
from engine.errors import MailboxFull

_log = structlog.get_logger(__name__)

_LOOK_S = 20.0
_RETRY = timedelta(hours=1)
_TOLD_AGAIN = timedelta(days=1)
_STALE_DRAFT_S = 86_400
_PREFIX, _SUFFIX = "engine-", ".backup"


class Done(Protocol):
    """What came of a backup; ``why`` is empty for one that is whole."""

    @property
    def why(self) -> str:
        """Why there is none."""

    @property
    def size(self) -> int:
        """Bytes of the file."""

    @property
    def rows(self) -> int:
        """Rows of all tables."""


def due_name(now: datetime, at: time) -> str:
    """Return the name of the file of the latest day whose time *at* (IST) has come at *now* (aware)."""
    local = now.astimezone(IST)
    day = local.date() if local.time() >= at else local.date() - timedelta(days=1)
    return f"{_PREFIX}{day:%Y-%m-%d}{_SUFFIX}"


def outdated(names: Sequence[str], keep: int) -> list[str]:
    """Return those of the *names* of daily backups that are beyond the *keep* newest; other files are nobody's."""
    daily = sorted(name for name in names if name.startswith(_PREFIX) and name.endswith(_SUFFIX))
    return daily[:-keep]


class BackupKeeper:
    """Has a backup made in *folder* every day at *at* (IST) and keeps the *keep* newest; *make* makes one at a path.

    *take_off* takes a file off the box and returns why it could not (""), which *taken_off* remembers. *last* says when
    the last backup of all was made; one older than *old_after* is an alert.
    """

    def __init__(
        self,
        folder: Path,
        at: time,
        keep: int,
        *,
        make: Callable[[Path], Awaitable[Done]],
        made: Callable[[Path, datetime], None],
        last: Callable[[], datetime | None],
        old_after: timedelta,
        take_off: Callable[[Path], Awaitable[str]] | None = None,
        taken_off: Callable[[str], None] = lambda _fault: None,
        ledger: AuditWriter,
        clock: Clock,
        alert: Callable[[str, str], None],
    ) -> None:
        self._folder = folder
        self._at = at
        self._keep = keep
        self._make = make
        self._made = made
        self._last = last
        self._old_after = old_after
        self._take_off = take_off
        self._taken_off = taken_off
        self._ledger = ledger
        self._clock = clock
        self._alert = alert
        self._not_before: datetime | None = None
        self._to_take_off: Path | None = None
        self._take_off_at: datetime | None = None
        self._old_told_at: datetime | None = None
        self._began: datetime | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until cancelled; a backup that is being made is given up then."""
        task_status.started()
        while True:
            await self._look()
            await self._take_off_due()
            self._tell_old()
            await trio.sleep(_LOOK_S)

    async def _look(self) -> None:
        now = self._clock.now()
        if self._not_before is not None and now < self._not_before:
            return
        target = self._folder / due_name(now, self._at)
        try:
            if await trio.to_thread.run_sync(self._is_there, target):
                return
        except OSError as error:
            self._failed(target, f"{self._folder}: {error.strerror}", now)
            return
        _log.info("backup.begins", file=str(target))
        done = await self._make(target)
        if done.why:
            self._failed(target, done.why, now)
            return
        self._not_before = None
        self._record("BACKUP_MADE", target, {"size": done.size, "rows": done.rows})
        self._to_take_off, self._take_off_at = target, None
        try:
            await trio.to_thread.run_sync(self._tidy, target, self._clock.now())
        except OSError as error:
            self._alert(
                "backup", f"BACKUP_NOT_TIDIED: old backups in {self._folder} cannot be removed: {error.strerror}"
            )

    async def _take_off_due(self) -> None:
        target, now = self._to_take_off, self._clock.now()
        if target is None or self._take_off is None or (self._take_off_at is not None and now < self._take_off_at):
            return
        fault = await self._take_off(target)
        try:
            await trio.to_thread.run_sync(self._taken_off, fault)
        except OSError as error:
            _log.warning("backup.not_noted", error=str(error))
        if fault:
            self._take_off_at = now + _RETRY
            text = f"BACKUP_NOT_COPIED: {target.name} is on this box alone: {fault}; it is tried again in an hour"
            self._alert("backup", text)
            return
        self._to_take_off = None
        self._record("BACKUP_COPIED", target, {})

    def _tell_old(self) -> None:
        """Tell once a day that the last backup is too old; of none at all as long after the start."""
        now = self._clock.now()
        self._began = self._began or now
        known = self._last()
        if now - (known or self._began) <= self._old_after:
            return
        if self._old_told_at is not None and now - self._old_told_at < _TOLD_AGAIN:
            return
        self._old_told_at = now
        age = "none was ever made" if known is None else f"the last one is of {known:%Y-%m-%d %H:%M} UTC"
        self._alert("backup", f"BACKUP_OLD: {age}; see what BACKUP_FAILED says, or run `engine backup FILE`")

    def _is_there(self, target: Path) -> bool:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return target.exists()

    def _tidy(self, target: Path, now: datetime) -> None:
        self._made(target, now)
        for name in outdated([path.name for path in self._folder.iterdir()], self._keep):
            (self._folder / name).unlink(missing_ok=True)
        for draft in self._folder.glob(f".{_PREFIX}*.part"):
            # one that a power cut left behind
            if now.timestamp() - draft.stat().st_mtime > _STALE_DRAFT_S:
                draft.unlink(missing_ok=True)

    def _failed(self, target: Path, why: str, now: datetime) -> None:
        self._not_before = now + _RETRY
        self._alert("backup", f"BACKUP_FAILED: {target.name} could not be made: {why}; it is tried again in an hour")

    def _record(self, action: str, target: Path, content: dict[str, object]) -> None:
        draft = AuditDraft(
            at=self._clock.now(), actor="system", action=action, subject=f"backup:{target.name}", content=content
        )
        try:
            self._ledger.record(draft)
        except MailboxFull as error:
            _log.error("backup.not_recorded", file=str(target), error=str(error))
