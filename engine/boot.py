"""Opening the stores: reachable, durable, migrated, and the journal matched with the ledger.

Every start takes this road, after a crash as after a clean stop.
"""

import re
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
import structlog
import trio

from engine.actors.sending import SEND_WINDOW_S
from engine.clock import Clock
from engine.config import Config
from engine.domain.directory import Directory
from engine.domain.reconcile import HORIZON_S, MIN_HORIZON_S
from engine.errors import Fenced, JournalUnavailable, StartupError, StoreUnavailable
from engine.journal import keys
from engine.journal.store import JournalStore
from engine.security.envelope import SecretUnreadable
from engine.security.keys import Keys
from engine.security.root_key import root_is_kept
from engine.store import data_keys, directory, history, lease
from engine.store.checks import database_settings
from engine.store.data_keys import KEYS_DO_NOT_FIT
from engine.store.database import APP_ROLE, Database
from engine.store.directory import Vault
from engine.store.migrate import applied, available, latest_version, migrate, plan

_log = structlog.get_logger(__name__)


class JournalPlace(msgspec.Struct, frozen=True, kw_only=True):
    """The journal's epoch, where replay begins, and whether the journal was found wiped or foreign."""

    epoch: UUID
    position: str
    was_reset: bool


def check_times(config: Config) -> None:
    """Raise StartupError unless every order is too old to go before its absence at the broker is believed.

    An order may leave until its signal is `signals.max_age_s` old, and then for the send window; one that
    was in doubt is given up as never placed after the horizon. As long as the first is shorter, what was given
    up can never be sent again (reliability.md 2.5).
    """
    if HORIZON_S < MIN_HORIZON_S:
        raise StartupError(f"orders in doubt are looked for {HORIZON_S} s; a broker's delays ask for {MIN_HORIZON_S} s")
    latest_s = config.signals.max_age_s + SEND_WINDOW_S
    if latest_s >= HORIZON_S:
        raise StartupError(
            f"[signals] max_age_s = {config.signals.max_age_s} lets an order go {latest_s:g} s after its signal, "
            f"but one is taken for never placed after {HORIZON_S} s: use less than {HORIZON_S - SEND_WINDOW_S:g}"
        )


async def schema_is_behind(url: str) -> bool:
    """Whether the database at *url* has a schema older than this program's. Raises StartupError, StoreUnavailable."""
    have = await applied(url)
    return bool(have) and bool(plan(available(), have))


async def open_database(url: str, *, owner_url: str | None = None, wait_s: float = 10.0) -> tuple[Database, int, bool]:
    """Migrate the database at *url* and open it; return it, its schema version, and whether the role is set.

    *owner_url* is for the login that migrates, where the engine's own may not.

    Raises StartupError that names the mend.
    """
    deadline = trio.current_time() + wait_s
    while True:
        try:
            await migrate(owner_url or url)
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
    if settings.schema_version > latest_version():
        _log.warning("schema.ahead", schema=settings.schema_version, known=latest_version())
    database = Database(url, role=APP_ROLE if settings.has_role else None)
    await database.open()
    return database, settings.schema_version, settings.has_role


def _without_password(url: str) -> str:
    return re.sub(r"://([^:/@]*):[^@]*@", r"://\1:***@", url)


async def prove_keys(database: Database, vault: Vault) -> None:
    """Raise StartupError unless what the stores keep sealed can be read; a standby must know before its turn."""
    try:
        await database.run(lambda c: directory.load(c, vault, Directory()), timeout_s=30)
    except SecretUnreadable as error:
        raise StartupError(KEYS_DO_NOT_FIT) from error


async def take_over_root(keys: Keys, url: str, folder: Path) -> Keys:
    """Return *keys* around the root key of the database at *url*, if there is one; *folder* is where keys are kept.

    An engine with a data directory of its own learns the root here that a change of the master key left in the
    store. Raises StartupError when the keys do not open it, or *folder* keeps another. A database that cannot be
    asked, or has no schema yet, leaves them as they are: the start goes on to say so.
    """
    database = Database(url, max_connections=1)
    try:
        await database.open()
        root = await database.run(lambda c: data_keys.stored_root(c, keys.keks), timeout_s=10)
    except StoreUnavailable:
        return keys
    finally:
        await database.close(timeout_s=1)
    if root is None or root == keys.master:
        return keys
    if root_is_kept(folder):
        raise StartupError("the stores and this data directory are of two deployments: their root keys differ")
    return keys.with_root(root)


async def check_journal(store: JournalStore) -> None:
    """Raise StartupError, with the mend, for a server that cannot keep the journal's promise."""
    try:
        settings = await store.settings()
    except JournalUnavailable as error:
        raise StartupError(f"{error}. Start the server, or correct [redis] url") from error
    problems = settings.problems()
    if problems:
        raise StartupError("the journal's server cannot keep what the engine promises: " + "; ".join(problems))


async def journal_place(database: Database, store: JournalStore, *, clock: Clock, lease_epoch: int = 0) -> JournalPlace:
    """Match the journal with the ledger's cursor; a wiped, foreign or set-back journal gets a new epoch.

    It is claimed for *lease_epoch* before anything of it is read: what an engine that was superseded still
    has in hand cannot come into it afterwards, where nobody would read it. Raises Fenced when an engine
    with a later lease has claimed it.
    """
    cursor = await database.run(history.journal_cursor)
    found = _epoch_of(await store.epoch())
    if cursor is None:
        epoch = found or uuid4()
        await _claim(database, store, epoch, lease_epoch)
        await _write_cursor(database, epoch, "0-0", clock.now())
        return JournalPlace(epoch=epoch, position="0-0", was_reset=False)
    if found == cursor[0] and await _reaches(store, str(found), cursor[1]):
        await _claim(database, store, cursor[0], lease_epoch)
        return JournalPlace(epoch=cursor[0], position=cursor[1], was_reset=False)
    epoch = uuid4()
    _log.error("journal.reset", had=str(cursor[0]), found=str(found))
    await _claim(database, store, epoch, lease_epoch)
    await _write_cursor(database, epoch, "0-0", clock.now())
    return JournalPlace(epoch=epoch, position="0-0", was_reset=True)


async def _claim(database: Database, store: JournalStore, epoch: UUID, lease_epoch: int) -> None:
    if lease_epoch and not await store.claim(str(epoch), lease_epoch):
        held = await database.run(lease.read)
        if held is None or held.epoch != lease_epoch:
            raise Fenced(f"the lease of epoch {lease_epoch} has been taken by another engine")
        # the ledger is older than the journal: it came out of a backup
        await store.set_epoch(keys.name(str(epoch), lease_epoch))
    if not lease_epoch:
        await store.set_epoch(str(epoch))


def _epoch_of(found: str | None) -> UUID | None:
    try:
        return UUID(keys.read_name(found)[0]) if found else None
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
