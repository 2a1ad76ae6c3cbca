"""The real engine as a process of its own: started, spoken to over HTTP, stopped or killed."""

import hashlib
import hmac
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Self

import httpx
import msgspec

from tests.support import forks

PASSWORD = "correct horse battery staple"
_READY_WITHIN_S = 60
_STOP_WITHIN_S = 20
# dangerous changes need a sign-in of the last five minutes
_FRESH_S = 240


class EngineProcess:
    """``engine run`` in *folder*, with what it prints collected.

    *environment* holds ``ENGINE__SECTION__KEY`` overrides; ``database_url`` and ``redis_url`` of the
    tests' servers are given that way. Without them the engine starts its embedded ones. *program* is
    what Python runs instead of ``-m engine``: a launcher of tests/support.
    """

    program: tuple[str, ...] = ("-m", "engine")

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self.folder = folder
        self.data_dir = folder / ".engine"
        self._arguments = arguments
        self._environment = (
            {key: value for key, value in os.environ.items() if not key.startswith(("ENGINE", "PYTEST"))}
            | {"ENGINE_ADMIN_PASSWORD": PASSWORD, "PYTHONWARNINGS": "ignore"}
            | environment
        )
        self.lines: list[str] = []
        self.errors: list[str] = []
        self.base_url = self.standby_url = ""
        self.process: subprocess.Popen[str] | forks.Fork | None = None
        self._ready = threading.Event()
        self._threads: list[threading.Thread] = []
        self._token = ""
        self._token_until = 0.0

    def start(self, *, wait: bool = True) -> Self:
        """Start it and wait for the ready line; raises RuntimeError with its words when it ends first."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._ready.clear()
        self.base_url, self.standby_url, self._token = "", "", ""
        self.process = forks.popen(
            self.program,
            ["run", "--port", "0", *self._arguments],
            cwd=self.folder,
            env=self._environment,
            stderr=subprocess.PIPE,
        )
        self._threads = [
            threading.Thread(target=self._read, args=(self.process.stdout, self.lines), daemon=True),
            threading.Thread(target=self._read, args=(self.process.stderr, self.errors), daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        if wait:
            self.wait_ready()
        return self

    def _read(self, pipe: Any, into: list[str]) -> None:
        for line in pipe:
            into.append(line.rstrip("\n"))
            if line.startswith("engine standby "):
                self.standby_url = line.split()[2]
            if line.startswith("engine ready "):
                self.base_url = line.split()[2]
                self._ready.set()
        if into is self.lines:
            self._ready.set()

    def wait_ready(self) -> None:
        """Wait for the ready line."""
        self._ready.wait(_READY_WITHIN_S)
        if not self.base_url:
            self.kill()
            raise RuntimeError("the engine did not get ready:\n" + "\n".join([*self.lines, *self.errors][-40:]))

    def wait_standby(self) -> None:
        """Wait until it says that it waits for another engine."""
        self.wait_for("standby", lambda: self.standby_url or self._has_ended(), within_s=_READY_WITHIN_S)
        assert self.standby_url, "it did not become a standby:\n" + "\n".join([*self.lines, *self.errors][-40:])

    def _has_ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def stop(self) -> int:
        """SIGTERM; return the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self._reap()

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
        if self.process is not None:
            self._reap()

    def _reap(self) -> int:
        assert self.process is not None
        try:
            code = self.process.wait(_STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
            raise
        finally:
            for thread in self._threads:
                thread.join(5)
            for pipe in (self.process.stdout, self.process.stderr):
                if pipe is not None:
                    pipe.close()
        return code

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    # speaking to it

    @property
    def source(self) -> tuple[str, str]:
        """API key and secret of the first sheets source, as printed at the first start."""
        for line in self.lines:
            found = re.match(r"sheets source: X-API-Key (\S+)  secret (\S+)", line)
            if found:
                return found[1], found[2]
        raise AssertionError("no source was printed: " + "\n".join(self.lines))

    def login(self) -> str:
        """Return an access token of the first administrator, who signed in lately."""
        if not self._token or time.monotonic() > self._token_until:
            answer = httpx.post(
                f"{self.base_url}/api/v1/auth/login",
                json={"email": "admin@localhost", "password": PASSWORD},
                timeout=10,
            )
            answer.raise_for_status()
            self._token = answer.json()["data"]["accessToken"]
            self._token_until = time.monotonic() + _FRESH_S
        return self._token

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Call the API as the first administrator; *path* without the base path."""
        headers = {"Authorization": f"Bearer {self.login()}"} | options.pop("headers", {})
        return httpx.request(method, f"{self.base_url}/api/v1{path}", headers=headers, timeout=15, **options)

    def get(self, path: str, **params: Any) -> Any:
        """Return the data of a GET that must succeed."""
        answer = self.request("GET", path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def signal(
        self,
        body: dict[str, Any] | list[Any] | bytes,
        *,
        key: str | None = None,
        source: tuple[str, str] | None = None,
        client: httpx.Client | None = None,
    ) -> httpx.Response:
        """Send a signed signal; *key* is its Idempotency-Key."""
        api_key, secret = source or self.source
        raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
        headers = signed(raw, api_key, secret)
        if key is not None:
            headers["Idempotency-Key"] = key
        post = httpx.post if client is None else client.post
        return post(f"{self.base_url}/api/v1/signals/sheets/webhook", content=raw, headers=headers, timeout=15)

    def wait_for(self, what: str, look: Any, *, within_s: float = 20) -> Any:
        """Return the first true answer of *look*; fails after *within_s* seconds."""
        deadline = time.monotonic() + within_s
        while True:
            found = look()
            if found:
                return found
            assert time.monotonic() < deadline, f"{what} did not happen; last seen: {found!r}"
            time.sleep(0.05)


def signed(raw: bytes, api_key: str, secret: str, *, at: int | None = None) -> dict[str, str]:
    """Return the headers of a signed webhook."""
    timestamp = str(int(time.time()) if at is None else at)
    signature = hmac.new(secret.encode(), f"{timestamp}.".encode() + raw, hashlib.sha256).hexdigest()
    return {
        "Content-Type": "application/json",
        "X-API-Key": api_key,
        "X-Timestamp": timestamp,
        "X-Signature": signature,
    }


def limit_order(symbol: str = "SBIN", price: float = 815.0, quantity: int = 1, **changes: Any) -> dict[str, Any]:
    """Return a signal for a LIMIT BUY."""
    return market_order(symbol, quantity, orderType="LIMIT", price=price) | changes


def market_order(symbol: str = "SBIN", quantity: int = 1, **changes: Any) -> dict[str, Any]:
    """Return a signal for a MARKET BUY, which the paper exchange fills at once."""
    return {
        "symbol": symbol,
        "exchange": "NSE",
        "transactionType": "BUY",
        "quantity": quantity,
        "orderType": "MARKET",
        "productType": "MIS",
    } | changes
