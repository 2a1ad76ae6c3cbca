"""A real engine whose own PostgreSQL and Valkey stand behind proxies, under load while they fail.

Every signal has a pair (symbol, quantity) of its own; the exchange's record tells what became of it.
"""

import itertools
import re
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.support.chaos_proxy import ThreadProxy
from tests.support.engine import EngineProcess, market_order
from tests.support.exchange_process import ExchangeProcess
from tests.support.fault_rig import SYMBOLS
from tests.support.kite_mode import OPEN_LIMITS, kite_environment, set_up
from tests.support.postgres import OwnPostgres
from tests.support.trio_thread import TrioThread
from tests.support.valkey import OwnValkey

LIMITS = {
    "ENGINE__RISK__MAX_OPEN_POSITIONS": "none",
    "ENGINE__RISK__CIRCUIT_BREAKER_FAILURES": "none",
    "ENGINE__LIMITS__API_PER_MINUTE": "10000000",
    "ENGINE__LIMITS__LOGIN_PER_MINUTE": "1000",
}
NAMED_ENDS = frozenset({"EXECUTED", "REJECTED", "EXPIRED", "FAILED", "CANCELLED", "PARTIAL"})


@dataclass
class Sent:
    """One signal: what was answered (0: no answer), when, and after how long."""

    symbol: str
    quantity: int
    at: float
    status: int = 0
    seconds: float = 0.0
    intent: str = ""

    @property
    def signal(self) -> tuple[str, int]:
        return (self.symbol, self.quantity)


@dataclass
class Load:
    """What was sent during one fault."""

    sent: list[Sent] = field(default_factory=list)

    @property
    def accepted(self) -> list[Sent]:
        return [each for each in self.sent if each.status == 202]

    @property
    def refused(self) -> list[Sent]:
        return [each for each in self.sent if each.status != 202]

    def __str__(self) -> str:
        counts = Counter(each.status for each in self.sent)
        slow = sorted(each.seconds for each in self.sent)
        median = statistics.median(slow) if slow else 0.0
        return (
            f"{dict(counts)}, answers {median * 1e3:.0f} ms in the middle, {max(slow, default=0) * 1e3:.0f} ms at most"
        )


class StandValkey(OwnValkey):
    """A Valkey that may end by itself, and whose file can be spoilt."""

    def await_end(self) -> None:
        """Wait until it has ended by itself."""
        process, self._process = self._running(), None
        process.wait(10)

    def corrupt(self) -> Callable[[], None]:
        """Flip bytes in the middle of its append-only file; return what restores it."""
        file = max(self._folder.glob("appendonlydir/*.incr.aof"), key=lambda path: path.stat().st_size)
        whole = file.read_bytes()
        # where a command begins: inside of one a flipped byte would only change an entry
        spot = whole.index(b"\r\n*", len(whole) // 2) + 2
        file.write_bytes(whole[:spot] + b"\xff" * 16 + whole[spot + 16 :])

        def restore() -> None:
            file.write_bytes(whole)

        return restore

    def refuses_to_start(self) -> bool:
        """Whether a start ends by itself rather than answering."""
        try:
            self.start()
        except AssertionError:
            process, self._process = self._running(), None
            return process.wait(5) != 0
        return False


class StoreStand:
    """The engine, its servers, and the oracle over both."""

    engine_kind: type[EngineProcess] = EngineProcess

    def __init__(self, folder: Path, thread: TrioThread, **postgres: str) -> None:
        self.folder = folder
        self.valkey = StandValkey(_made(folder / "valkey"), maxmemory="64mb")
        self.postgres = OwnPostgres(thread, folder / "postgres", **postgres)
        self.valkey_proxy = ThreadProxy(thread, ("127.0.0.1", 0), self.valkey.socket)
        self._pg_folder = _made(folder / "pg")
        self.postgres_proxy = ThreadProxy(thread, self._pg_folder / self.postgres.socket.name, self.postgres.socket)
        self.engine: EngineProcess
        self.exchange: ExchangeProcess
        self.source = ("", "")
        self.reasons: Counter[str] = Counter()
        self._numbers = itertools.count(1)
        self._sent: dict[tuple[str, int], Sent] = {}
        self._lock = threading.Lock()

    @contextmanager
    def running(self, **environment: str) -> Iterator["StoreStand"]:
        """Run everything for the length of a block."""
        with self.postgres, self.valkey, ExchangeProcess(self.folder / "exchange") as self.exchange:
            self.valkey_proxy.up()
            self.postgres_proxy.up()
            port = self.valkey_proxy.faults.address[1]  # type: ignore[index]
            urls = {
                "ENGINE__DATABASE__URL": self.postgres.url(self._pg_folder),
                "ENGINE__REDIS__URL": f"redis://127.0.0.1:{port}",
            }
            try:
                settings = kite_environment(self.exchange.base_url) | OPEN_LIMITS | LIMITS | urls | environment
                with self.engine_kind(self.folder / "engine", **settings) as self.engine:
                    self.source = set_up(
                        self.engine,
                        api_key=self.exchange.api_key,
                        api_secret=self.exchange.api_secret,
                        access_token=self.exchange.login(),
                    )
                    yield self
            finally:
                self.postgres_proxy.down()
                self.valkey_proxy.down()

    def metrics(self) -> dict[str, Any]:
        """Return the engine's counters."""
        found: dict[str, Any] = self.engine.get("/system/metrics")
        return found

    def send(self, client: httpx.Client | None = None) -> Sent:
        """Send one signal and return what came of the asking."""
        number = next(self._numbers)
        sent = Sent(SYMBOLS[number % len(SYMBOLS)], 1 + number // len(SYMBOLS), time.time())
        with self._lock:
            self._sent[sent.signal] = sent
        body = market_order(sent.symbol, sent.quantity)
        began = time.monotonic()
        try:
            answer = self.engine.signal(body, key=f"s{number}", source=self.source, client=client)
        except httpx.TransportError:
            return sent
        finally:
            sent.seconds = time.monotonic() - began
        sent.status = answer.status_code
        if answer.status_code == 202:
            sent.intent = answer.json()["data"]["intentId"]
        return sent

    @contextmanager
    def load(self, *, senders: int = 4, pause_s: float = 0.04) -> Iterator[Load]:
        """Send signals all through the block, and a few after it."""
        load, stop = Load(), threading.Event()

        def work() -> None:
            with httpx.Client() as client:
                while not stop.is_set():
                    load.sent.append(self.send(client))
                    stop.wait(pause_s)

        threads = [threading.Thread(target=work, daemon=True) for _ in range(senders)]
        for thread in threads:
            thread.start()
        try:
            self.engine.wait_for("the load", lambda: len(load.accepted) >= 2 * senders, within_s=60)
            yield load
            before = len(load.accepted)
            self.engine.wait_for("the load going on", lambda: len(load.accepted) >= before + 2 * senders)
        finally:
            stop.set()
            for thread in threads:
                thread.join(30)

    def until(self, what: str, is_so: Any, *, within_s: float = 20) -> float:
        """Wait for *is_so* without any pause between looks; return the seconds that it took."""
        began = time.monotonic()
        while not is_so():
            assert time.monotonic() - began < within_s, f"{what} did not happen"
        return time.monotonic() - began

    def journal_is(self, available: bool) -> Any:
        """Return a look at whether the engine counts the journal's server as up."""
        return lambda: self.metrics()["journal"]["available"] is available

    def whole(self) -> None:
        """Wait until the engine calls itself ready."""

        def ready() -> bool:
            answer = httpx.get(f"{self.engine.base_url}/api/v1/system/ready", timeout=10)
            return bool(answer.json()["data"]["status"] == "ok")

        self.engine.wait_for("the engine being whole", ready, within_s=30)

    def check(self, load: Load, *, within_s: float = 30) -> Counter[str]:
        """The oracle: every accepted signal ends once, no refused one executes; return how many ended how."""
        assert self.engine.process is not None
        assert self.engine.process.poll() is None, "the engine has ended: " + "\n".join(self.engine.errors[-5:])
        self.whole()
        wanted = {each.intent for each in load.accepted}
        ends: dict[str, str] = {}

        def all_ended() -> bool:
            rows = self.postgres.sql("SELECT id || ' ' || status FROM trade_intents").splitlines()
            ends.clear()
            ends.update(tuple(row.split(" ")) for row in rows)  # type: ignore[arg-type]
            return all(ends.get(intent) in NAMED_ENDS for intent in wanted)

        try:
            self.engine.wait_for("every accepted signal ending", all_ended, within_s=within_s)
        except AssertionError:
            raise AssertionError(f"not ended: {self._reasons(load)}") from None
        taken = Counter(
            (e.params["tradingsymbol"], int(e.params["quantity"])) for e in self.exchange.places() if e.accepted
        )
        assert [signal for signal, count in taken.items() if count > 1] == []
        wrong = [
            (each, ends[each.intent])
            for each in load.accepted
            if (ends[each.intent] == "EXECUTED") != taken[each.signal]
        ]
        assert wrong == []
        # what got no answer at all may have come or not
        executed = [each for each in load.refused if each.status and taken[each.signal]]
        assert executed == [], "answered with a refusal and yet executed"
        assert set(taken) <= set(self._sent), "an order that nobody asked for"
        assert self.engine.get("/audit/verify")["ok"] is True
        self.reasons = self._reasons(load)
        return Counter(ends[each.intent] for each in load.accepted)

    def _reasons(self, load: Load) -> Counter[str]:
        """Return the reasons of accepted signals that did not execute, without their figures."""
        wanted = {each.intent for each in load.accepted}
        rows = self.postgres.sql(
            "SELECT i.id || '|' || i.status || '|' || coalesce(i.reason, '') "
            "|| '|' || coalesce(o.status, '') || ' ' || coalesce(o.status_message, '') "
            "FROM trade_intents i LEFT JOIN orders o ON o.intent_id = i.id WHERE i.status <> 'EXECUTED'"
        ).splitlines()
        found = [row.split("|") for row in rows if row.count("|") >= 3]
        return Counter(re.sub(r"[0-9.]+", "n", " ".join(words)) for intent, *words in found if intent in wanted)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
