"""Attackers of an HTTP server, each a crowd of raw connections: a program of its own, so that it shares no interpreter.

``python -m tests.benchmarks.attackers NAME URL [KEY] [TOKEN]`` attacks until it is ended. The slow ones are those of
slowhttptest (-H, -B, -R, -X); a connection that the server cuts is opened again.
"""

import os
import socket
import sys
from collections.abc import Awaitable, Callable
from itertools import count
from random import Random
from typing import NamedTuple
from urllib.parse import urlsplit

import trio

_random = Random(7)
_numbers = count()
API = "/api/v1"


class Aim(NamedTuple):
    """Where to, and what the attacker knows: the key of a source (no secret) and a bearer token."""

    host: str
    port: int
    key: str
    token: str


Crowd = Callable[[Aim], Awaitable[None]]


def _request(method: str, path: str, *headers: str, body: bytes = b"", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *headers]
    lines += [f"Content-Length: {size}", "Content-Type: application/json"] if method == "POST" else []
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


async def _connect(aim: Aim, *, window: int | None = None) -> trio.SocketStream:
    sock = trio.socket.socket()
    if window is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    try:
        await sock.connect((aim.host, aim.port))
    except BaseException:
        sock.close()
        raise
    return trio.SocketStream(sock)


def _again(one: Crowd) -> Crowd:
    async def forever(aim: Aim) -> None:
        while True:
            try:
                await one(aim)
            except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # cut: that is what the server should do
            await trio.sleep(0.05 + _random.random() * 0.2)

    return forever


async def _slow_header(aim: Aim) -> None:
    async with await _connect(aim) as stream:
        await stream.send_all(b"GET /docs HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        while True:
            await trio.sleep(1 + _random.random())
            await stream.send_all(b"X-%d: a\r\n" % next(_numbers))


async def _slow_body(aim: Aim) -> None:
    async with await _connect(aim) as stream:
        await stream.send_all(_request("POST", f"{API}/auth/login", length=4096))
        while True:
            await trio.sleep(1 + _random.random())
            await stream.send_all(b" ")


async def _ranges(aim: Aim) -> None:
    ranges = ",".join(f"5-{number}" for number in range(1000))
    async with await _connect(aim) as stream:
        await stream.send_all(_request("GET", "/docs", f"Range: bytes=0-,{ranges}"[:7000]))
        await stream.receive_some(65536)


async def _slow_read(aim: Aim) -> None:
    async with await _connect(aim, window=1024) as stream:
        await stream.send_all(_request("GET", "/openapi.json") * 8)
        while await stream.receive_some(32):
            await trio.sleep(1)


async def _idle(aim: Aim) -> None:
    async with await _connect(aim) as stream:
        if next(_numbers) % 2:
            await stream.send_all(_request("GET", f"{API}/system/health"))
        while await stream.receive_some(65536):
            pass
    await trio.sleep(5)


async def _closed_loop(aim: Aim, make: Callable[[], bytes]) -> None:
    async with await _connect(aim) as stream:
        while True:
            await stream.send_all(make())
            received = b""
            while b"\r\n\r\n" not in received:
                octets = await stream.receive_some(65536)
                if not octets:
                    return
                received += octets
            if b"connection: close" in received.lower():
                return


async def _login(aim: Aim) -> None:
    def make() -> bytes:
        body = b'{"email":"nobody%d@desk.example","password":"a guess of a password"}' % next(_numbers)
        return _request("POST", f"{API}/auth/login", body=body)

    await _closed_loop(aim, make)


def _signal(key: str) -> bytes:
    body = b'{"symbol":"SBIN","exchange":"NSE","transactionType":"BUY","quantity":1,"n":%d}' % next(_numbers)
    headers = (f"X-API-Key: {key}", "X-Timestamp: 1700000000", f"X-Signature: {'0' * 64}")
    return _request("POST", f"{API}/signals/sheets/webhook", *headers, body=body)


async def _webhook(aim: Aim) -> None:
    await _closed_loop(aim, lambda: _signal(f"src_{next(_numbers):032x}"))


async def _webhook_of_a_source(aim: Aim) -> None:
    await _closed_loop(aim, lambda: _signal(aim.key))


async def _reads(aim: Aim) -> None:
    path = f"{API}/signals/intents?limit=200"
    await _closed_loop(aim, lambda: _request("GET", path, f"Authorization: Bearer {aim.token}"))


async def _stream(aim: Aim) -> None:
    async with await _connect(aim, window=1024) as stream:
        head = f"Authorization: Bearer {aim.token}"
        await stream.send_all(_request("GET", f"{API}/stream", head))
        await stream.send_all(_request("GET", f"{API}/signals/intents?limit=200", head) * 4)
        while await stream.receive_some(32):
            await trio.sleep(1)


ATTACKS: dict[str, tuple[tuple[Crowd, int], ...]] = {
    "slow headers (-H)": ((_slow_header, 400),),
    "slow bodies (-B)": ((_slow_body, 400),),
    "ranges (-R)": ((_ranges, 50),),
    "slow readers (-X)": ((_slow_read, 200),),
    "900 idle": ((_idle, 900),),
    "login flood": ((_login, 64),),
    "webhook flood": ((_webhook, 64),),
    "webhook flood, known key": ((_webhook_of_a_source, 64),),
    "read flood": ((_reads, 32),),
    "stream flood": ((_stream, 100),),
    "three floods": ((_login, 32), (_webhook, 32), (_stream, 50)),
}


async def attack(name: str, aim: Aim) -> None:
    """Attack until cancelled."""
    async with trio.open_nursery() as nursery:
        for one, size in ATTACKS[name]:
            for _ in range(size):
                nursery.start_soon(_again(one), aim)
                await trio.sleep(0.002)


if __name__ == "__main__":
    # on a machine of its own it would take no time from the engine's
    os.setpriority(os.PRIO_PROCESS, 0, 5)
    parts = urlsplit(sys.argv[2])
    known = [*sys.argv[3:], "", ""]
    trio.run(attack, sys.argv[1], Aim(parts.hostname or "", parts.port or 80, known[0], known[1]))
