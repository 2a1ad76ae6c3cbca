"""The load: signals over keep-alive connections of plain sockets, from one thread that does nothing else.

Open loop: signals are due by a schedule, and what waits for a free connection has been waiting since it was due: no
coordinated omission. Closed loop: each connection sends its next signal as soon as the last one was answered.
"""

import select
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import count
from urllib.parse import urlsplit

from engine.bench.figures import Sent, due_times
from engine.bench.signals import Make

_CONNECT_S = 10.0
_LAST_ANSWER_S = 15.0
_LOOK_S = 0.05
_BEGIN_NS = 20_000_000


class _Line:
    """One connection with at most one request on its way."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self.sent: Sent | None = None
        self._received = b""
        self._connect()

    def _connect(self) -> None:
        self._socket = socket.create_connection(self._address, timeout=_CONNECT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, sent: Sent, request: bytes) -> None:
        self.sent, self._received = sent, b""
        if select.select([self._socket], [], [], 0)[0]:
            # a server closes what was idle for long; nothing else can be there to read
            self.close()
            self._connect()
        sent.sent_ns = time.monotonic_ns()
        try:
            self._socket.sendall(request)
        except OSError:
            pass  # closed this moment: the answer that does not come says so below

    def take(self) -> bool:
        """Read; return whether the answer is whole, or will never be."""
        try:
            chunk = self._socket.recv(65536)
        except OSError:
            chunk = b""
        sent = self.sent
        if not chunk:
            self.close()
            self._connect()
            return sent is not None
        self._received += chunk
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end or sent is None:
            return False
        at = head.lower().find(b"\r\ncontent-length:")
        if at >= 0 and len(body) < int(head[at + 17 :].split(b"\r\n", 1)[0]):
            return False
        sent.answered_ns, sent.status = time.monotonic_ns(), int(head[9:12])
        return True

    def close(self) -> None:
        self._socket.close()


class Load:
    """Sends the signals that *make* makes, numbered from *first* on, to the engine at *url*.

    One call of `open_loop`, `closed_loop` or `burst` at a time, in a thread of its own; ``sent`` grows meanwhile, and
    `stop` ends it from outside.
    """

    def __init__(self, url: str, make: Make, *, connections: int, first: int = 0) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._make = make
        self._connections = connections
        self._numbers = count(first)
        self._stopped = False
        self.sent: list[Sent] = []

    def stop(self) -> None:
        """Send no more."""
        self._stopped = True

    def open_loop(self, rate: float, seconds: float) -> list[Sent]:
        """Send *rate* signals a second for *seconds*; return them once all are answered."""
        return self._run(iter(due_times(time.monotonic_ns() + _BEGIN_NS, rate, seconds)), None)

    def burst(self, signals: int) -> list[Sent]:
        """Send *signals* as fast as they are answered; return them once all are."""
        return self._run(iter([time.monotonic_ns()] * signals), None, due_when_free=True)

    def closed_loop(self, seconds: float) -> list[Sent]:
        """Send for *seconds* as fast as they are answered; return them once all are."""
        return self._run(_always(), time.monotonic_ns() + round(seconds * 1e9), due_when_free=True)

    def _run(self, schedule: Iterator[int], until_ns: int | None, *, due_when_free: bool = False) -> list[Sent]:
        lines = [_Line(self._address) for _ in range(self._connections)]
        try:
            return self._drive(lines, schedule, until_ns, due_when_free)
        finally:
            for line in lines:
                line.close()

    def _drive(
        self, lines: Sequence[_Line], schedule: Iterator[int], until_ns: int | None, due_when_free: bool
    ) -> list[Sent]:
        sent = self.sent = []
        idle, busy = deque(lines), set[_Line]()
        due = next(schedule, None)
        last_ns = 0
        while True:
            now = time.monotonic_ns()
            if self._stopped or (until_ns is not None and now >= until_ns):
                due = None
            while due is not None and idle and due <= now:
                one = Sent(number=next(self._numbers), due_ns=now if due_when_free else due)
                sent.append(one)
                line = idle.popleft()
                line.send(one, self._make(one.number))
                busy.add(line)
                due = next(schedule, None)
                now = last_ns = time.monotonic_ns()
            if due is None and (not busy or now - last_ns > _LAST_ANSWER_S * 1e9):
                return sent
            # select and not epoll: its timeout is not rounded to milliseconds
            wait = _LOOK_S if due is None or not idle else max(0.0, (due - time.monotonic_ns()) / 1e9)
            for line in select.select(list(busy), [], [], min(wait, _LOOK_S))[0]:
                if line.take():
                    busy.discard(line)
                    line.sent = None
                    idle.append(line)


def _always() -> Iterator[int]:
    while True:
        yield 0
