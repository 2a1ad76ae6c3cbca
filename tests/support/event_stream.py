"""Reading server-sent events as a browser does: blocks, fields, comments, the last event id (WHATWG HTML 9.2)."""

import http.client
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import urlencode

import msgspec

from tests.support.intruder import address


class Told(msgspec.Struct, frozen=True):
    """One event as a client sees it."""

    id: str
    event: str
    data: dict[str, Any]


def parse(text: str) -> list[Told]:
    """Return the events of whole blocks of *text*."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if "data" in fields:
            found.append(Told(fields["id"], fields["event"], msgspec.json.decode(fields["data"])))
    return found


class StreamClient:
    """Follows a stream on a thread of its own until it ends or the block does."""

    def __init__(self, base_url: str, token: str, *, last_event_id: str = "", **params: str) -> None:
        host, port = address(base_url)
        self._headers = {"Authorization": f"Bearer {token}"}
        if last_event_id:
            self._headers["Last-Event-ID"] = last_event_id
        self._path = f"/api/v1/stream?{urlencode(params)}"
        self._connection = http.client.HTTPConnection(host, port, timeout=30)
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._text = ""
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.has_ended = threading.Event()

    def __enter__(self) -> Self:
        self._connection.connect()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._connection.sock.shutdown(socket.SHUT_RDWR)
        except (OSError, AttributeError):
            pass  # the server has closed it
        self._thread.join(5)
        self._connection.close()

    def _follow(self) -> None:
        try:
            self._connection.request("GET", self._path, headers=self._headers)
            answer = self._connection.getresponse()
            self.status, self.headers = answer.status, answer.headers
            while chunk := answer.read1(65536):
                self._text += chunk.decode()
        except (http.client.HTTPException, OSError):
            pass  # the server closed it, or this client
        finally:
            self.has_ended.set()

    @property
    def text(self) -> str:
        """Everything that came."""
        return self._text

    @property
    def told(self) -> list[Told]:
        """Every event that came whole."""
        return parse(self._text[: self._text.rfind("\n\n") + 1])

    def of(self, event: str) -> list[Told]:
        """Return the events of one name."""
        return [told for told in self.told if told.event == event]

    def wait(self, what: str, look: Any, *, within_s: float = 15) -> Any:
        """Return the first true answer of *look*, asked with this client."""
        deadline = time.monotonic() + within_s
        while not (found := look(self)):
            assert time.monotonic() < deadline, f"{what} did not come: {[t.event for t in self.told]} {self.status}"
            time.sleep(0.02)
        return found
