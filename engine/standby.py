"""An engine that waits for its turn: its data directory, its place in front of the stores, its answers meanwhile.

It writes nothing, sends nothing and alters no schema that a living engine works on. Two things are waited
for. The data directory is one process's own; the embedded servers are in it, so with those it is the
whole question. The lease says who works on stores that several data directories share.
"""

import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import structlog
import trio

from engine import boot
from engine.clock import Clock
from engine.config import ServerConfig
from engine.data_dir import DirectoryLock, locked_by
from engine.errors import StartupError, StoreUnavailable, Unavailable
from engine.http.client_ip import parse_networks
from engine.http.exposure import secured, server_limits
from engine.http.server import HttpServer, listen
from engine.http.standby import StandbyApp
from engine.journal.store import JournalStore
from engine.leadership import Candidate, Grant
from engine.runtime import holder
from engine.runtime.beat import beat
from engine.runtime.crashpoint import crashpoint
from engine.store.database import Database
from engine.store.lease import Lease
from engine.store.migrate import latest_version, migrate

_log = structlog.get_logger(__name__)

_LOOK_S = 0.5
_BEAT_S = 1.0
# looks, not seconds: a watcher that slept itself, or with the whole machine, has seen nothing meanwhile
_SILENT_LOOKS = 16
_FORMER_STOPS_S = 15.0
_FORMER_ENDS_S = 2.0


class Led(msgspec.Struct, frozen=True, kw_only=True):
    """The stores, open and this engine's: ``former`` is the lease as it was found."""

    database: Database
    schema_version: int
    has_role: bool
    grant: Grant
    former: Lease | None


class Beat:
    """Tells from looks at a locked data directory whether the engine that has it has fallen silent."""

    def __init__(self) -> None:
        self._seen: tuple[str, int] | None = None
        self._same = 0

    def is_silent(self, name: str, beat: int) -> bool:
        """Take a look; every look that finds a beat, or another engine, begins anew."""
        self._same = self._same + 1 if (name, beat) == self._seen else 0
        self._seen = (name, beat)
        return name != "" and self._same >= _SILENT_LOOKS


class Standby:
    """Waits; shows itself on the engine's address once there is something to wait for."""

    nursery: trio.Nursery
    """Where its server runs; set before anything is waited for."""

    def __init__(self, server: ServerConfig, data_dir: Path, *, clock: Clock, announce: Callable[[str], None]) -> None:
        self._config = server
        self._data_dir = data_dir
        self._clock = clock
        self._announce = announce
        self._listener: trio.socket.SocketType | None = None
        self._server: HttpServer | None = None
        self._ended = trio.Event()
        self._leader: dict[str, Any] = {}
        self._why = ""
        self.lock: DirectoryLock | None = None

    # what it shows

    async def show(self) -> None:
        """Listen on the engine's address, answer that this engine waits, and say so. Raises StartupError."""
        if self._server is not None:
            return
        limits, tls = server_limits(self._config), secured(self._config)
        self._listener = listen(self._config.host, self._config.port, backlog=limits.backlog)
        app = StandbyApp(self._clock, why=lambda: self._why, leads=lambda: self._leader)
        # a second descriptor of one socket: what comes in while the servers change waits in its queue
        twin = trio.socket.fromfd(self._listener.fileno(), self._listener.family, socket.SOCK_STREAM)
        self._server = HttpServer(
            app,
            host=self._config.host,
            limits=limits,
            clock=self._clock,
            listener=twin,
            tls=tls,
            uncounted=parse_networks(self._config.trusted_proxies),
        )
        self._announce(f"engine standby {await self.nursery.start(self._serve)}")

    async def _serve(self, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        assert self._server is not None  # noqa: S101 -- narrows the type
        try:
            await self._server.run(task_status=task_status)
        finally:
            self._ended.set()

    async def retire(self) -> trio.socket.SocketType | None:
        """Stop answering; return the socket for the engine's own server, None when none was opened."""
        if self._server is not None:
            self._server.drain()
            await self._ended.wait()
        listener, self._listener = self._listener, None
        return listener

    def close(self) -> None:
        """Let go of everything."""
        if self._listener is not None:
            self._listener.close()
        if self.lock is not None:
            self.lock.release()

    async def _waits_for(self, name: str, epoch: int | None, age_s: float | None) -> None:
        parsed = holder.read(name)
        self._leader = {
            "holder": holder.told(name) if name else None,
            "host": None if parsed is None else parsed.host,
            "process": None if parsed is None else parsed.process,
            "epoch": epoch,
            "ageS": None if age_s is None else round(age_s, 1),
        }
        since = "" if age_s is None else f", heard of {max(age_s, 0.0):.1f} s ago"
        who = f"{holder.told(name)} leads{since}" if name else "another process works in its data directory"
        self._why = f"this engine is on standby: {who}; try again there, or later"
        await self.show()

    # the data directory

    def try_directory(self) -> bool:
        """Lock the data directory if it is free. Raises StartupError."""
        self.lock = self.lock or DirectoryLock.take(self._data_dir)
        return self.lock is not None

    async def wait_for_directory(self) -> None:
        """Wait for the lock of the data directory, whose embedded servers are another engine's until then.

        An engine that holds it and has fallen silent, stopped or hanging, is ended: it has the servers in its
        hands, and one that is dead cannot wake up and start them again.
        """
        beat = Beat()
        while not self.try_directory():
            name, last = locked_by(self._data_dir)
            await self._waits_for("" if holder.is_dead(name) else name, None, None)
            if beat.is_silent(name, last):
                beat = Beat()
                self._end(name)
            await trio.sleep(_LOOK_S)

    async def follow_into_directory(self, former: Lease | None) -> None:
        """Lock the data directory after the lease was taken from *former*, which may have worked in it.

        One that gave the lease back is about to end. One that fell silent is ended, or this engine goes on
        beside it: what it would do when it wakes up is refused by the stores. Raises StartupError when the
        directory is an engine's that works on other stores.
        """
        was_released = former is None or former.released
        with trio.move_on_after(_FORMER_STOPS_S if was_released else _FORMER_ENDS_S):
            while not self.try_directory():
                name, _ = locked_by(self._data_dir)
                if former is not None and not was_released and name == former.holder:
                    self._end(name)
                await trio.sleep(_LOOK_S / 5)
        if self.lock is not None:
            return
        name, _ = locked_by(self._data_dir)
        if former is None or name != former.holder:
            raise StartupError(f"another engine runs in {self._data_dir}; use --data-dir DIR for this one")
        _log.warning("directory.shared", holder=holder.told(name), directory=str(self._data_dir))

    def _end(self, name: str) -> None:
        if holder.end(name):
            _log.warning("directory.holder_ended", holder=holder.told(name), directory=str(self._data_dir))

    async def keep_beating(self) -> None:
        """Say by the lock that this engine lives, and take the lock when it becomes free; never returns."""
        while True:
            try:
                if self.try_directory() and self.lock is not None:
                    self.lock.beat()
            except OSError as error:
                _log.warning("directory.no_beat", error=str(error))
            await beat(_BEAT_S)

    # the stores

    async def lead(
        self,
        url: str,
        journal: JournalStore,
        *,
        owner_url: str | None = None,
        wait_s: float,
        prove: Callable[[Database], Awaitable[None]],
    ) -> Led:
        """Open the stores, wait until no other engine works on them, and take the lease.

        *owner_url* is for the login that migrates, if it is another; *wait_s* is how long PostgreSQL may take to come
        up; *prove* is called before a wait and raises when this engine could not do its work afterwards, for want of
        the keys for example. Raises StartupError.
        """
        candidate = Candidate(self._clock)
        owner = owner_url or url
        await self._wait_with_old_schema(candidate, owner)
        database, schema_version, has_role = await boot.open_database(url, owner_url=owner, wait_s=wait_s)
        try:
            await boot.check_journal(journal)
            crashpoint("R1.database_open")
            seen, grant, waited = await self._take_turn(candidate, database, owner, journal, prove)
        except BaseException:
            await database.close(timeout_s=1)
            raise
        if waited:
            schema_version = latest_version()
        return Led(database=database, schema_version=schema_version, has_role=has_role, grant=grant, former=seen)

    async def _take_turn(
        self,
        candidate: Candidate,
        database: Database,
        url: str,
        journal: JournalStore,
        prove: Callable[[Database], Awaitable[None]],
    ) -> tuple[Lease | None, Grant, bool]:
        """Wait and take the lease; return it as found, what was granted, and whether there was a wait."""
        proved = False

        async def see(held: Lease) -> None:
            nonlocal proved
            if not proved:
                try:
                    await prove(database)
                except StoreUnavailable:
                    return  # at the next look
                proved = True
            await self._waits_for(held.holder, held.epoch, held.age_s)

        while True:
            seen = await candidate.wait(database, on_wait=see)
            if proved and not await self._stores_are_well(url, journal):
                await trio.sleep(_LOOK_S)
                continue
            grant = await candidate.take(database, seen)
            if grant is not None:
                return seen, grant, proved

    async def _wait_with_old_schema(self, candidate: Candidate, url: str) -> None:
        """Wait while an older engine works on an older schema: it is altered only when that one is gone."""
        try:
            if not await boot.schema_is_behind(url):
                return
        except StoreUnavailable:
            return  # who opens the database knows what to say
        login = Database(url, max_connections=2)
        try:
            await login.open()
            await candidate.wait(login, on_wait=lambda held: self._waits_for(held.holder, held.epoch, held.age_s))
        finally:
            await login.close()

    async def _stores_are_well(self, url: str, journal: JournalStore) -> bool:
        """Look again, after a wait, at what a start demands; a store that is away is waited for.

        Raises StartupError for what waiting does not mend, such as the schema of a newer engine.
        """
        try:
            await migrate(url)
            await boot.check_journal(journal)
        except Unavailable as error:
            self._why = f"this engine is on standby: {error}"
            return False
        except StartupError as error:
            if not isinstance(error.__cause__, Unavailable):
                raise
            self._why = f"this engine is on standby: {error}"
            return False
        return True
