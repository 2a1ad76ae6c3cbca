"""Making a backup, with the engine running or stopped.

The order of reading is what makes it whole. The journal first, from the ledger's cursor on: what was accepted by then
is in it, or in the ledger's snapshot, which is taken later; what the engine trims meanwhile is in that snapshot. The
kill switch's records next, then the tables in one snapshot, and the paper exchange's record last, for a broker knows
more than its client, never less.
"""

import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

import msgspec
import structlog
import trio

from engine import __version__
from engine.backup import parts
from engine.backup.parts import About, Manifest, PartWriter
from engine.clock import Clock
from engine.errors import EngineError, JournalUnavailable
from engine.journal.store import JournalStore
from engine.runtime.durable import sync_folder
from engine.security.keys import derive
from engine.security.sealed_file import FileKey, SealedWriter, master_key_id
from engine.store import history
from engine.store.database import Database
from engine.store.dump import Snapshot, dump

_log = structlog.get_logger(__name__)

TIMEOUT_S = 4 * 3600.0
_MAX_STATE_FILE = 64 << 20

Progress = Callable[[str, int, int], None]
"""Is told what is being copied, how many bytes are done, and how many there may be in all."""


class BackupError(EngineError):
    """A backup cannot be made; the message says why and what to do."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """What is copied: the stores, the data directory, the configuration without its secrets, the keys if asked for.

    ``root`` is what the kill switch's seal is derived from, ``master`` what the file is sealed under, ``root_sealed``
    that key wrapped under the master keys, ``key_files`` the files of the keys folder by name, those made of
    configured keys included.
    """

    database_url: str
    redis_url: str
    data_dir: Path
    root: bytes
    master: bytes
    key_files: Mapping[str, bytes]
    root_sealed: bytes = b""
    mode: str
    config: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"Source({self.data_dir}, ***)"


def kill_store_name(root: bytes) -> str:
    """Return the name under which engines with this key keep kill records in the journal's server."""
    return derive(root, "kill switch store")[:8].hex()


async def make_backup(
    target: Path, source: Source, key: FileKey, *, with_keys: bool, clock: Clock, progress: Progress
) -> Manifest:
    """Write a backup of *source* to *target*, whole or not at all; never over a file that is there.

    Raises BackupError, StoreUnavailable, JournalUnavailable, StartupError, OSError.
    """
    if with_keys and key.passphrase is None:
        raise BackupError("a backup with the keys inside needs a passphrase")
    target = target.absolute()  # noqa: ASYNC240 -- a command's own process: nothing else waits
    if target.exists():
        raise BackupError(f"{target} is there already: choose another name, or move it away")
    draft = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            manifest = await _write(file, source, key, with_keys=with_keys, clock=clock, progress=progress)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, target)
        except FileExistsError:
            raise BackupError(f"{target} is there already: choose another name, or move it away") from None
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(target.parent)
    return manifest


async def _write(
    file: BinaryIO, source: Source, key: FileKey, *, with_keys: bool, clock: Clock, progress: Progress
) -> Manifest:
    sealed = await trio.to_thread.run_sync(SealedWriter, file, key)
    writer = PartWriter(sealed.write)
    about = About(
        format=parts.FORMAT,
        engine=__version__,
        made_at=clock.now(),
        mode=source.mode,
        master_key=master_key_id(source.master),
        with_keys=with_keys,
    )
    writer.whole(parts.ABOUT, msgspec.json.encode(about))
    if with_keys:
        writer.whole(parts.KEYS, msgspec.json.encode(source.key_files))
    writer.whole(parts.CONFIG, msgspec.json.encode(source.config))
    await _journal(writer, source)
    for path in _files(source.data_dir / "state"):
        writer.whole(parts.STATE + path.name, path.read_bytes())
    # before the tables: a checkpoint of more records than the copy holds would read like a log that was cut off
    for path in _files(source.data_dir / "audit"):
        writer.whole(parts.AUDIT + path.name, path.read_bytes())
    tables = _Tables(writer, progress)
    await dump(source.database_url, tables, timeout_s=TIMEOUT_S)
    record = source.data_dir / "exchange" / "record.jsonl"
    if record.is_file():
        _exchange(writer, record)
    snapshot = tables.of
    manifest = Manifest(
        about=about,
        schema=snapshot.applied,
        audit_records=snapshot.audit_records,
        audit_head=snapshot.audit_head.hex(),
        epoch=tables.epoch,
        position=tables.position,
        parts=tuple(writer.done),
    )
    writer.manifest(manifest)
    sealed.close()
    return manifest


async def _journal(writer: PartWriter, source: Source) -> None:
    """Write what the journal holds past the ledger's cursor, and the kill records that its server keeps."""
    database = Database(source.database_url, max_connections=1)
    await database.open(timeout_s=10)
    try:
        cursor: tuple[UUID, str] | None = await database.run(history.journal_cursor, timeout_s=10)
    finally:
        await database.close()
    store = JournalStore(source.redis_url, deployment=kill_store_name(source.root))
    entries: list[tuple[str, bytes]] = []
    if cursor is not None:
        position = cursor[1]
        while found := await store.read_after(str(cursor[0]), position):
            entries += found
            position = found[-1][0]
    writer.whole(parts.JOURNAL, msgspec.msgpack.encode(entries), rows=len(entries))
    try:
        kills = await store.kill_records()
    except JournalUnavailable as error:
        # the other two copies are in the backup, and a restored engine is blocked in any case
        _log.warning("backup.kill_copy_unreadable", error=str(error))
        kills = []
    writer.whole(parts.KILLS, msgspec.json.encode(kills), rows=len(kills))


def _files(folder: Path) -> Sequence[Path]:
    if not folder.is_dir():
        return []
    found = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.is_symlink()]
    for path in found:
        if path.stat().st_size > _MAX_STATE_FILE:
            raise BackupError(
                f"{path} has more than {_MAX_STATE_FILE >> 20} MiB: that is no file of the engine's state"
            )
    return found


def _exchange(writer: PartWriter, record: Path) -> None:
    """Write the paper exchange's record as far as its lines are whole."""
    writer.begin(parts.EXCHANGE + record.name)
    with record.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                writer.content(line)
    writer.end()


class _Tables:
    """Puts the tables of a snapshot into the backup, and reads the journal's cursor off its own table."""

    def __init__(self, writer: PartWriter, progress: Progress) -> None:
        self._writer = writer
        self._progress = progress
        self._done = 0
        self._cursor: tuple[Sequence[str], bytearray] | None = None
        self.of: Snapshot
        self.epoch: str | None = None
        self.position: str | None = None

    def snapshot(self, snapshot: Snapshot) -> None:
        self.of = snapshot

    def begin(self, table: str, columns: Sequence[str]) -> None:
        self._table = table
        self._writer.begin(parts.TABLE + table, tuple(columns))
        self._cursor = (columns, bytearray()) if table == "journal_cursor" else None

    def write(self, content: bytes) -> None:
        self._writer.content(content)
        self._done += len(content)
        if self._cursor is not None:
            self._cursor[1].extend(content)
        self._progress(self._table, self._done, max(self.of.size, self._done))

    def end(self, rows: int) -> None:
        self._writer.end(rows)
        if self._cursor is not None and rows:
            columns, row = self._cursor
            fields = dict(zip(columns, row.decode().rstrip("\n").split("\t"), strict=True))
            self.epoch, self.position = fields["epoch"], fields["position"]
