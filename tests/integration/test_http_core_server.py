"""The HTTP server against clients that do not play by the rules (SEC-057, 058, 093, 094, 095; trap T9)."""

import socket
from typing import Any

import pytest
import trio
import trio.testing

from engine.errors import StartupError
from engine.http.app import create_app
from engine.http.endpoint import ApiRequest, Raw, Registry, endpoint
from engine.http.limits import ServerLimits
from engine.http.permissions import Permission
from engine.http.server import HttpServer, listen
from tests.support.api import ApiServices, RunningApi, free_port, read_all, running_api

QUICK = ServerLimits(request_s=0.6, keep_alive_s=0.6, write_s=0.6, drain_s=1.0, linger_s=0.3, stalled_s=0.2)
PATIENT = ServerLimits(drain_s=1.0)


@endpoint("GET", "/health", permission=Permission.PUBLIC, summary="Health", root=True)
async def health(request: ApiRequest) -> str:
    return "ok"


@endpoint("GET", "/large", permission=Permission.PUBLIC, summary="Large", root=True)
async def large(request: ApiRequest) -> Raw:
    return Raw(b"x" * 40_000_000, "text/plain")


@endpoint("POST", "/echo", permission=Permission.WEBHOOK, summary="Echo", raw_body=True, root=True)
async def echo(request: ApiRequest) -> int:
    return len(request.raw)


class Slow:
    """A handler that says when it has begun, and ends when told."""

    def __init__(self) -> None:
        self.begun, self.go_on, self.cancelled = trio.Event(), trio.Event(), trio.Event()

    def registry(self) -> Registry:
        @endpoint("GET", "/slow", permission=Permission.PUBLIC, summary="Slow", root=True)
        async def slow(request: ApiRequest) -> str:
            self.begun.set()
            try:
                await self.go_on.wait()
            except trio.Cancelled:
                self.cancelled.set()
                raise
            return "done"

        return Registry([health, large, echo, slow])


def request(path: str, *headers: str, method: str = "GET", close: bool = True) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", *headers, *(["Connection: close"] if close else [])]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def status(raw: bytes) -> int:
    return int(raw.split(b" ", 2)[1]) if raw else 0


async def cut(api: RunningApi, raw: bytes) -> bool:
    """Tell whether the server closes a connection by itself after *raw*."""
    await api.exchange(raw)
    return True


async def connections_become(api: RunningApi, wanted: int, *, within_s: float) -> None:
    """Wait until the server has *wanted* connections."""
    with trio.fail_after(within_s):
        while api.server.connections != wanted:
            await trio.sleep(0.02)


async def test_listen_on_a_taken_port_names_the_mend() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = HttpServer(create_app(ApiServices(), Registry()), port=port)
        with pytest.raises(StartupError, match=f"^port {port} is taken by another program; use --port N"):
            await server.run()


@pytest.mark.parametrize("host", ["203.0.113.1", "no such host"])
def test_listen_on_a_foreign_address_is_refused_by_name(host: str) -> None:
    with pytest.raises(StartupError, match="host"):
        listen(host, 0, backlog=5)


async def test_run_reports_its_address_and_gives_the_port_back() -> None:
    port = free_port()
    for _ in range(2):
        server = HttpServer(create_app(ApiServices(), Registry([health])), port=port, limits=QUICK)
        async with trio.open_nursery() as nursery:
            assert await nursery.start(server.run) == f"http://127.0.0.1:{port}"
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(request("/health"))
                assert status(await read_all(stream)) == 200
            server.drain()


async def test_run_cancelled_from_above_ends_at_once_with_stalled_clients() -> None:
    server = HttpServer(create_app(ApiServices(), Registry([large])), port=0)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            base_url = await nursery.start(server.run)
            stream = await trio.open_tcp_stream("127.0.0.1", int(base_url.rsplit(":", 1)[1]))
            await stream.send_all(request("/large"))
            await stream.receive_some(1)
            nursery.cancel_scope.cancel()
    await stream.aclose()


async def test_keep_alive_serves_many_requests_on_one_connection() -> None:
    async with running_api(ApiServices(), Registry([health])) as api, await api.connect() as stream:
        for _ in range(50):
            await stream.send_all(request("/health", close=False))
            received = b""
            while b'"ok"' not in received:
                received += await stream.receive_some(4096)
        assert api.server.connections == 1


async def test_pipelined_requests_are_all_answered_in_order() -> None:
    async with running_api(ApiServices(), Registry([health, echo])) as api:
        posts = b"".join(
            request("/echo", f"Content-Length: {size}", method="POST", close=False) + b"x" * size for size in (1, 2, 3)
        )
        raw = await api.exchange(posts + request("/health"))
        answers = [part.split(b"\r\n\r\n")[1] for part in raw.split(b"HTTP/1.1 ")[1:]]
        assert [answer.split(b'"data":')[1] for answer in answers] == [b"1}", b"2}", b"3}", b'"ok"}']


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"GET",
        b"GET /health HTTP/1.1\r\nHost: x\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    ],
    ids=["nothing", "method", "headers", "header", "body", "chunk"],
)
async def test_half_open_request_is_cut(raw: bytes) -> None:
    async with running_api(ApiServices(), Registry([health, echo]), limits=QUICK) as api:
        assert await cut(api, raw)


async def test_dribbled_request_is_cut_although_bytes_keep_coming() -> None:
    async with (
        running_api(ApiServices(), Registry([health]), limits=QUICK) as api,
        await api.connect() as stream,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(_dribble, stream)
        assert await read_all(stream) == b""


async def _dribble(stream: trio.SocketStream) -> None:
    try:
        await stream.send_all(b"GET /health HTTP/1.1\r\nHost: x\r\n")
        while True:
            await stream.send_all(b"X-A: b\r\n")
            await trio.sleep(0.05)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # that is what is awaited


async def test_idle_connection_between_requests_is_closed() -> None:
    async with running_api(ApiServices(), Registry([health]), limits=QUICK) as api, await api.connect() as stream:
        await stream.send_all(request("/health", close=False))
        assert status(await read_all(stream)) == 200


async def test_stalled_reader_is_cut() -> None:
    async with running_api(ApiServices(), Registry([large]), limits=QUICK) as api, await api.connect() as stream:
        await stream.send_all(request("/large"))
        await connections_become(api, 1, within_s=5)
        await connections_become(api, 0, within_s=15)
        assert len(await read_all(stream)) < 40_000_000


async def crowd(api: RunningApi, size: int, raw: bytes) -> list[trio.SocketStream]:
    streams = []
    for _ in range(size):
        stream = await api.connect()
        await stream.send_all(raw)
        streams.append(stream)
    return streams


@pytest.mark.parametrize(
    "raw", [b"", b"GET /health HTTP/1.1\r\nHost: ", b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\na"]
)
async def test_crowd_beyond_the_limit_does_not_lock_anybody_out(raw: bytes) -> None:
    limits = ServerLimits(connections=40, drain_s=0.5)
    async with running_api(ApiServices(), Registry([health, echo]), limits=limits) as api:
        streams = await crowd(api, 100, raw)
        for _ in range(5):
            assert status(await api.exchange(request("/health"))) == 200
        assert api.server.connections <= 40
        for stream in streams:
            await stream.aclose()


async def test_crowd_of_stalled_readers_gives_way() -> None:
    limits = ServerLimits(connections=8, drain_s=0.5, stalled_s=0.0)
    async with running_api(ApiServices(), Registry([health, large]), limits=limits) as api:
        streams = await crowd(api, 8, request("/large"))
        for stream in streams:
            await stream.receive_some(1)
        assert status(await api.exchange(request("/health"))) == 200
        for stream in streams:
            await stream.aclose()


async def test_crowd_of_requests_at_work_is_not_cut_for_a_newcomer() -> None:
    slow = Slow()
    limits = ServerLimits(connections=1, drain_s=2)
    async with running_api(ApiServices(), slow.registry(), limits=limits) as api, await api.connect() as stream:
        await stream.send_all(request("/slow"))
        await slow.begun.wait()
        assert await api.exchange(b"") == b""
        slow.go_on.set()
        assert b'"done"' in await read_all(stream)


async def test_drain_with_idle_and_stalled_connections_ends_in_time() -> None:
    async with running_api(ApiServices(), Registry([health, large]), limits=PATIENT) as api:
        streams = await crowd(api, 200, b"")
        streams += await crowd(api, 20, b"GET /health HTTP/1.1\r\nHost: x\r\n")
        streams += await crowd(api, 3, request("/large", close=False))
        for stream in streams[-3:]:
            await stream.receive_some(1)
        assert status(await api.exchange(request("/health"))) == 200
        api.server.drain()
        await connections_become(api, 0, within_s=8)
    for stream in streams:
        await stream.aclose()


async def test_drain_lets_a_request_at_hand_finish() -> None:
    slow = Slow()
    async with running_api(ApiServices(), slow.registry(), limits=PATIENT) as api, await api.connect() as stream:
        await stream.send_all(request("/slow", close=False))
        await slow.begun.wait()
        api.server.drain()
        slow.go_on.set()
        assert b'"done"' in await read_all(stream)


async def test_drain_refuses_new_connections() -> None:
    slow = Slow()
    async with running_api(ApiServices(), slow.registry(), limits=PATIENT) as api, await api.connect() as stream:
        await stream.send_all(request("/slow"))
        await slow.begun.wait()
        api.server.drain()
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(OSError, match="127"):
            await api.connect()
        slow.go_on.set()
        await read_all(stream)


async def test_client_that_leaves_cancels_its_handler() -> None:
    slow = Slow()
    async with running_api(ApiServices(), slow.registry(), limits=PATIENT) as api:
        async with await api.connect() as stream:
            await stream.send_all(request("/slow"))
            await slow.begun.wait()
        with trio.fail_after(5):
            await slow.cancelled.wait()


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\n\r\n", 400),
        (request("/health", "Host: y"), 400),
        (request("/health", "X-A : b"), 400),
        (request("/health", "X-A: b\x00c"), 400),
        (request("/echo", "Content-Length: 3", "Content-Length: 4", method="POST") + b"abc", 400),
        (request("/echo", "Content-Length: 3", "Transfer-Encoding: chunked", method="POST") + b"0\r\n\r\n", 400),
        (request("/echo", "Transfer-Encoding: identity", method="POST"), 501),
        (request("/echo", "Content-Length: -1", method="POST"), 400),
        (request("http://evil/health"), 400),
        (request("*", method="OPTIONS"), 400),
        (request("evil:443", method="CONNECT"), 400),
        (request("?x"), 400),
        (request("/health", "X-Big: " + "a" * 17_000), 431),
        (request("/health", "X-Big: " + "a" * 9_000), 431),
        (request("/health", *[f"X-{n}: a" for n in range(100)]), 431),
        (request("/" + "a" * 5000), 414),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ],
    ids=lambda value: repr(value[:60]) if isinstance(value, bytes) else str(value),
)
async def test_request_that_could_be_read_in_two_ways_is_refused(raw: bytes, expected: int) -> None:
    async with running_api(ApiServices(), Registry([health, echo])) as api:
        answer = await api.exchange(raw)
        assert status(answer) == expected
        assert b'"success":false' in answer
        assert b"x-content-type-options: nosniff" in answer.lower()
        assert b"x-request-id: " in answer.lower()
        assert b"server:" not in answer.lower()
        assert status(await api.exchange(request("/health"))) == 200


@pytest.mark.parametrize("rest", [b"\r\n", b"SM\r\n\r\n", b"GET /health HTTP/1.1\r\n", b"x" * 100_000])
async def test_bytes_after_a_last_request_do_not_spoil_its_answer(rest: bytes) -> None:
    slow = Slow()
    async with running_api(ApiServices(), slow.registry(), limits=PATIENT) as api, await api.connect() as stream:
        await stream.send_all(request("/slow") + rest)
        await slow.begun.wait()
        await stream.send_all(rest)
        slow.go_on.set()
        assert (await read_all(stream)).endswith(b'{"success":true,"data":"done"}')


async def test_bad_chunk_in_a_body_is_refused_once() -> None:
    async with running_api(ApiServices(), Registry([echo])) as api:
        raw = request("/echo", "Transfer-Encoding: chunked", method="POST") + b"3\r\nabc\r\nxyz\r\n"
        answer = await api.exchange(raw)
        assert status(answer) == 400
        assert answer.count(b"HTTP/1.1") == 1


async def test_answer_before_the_body_came_says_that_the_connection_ends() -> None:
    @endpoint("POST", "/guarded", permission=Permission.READ, summary="Guarded", raw_body=True, root=True)
    async def guarded(_request: ApiRequest) -> None:
        return None

    async with running_api(ApiServices(), Registry([guarded])) as api, await api.connect() as stream:
        await stream.send_all(request("/guarded", "Content-Length: 2", method="POST", close=False))
        answer = await read_all(stream)
        assert status(answer) == 401
        assert b"connection: close" in answer.lower().partition(b"\r\n\r\n")[0]


async def test_large_body_of_a_request_refused_by_its_headers_cannot_stall_the_connection() -> None:
    async with running_api(ApiServices(), Registry([echo])) as api:
        headers = [f"X-{n}: a" for n in range(100)]
        raw = request("/echo", *headers, "Content-Length: 3000000", method="POST") + b"x" * 3_000_000
        async with await api.connect() as stream, trio.open_nursery() as nursery:
            nursery.start_soon(_send_quietly, stream, raw)
            assert status(await read_all(stream)) == 431
            nursery.cancel_scope.cancel()


async def _send_quietly(stream: trio.SocketStream, raw: bytes) -> None:
    try:
        await stream.send_all(raw)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # the server may close before it has read everything


@pytest.mark.parametrize(
    "headers",
    [
        ("Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQAAP__"),
        ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 13"),
    ],
    ids=["h2c", "websocket"],
)
async def test_upgrade_is_not_offered(headers: Any) -> None:
    async with running_api(ApiServices(), Registry([health]), limits=QUICK) as api:
        answer = await api.exchange(request("/health", *headers, close=False))
        assert status(answer) == 200
        assert b"101" not in answer.split(b"\r\n")[0]


async def test_http_1_0_is_answered_and_closed() -> None:
    async with running_api(ApiServices(), Registry([health])) as api:
        assert status(await api.exchange(b"GET /health HTTP/1.0\r\n\r\n")) == 200
