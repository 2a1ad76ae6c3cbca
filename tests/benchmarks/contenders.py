"""The engines that are killed side by side, and what both stand on: the stores and the broker."""

import hashlib
import hmac
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import trio

from engine.embedded.identity import private_directory, server_user
from engine.embedded.postgres import OWNER_ROLE, EmbeddedPostgres, binaries
from engine.embedded.process import spawn
from tests.support.engine import EngineProcess, signed
from tests.support.kite_mode import OPEN_LIMITS, kite_environment, set_up
from tests.support.ports import free_port
from tests.support.valkey import OwnValkey

TOOLS = Path(__file__).resolve().parents[3] / "shared" / "bench"
PEER = TOOLS / "peers" / "seed_node"

PEER_KEY, PEER_SECRET = "bench-api-key-0000000000000001", "bench-api-secret-00000000000001"
_READY_WITHIN_S = 60.0
_UNDER_WAY = ("wait", "waiting", "active", "delayed", "paused", "prioritized", "waiting-children")
_ENDED = frozenset({"REJECTED", "FAILED", "CANCELLED", "EXPIRED"})


def why_not() -> str | None:
    """Return what is missing, None when all is there."""
    if not (TOOLS / "fake_kite.py").exists() or not PEER.is_dir():
        return "the comparison tools are not beside the project (../shared/bench)"
    missing = [program for program in ("node", "npm") if shutil.which(program) is None]
    return f"{' and '.join(missing)} is not installed" if missing else None


@dataclass
class Stores:
    """Where both servers listen."""

    postgres_port: int
    valkey_port: int

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run one statement; return its unaligned output."""
        target = ["-h", "127.0.0.1", "-p", str(self.postgres_port), "-U", OWNER_ROLE, "-d", database]
        done = subprocess.run(
            [str(binaries() / "psql"), "-X", "-q", "-A", "-t", *target, "-c", statement],
            env={"PATH": os.defpath, "PGCLIENTENCODING": "UTF8"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        return done.stdout.strip()


@contextmanager
def stores(folder: Path) -> Iterator[Stores]:
    """Run a PostgreSQL and a Valkey that sync what they confirm, on TCP, for both engines."""
    found = Stores(free_port(), free_port())
    home = folder / "stores"
    home.mkdir(mode=0o711)
    (home / "postgres-log").mkdir()
    user = server_user(home / "postgres")
    server = EmbeddedPostgres(home)
    trio.run(server.initialise, user)
    private_directory(server.places.socket_dir(), user)
    with (home / "postgres" / "pg_hba.conf").open("w") as rules:
        rules.write("local all all trust\nhost all all 127.0.0.1/32 trust\n")
    argv = [*server.command(), "-c", "listen_addresses=127.0.0.1", "-c", f"port={found.postgres_port}"]
    argv += ["-c", "max_connections=100"]
    with (folder / "postgres.log").open("ab") as log:
        process = spawn(argv, user=user, reads=server.reads(), death_signal=signal.SIGINT, log=log)
    (home / "valkey").mkdir()
    try:
        # the tests' helper speaks over the socket, the engines over TCP
        with OwnValkey(home / "valkey", port=str(found.valkey_port), bind="127.0.0.1"):
            _wait_for("PostgreSQL", lambda: _answers(found))
            yield found
    finally:
        process.send(signal.SIGINT)
        _wait_for("PostgreSQL's end", lambda: process.exit_code() is not None)
        process.close()


def _answers(found: Stores) -> bool:
    try:
        return found.sql("SELECT 1") == "1"
    except RuntimeError:
        return False


def _wait_for(what: str, look: Any, *, within_s: float = _READY_WITHIN_S) -> None:
    deadline = time.monotonic() + within_s
    while not look():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {within_s:.0f} s")
        time.sleep(0.02)


class Broker:
    """The comparison tools' broker, with its log of every order."""

    def __init__(self, folder: Path, *, delay_ms: float) -> None:
        self._log = folder / "orders.jsonl"
        self.url = f"http://127.0.0.1:{free_port()}"
        port = self.url.rpartition(":")[2]
        self._process = subprocess.Popen(
            [
                *(sys.executable, str(TOOLS / "fake_kite.py"), "--port", port, "--log", str(self._log)),
                *("--delay-ms", str(delay_ms)),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _wait_for("the broker", lambda: _is_up(f"{self.url}/_control/stats"))

    def received(self) -> int:
        """Return how many orders have come in so far."""
        answer = httpx.get(f"{self.url}/_control/stats", timeout=5)
        return int(answer.json()["orders"]["received"])

    def close(self) -> Counter[tuple[str, str, str]]:
        """End it; return how often it accepted each (symbol, side, price)."""
        self._process.terminate()
        self._process.wait(10)
        taken: Counter[tuple[str, str, str]] = Counter()
        for line in self._log.read_text().splitlines():
            order = json.loads(line)
            if order["outcome"] in ("ok", "unanswered"):
                form = order["params"]
                price = f"{float(form['price']):.2f}"
                taken[form["tradingsymbol"], form["transaction_type"], price] += 1
        return taken


def _is_up(url: str) -> bool:
    try:
        httpx.get(url, timeout=2)
    except httpx.TransportError:
        return False
    return True


class Contender(ABC):
    """An engine under test: started and killed at one address."""

    name: str

    def __init__(self, folder: Path, where: Stores, broker: Broker) -> None:
        self.folder = folder
        self.where = where
        self.broker = broker
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    @abstractmethod
    def prepare(self) -> None:
        """Make its databases and its account."""

    @abstractmethod
    def start(self) -> None:
        """Start it and wait until it takes signals."""

    @abstractmethod
    def kill(self) -> None:
        """SIGKILL."""

    @abstractmethod
    def headers(self, raw: bytes) -> dict[str, str]:
        """Return the headers of a signed signal."""

    @abstractmethod
    def states(self) -> dict[str, str]:
        """Return state and reason of every intent that has ended in a named way without an order, by id."""

    @abstractmethod
    def is_settled(self) -> bool:
        """Whether nothing is to come any more, as far as the engine itself knows."""


class Ours(Contender):
    """This engine."""

    name = "this engine"

    def prepare(self) -> None:
        self.where.sql("CREATE DATABASE ours")
        environment = {
            **OPEN_LIMITS,
            **kite_environment(self.broker.url),
            "ENGINE__DATABASE__URL": (
                f"postgresql://{OWNER_ROLE}@127.0.0.1:{self.where.postgres_port}/ours?sslmode=disable"
            ),
            "ENGINE__REDIS__URL": f"redis://127.0.0.1:{self.where.valkey_port}/1",
            "ENGINE__LIMITS__API_PER_MINUTE": "1000000",
        }
        self._engine = EngineProcess(self.folder / "ours", "--port", str(self.port), **environment)
        self._engine.start()
        self._source = set_up(self._engine)
        assert self._engine.stop() == 0

    def start(self) -> None:
        self._engine.start()

    def kill(self) -> None:
        self._engine.kill()

    def headers(self, raw: bytes) -> dict[str, str]:
        return signed(raw, *self._source)

    def states(self) -> dict[str, str]:
        return {
            intent["id"]: f"{intent['status']}: {str(intent['reason']).partition(':')[0]}"
            for intent in self._intents()
            if intent["status"] in _ENDED
        }

    def is_settled(self) -> bool:
        looked_for = {"PENDING", "SUBMITTING", "UNKNOWN"}
        return not any(
            intent["status"] in ("RECEIVED", "APPROVED", "EXECUTING")
            and (not intent["orders"] or any(order["status"] in looked_for for order in intent["orders"]))
            for intent in self._intents()
        )

    def _intents(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        cursor: dict[str, str] = {}
        while True:
            answer = self._engine.request("GET", "/signals/intents", params={"limit": 200} | cursor)
            answer.raise_for_status()
            page = answer.json()
            found += page["data"]
            if not page["page"]["nextCursor"]:
                return found
            cursor = {"cursor": page["page"]["nextCursor"]}


class Node(Contender):
    """The peer: Express, Sequelize and BullMQ."""

    name = "Node peer"
    source = PEER

    def prepare(self) -> None:
        self.where.sql("CREATE DATABASE peer")
        self._home = peer_folder(self.source)
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "NODE_ENV": "production",
            "PG_URL": f"postgres://{OWNER_ROLE}@127.0.0.1:{self.where.postgres_port}/peer",
            "REDIS_URL": f"redis://127.0.0.1:{self.where.valkey_port}/2",
            "KITE_ROOT": self.broker.url,
            "PORT": str(self.port),
            "LOG_DIR": str(self.folder / "peer-logs"),
        }
        subprocess.run(
            ["node", "scripts/setup.js"],
            cwd=self._home,
            env=self._environment | {"RESET": "1"},
            check=True,
            capture_output=True,
            timeout=120,
        )

    def start(self) -> None:
        with (self.folder / "peer.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["node", "src/server.js"], cwd=self._home, env=self._environment, stdout=log, stderr=log
            )
        _wait_for("the peer", lambda: _is_up(f"{self.url}/"))

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)

    def headers(self, raw: bytes) -> dict[str, str]:
        return {
            "Content-Type": "application/json",
            "X-API-Key": PEER_KEY,
            "X-Signature": hmac.new(PEER_SECRET.encode(), raw, hashlib.sha256).hexdigest(),
            "X-Timestamp": str(int(time.time())),
        }

    def states(self) -> dict[str, str]:
        rows = self.where.sql(
            "SELECT json_agg(json_build_array(id, status, rejection_reason)) FROM trade_intents"
            " WHERE status IN ('REJECTED', 'FAILED')",
            "peer",
        )
        return {row[0]: f"{row[1]}: {row[2]}" for row in json.loads(rows or "[]") or []}

    def is_settled(self) -> bool:
        queues = httpx.get(f"{self.url}/api/v1/system/metrics", timeout=15).json()["data"]["queues"].values()
        return not any(counts.get(state) for counts in queues for state in _UNDER_WAY)


def peer_folder(source: Path = PEER) -> Path:
    """Return a copy of the peer in *source* with its packages, made once outside of the project and of the tools."""
    home = Path(os.environ.get("PEER_DIR", Path(tempfile.gettempdir()) / "engine-peer-node"))
    if not (home / "node_modules").is_dir():
        shutil.copytree(source, home, dirs_exist_ok=True)
        subprocess.run(
            ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund"], cwd=home, check=True, timeout=600
        )
    return home
