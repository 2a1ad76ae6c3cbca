"""``engine exchange`` as a process of its own, with its faults switched over the control routes."""

import subprocess
import threading
from hashlib import sha256
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import httpx

from engine.exchange.events import OrderRequested
from engine.exchange.record import read_record
from tests.support import forks

_READY_WITHIN_S = 20


class ExchangeProcess:
    """The exchange in *folder*; a second `start` goes on with the same record, keys and port."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.record_path = folder / "record.jsonl"
        self._folder = folder
        self._options = options
        self._port = 0
        self._process: subprocess.Popen[str] | forks.Fork | None = None
        self.apps: list[tuple[str, str]] = []
        self.base_url = ""

    @property
    def api_key(self) -> str:
        """Of the first account."""
        return self.apps[0][0]

    @property
    def api_secret(self) -> str:
        """Of the first account."""
        return self.apps[0][1]

    def start(self) -> Self:
        """Start it and wait until it listens."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._process = forks.popen(
            ("-m", "engine"),
            [
                *("exchange", "--control", "--no-limits"),
                *("--port", str(self._port), "--record", str(self.record_path), "--capital", "100000000000"),
                *self._options,
            ],
            cwd=Path.cwd(),
        )
        watch = threading.Timer(_READY_WITHIN_S, self._process.kill)
        watch.start()
        assert self._process.stdout is not None
        keys = list[str]()
        for line in self._process.stdout:
            words = line.split()
            if words[0] in ("api_key", "api_secret"):
                keys.append(words[1])
            else:
                self.base_url = words[2]
                break
        watch.cancel()
        self.apps = list(zip(keys[::2], keys[1::2], strict=True))
        assert self.base_url, "the exchange did not start"
        self._port = urlsplit(self.base_url).port or 0
        return self

    @property
    def pid(self) -> int:
        """Its process id while it runs."""
        assert self._process is not None
        return self._process.pid

    def stop(self) -> None:
        """SIGTERM."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.wait(20)
            assert process.stdout is not None
            process.stdout.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def request_token(self, app: int = 0) -> str:
        """Log in as a person does in the browser; return the token that an app exchanges for a session."""
        params = {"v": "3", "api_key": self.apps[app][0]}
        redirect = httpx.get(f"{self.base_url}/connect/login", params=params, timeout=10)
        return parse_qs(urlsplit(redirect.headers["location"]).query)["request_token"][0]

    def login(self, app: int = 0) -> str:
        """Return the access token of a new session."""
        token, (key, secret) = self.request_token(app), self.apps[app]
        checksum = sha256(f"{key}{token}{secret}".encode()).hexdigest()
        form = {"api_key": key, "request_token": token, "checksum": checksum}
        answer = httpx.post(f"{self.base_url}/session/token", data=form, timeout=10)
        answer.raise_for_status()
        return str(answer.json()["data"]["access_token"])

    def control(self, name: str, body: dict[str, Any]) -> None:
        """Turn a control (engine.exchange.control)."""
        answer = httpx.post(f"{self.base_url}/_control/{name}", json=body, timeout=10)
        assert answer.status_code == 200, answer.text

    def set_faults(self, *rules: dict[str, Any]) -> None:
        """Replace the rules by which it misbehaves; none ends it."""
        self.control("faults", {"rules": list(rules)})

    def hits(self) -> list[dict[str, Any]]:
        """Return the requests that rules were applied to since the start."""
        return list(httpx.get(f"{self.base_url}/_control/faults", timeout=10).json()["data"]["hits"])

    def places(self) -> list[OrderRequested]:
        """Return every request to place an order that the record holds, taken and refused ones."""
        return [e for e in read_record(self.record_path) if isinstance(e, OrderRequested) and e.action == "place"]
