import httpx
import msgspec
import pytest
import trio

from engine import __version__
from engine.clock import SystemClock
from engine.http.server import HttpServer, listen
from engine.http.standby import StandbyApp

LEADER = {"holder": "process 7 on box", "epoch": 3}


@pytest.fixture
async def base_url(nursery):
    app = StandbyApp(SystemClock(), why=lambda: "this engine is on standby", leads=lambda: LEADER)
    server = HttpServer(app, port=0)
    url = await nursery.start(server.run)
    yield url
    nursery.cancel_scope.cancel()


async def ask(base_url, method, path, **options):
    async with httpx.AsyncClient(base_url=base_url, timeout=10) as client:
        return await client.request(method, path, **options)


async def test_health_is_that_of_any_engine(base_url):
    answer = await ask(base_url, "GET", "/api/v1/system/health")
    assert answer.status_code == 200
    assert answer.json() == {"success": True, "data": {"status": "ok", "version": __version__}}
    assert (await ask(base_url, "HEAD", "/api/v1/system/health")).content == b""


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/v1/signals/sheets/webhook", b'{"symbol": "INFY"}'),
        ("POST", "/api/v1/system/health", b""),
        ("GET", "/api/v1/system/ready", None),
        ("GET", "/api/v1/signals/intents", None),
        ("DELETE", "/api/v1/accounts/1", None),
        ("GET", "/", None),
        ("PUT", "/nothing/here", b"x" * 200_000),
    ],
)
async def test_everything_else_is_503_in_the_usual_form(base_url, method, path, body):
    answer = await ask(base_url, method, path, content=body, headers={"X-Request-Id": "mine-1"})
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.headers["X-Request-Id"] == "mine-1"
    assert answer.headers["Cache-Control"] == "no-store"
    envelope = answer.json()
    assert envelope["success"] is False
    error = envelope["error"]
    assert (error["code"], error["statusCode"]) == ("UNAVAILABLE", 503)
    assert error["message"] == "this engine is on standby"
    assert error["details"] == {"role": "standby", "leader": LEADER}
    assert error["timestamp"].endswith("Z")


async def test_request_that_two_parsers_read_differently_is_refused_as_ever(base_url):
    port = int(base_url.rpartition(":")[2])
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        assert b" 400 " in await stream.receive_some(4096)


async def test_body_that_never_comes_whole_is_answered_all_the_same(base_url):
    port = int(base_url.rpartition(":")[2])
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc")
        with trio.fail_after(15):
            received = await stream.receive_some(4096)
    assert b" 503 " in received or b" 408 " in received


async def test_socket_passes_to_another_server_and_nothing_that_connects_is_refused(nursery):
    listener = listen("127.0.0.1", 0, backlog=16)
    port = listener.getsockname()[1]
    twin = trio.socket.fromfd(listener.fileno(), listener.family, listener.type)
    first = HttpServer(StandbyApp(SystemClock(), why=lambda: "first", leads=dict), listener=twin)
    first_url = await nursery.start(first.run)
    assert first_url == f"http://127.0.0.1:{port}"
    first.drain()
    with trio.fail_after(10):
        while not twin._sock._closed:
            await trio.sleep(0.01)
        # nobody serves now: the connection waits in the queue of the socket
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        second = HttpServer(StandbyApp(SystemClock(), why=lambda: "second", leads=dict), listener=listener)
        assert await nursery.start(second.run) == first_url
        answer = b""
        async with stream:
            while received := await stream.receive_some(4096):
                answer += received
    assert msgspec.json.decode(answer.partition(b"\r\n\r\n")[2])["error"]["message"] == "second"
    second.drain()
