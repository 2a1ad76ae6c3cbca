"""Source watch: notices signals that never came, and keeps what was heard of every source.

Owns what was heard of each source (single writer). Told by the HTTP handlers, in memory only: nothing here makes a
signal wait for a store. A gap in the numbers and a silence in the market's hours alert a person, once each; both are
kept in the ledger within a second and taken over at the next start. It also ends the old keys of a rotation when their
grace is over. No mailbox. Restart: permanent; its memory outlives a restart.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
import structlog
import trio

from engine.actors.audit_writer import AuditWriter
from engine.actors.ledger_entry import LedgerEntry
from engine.clock import Clock
from engine.domain import source_watch as rules
from engine.domain.audit import AuditDraft
from engine.domain.directory import Directory, Source
from engine.domain.source_watch import Arrival, Heard
from engine.errors import EngineError, MailboxFull, StoreUnavailable
from engine.runtime.beat import beat
from engine.store.source_watch import write_heard

_log = structlog.get_logger(__name__)

_TICK_S = 1.0
_MAX_TOLD = 5_000
_SETTLE_S = 2.0
"""Signals that are sent at once overtake each other on the way: a gap is told when it is still there after that."""
_PAUSE_S = 60.0
"""A sender whose numbers mean something else must not drown everything that a person should read."""
_NOTHING = Heard()


class SourceWatch:
    """Keeps what was heard; *opened_at* says since when the market is open (None: closed), *end_old_keys* makes a
    source forget the keys of before its rotation, *load* reads what an earlier life heard."""

    def __init__(
        self,
        *,
        directory: Directory,
        ledger: AuditWriter,
        clock: Clock,
        load: Callable[[], Awaitable[dict[UUID, Heard]]],
        opened_at: Callable[[datetime], datetime | None],
        end_old_keys: Callable[[Source], Awaitable[None]],
        alert: Callable[[str, str], None],
        suspect: Callable[[], str | None],
    ) -> None:
        self._directory = directory
        self._ledger = ledger
        self._clock = clock
        self._load = load
        self._opened_at = opened_at
        self._end_old_keys = end_old_keys
        self._alert = alert
        self._suspect = suspect
        self._heard: dict[UUID, Heard] = {}
        self._dirty: set[UUID] = set()
        # what came before the ledger's memory was there
        self._early: list[Callable[[], None]] | None = []
        self._watched_since: dict[UUID, tuple[int, datetime]] = {}
        self._untold: dict[UUID, datetime] = {}
        self._told_at: dict[UUID, datetime] = {}
        self._told_repeat: dict[UUID, datetime] = {}
        self._told_rows: OrderedDict[tuple[UUID, str], None] = OrderedDict()

    # the public face

    def heard_of(self, source_id: UUID) -> Heard:
        """Return what was heard of a source."""
        return self._heard.get(source_id, _NOTHING)

    def signals_came(self, source: Source, numbers: Sequence[int], *, repeat: bool) -> None:
        """Take note of a delivery with these sequence *numbers*; a *repeat* of one may say them again."""
        at = self._clock.now()
        self._now_or_later(lambda: self._take_signals(source, numbers, at, repeat=repeat))

    def beat(self, source: Source, last_sequence: int | None = None) -> None:
        """Take note of a sign of life, with the number of the last signal sent if the sender says it."""
        at = self._clock.now()
        self._now_or_later(lambda: self._take_beat(source, last_sequence, at))

    def rows_lost(self, source: Source, keys: Sequence[str]) -> None:
        """Tell a person that rows of a sheet with these *keys* never arrived, each once."""
        news = [key for key in keys if (source.id, key) not in self._told_rows]
        if not news:
            return
        for key in news:
            self._told_rows[source.id, key] = None
        while len(self._told_rows) > _MAX_TOLD:
            self._told_rows.popitem(last=False)
        named = ", ".join(news[:5]) + (" and more" if len(news) > 5 else "")
        text = f"SHEET_ROWS_MISSING: {len(news)} rows of {source.name} never arrived: {named}; the sheet shows them"
        self._alert(f"source:{source.id}", text)

    def begin_again(self, source: Source) -> None:
        """Forget the numbers of a source, whose sender counts from the start again."""
        self._now_or_later(
            lambda: self._keep(source.id, msgspec.structs.replace(self._of(source), last_sequence=None, missing=()))
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until cancelled."""
        task_status.started()
        if self._early is not None:
            self._heard |= await self._restored()
            early, self._early = self._early, None
            for note in early:
                note()
        while True:
            await self._look()
            self._write()
            await beat(_TICK_S)

    # inside

    def _now_or_later(self, note: Callable[[], None]) -> None:
        if self._early is None:
            note()
        else:
            self._early.append(note)

    async def _restored(self) -> dict[UUID, Heard]:
        while True:
            try:
                return await self._load()
            except StoreUnavailable as error:
                _log.warning("source_watch.waits_for_ledger", error=str(error))
                await beat(_TICK_S)

    def _of(self, source: Source) -> Heard:
        return self._heard.get(source.id, _NOTHING)

    def _keep(self, source_id: UUID, heard: Heard) -> None:
        self._heard[source_id] = heard
        self._dirty.add(source_id)

    def _take_signals(self, source: Source, numbers: Sequence[int], at: datetime, *, repeat: bool) -> None:
        heard = self._heard_again(source, at)
        heard = msgspec.structs.replace(heard, heard_at=at, last_signal_at=heard.last_signal_at if repeat else at)
        for number in numbers:
            heard, arrival, _gap = rules.arrive(heard, number)
            if arrival is Arrival.AFTER_GAP:
                self._untold.setdefault(source.id, at)
            elif arrival is Arrival.REPEAT and not repeat:
                self._tell_repeat(source, number, heard)
        self._keep(source.id, heard)

    def _tell_repeat(self, source: Source, number: int, heard: Heard) -> None:
        now, told_at = self._clock.now(), self._told_repeat.get(source.id)
        if told_at is not None and 0 <= (now - told_at).total_seconds() < _PAUSE_S:
            return
        self._told_repeat[source.id] = now
        text = (
            f"SEQUENCE_REPEATED: {source.name} sent the number {number} again, the last one was {heard.last_sequence};"
            ' PATCH the source with {"resetSequence": true} if it counts anew'
        )
        self._alert(f"source:{source.id}", text)

    def _take_beat(self, source: Source, last_sequence: int | None, at: datetime) -> None:
        heard = msgspec.structs.replace(self._heard_again(source, at), heard_at=at)
        if last_sequence is not None:
            heard, gap = rules.announced(heard, last_sequence)
            if gap is not None:
                self._untold.setdefault(source.id, at)
        self._keep(source.id, heard)

    def _heard_again(self, source: Source, at: datetime) -> Heard:
        heard = self._of(source)
        if heard.silent_since is None:
            return heard
        self._record("SOURCE_HEARD_AGAIN", source, {"silentSince": heard.silent_since, "at": at})
        return msgspec.structs.replace(heard, silent_since=None)

    def _tell_gaps(self, source: Source, now: datetime) -> None:
        """Tell what is missing still, once it had time to come and a person had time to read the last word."""
        since, told_at = self._untold[source.id], self._told_at.get(source.id)
        if (now - since).total_seconds() < _SETTLE_S:
            return
        if told_at is not None and 0 <= (now - told_at).total_seconds() < _PAUSE_S:
            return
        del self._untold[source.id]
        missing = self._of(source).missing
        if not missing:
            return
        self._told_at[source.id] = now
        count = rules.missing_count(self._of(source))
        text = f"SIGNALS_MISSING: {count} signals of {source.name} never came: {rules.shown(missing)}"
        self._alert(f"source:{source.id}", text)

    async def _look(self) -> None:
        now = self._clock.now()
        if self._suspect() is not None:
            return  # by a clock that may be wrong nobody is silent and nothing is over
        opened_at = self._opened_at(now)
        for source in list(self._directory.sources.values()):
            if source.id in self._untold:
                self._tell_gaps(source, now)
            if source.expect_every_s is None or not source.enabled:
                self._unwatch(source)
            else:
                self._look_at(source, source.expect_every_s, opened_at, now)
            if source.old is not None and source.old.until <= now:
                await self._end(source)

    def _unwatch(self, source: Source) -> None:
        self._watched_since.pop(source.id, None)
        heard = self._of(source)
        if heard.silent_since is not None:
            self._keep(source.id, msgspec.structs.replace(heard, silent_since=None))

    def _look_at(self, source: Source, every_s: int, opened_at: datetime | None, now: datetime) -> None:
        wish, since = self._watched_since.setdefault(source.id, (every_s, now))
        if wish != every_s:
            wish, since = self._watched_since[source.id] = (every_s, now)
        heard = self._of(source)
        silent = rules.silent_since(heard, every_s=every_s, watched_since=since, opened_at=opened_at, now=now)
        if silent is None or heard.silent_since is not None:
            return
        self._keep(source.id, msgspec.structs.replace(heard, silent_since=silent))
        text = (
            f"SOURCE_SILENT: nothing came from {source.name} since {silent:%Y-%m-%d %H:%M:%S} UTC; it should be heard"
            f" every {every_s} s"
        )
        self._alert(f"source:{source.id}", text)

    async def _end(self, source: Source) -> None:
        try:
            await self._end_old_keys(source)
        except EngineError as error:
            # they are refused already; the sealed record is taken away at a later look
            _log.warning("source_watch.old_keys_stay", source=str(source.id), error=str(error))

    def _record(self, action: str, source: Source, content: dict[str, object]) -> None:
        draft = AuditDraft(
            at=self._clock.now(), actor="system", action=action, subject=f"source:{source.id}", content=content
        )
        try:
            self._ledger.record(draft)
        except MailboxFull as error:
            _log.error("source_watch.not_recorded", source=str(source.id), error=str(error))

    def _write(self) -> None:
        now = self._clock.now()
        known = [source_id for source_id in self._dirty if source_id in self._directory.sources]
        if not known:
            self._dirty.clear()
            return
        try:
            self._ledger.append(
                LedgerEntry(writes=(write_heard({each: self._heard[each] for each in known}, at=now),), can_wait=True)
            )
        except MailboxFull:
            return  # the next look tries again
        self._dirty.clear()
