"""Where the embedded servers keep their things below the data directory."""

import hashlib
import re
import tempfile
from pathlib import Path

from engine.errors import StartupError

# sun_path holds 108 bytes; PostgreSQL's lock file next to the socket wants some of them
_MAX_SOCKET_PATH = 100
# drivers split hosts at commas and unquote URLs, each in its own way
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9._/-]*")


class Places:
    """The paths of one server (*name* is ``postgres`` or ``valkey``) of one data directory."""

    def __init__(self, data_dir: Path, name: str, socket_name: str) -> None:
        self.data_dir = data_dir.resolve()
        self.name = name
        self.cluster = self.data_dir / "postgres"
        self.home = self.data_dir / name
        self.mark = self.data_dir / f"{name}.pid"
        self.log_dir = self.data_dir / f"{name}-log"
        self.log = self.log_dir / f"{name}.log"
        self._socket_name = socket_name

    def short_socket_dir(self) -> Path:
        """Return the folder for sockets when the data directory's path is too long or too odd for one."""
        digest = hashlib.sha256(str(self.data_dir).encode("utf-8", "surrogateescape")).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"engine-{digest}-{self.name}"

    def socket_dir(self) -> Path:
        """Return the folder of the server's socket. Raises StartupError when no usable path can be found."""
        candidates = (self.data_dir / f"{self.name}-run", self.short_socket_dir())
        for candidate in candidates:
            text = str(candidate / self._socket_name)
            if _PLAIN_PATH.fullmatch(text) and len(text.encode()) <= _MAX_SOCKET_PATH:
                return candidate
        raise StartupError(
            f"no socket path of at most {_MAX_SOCKET_PATH} plain characters for {self.name}:"
            " give a shorter --data-dir, or set TMPDIR to a short folder"
        )

    def socket(self) -> Path:
        """Return the path of the server's socket."""
        return self.socket_dir() / self._socket_name
