"""Opening the stores: reachable, durable, migrated, and ours alone (the lease).

Every start takes this road, after a crash as after a clean stop.
"""

import os
import re
import socket
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
import structlog
import trio

from engine.actors.lease_keeper import LIFE_S
from engine.clock import Clock
from engine.errors import JournalUnavailable, StartupError, StoreUnavailable
from engine.journal import keys
from engine.journal.store import JournalStore
from engine.store import history, lease
from engine.store.checks import database_settings
from engine.store.database import APP_ROLE, Database
from engine.store.migrate import migrate

_log = structlog.get_logger(__name__)

# longer than the send window and the broker's timeout together: nothing of the old holder is on its way
_TAKEOVER_GRACE_S = 2.0
_LEASE_WAIT_S = 20.0


class JournalPlace(msgspec.Struct, frozen=True, kw_only=True):
    """The journal's epoch, where replay begins, and whether the journal was found wiped or foreign."""

    epoch: UUID
    position: str
    was_reset: bool


async def open_database(url: str, *, wait_s: float = 10.0) -> tuple[Database, int, bool]:
    """Migrate the database at *url* and open it; return it, its schema version, and whether the role is set.

    Raises StartupError that names the mend.
    """
    deadline = trio.current_time() + wait_s
    while True:
        try:
            await migrate(url)
            break
        except StoreUnavailable as error:
            if trio.current_time() > deadline:
                raise StartupError(
                    f"{error}. Start the server, or correct [database] url ({_without_password(url)})"
                ) from error
            await trio.sleep(0.25)
    login = Database(url, max_connections=1)
    try:
        await login.open()
        settings = await login.run(database_settings)
    except StoreUnavailable as error:
        raise StartupError(str(error)) from error
    finally:
        await login.close()
    problems = settings.problems()
    if problems:
        raise StartupError("the PostgreSQL server cannot keep what the engine promises: " + "; ".join(problems))
    database = Database(url, role=APP_ROLE if settings.has_role else None)
    await database.open()
    return database, settings.schema_version, settings.has_role


def _without_password(url: str) -> str:
    return re.sub(r"://([^:/@]*):[^@]*@", r"://\1:***@", url)


async def check_journal(store: JournalStore) -> None:
    """Raise StartupError, with the mend, for a server that cannot keep the journal's promise."""
    try:
        settings = await store.settings()
    except JournalUnavailable as error:
        raise StartupError(f"{error}. Start the server, or correct [redis] url") from error
    problems = settings.problems()
    if problems:
        raise StartupError("the journal's server cannot keep what the engine promises: " + "; ".join(problems))


def holder_name() -> str:
    """Return who holds a lease, so that a dead holder can be told: host, boot, process namespace, process, start."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    # two containers can share host name and boot; a process of the other one would look dead from here
    namespace = os.readlink("/proc/self/ns/pid")
    return f"{socket.gethostname()}|{boot}|{namespace}|{os.getpid()}|{_started(os.getpid())}"


def told_holder(holder: str) -> str:
    """Return a holder in words for a person."""
    parts = holder.split("|")
    return f"process {parts[3]} on {parts[0]}" if len(parts) == 5 else holder


def _started(pid: int) -> str:
    """Return when a process began, in clock ticks since boot; empty when it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    # the name in parentheses may hold spaces
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in ("Z", "X") else fields[19]


def is_dead(holder: str) -> bool:
    """Whether the holder was a process of this host and boot that has ended. False when it cannot be told."""
    parts = holder.split("|")
    if len(parts) != 5 or parts[:3] != holder_name().split("|")[:3] or not parts[3].isdigit():
        return False
    return _started(int(parts[3])) != parts[4]


async def take_lease(
    database: Database, *, wait_s: float = _LEASE_WAIT_S, on_wait: Callable[[], None] | None = None
) -> int:
    """Take the lease and return its epoch; waits for one that has just fallen silent.

    *on_wait* is called once when another engine holds it. With an endless *wait_s* this is how a standby
    waits for its turn. Raises StartupError while another engine holds it, StoreUnavailable.
    """
    deadline = trio.current_time() + wait_s
    me = holder_name()
    tried: int | None = None
    while True:
        try:
            held = await database.run(lease.read)
            if held is not None and tried is not None and (held.epoch, held.holder) == (tried + 1, me):
                return held.epoch  # taken, though the answer was lost
            silent = held is None or held.released or is_dead(held.holder)
            if silent or (held is not None and held.age_s > LIFE_S + _TAKEOVER_GRACE_S):
                tried = held.epoch if held is not None else 0
                epoch = await database.run(_taking(me, tried), shield=True)
                if epoch is not None:
                    return epoch
                tried = None
                continue
        except StoreUnavailable as error:
            if trio.current_time() > deadline:
                raise
            _log.warning("lease.not_read", error=str(error))
            await trio.sleep(0.5)
            continue
        if trio.current_time() > deadline:
            raise StartupError(_held_by(held))
        if on_wait is not None:
            on_wait()
            on_wait = None
        await trio.sleep(0.5)


def _taking(me: str, expected_epoch: int) -> Callable[[Any], Awaitable[int | None]]:
    return lambda connection: lease.take(connection, holder=me, expected_epoch=expected_epoch)


def _held_by(held: lease.Lease | None) -> str:
    who = "?" if held is None else told_holder(held.holder)
    return f"another engine works on these stores ({who}); stop it first, or give this one stores of its own"


async def journal_place(database: Database, store: JournalStore, *, clock: Clock) -> JournalPlace:
    """Match the journal with the ledger's cursor; a wiped, foreign or set-back journal gets a new epoch."""
    cursor = await database.run(history.journal_cursor)
    found = _epoch_of(await store.epoch())
    if cursor is None:
        epoch = found or uuid4()
        await store.set_epoch(str(epoch))
        await _write_cursor(database, epoch, "0-0", clock.now())
        return JournalPlace(epoch=epoch, position="0-0", was_reset=False)
    if found == cursor[0] and await _reaches(store, str(found), cursor[1]):
        return JournalPlace(epoch=cursor[0], position=cursor[1], was_reset=False)
    epoch = uuid4()
    _log.error("journal.reset", had=str(cursor[0]), found=str(found))
    await store.set_epoch(str(epoch))
    await _write_cursor(database, epoch, "0-0", clock.now())
    return JournalPlace(epoch=epoch, position="0-0", was_reset=True)


def _epoch_of(found: str | None) -> UUID | None:
    try:
        return UUID(found) if found else None
    except ValueError:  # not a name that an engine gives
        return None


async def _reaches(store: JournalStore, epoch: str, position: str) -> bool:
    """Whether the stream goes as far as the ledger has read it; one from an older copy does not."""
    last = await store.last_position(epoch)
    return keys.order_of(last or "0-0") >= keys.order_of(position)


async def _write_cursor(database: Database, epoch: UUID, position: str, at: datetime) -> None:
    async def unit(connection: Any) -> None:
        await connection.execute(history.CURSOR, epoch, position, at)

    await database.run(unit, shield=True)
