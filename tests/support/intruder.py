"""Attacks from outside: people signed in, raw bytes, and what a refusal must look like."""

import json
import socket
from typing import Any
from uuid import uuid4

import httpx

from tests.support.engine import EngineProcess


class Person:
    """Somebody who is signed in."""

    def __init__(self, base_url: str, email: str, password: str) -> None:
        self.base_url = base_url
        self.email = email
        self.password = password
        self._client = httpx.Client(base_url=f"{base_url}/api/v1", timeout=20)
        answer = self._client.post("/auth/login", json={"email": email, "password": password})
        assert answer.status_code == 200, answer.text
        signed_in = answer.json()["data"]
        self.id: str = signed_in["user"]["id"]
        self.token: str = signed_in["accessToken"]
        self.refresh_token: str = signed_in["refreshToken"]

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Call the API; *path* without the base path."""
        headers = {"Authorization": f"Bearer {self.token}"} | options.pop("headers", {})
        return self._client.request(method, path, headers=headers, **options)

    def make(self, path: str, **body: Any) -> dict[str, Any]:
        """POST what must succeed; return its data."""
        answer = self.request("POST", path, json=body)
        assert answer.status_code in (200, 201, 202), answer.text
        made: dict[str, Any] = answer.json()["data"]
        return made


class People:
    """Signs up users with a role, each once; *of* tells those of one module from another's on the same engine."""

    def __init__(self, engine: EngineProcess, *, of: str = "") -> None:
        self._engine = engine
        self._desk = f"{of.replace('_', '-')}.desk.example".lstrip(".")
        self._known: dict[str, Person] = {}

    def close(self) -> None:
        """Close everybody's connections."""
        for person in self._known.values():
            person.close()

    def sign_in_again(self) -> None:
        """Sign everybody in anew: the engine listens elsewhere after a start."""
        for name, person in self._known.items():
            person.close()
            self._known[name] = Person(self._engine.base_url, person.email, person.password)

    def __call__(self, name: str, role: str) -> Person:
        if name not in self._known:
            email, password = f"{name}@{self._desk}", f"{name} holds the {uuid4().hex} line"
            made = self._engine.request("POST", "/users", json={"email": email, "password": password, "role": role})
            assert made.status_code == 201, made.text
            self._known[name] = Person(self._engine.base_url, email, password)
        return self._known[name]


def raw_exchange(base_url: str, octets: bytes, *, within_s: float = 20) -> bytes:
    """Send *octets* on a connection of their own; return all that comes until the server closes it."""
    with socket.create_connection(address(base_url), timeout=within_s) as connection:
        try:
            connection.sendall(octets)
        except OSError:
            pass  # refused before all of it was sent: the answer is what counts
        received = bytearray()
        while True:
            try:
                more = connection.recv(65536)
            except (ConnectionResetError, BrokenPipeError):
                return bytes(received)
            if not more:
                return bytes(received)
            received += more


def address(base_url: str) -> tuple[str, int]:
    """Return host and port of a base URL."""
    host, _, port = base_url.rpartition("//")[2].rpartition(":")
    return host, int(port)


def assert_refused(answer: httpx.Response, *statuses: int) -> dict[str, Any]:
    """Check that *answer* is an error of one of *statuses* in the contract's form; return it."""
    assert answer.status_code in statuses, f"{answer.request.method} {answer.request.url}: {answer.text}"
    body = json.loads(answer.content)
    assert body["success"] is False
    error: dict[str, Any] = body["error"]
    assert error["statusCode"] == answer.status_code
    assert {"message", "code", "timestamp", "details"} <= set(error)
    for trace in ("Traceback", "asyncpg", "psycopg", "SELECT ", 'File "/', ".py"):
        assert trace not in answer.text
    return error
