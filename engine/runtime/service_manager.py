"""What a service manager such as systemd is told: that the engine is ready, stops, and how it fares (sd_notify(3)).

The engine pings the manager's watchdog from a task of its event loop, and only while what it was given to ask finds
nothing wedged: a loop that is held up, or a kill switch that could not act, ends in a restart by the manager, and a
start is recovery. Without ``NOTIFY_SOCKET`` nothing is told and nobody is asked.
"""

import os
import socket
from collections import deque
from collections.abc import Callable, Mapping

import structlog
import trio

_log = structlog.get_logger(__name__)

_US = 1_000_000
_PING = "WATCHDOG=1"
_WORDS_KEPT = 8
_BEATS_PER_LIFE = 4
_SLOWEST_S = 5.0


class ServiceManager:
    """Tells the manager that *environ* names; *fault* returns what is wedged, None while all is well."""

    def __init__(self, environ: Mapping[str, str], *, fault: Callable[[], str | None] = lambda: None) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self.watchdog_s = _watchdog_s(environ)
        self.fault = fault
        self._told_fault: str | None = None
        # what is to be told and could not be
        self._waiting: deque[str] = deque(maxlen=_WORDS_KEPT)

    def ready(self, status: str) -> None:
        """The engine works, or stands by: the start is over."""
        self.tell("READY=1", f"STATUS={status}")

    def stopping(self) -> None:
        """The drain has begun: what ends now is not wedged."""
        self.fault = lambda: None
        self.tell("STOPPING=1", "STATUS=stopping")

    def status(self, text: str) -> None:
        """Show *text*, one line, in the manager's status of the service."""
        self.tell(f"STATUS={text}")

    async def run(self) -> None:
        """Ping the watchdog, where the manager keeps one, while nothing is wedged; never returns."""
        every_s = _SLOWEST_S if self.watchdog_s is None else min(self.watchdog_s / _BEATS_PER_LIFE, _SLOWEST_S)
        if self._address is None:
            await trio.sleep_forever()
        while True:
            self.beat()
            await trio.sleep(every_s)

    def beat(self) -> None:
        """Ping the watchdog unless something is wedged, which is logged and shown instead."""
        fault = self.fault()
        if fault is None:
            if self._told_fault is not None:
                _log.info("service.well_again")
                self.status("well again")
            if self.watchdog_s is not None:
                self.tell(_PING)
            elif self._waiting:
                self.tell()
        elif fault != self._told_fault:
            _log.error("service.wedged", fault=fault)
            self.status(f"wedged: {fault}")
        self._told_fault = fault

    def tell(self, *lines: str) -> None:
        """Send *lines*, or with the next beat: a manager that is slow or away must neither stop the engine nor hold it.

        Only a ping is not made up for.
        """
        if self._address is None:
            return
        ping = lines == (_PING,)
        if lines and not ping:
            self._waiting.append("\n".join(line.replace("\n", " ") for line in lines))
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as out:
                while self._waiting:
                    out.sendto(self._waiting[0].encode(), self._address)
                    self._waiting.popleft()
                if ping:
                    out.sendto(_PING.encode(), self._address)
        except OSError as error:
            _log.warning("service.not_told", what=lines[:1], error=str(error))


def _address(given: str) -> bytes | None:
    """Return the socket's address: a path, or with ``@`` a name without a file."""
    if given.startswith("@"):
        return b"\0" + os.fsencode(given[1:])
    return os.fsencode(given) if given.startswith("/") else None


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    """Return within how many seconds the manager wants a ping of this process, None where it wants none."""
    given, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not given.isdecimal() or int(given) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(given) / _US
