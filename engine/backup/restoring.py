"""Restoring a backup into an empty place, so that the engine may start on it and nothing is sent twice.

Everything is checked before anything is touched. Then, in this order: the journal, which says nothing by itself; the
kill switch's file, with the global switch on; the tables in one transaction, verified and made safe in it
(`engine.store.restored`). So at no instant does an engine find rows that it may trade on. What fails until then leaves
the place as empty as it was.
"""

import os
import shutil
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import trio

from engine.actors.killswitch_file import KillFile, KillFileDamaged
from engine.backup import parts
from engine.backup.checking import Checked, check_schema, opened
from engine.backup.making import TIMEOUT_S, kill_store_name
from engine.backup.parts import Manifest
from engine.clock import Clock
from engine.domain.enums import KillState
from engine.domain.killswitch import GLOBAL, KillRecord, merge, next_version, tripped_at, unreadable
from engine.errors import JournalUnavailable, StartupError
from engine.journal import keys as journal_keys
from engine.journal.store import JournalStore
from engine.runtime.durable import sync_folder
from engine.security.kill_seal import KillSeal
from engine.security.sealed_file import FileKey, WrongKey, master_key_id
from engine.store.database import Database
from engine.store.dump import TableRows, load, occupied
from engine.store.ledger import Head
from engine.store.migrate import applied, migrate
from engine.store.restored import Restored, held_kill, make_safe

REASON = "RESTORED"
"""How the reason of the block begins that a restored engine starts with."""
# what may stand in a data directory that counts as empty: the keys that open the backup, the lock, and logs
_MAY_STAND = frozenset({"keys", "engine.lock", "logs"})

Say = Callable[[str], None]


def check_place(data_dir: Path) -> None:
    """Raise StartupError unless *data_dir* is missing, or empty but for its keys."""
    found = sorted(path.name for path in data_dir.iterdir()) if data_dir.is_dir() else []
    others = [name for name in found if name not in _MAY_STAND]
    if others:
        raise StartupError(
            f"{data_dir} is not empty ({', '.join(others[:3])}): a backup goes into an empty data directory only; "
            "use --data-dir DIR with a new one"
        )


def check_key(checked: Checked, master: bytes) -> None:
    """Raise WrongKey unless *master* is the key of the engine that made the backup."""
    wanted = checked.manifest.about.master_key
    if master_key_id(master) != wanted:
        raise WrongKey(
            f"the secrets in this backup are sealed under the master key {wanted}, and the one here is "
            f"{master_key_id(master)}: put back the keys of the engine that made it ([security] master_key, or keys/ "
            "in the data directory)"
        )


def put_keys(data_dir: Path, files: Mapping[str, bytes]) -> None:
    """Write key files (by name) that are not there yet, for their owner alone. Raises StartupError, OSError."""
    folder = data_dir / "keys"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, content in files.items():
        if name != os.path.basename(name) or name.startswith("."):
            raise StartupError(f"the backup names a key file {name!r} that no engine keeps")
        try:
            descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            raise StartupError(f"{folder / name} is there already: move it away") from None
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    sync_folder(folder)


def empty_again(data_dir: Path, before: Sequence[str]) -> None:
    """Remove from *data_dir* what was not there *before*."""
    for path in data_dir.iterdir():
        if path.name in before or path.name == "engine.lock":
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


class Restorer:
    """Puts the backup *file*, which has been checked, into a data directory and two empty stores."""

    def __init__(
        self,
        file: Path,
        key: FileKey,
        checked: Checked,
        *,
        data_dir: Path,
        root: bytes,
        prove: Callable[[Database], Awaitable[None]],
        clock: Clock,
        say: Say,
        progress: Callable[[int], None] = lambda _read: None,
    ) -> None:
        """*progress* hears how many bytes of the file are in.

        *root* is what the kill switch's seal is derived from; *prove* opens every stored secret, or raises.
        """
        self._file = file
        self._key = key
        self._manifest: Manifest = checked.manifest
        self._data_dir = data_dir
        self._root = root
        self._prove = prove
        self._seal = KillSeal(root)
        self._clock = clock
        self._say = say
        self._progress = progress
        self._entries: list[tuple[str, bytes]] = []
        self._kills: list[KillRecord] = []
        self._written: set[int] = set()
        self._kill: KillRecord

    async def run(self, database_url: str, redis_url: str) -> Restored:
        """Restore. Raises StartupError, StoreUnavailable, JournalUnavailable, BackupDamaged."""
        pending = check_schema(self._manifest)
        await self._check_empty(database_url, redis_url)
        version = self._manifest.schema_version
        await migrate(database_url, up_to=version)
        # before the rows are there to stay: a journal alone is nothing that an engine would act on
        took_journal = await self._load_journal(redis_url)
        try:
            with opened(self._file, self._key, self._progress) as reader:
                restored = await self._load(database_url, iter(reader))
        except BaseException:
            if took_journal:
                with trio.CancelScope(shield=True):  # bounded by the store's own deadline
                    await JournalStore(redis_url).unload(str(self._manifest.epoch))
            raise
        if reader.manifest != self._manifest:
            raise StartupError("the backup was changed while it was read: empty the place and check the file again")
        self._say(f"{self._manifest.rows} rows in {len(self._tables)} tables, audit log whole")
        await self._copy_kill(redis_url)
        if pending:
            done = await migrate(database_url)
            self._say(f"schema brought from {version} to {version + len(done)}")
        await self._dry_start(database_url)
        return restored

    @property
    def _tables(self) -> list[parts.PartInfo]:
        return [part for part in self._manifest.parts if part.name.startswith(parts.TABLE)]

    async def _check_empty(self, database_url: str, redis_url: str) -> None:
        stands = await occupied(database_url)
        if stands is not None:
            raise StartupError(f"the database is not empty ({stands}): a backup is restored into an empty one only")
        have = len(await applied(database_url))
        if have > self._manifest.schema_version:
            raise StartupError(
                f"the empty database has schema {have} already, the backup is of {self._manifest.schema_version}: "
                "make a new database"
            )
        found = await JournalStore(redis_url).epoch()
        if found is not None and journal_keys.read_name(found)[0] != self._manifest.epoch:
            raise StartupError("the journal's server is in use by another engine: name an empty one in [redis] url")

    async def _load(self, database_url: str, reader: Iterator[parts.Part]) -> Restored:
        made: list[Restored] = []
        now = self._clock.now()

        async def finish(connection: Any) -> None:
            held = await held_kill(connection, GLOBAL)
            self._kill = self._blocked(held, now)
            # on disk before the rows are: no engine may find them without it
            self._append(self._kill)
            head = Head(seq=self._manifest.audit_records, hash=bytes.fromhex(self._manifest.audit_head))
            told = {
                "backupMadeAt": self._manifest.about.made_at,
                "schema": self._manifest.schema_version,
                "engine": self._manifest.about.engine,
                "journalEntries": len(self._entries),
            }
            made.append(await make_safe(connection, kill=self._kill, head=head, at=now, told=told))

        counts = await load(database_url, self._take(reader), finish=finish, timeout_s=TIMEOUT_S)
        wanted = {part.name.removeprefix(parts.TABLE): part.rows for part in self._tables}
        if counts != wanted:
            raise StartupError("the database took other rows than the backup has: use another server")
        return made[0]

    def _take(self, reader: Iterator[parts.Part]) -> Iterator[TableRows]:
        """Put away every other part as it comes, and hand on the tables."""
        for part in reader:
            if part.name.startswith(parts.TABLE):
                yield TableRows(part.name.removeprefix(parts.TABLE), part.columns, part.content)
            elif part.name == parts.KILLS:
                self._kills = msgspec.json.decode(part.bytes(), type=list[KillRecord])
                self._block_file()
            elif part.name.startswith(parts.STATE):
                self._put("state", part.name.removeprefix(parts.STATE), part.content)
                self._block_file()
            elif part.name.startswith(parts.AUDIT):
                self._put("audit", part.name.removeprefix(parts.AUDIT), part.content)
            elif part.name.startswith(parts.EXCHANGE):
                self._put("exchange", part.name.removeprefix(parts.EXCHANGE), part.content)
            elif part.name == parts.CONFIG:
                self._put("restored", "config.json", part.content)

    # the kill switch

    @property
    def _kill_file(self) -> KillFile:
        return KillFile(self._data_dir / "state" / "kill.wal", believes=self._seal.believes)

    def _block_file(self) -> None:
        """Have the file say that nothing is sent, before any row is there; and what only the journal's server knew."""
        self._append(self._blocked(None, self._clock.now()))
        for record in self._kills:
            if record.enabled:
                self._append(record)

    def _blocked(self, held: KillRecord | None, now: datetime) -> KillRecord:
        """Return the record by which nothing is sent until an ADMIN releases it; one that is on keeps its mode."""
        try:
            on_file = list(self._kill_file.read().values())
        except KillFileDamaged:
            on_file = [unreadable(now), *self._kill_file.read_undamaged().values()]
        copies = [record for record in (*on_file, *self._kills, *([held] if held else [])) if record.scope == GLOBAL]
        # what this restore itself wrote says nothing of how the switch was left
        known = merge(record for record in copies if record.version not in self._written)
        before = known.get(GLOBAL)
        text = (
            f"{REASON}: from the backup of {self._manifest.about.made_at:%Y-%m-%d %H:%M:%S} UTC; compare every account "
        )
        text += "with its broker, then disable the switch"
        record = KillRecord(
            scope=GLOBAL,
            version=max([next_version(before, now), *(version + 1 for version in self._written)]),
            state=before.state if before is not None and before.enabled else KillState.BLOCKED,
            reason=f"{text}. It was on before: {before.reason}" if before is not None and before.enabled else text,
            actor="cli",
            at=now,
            tripped_at=tripped_at(before, now),
            alone=True,
        )
        if before is not None and before.enabled:
            record = msgspec.structs.replace(record, mode=before.mode, day=before.day)
        self._written.add(record.version)
        return self._seal.sign(record)

    def _append(self, record: KillRecord) -> None:
        self._kill_file.append(record)

    # files

    def _put(self, folder: str, name: str, content: Iterator[bytes]) -> None:
        if name != os.path.basename(name) or name.startswith("."):
            raise StartupError(f"the backup names a file {name!r} that no engine keeps")
        place = self._data_dir / folder
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(place / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            for piece in content:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(place)

    # the journal, and what a start would find

    async def _copy_kill(self, redis_url: str) -> None:
        try:
            await JournalStore(redis_url, deployment=kill_store_name(self._root)).put_kill(self._kill)
        except JournalUnavailable as error:
            # the start copies it from the file and the ledger
            self._say(f"the journal's server lacks the kill switch's third copy: {error}")

    async def _load_journal(self, redis_url: str) -> bool:
        """Put back the signals that waited, before anything else; False when there is nothing to be put."""
        with opened(self._file, self._key) as reader:
            part = next(each for each in reader if each.name == parts.JOURNAL)
            self._entries = msgspec.msgpack.decode(part.bytes(), type=list[tuple[str, bytes]])
        store = JournalStore(redis_url)
        epoch, position = self._manifest.epoch, self._manifest.position
        if epoch is None or position is None:
            return False
        found = await store.epoch()
        if found is not None:
            self._say("the journal's server still has the journal of the engine that was lost: it is left as it is")
            return False
        await store.load(epoch, self._entries, position=position)
        self._say(f"{len(self._entries)} signals of the journal; none is executed, each ends in a named state")
        return True

    async def _dry_start(self, database_url: str) -> None:
        """Read what a start reads first: the keys open every stored secret, and the kill switch is on everywhere."""
        database = Database(database_url, max_connections=1)
        await database.open(timeout_s=10)
        try:
            await self._prove(database)
        finally:
            await database.close()
        held = self._kill_file.read().get(GLOBAL)
        if held is None or not held.enabled:
            raise StartupError("the kill switch's file does not hold the block: do not start an engine on it")
