"""A Valkey of a test's own, to be stopped, frozen and killed."""

import signal
import subprocess
import time
from pathlib import Path
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from engine.embedded.valkey import binary

DURABLE = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}


class OwnValkey:
    """A server in *folder*, with *settings* on top of the durable ones."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self._folder = folder
        self._settings = DURABLE | {key.replace("_", "-"): value for key, value in settings.items()}
        self.socket = folder / "v.sock"
        self.url = f"unix://{self.socket}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it and wait until it answers."""
        settings = {"port": "0", "save": "", "unixsocket": str(self.socket), "dir": str(self._folder)} | self._settings
        self._process = subprocess.Popen(
            [str(binary()), *(word for key, value in settings.items() for word in (f"--{key}", value))],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while True:
            try:
                with self.client() as client:
                    client.ping()
                return self
            except redis.exceptions.AuthenticationError:
                return self
            except redis.exceptions.ConnectionError:
                assert self._process.poll() is None, "the Valkey ended as it started"
                assert time.monotonic() < deadline, "the Valkey does not start"
                time.sleep(0.01)

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._running().pid

    def client(self, **options: object) -> redis.Redis:
        """Return a client of the server."""
        return redis.Redis(unix_socket_path=str(self.socket), retry=Retry(NoBackoff(), 0), **options)

    def freeze(self) -> None:
        """SIGSTOP."""
        self._running().send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._running().send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL."""
        process, self._process = self._running(), None
        process.kill()
        process.wait(5)

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.kill()
