"""Several engines on the same stores, one exchange, and senders that go from one engine to the next.

The exchange is a process of its own, so that its record is the truth whatever happens to the engines. The
quantity of a signal is its number: what became of it is known without trusting a tag or an answer.
"""

import itertools
import json
import os
import random
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
import msgspec

from engine.clock import SystemClock
from engine.domain.tag import epoch_of
from engine.exchange.events import OrderRequested
from engine.exchange.record import read_record
from tests.support.engine import EngineProcess, market_order, signed
from tests.support.exchange_process import ExchangeProcess
from tests.support.kite_mode import OPEN_LIMITS, kite_environment, set_up
from tests.support.servers import TestServers

SYMBOLS = ("SBIN", "INFY", "TCS", "ITC", "WIPRO", "NTPC", "RELIANCE", "TITAN")
TAKEN_OVER_WITHIN_S = 40.0
"""Longer than the 20 s that are promised: the machine is shared. How long it took is in the figures."""

_SETTLED_WITHIN_S = 60.0
_PAUSE_S = 0.04
STRAY = 1_000_003
"""The quantity of what a resumed leader is sent: it must not be taken in, nor turn up anywhere."""
_AT_BROKER = ("SUBMITTED", "OPEN", "TRIGGER_PENDING", "PARTIALLY_FILLED", "COMPLETE")
_ROWS = """
SELECT coalesce(json_agg(r), '[]') FROM (
    SELECT i.id AS intent, i.symbol, i.quantity, i.status AS intent_status, o.status, o.tag, o.status_message
    FROM trade_intents i LEFT JOIN orders o ON o.intent_id = i.id) r
"""
# an order that is looked for holds back the later ones of its symbol
_OPEN_FOR_GOOD_REASON = """
SELECT count(*) FROM trade_intents i LEFT JOIN orders o ON o.intent_id = i.id
WHERE (i.status IN ('RECEIVED', 'APPROVED') OR o.status IN ('PENDING', 'SUBMITTING') OR (
        i.status = 'EXECUTING' AND o.status IS NULL))
    AND i.symbol NOT IN (SELECT symbol FROM orders WHERE status IN ('UNKNOWN', 'SUBMITTING'))
"""
_LOOKED_FOR = "SELECT count(*) FROM orders WHERE status IN ('UNKNOWN', 'SUBMITTING')"


@dataclass
class Takeover:
    """One change of leaders: how it came about, and the seconds until the next one was ready."""

    how: str
    took_s: float
    by_s: float


@dataclass
class Verdict:
    """What the ledger and the exchange's record say of all accepted signals."""

    accepted: int
    placed: int
    looked_for: int
    unplaced: int
    lost: list[str]
    doubled: list[str]
    disordered: list[str]

    @property
    def is_clean(self) -> bool:
        """Whether nothing was lost, doubled or overtaken."""
        return not (self.lost or self.doubled or self.disordered)


class Senders:
    """A thread for each pair of symbols; a signal is sent again, to the next engine, until one has accepted it."""

    def __init__(self, team: "Team", *, threads: int = 4) -> None:
        self._team = team
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self.accepted: dict[int, tuple[str, str]] = {}
        shares = [SYMBOLS[n::threads] for n in range(threads)]
        self._threads = [threading.Thread(target=self._run, args=(share,), daemon=True) for share in shares]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "a sender hangs"

    def wait_accepted(self, more: int) -> None:
        """Wait until *more* signals have been accepted from now on."""
        goal, deadline = len(self.accepted) + more, time.monotonic() + TAKEN_OVER_WITHIN_S
        while len(self.accepted) < goal:
            assert time.monotonic() < deadline, f"{len(self.accepted)} of {goal} accepted"
            time.sleep(0.02)

    def _run(self, symbols: tuple[str, ...]) -> None:
        with httpx.Client(timeout=httpx.Timeout(2.0, connect=0.5)) as client:
            for symbol in itertools.cycle(symbols):
                if self._ending.is_set():
                    return
                with self._lock:
                    number = next(self._numbers)
                intent = self._until_accepted(client, number, msgspec.json.encode(market_order(symbol, number)))
                if intent:
                    with self._lock:
                        self.accepted[number] = (symbol, intent)
                time.sleep(_PAUSE_S)

    def _until_accepted(self, client: httpx.Client, number: int, body: bytes) -> str:
        api_key, secret = self._team.source
        for url in self._team.urls():
            headers = signed(body, api_key, secret) | {"Idempotency-Key": f"n{number}"}
            try:
                answer = client.post(f"{url}/api/v1/signals/sheets/webhook", content=body, headers=headers)
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code in (200, 202):
                return str(answer.json()["data"]["intentId"])
            if answer is not None and answer.status_code != 503:
                raise AssertionError(f"{answer.status_code}: {answer.text}")
            if self._ending.is_set():
                return ""
            time.sleep(_PAUSE_S)
        return ""


class Team:
    """Engines of one deployment; the one that leads is `leader`."""

    def __init__(
        self, folder: Path, servers: TestServers, database_url: str, redis_url: str, *, engines: int = 3
    ) -> None:
        self._servers = servers
        self._database_url = database_url
        self._database = urlsplit(database_url).path.strip("/")
        self.exchange = ExchangeProcess(folder / "exchange")
        self._folder = folder
        self._redis_url = redis_url
        self._count = engines
        self.engines: list[EngineProcess] = []
        self.source = ("", "")
        self.takeovers: list[Takeover] = []

    def __enter__(self) -> Self:
        self.exchange.start()
        environment = {
            "ENGINE__DATABASE__URL": self._database_url,
            "ENGINE__REDIS__URL": self._redis_url,
            "ENGINE__LIMITS__LOGIN_PER_MINUTE": "10000",
            **kite_environment(self.exchange.base_url),
            **OPEN_LIMITS,
        }
        self.engines = [EngineProcess(self._folder / f"engine{n}", **environment) for n in range(self._count)]
        first, *others = self.engines
        first.start()
        for other in others:
            # engines on the same stores need the same keys
            shutil.copytree(first.data_dir / "keys", other.data_dir / "keys")
            other.start(wait=False)
        self.source = set_up(
            first,
            api_key=self.exchange.api_key,
            api_secret=self.exchange.api_secret,
            access_token=self.exchange.login(),
        )
        for other in others:
            other.wait_standby()
        self.leader = first
        return self

    def __exit__(self, *_: object) -> None:
        for engine in self.engines:
            engine.kill()
        self.exchange.stop()

    def urls(self) -> Iterator[str]:
        """Yield addresses to try, without end: every engine that has one, the leader first."""
        yield self.leader.base_url
        while True:
            for engine in list(self.engines):
                url = engine.base_url or engine.standby_url
                if url:
                    yield url

    def standbys(self) -> list[EngineProcess]:
        """Return those that wait."""
        return [engine for engine in self.engines if engine is not self.leader]

    def take_over(self, how: str) -> EngineProcess:
        """Make the leader fall silent by *how* (kill, stop, term); return it once another one leads."""
        old, began = self.leader, time.monotonic()
        assert old.process is not None
        waiting = self.standbys()
        if how == "kill":
            old.kill()
        elif how == "stop":
            os.kill(old.process.pid, signal.SIGSTOP)
        else:
            assert old.stop() == 0
        silent = time.monotonic()
        while not (ready := [engine for engine in waiting if engine.base_url]):
            assert time.monotonic() < began + TAKEN_OVER_WITHIN_S, f"nobody took over: {self._words()}"
            time.sleep(0.02)
        self.leader = ready[0]
        self.takeovers.append(Takeover(how, time.monotonic() - began, time.monotonic() - silent))
        return old

    def wake(self, old: EngineProcess) -> datetime:
        """Let a stopped engine go on, wait for its end and return when it woke up. It must end by itself, with 1."""
        woke = SystemClock().now()
        assert old.process is not None
        os.kill(old.process.pid, signal.SIGCONT)
        try:
            answer = old.signal(market_order("SBIN", STRAY), key=f"stray-{woke.timestamp()}", source=self.source)
            assert answer.status_code == 503, answer.text
        except httpx.TransportError:
            pass  # it has closed the door already
        assert old.process.wait(20) == 1, old.errors
        # its last words are read by a thread, which may come after its end
        old.wait_for("its last words", lambda: bool(old.errors))
        assert "another engine" in old.errors[-1], old.errors
        old.kill()
        return woke

    def start_again(self, old: EngineProcess) -> None:
        """Start an engine that has ended; it becomes a standby."""
        old.start(wait=False)
        old.wait_standby()

    def _words(self) -> str:
        return "; ".join(" | ".join([*engine.lines, *engine.errors][-3:]) for engine in self.engines)

    # the truth

    def requests(self) -> list[OrderRequested]:
        """Return every write request that the exchange saw."""
        return [event for event in read_record(self.exchange.record_path) if isinstance(event, OrderRequested)]

    def sent_by(self, epoch: int, *, since: datetime) -> list[str]:
        """Return the requests to place an order of the lease *epoch* that arrived after *since*."""
        return [
            f"{event.at} {event.params}"
            for event in self.requests()
            if event.at >= since and event.action == "place" and epoch_of(event.params["tag"]) == epoch
        ]

    def epoch(self) -> int:
        """Return the epoch of the lease."""
        return int(self._servers.sql("SELECT epoch FROM engine_lease", self._database))

    def settle(self, *, within_s: float = _SETTLED_WITHIN_S) -> None:
        """Wait until every intent has ended, is open at the broker, or waits for an order that is looked for."""
        deadline = time.monotonic() + within_s
        while int(self._servers.sql(_OPEN_FOR_GOOD_REASON, self._database)):
            assert time.monotonic() < deadline, "intents do not end"
            time.sleep(0.1)

    def wait_found(self, *, within_s: float) -> None:
        """Wait until no order is looked for any more: each is found, or proved never placed."""
        deadline = time.monotonic() + within_s
        while int(self._servers.sql(_LOOKED_FOR, self._database)) and time.monotonic() < deadline:
            time.sleep(1)
        self.settle()

    def verdict(self, accepted: dict[int, tuple[str, str]]) -> Verdict:
        """Hold what was answered against the ledger and the exchange's record."""
        rows: dict[int, list[dict[str, Any]]] = {}
        for row in json.loads(self._servers.sql(_ROWS, self._database)):
            rows.setdefault(row["quantity"], []).append(row)
        placed = [event for event in self.requests() if event.action == "place" and event.accepted]
        times = Counter(int(event.params["quantity"]) for event in placed)
        found = Verdict(len(accepted), 0, 0, 0, [], [], [])
        for number, (symbol, intent) in accepted.items():
            its_rows = rows.get(number, [])
            if len(its_rows) != 1 or its_rows[0]["intent"] != intent:
                found.lost.append(f"{symbol} {number}: {its_rows or 'not in the ledger'}")
                continue
            row = its_rows[0]
            if row["status"] in _AT_BROKER and times[number] != 1:
                found.lost.append(f"{symbol} {number}: {row['status']} and {times[number]} at the exchange")
            elif row["status"] in (*_AT_BROKER, "CANCELLED"):
                found.placed += 1
            elif row["status"] in ("UNKNOWN", "SUBMITTING", "PENDING", None):
                found.looked_for += 1
            elif times[number]:
                found.lost.append(f"{symbol} {number}: {row['status']} and {times[number]} at the exchange")
            else:
                found.unplaced += 1
        found.lost += [f"taken in by an engine that led no more: {row}" for row in rows.get(STRAY, [])]
        found.doubled += [f"{number}: {count} times" for number, count in times.items() if count > 1]
        for symbol in SYMBOLS:
            numbers = [int(event.params["quantity"]) for event in placed if event.params["tradingsymbol"] == symbol]
            found.disordered += [f"{symbol}: {a} before {b}" for a, b in itertools.pairwise(numbers) if a > b]
        return found


def plan(rng: random.Random, count: int) -> list[str]:
    """Return how *count* leaders fall silent: mostly killed, one in six stopped, one in ten ended in good order."""
    return rng.choices(("kill", "stop", "term"), weights=(44, 10, 6), k=count)
