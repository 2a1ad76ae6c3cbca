"""A world for crash trials: an exchange that outlives every engine, two stores, and senders that do not give up."""

import json
import os
import random
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from hashlib import sha256
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit
from urllib.request import Request, urlopen

import redis

from tests.support.crash_engine import ROOT, Api, DyingEngine, Zygote
from tests.support.crash_exchange import API_KEY, API_SECRET
from tests.support.crashing_engine import Plan
from tests.support.engine import signed
from tests.support.kite_mode import OPEN_LIMITS, kite_environment
from tests.support.servers import TestServers

HURRY_S = 2.5
_GIVE_UP_S = 30.0


@dataclass
class Signal:
    """One signal: its quantity is its number, so that its order is known wherever it turns up."""

    number: int
    symbol: str
    price: str
    rests: bool
    intent_id: str = ""
    answers: list[str] = field(default_factory=list)

    @property
    def key(self) -> str:
        """Its Idempotency-Key."""
        return f"n{self.number}"

    def body(self) -> bytes:
        """The signal as it goes over the wire, the same bytes at every try."""
        return json.dumps(
            {
                "symbol": self.symbol,
                "exchange": "NSE",
                "transactionType": "BUY",
                "quantity": self.number,
                "orderType": "LIMIT",
                "productType": "MIS",
                "price": float(self.price),
            }
        ).encode()


class World:
    """One exchange, one database, one journal, and the engines that live on them one after another."""

    def __init__(self, folder: Path, servers: TestServers, *, name: str, redis_db: int, seed: int) -> None:
        self.folder = folder
        self.servers = servers
        self.database = name
        self.rng = random.Random(seed)
        folder.mkdir(parents=True, exist_ok=True)
        database_url = servers.create_database(name)
        redis_url = f"{servers.redis_url}?db={redis_db}"
        servers.flush(redis_url)
        self.record = folder / "exchange.jsonl"
        self.witness = folder / "witness.jsonl"
        arguments = [str(self.record), str(self.witness), database_url, str(seed)]
        self._exchange = subprocess.Popen(
            [sys.executable, "-m", "tests.support.crash_exchange", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._exchange.stdout is not None
        words = self._exchange.stdout.readline().split()
        if words[:2] != ["exchange", "ready"]:
            raise RuntimeError("the exchange did not start")
        self.exchange_url = words[2]
        environment = {
            **OPEN_LIMITS,
            "ENGINE__RISK__MAX_OPEN_POSITIONS": "none",
            "ENGINE__RISK__CIRCUIT_BREAKER_FAILURES": "none",
            "ENGINE__DATABASE__URL": database_url,
            "ENGINE__REDIS__URL": redis_url,
            **kite_environment(self.exchange_url),
        }
        self.zygote = Zygote(folder / "engine", environment)
        self.api = Api()
        self.engine: DyingEngine | None = None
        self.bug = ""
        self.signals: list[Signal] = []
        self.blocked: list[tuple[float, float]] = []
        self.ready_s: list[float] = []
        self.access_token = ""
        self.source = ("", "")
        self.waiting: dict[str, deque[Signal]] = {}
        self._prices = self._read_prices()
        self._symbols = list(self._prices)
        self._next_symbol = 0
        self.kills = 0

    def close(self) -> None:
        """End everything."""
        if self.engine is not None:
            self.engine.kill()
        self.zygote.close()
        self._exchange.kill()
        self._exchange.wait(10)
        assert self._exchange.stdout is not None
        self._exchange.stdout.close()
        self.servers.drop_database(self.database)

    # the exchange

    def _read_prices(self) -> dict[str, tuple[Decimal, Decimal]]:
        """Last price and tick of the shares."""
        with urlopen(f"{self.exchange_url}/instruments/NSE", timeout=10) as answer:  # noqa: S310 -- loopback
            head, *rows = [line.split(",") for line in answer.read().decode().splitlines()]
        column = {name: number for number, name in enumerate(head)}
        return {
            row[column["tradingsymbol"]].strip('"'): (
                Decimal(row[column["last_price"]]),
                Decimal(row[column["tick_size"]]),
            )
            for row in rows
            if row[column["instrument_type"]] == "EQ" and row[column["segment"]] == "NSE"
        }

    def log_in(self) -> str:
        """Log in at the exchange as a browser and an app do."""
        url = urlsplit(self.exchange_url)
        connection = HTTPConnection(url.netloc, timeout=10)
        connection.request("GET", f"/connect/login?v=3&api_key={API_KEY}")
        answer = connection.getresponse()
        token = parse_qs(urlsplit(answer.headers["Location"]).query)["request_token"][0]
        connection.close()
        checksum = sha256(f"{API_KEY}{token}{API_SECRET}".encode()).hexdigest()
        form = urlencode({"api_key": API_KEY, "request_token": token, "checksum": checksum}).encode()
        with urlopen(f"{self.exchange_url}/session/token", form, timeout=10) as opened:  # noqa: S310 -- loopback
            self.access_token = str(json.loads(opened.read())["data"]["access_token"])
        return self.access_token

    def ask_exchange(self, path: str) -> Any:
        """Return the data of a Kite read."""
        headers = {"Authorization": f"token {API_KEY}:{self.access_token}", "X-Kite-Version": "3"}
        with urlopen(Request(self.exchange_url + path, headers=headers), timeout=10) as answer:  # noqa: S310
            return json.loads(answer.read())["data"]

    # the engine

    def start(self, plan: Plan | None = None, *, wait: bool = True) -> DyingEngine:
        """Start the next engine, in a hurry about rule R."""
        self.engine = self.zygote.start(plan or Plan(hurry=HURRY_S, bug=self.bug))
        if wait:
            self.is_ready()
        return self.engine

    def is_ready(self, within_s: float = 30) -> None:
        """Wait until the engine is ready. Raises Died."""
        assert self.engine is not None
        self.engine.wait_ready(within_s)
        self.api.base_url = self.engine.base_url
        self.ready_s.append(self.engine.ready_s)

    def plan(self, point: str, hit: int = 1, *, at_once: bool = False, term: bool = False) -> tuple[Plan, Path, Path]:
        """Return a plan, the file that arms it and the file that it leaves."""
        self.kills += 1
        arm, marker = self.folder / f"arm-{self.kills}", self.folder / f"marker-{self.kills}"
        plan = Plan(
            point=point,
            hit=hit,
            arm=None if at_once else str(arm),
            marker=str(marker),
            signal="TERM" if term else "KILL",
            hurry=HURRY_S,
            bug=self.bug,
        )
        return plan, arm, marker

    def set_up(self) -> None:
        """Give the engine an account, a strategy and a source."""
        data = self.api.data
        account = data(
            "POST",
            "/accounts",
            {
                "label": "kite",
                "broker": "kite",
                "apiKey": API_KEY,
                "apiSecret": API_SECRET,
                "accessToken": self.log_in(),
                "capital": 10**12,
            },
        )
        target = {"accountId": account["id"], "sizing": {"mode": "multiplier", "value": 1}}
        strategy = data(
            "POST", "/strategies", {"name": "crash", "enabled": True, "approval": "auto", "accounts": [target]}
        )
        source = data("POST", "/sources", {"type": "sheets", "strategyId": strategy["id"], "name": "crash"})
        self.source = (source["apiKey"], source["secret"])

    # the senders

    def make_signals(self, count: int, *, symbols: int = 5, resting: int = 0, of: int | None = None) -> list[Signal]:
        """Make signals over *symbols* symbols that had none for the longest time; *resting* of them do not fill.

        With *of* only the first so many symbols are used.
        """
        pool = self._symbols[:of]
        names = [pool[(self._next_symbol + i) % len(pool)] for i in range(symbols)]
        self._next_symbol += symbols
        made = []
        for number in range(len(self.signals) + 1, len(self.signals) + 1 + count):
            rests = len(made) < resting
            symbol = names[len(made) % symbols]
            last, tick = self._prices[symbol]
            price = last * (Decimal("0.96") if rests else Decimal("1.02"))
            price = (price / tick).to_integral_value() * tick + tick * (number % 20)
            made.append(Signal(number, symbol, str(price), rests))
            self.waiting.setdefault(symbol, deque()).append(made[-1])
            self.signals.append(made[-1])
        return made

    def make_refused(self, count: int) -> None:
        """Make signals of an instrument that there is not: accepted, recorded, and refused by risk."""
        for number in range(len(self.signals) + 1, len(self.signals) + 1 + count):
            self.signals.append(Signal(number, f"NOSUCH{number % 5}", "100", rests=False))
            self.waiting.setdefault(self.signals[-1].symbol, deque()).append(self.signals[-1])

    def pause_journal(self, seconds: float) -> None:
        """Have the journal's server hold back writes for a moment."""
        client = redis.Redis.from_url(self.servers.redis_url)
        try:
            client.client_pause(int(seconds * 1000), all=False)
        finally:
            client.close()

    @property
    def unanswered(self) -> int:
        """Signals that wait for their 202."""
        return sum(len(waiting) for waiting in self.waiting.values())

    def send_all(self, *, until: Callable[[], bool] = lambda: False, on_sent: Callable[[], None] | None = None) -> None:
        """Send what is not acknowledged, in order for each symbol, symbols side by side, until the engine is gone.

        A signal that was sent and not answered is sent again, with its key, before the next of its symbol.
        """
        busy = [symbol for symbol, waiting in self.waiting.items() if waiting]
        if not busy:
            return
        deadline = time.monotonic() + _GIVE_UP_S
        with ThreadPoolExecutor(len(busy)) as senders:
            done = [senders.submit(self._send, symbol, deadline, until, on_sent) for symbol in busy]
            for each in done:
                each.result()

    def _send(
        self, symbol: str, deadline: float, until: Callable[[], bool], on_sent: Callable[[], None] | None
    ) -> None:
        waiting = self.waiting[symbol]
        connection = HTTPConnection(urlsplit(self.api.base_url).netloc, timeout=8)
        try:
            while waiting and not until() and time.monotonic() < deadline:
                signal = waiting[0]
                if on_sent is not None:
                    on_sent()
                if self.offer(connection, signal):
                    waiting.popleft()
                else:
                    time.sleep(0.05)
        except (OSError, HTTPException):
            pass  # the engine is gone: whatever is left is sent to the next one
        finally:
            connection.close()

    def offer(self, connection: HTTPConnection, signal: Signal) -> bool:
        """Send one signal; whether it was accepted."""
        raw = signal.body()
        headers = {**signed(raw, *self.source), "Idempotency-Key": signal.key}
        connection.request("POST", "/api/v1/signals/sheets/webhook", raw, headers)
        answer = connection.getresponse()
        content = json.loads(answer.read())
        signal.answers.append(f"{answer.status}")
        if answer.status == 202:
            verdict = content["data"]
            assert signal.intent_id in ("", verdict["intentId"]), "a repeat was answered with another intent"
            signal.intent_id = verdict["intentId"]
            return True
        assert answer.status in (429, 503), f"{signal}: {answer.status} {content}"
        return False

    # what is in the database

    def rows(self, query: str) -> list[dict[str, Any]]:
        """Return the rows of a query, as JSON gives them."""
        text = self.servers.sql(f"SELECT coalesce(json_agg(r), '[]') FROM ({query}) r", self.database)
        found: list[dict[str, Any]] = json.loads(text)
        return found

    @contextmanager
    def holding(self, statement: str) -> Iterator[None]:
        """Hold what *statement* locks for the length of a block."""
        target = self.servers.psql_target(self.database)
        session = subprocess.Popen(
            [*target, "-X", "-q", "-A", "-t"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert session.stdin is not None
        assert session.stdout is not None
        try:
            session.stdin.write(f"BEGIN;\n{statement};\n\\echo held\n")
            session.stdin.flush()
            while "held" not in (line := session.stdout.readline()):
                assert line, "psql ended"
            yield
        finally:
            session.stdin.close()
            session.wait(10)
            session.stdout.close()

    # the end

    def settle(self, within_s: float = 90) -> None:
        """Have everything acknowledged, cancel what rests, and wait until every intent has ended."""
        deadline = time.monotonic() + within_s
        while self.unanswered:
            assert time.monotonic() < deadline, f"{self.unanswered} signals were never accepted"
            self.send_all()
        asked: dict[str, float] = {}
        while True:
            live = self.rows(
                "SELECT i.id, i.status, i.idempotency_key, o.id AS order_id, o.status AS order_status, o.symbol,"
                " o.status_message FROM trade_intents i LEFT JOIN orders o ON o.intent_id = i.id WHERE"
                " i.status IN ('RECEIVED', 'PENDING_APPROVAL', 'APPROVED', 'EXECUTING')"
            )
            if not live:
                return
            assert time.monotonic() < deadline, f"still live: {live[:10]}"
            open_ids = [row["order_id"] for row in live if row["order_status"] == "OPEN"]
            resting = [order_id for order_id in open_ids if time.monotonic() - asked.get(order_id, 0.0) > 3]
            if resting:
                asked.update(dict.fromkeys(resting, time.monotonic()))
                with ThreadPoolExecutor(8) as hands:
                    list(hands.map(self._cancel, resting))
            time.sleep(0.1)

    def _cancel(self, order_id: str) -> None:
        status, answer = self.api.call("POST", f"/executions/orders/{order_id}/cancel")
        # what has just ended is refused, and what cannot be asked now is asked again
        refused = status == 500 and answer["error"]["code"] == "ORDER_EXECUTION_FAILED"
        assert status in (200, 409, 503) or refused, answer


def touch(path: Path) -> None:
    """Create a file, visible to every process at once."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
