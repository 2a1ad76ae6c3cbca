"""A steady load of signals that goes on while engines die, and kills at random times."""

import threading
import time
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

from tests.support.crash_world import World

_SENDERS = 12
_SYMBOLS = 48


class Load:
    """Sends *rate* signals a second to whichever engine is up; each is sent until it is acknowledged."""

    def __init__(self, world: World, *, rate: float) -> None:
        self._world = world
        self._rate = rate
        self._stopping = threading.Event()
        self._up = threading.Event()
        self._threads: list[threading.Thread] = []

    def engine_up(self) -> None:
        """The engine at ``world.api.base_url`` takes signals."""
        self._up.set()

    def engine_down(self) -> None:
        """It does not any more."""
        self._up.clear()

    def start(self) -> None:
        """Begin."""
        # the symbols of one sender never come by another: the order of each symbol is the order of acceptance
        self._world.make_signals(_SYMBOLS, symbols=_SYMBOLS)
        symbols = sorted(self._world.waiting)
        shares = [symbols[number::_SENDERS] for number in range(_SENDERS)]
        self._threads = [
            threading.Thread(target=self._feed, daemon=True),
            *(threading.Thread(target=self._send, args=(share,), daemon=True) for share in shares),
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End; what was not acknowledged stays with the world."""
        self._stopping.set()
        self._up.set()
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive(), "a sender hangs"

    def _feed(self) -> None:
        due = time.monotonic()
        while not self._stopping.is_set():
            due += 1 / self._rate
            time.sleep(max(0.0, due - time.monotonic()))
            self._world.make_signals(1, symbols=1, of=_SYMBOLS)

    def _send(self, symbols: list[str]) -> None:
        world = self._world
        while not self._stopping.is_set():
            self._up.wait()
            connection = HTTPConnection(urlsplit(world.api.base_url).netloc, timeout=8)
            try:
                while not self._stopping.is_set():
                    heads = [world.waiting[symbol] for symbol in symbols if world.waiting[symbol]]
                    for waiting in heads:
                        if world.offer(connection, waiting[0]):
                            waiting.popleft()
                    if not heads:
                        time.sleep(0.01)
            except (OSError, HTTPException):
                time.sleep(0.02)  # gone; the next one has another port
            finally:
                connection.close()


def kill_at_random(world: World, *, kills: int, rate: float, shortest_s: float = 0.5, longest_s: float = 5.0) -> None:
    """SIGKILL the engine *kills* times under load, each at a uniformly random age, and start the next at once."""
    load = Load(world, rate=rate)
    load.start()
    try:
        for number in range(kills + 1):
            engine = world.start()
            load.engine_up()
            if number < kills:
                time.sleep(world.rng.uniform(shortest_s, longest_s))
                load.engine_down()
                assert engine.kill() == -9, "it had ended by itself"
    finally:
        load.stop()
