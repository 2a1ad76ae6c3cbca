"""A service manager's end of the socket: what a service told it, in order."""

import socket
import threading
from pathlib import Path


class Manager:
    """Listens where ``NOTIFY_SOCKET`` points to; *path* is short, as addresses of sockets are."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._told: list[str] = []
        # few datagrams wait in such a socket: it is read all the time, as systemd does
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while data := self._socket.recv(4096):
            self._told.append(data.decode())

    def heard(self) -> list[str]:
        """Return every line so far; what was sent before this call is among them."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
            own.sendto(b"\0", str(self.path))
        while "\0" not in self._told:
            self._reader.join(0.001)
        self._told.remove("\0")
        return [line for text in self._told for line in text.split("\n")]

    def close(self) -> None:
        """Hear nothing more."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
            own.sendto(b"", str(self.path))
        self._reader.join(5)
        self._socket.close()
