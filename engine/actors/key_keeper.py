"""The keeper of keys: everybody has a data key, uses are counted ahead, and a change of keys is taken up while running.

Once a second it looks for people without a data key of their own and for keys that are low on counted uses; what was
sealed under the deployment's key for want of a person's own is then sealed anew. `engine keys rotate` speaks to it over
the control socket: "keys-renewed" brings the next key-encryption key in and has everything that this engine seals
sealed under the new data keys before it answers; "keys-retired" lets the old keys go. No mailbox. Restart: permanent.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog
import trio

from engine.actors.audit_writer import AuditWriter
from engine.actors.creds_keeper import CredsKeeper
from engine.clock import Clock
from engine.domain.audit import AuditDraft
from engine.errors import EngineError, MailboxFull, StoreUnavailable
from engine.runtime.beat import beat
from engine.security.envelope import KeyRing, Place
from engine.security.keys import NEXT_MASTER, Keys, kek_of_file
from engine.security.root_key import wrapped_under, write_root
from engine.security.wrapping import Kek
from engine.store import data_keys, key_rotation
from engine.store.data_keys import BLOCK, Settled
from engine.store.database import Database

_log = structlog.get_logger(__name__)

_LOOK_S = 1.0
_UNIT_S = 10.0
_BARRIER_S = 10.0


class KeyKeeper:
    """Keeps *ring*; *is_kept* is whether the master key is a file of the data directory, not of the configuration."""

    def __init__(
        self,
        ring: KeyRing,
        keys: Keys,
        *,
        database: Database,
        data_dir: Path,
        users: Callable[[], Iterable[UUID]],
        is_kept: bool,
    ) -> None:
        self._ring = ring
        self._root = keys.master
        self._database = database
        self._folder = data_dir / "keys"
        self._users = users
        self._is_kept = is_kept
        self._ledger: AuditWriter | None = None
        self._creds: CredsKeeper | None = None
        self._resealed = False
        self._settling = trio.Lock()

    def joins(self, ledger: AuditWriter, creds: CredsKeeper | None, *, clock: Clock) -> None:
        """Take up the others' work: what does not open is on the record, a change of keys reaches creds.enc."""
        self._ledger, self._creds = ledger, creds

        def on_record(place: Place) -> None:
            draft = AuditDraft(
                at=clock.now(),
                actor="system",
                action="SECRET_UNREADABLE",
                subject=f"{place.table}:{place.row_id}",
                content={"column": place.column},
            )
            try:
                ledger.record(draft)
            except MailboxFull as error:
                _log.error("keys.failure_not_recorded", error=str(error))

        self._ring.on_failure = on_record

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look until cancelled; while the store is away what is held stays in use."""
        task_status.started()
        while True:
            try:
                await self.look()
            except StoreUnavailable as error:
                _log.debug("keys.not_looked_after", error=str(error))
                self._resealed = False
            except EngineError as error:
                _log.error("keys.not_looked_after", error=str(error))
            await beat(_LOOK_S)

    async def look(self) -> None:
        """Make what is missing. Raises StoreUnavailable, StartupError for keys that do not fit any more."""
        if self._ring.users_without_key(self._users()) or self._ring.is_low_on_uses(BLOCK // 2):
            await self.settle()
        if not self._resealed:
            await self._reseal()

    async def settle(self) -> None:
        """Give everybody a data key and hold them all, with uses. Raises as `look`."""
        # one at a time: an older answer must not come over a newer one
        async with self._settling:
            users = list(self._users())
            settled: Settled = await self._database.run(
                lambda c: data_keys.settle(c, self._ring, self._root, users), timeout_s=_UNIT_S, shield=True
            )
            settled.give_to(self._ring)
            self._resealed = False
        await trio.to_thread.run_sync(self._keep_root)

    def _keep_root(self) -> None:
        keks = self._ring.keks
        if not {kek.id for kek in keks} <= wrapped_under(self._folder):
            write_root(self._folder, self._root, keks)

    async def _reseal(self) -> None:
        self._resealed = True  # also when a record does not open: it is told once, not every second
        while await self._database.run(lambda c: key_rotation.reseal(c, self._ring), timeout_s=_UNIT_S, shield=True):
            await trio.lowlevel.checkpoint()

    async def obey(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what `engine keys` asks for; the answer says which keys are held, never a key. Raises EngineError."""
        match request.get("command"):
            case "keys-renewed":
                await self._renew(request.get("file"))
            case "keys-retired":
                self._ring.keep_only_newest()
                await self.settle()
                await self._rewrite_creds(lambda ring: ring.keep_only_newest())
        return {
            "keks": [kek.id.hex() for kek in self._ring.keks],
            "dataKeys": sorted(key.hex() for key in self._ring.data_keys),
        }

    async def _renew(self, file: object) -> None:
        kek = await trio.to_thread.run_sync(self._next, file)
        self._ring.add(kek)
        await self.settle()
        # what was sealed before this moment is on its way to disk: only then may the old keys be told apart
        if self._ledger is not None and not await self._ledger.barrier(timeout_s=_BARRIER_S):
            raise EngineError("the ledger is behind: what it has in hand is under the old keys; try again")
        await self._rewrite_creds(lambda ring: ring.add(kek))

    def _next(self, file: object) -> Kek:
        if self._is_kept:
            return kek_of_file(self._folder / NEXT_MASTER)
        if file is None:  # the configuration that this engine was started with names it already
            return self._ring.keks[0]
        if not Path(str(file)).is_absolute():
            raise EngineError("say where the new key is: an absolute path")
        return kek_of_file(Path(str(file)))

    async def _rewrite_creds(self, change: Callable[[KeyRing], None]) -> None:
        if self._creds is not None:
            await self._creds.change_keys(change)
