"""The guard around the application: who is doubted, and how a large answer is handed on."""

from types import SimpleNamespace
from typing import Any

import pytest

from engine.clock import SystemClock
from engine.http.guard import CONNECTION_KEY, Guard, Message, Receive, Scope, Send
from engine.http.strangers import Strangers
from tests.support.proofs import Proofs

CLIENT = "198.51.100.7"
KEY = b"nobody's"


class Door:
    """An application that answers with *status* and *body*."""

    def __init__(self, body: bytes = b"") -> None:
        self.status = 401
        self.body = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": self.body, "more_body": False})


class Noting(Strangers):
    """Lets everybody in, and notes who was doubted."""

    def __init__(self) -> None:
        super().__init__(Proofs(), time=lambda: 0.0)
        self.doubted: list[bool] = []

    def enters(self, *args: Any, is_doubted: bool = False, **options: Any) -> float | None:
        self.doubted.append(is_doubted)
        return 0.0


def connection() -> Any:
    return SimpleNamespace(unproven=0, gives_way=False)


async def ask(guard: Guard, on: Any, *, peer: str = CLIENT) -> list[Message]:
    sent: list[Message] = []

    async def take(message: Message) -> None:
        sent.append(message)

    async def nothing() -> Message:
        raise AssertionError

    scope: Scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/signal",
        "raw_path": b"/signal",
        "query_string": b"",
        "headers": [(b"x-api-key", KEY)],
        "client": (peer, 4711),
        "state": {CONNECTION_KEY: on},
    }
    await guard(scope, nothing, take)
    return sent


def guard_of(door: Door, noting: Noting, client: str = CLIENT) -> Guard:
    return Guard(door, SystemClock(), None, noting, lambda scope: client)


async def test_sec_098_connection_whose_signatures_never_fit_is_doubted_until_one_does() -> None:
    door, noting = Door(), Noting()
    guard, theirs, ours = guard_of(door, noting), connection(), connection()
    for _ in range(5):
        await ask(guard, theirs)
    assert noting.doubted == [False] * 3 + [True] * 2
    await ask(guard, ours)  # the same key from the same address, on another connection
    assert noting.doubted[-1] is False
    door.status = 202
    await ask(guard, theirs)
    await ask(guard, theirs)
    assert noting.doubted[-2:] == [True, False]


async def test_sec_098_whoever_shares_the_connection_of_a_proxy_is_not_doubted_for_others() -> None:
    noting = Noting()
    guard, shared = guard_of(Door(), noting), connection()
    for _ in range(10):
        await ask(guard, shared, peer="10.0.0.1")
    assert noting.doubted == [False] * 10


def test_sec_098_doubted_key_waits_its_turn_as_a_stranger_does() -> None:
    strangers = Strangers(Proofs(), time=lambda: 0.0)
    headers = {b"x-api-key": KEY}
    assert [strangers.enters(CLIENT, "/signal", headers) for _ in range(300)] == [0.0] * 300
    waits = [strangers.enters(CLIENT, "/signal", headers, is_doubted=True) for _ in range(300)]
    assert waits[0] == 0.0
    assert waits[-1] is None or waits[-1] > 1.0
    assert strangers.enters(CLIENT, "/signal", headers) == 0.0


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 300_000])
async def test_sec_099_large_answer_is_handed_on_in_slices_and_whole(size: int) -> None:
    body = bytes(number % 251 for number in range(size))
    sent = [m for m in await ask(guard_of(Door(body), Noting()), connection()) if m["type"] == "http.response.body"]
    assert b"".join(message["body"] for message in sent) == body
    assert all(len(message["body"]) <= 65_536 for message in sent)
    assert [message["more_body"] for message in sent] == [True] * (len(sent) - 1) + [False]
