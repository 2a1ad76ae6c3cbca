"""Engines that die on order, one after another, each a fork of one prepared process (see crashing_engine)."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from tests.support.crashing_engine import Plan
from tests.support.engine import PASSWORD

ROOT = Path(__file__).resolve().parents[2]
_POLL_S = 0.01


class Died(Exception):
    """The engine ended before it was ready."""


class Zygote:
    """Starts engines in *folder*, one at a time, with *environment* as their whole environment but for the basics."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.log = folder / "engine.out"
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("ENGINE", "PYTEST"))},
            "ENGINE_ADMIN_PASSWORD": PASSWORD,
            "PYTHONWARNINGS": "ignore",
            **environment,
        }
        folder.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.crashing_engine", "--serve"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._words: queue.Queue[int | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.starts = 0

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._words.put(int(line))
        self._words.put(None)

    def start(self, plan: Plan | None = None) -> "DyingEngine":
        """Start an engine under *plan* and return at once."""
        self.starts += 1
        before = self.log.stat().st_size if self.log.exists() else 0
        job = {
            "folder": str(self.folder),
            "environment": self._environment,
            "output": str(self.log),
            "arguments": ["run", "--port", "0"],
            "plan": msgspec.to_builtins(plan or Plan()),
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return DyingEngine(self._word(60), self._word, self.log, before)

    def _word(self, timeout_s: float) -> int:
        word = self._words.get(timeout=timeout_s) if timeout_s else self._words.get_nowait()
        if word is None:
            raise RuntimeError("the process that starts the engines has ended")
        return word

    def close(self) -> None:
        """End the starting process; its engine has ended before."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)
        self._reader.join(5)
        self._process.stdout.close()


class DyingEngine:
    """One life of the engine."""

    def __init__(self, pid: int, word: Any, log: Path, offset: int) -> None:
        self.pid = pid
        self._word = word
        self._log = log
        self._offset = offset
        self.base_url = ""
        self.code: int | None = None
        self._asking = threading.Lock()
        self.began = time.monotonic()
        self.ready_s = 0.0

    def output(self) -> str:
        """What this life has printed."""
        if not self._log.exists():
            return ""  # it has not come that far
        with self._log.open("rb") as file:
            file.seek(self._offset)
            return file.read().decode(errors="replace")

    def wait_ready(self, within_s: float = 30) -> "DyingEngine":
        """Wait for the ready line. Raises Died."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            for line in self.output().splitlines(keepends=True):
                if line.startswith("engine ready ") and line.endswith("\n"):
                    self.base_url = line.split()[2]
                    self.ready_s = time.monotonic() - self.began
                    return self
            if self.has_died():
                raise Died(f"exit code {self.code}:\n{self.output()[-3000:]}")
            time.sleep(_POLL_S)
        self.kill()
        raise Died(f"not ready within {within_s} s:\n{self.output()[-3000:]}")

    def has_died(self) -> bool:
        """Whether it has ended; any thread may ask."""
        with self._asking:
            if self.code is None:
                try:
                    self.code = self._word(0.0)
                except queue.Empty:
                    return False
        return True

    def wait_died(self, within_s: float) -> int:
        """Return the exit code (-9 for SIGKILL). Raises TimeoutError."""
        deadline = time.monotonic() + within_s
        while not self.has_died():
            if time.monotonic() > deadline:
                raise TimeoutError(f"the engine lives on after {within_s} s")
            time.sleep(_POLL_S)
        assert self.code is not None
        return self.code

    def kill(self) -> int:
        """SIGKILL."""
        return self._end(signal.SIGKILL, 10)

    def stop(self, within_s: float = 20) -> int:
        """SIGTERM; killed when it does not end in time."""
        return self._end(signal.SIGTERM, within_s)

    def term(self) -> None:
        """SIGTERM, without waiting."""
        if not self.has_died():
            os.kill(self.pid, signal.SIGTERM)

    def _end(self, number: signal.Signals, within_s: float) -> int:
        if self.has_died():
            assert self.code is not None
            return self.code
        os.kill(self.pid, number)
        try:
            return self.wait_died(within_s)
        except TimeoutError:
            os.kill(self.pid, signal.SIGKILL)
            self.wait_died(10)
            raise


class Api:
    """The engine's API over plain connections: cheap to open, for every life has a port of its own."""

    def __init__(self) -> None:
        self.base_url = ""
        self._token = ""
        self._token_at = 0.0

    def call(self, method: str, path: str, body: Any = None, *, timeout_s: float = 10) -> tuple[int, Any]:
        """Return status and envelope; raises OSError or HTTPException when the engine goes away."""
        if not self._token or time.monotonic() - self._token_at > 200:
            self._login()
        return self._request(method, path, body, {"Authorization": f"Bearer {self._token}"}, timeout_s)

    def data(self, method: str, path: str, body: Any = None, *, timeout_s: float = 10) -> Any:
        """Return the data of a call that must succeed."""
        status, answer = self.call(method, path, body, timeout_s=timeout_s)
        assert status in (200, 201), f"{method} {path}: {status} {answer}"
        return answer["data"]

    def _login(self) -> None:
        body = {"email": "admin@localhost", "password": PASSWORD}
        status, answer = self._request("POST", "/auth/login", body, {}, 10)
        assert status == 200, answer
        self._token = answer["data"]["accessToken"]
        self._token_at = time.monotonic()

    def _request(self, method: str, path: str, body: Any, headers: dict[str, str], timeout_s: float) -> tuple[int, Any]:
        connection = HTTPConnection(urlsplit(self.base_url).netloc, timeout=timeout_s)
        try:
            raw = None if body is None else json.dumps(body).encode()
            connection.request(method, f"/api/v1{path}", raw, {"Content-Type": "application/json", **headers})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        finally:
            connection.close()
