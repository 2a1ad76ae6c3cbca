"""The fast lane gives the answers of the slow road, request by request, on one connection and in the real engine."""

import gc
import json
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

import msgspec
import pytest
import trio
import trio.testing

from engine.errors import ConflictError
from engine.http import fast_lane
from engine.http.dispatch import MAX_BODY_BYTES
from engine.http.endpoint import ApiRequest, Registry, Reply, endpoint
from engine.http.limits import ServerLimits
from engine.http.permissions import Permission
from tests.support.api import ApiServices, RunningApi, running_api
from tests.support.engine import PASSWORD, EngineProcess, limit_order, signed
from tests.support.raw_http import Answer, RawConnection, raw_connection
from tests.support.servers import TestServers
from tests.support.shared_engine import TELEGRAM_TOKEN, paper_engine

ECHO, BY_ID = "/api/v1/signals/echo", "/api/v1/signals/echo/{}"
JSON = ("Content-Type", "application/json")
SOME_ID = "01939c5e-7a10-7c4d-9b1e-3f6a52d8e041"


async def told(request: ApiRequest) -> Any:
    match request.raw:
        case b"conflict":
            raise ConflictError("there is one already", code="TAKEN", details={"of": "it"})
        case b"fault":
            raise RuntimeError("a fault of ours, with a s3cret in it")
        case b"reply":
            return Reply(201, {"made": True}, {"X-Made": "yes"})
    shown = {name: value for name, value in request.headers.items() if name != "connection"}
    return {
        "body": request.raw.decode("latin-1"),
        "ip": request.client_ip,
        "headers": shown,
        "path": dict(request.path),
    }


@endpoint("POST", "/signals/echo", permission=Permission.WEBHOOK, summary="Echo", raw_body=True, status=202)
async def echo(request: ApiRequest) -> Any:
    return await told(request)


@endpoint("POST", "/signals/echo/{sourceId}", permission=Permission.WEBHOOK, summary="Echo", raw_body=True, status=202)
async def echo_by_id(request: ApiRequest) -> Any:
    return await told(request)


def post(path: str, body: bytes = b"{}", *headers: tuple[str, str]) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def slowly(octets: bytes) -> bytes:
    """The same request in a form that is not plain."""
    return octets.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)


@pytest.fixture
async def api() -> AsyncIterator[RunningApi]:
    async with running_api(ApiServices(), Registry([echo, echo_by_id])) as running:
        yield running


@pytest.fixture
def without_quart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let everything fail that goes the slow road."""

    async def no(*_: Any) -> None:
        raise AssertionError("the slow road was taken")

    monkeypatch.setattr("engine.http.connection._Protocol.handle", no)


async def test_plain_request_touches_neither_hypercorns_parser_nor_quart(api: RunningApi, without_quart: None) -> None:
    async with raw_connection(api.server.base_url) as connection:
        for path in (ECHO, BY_ID.format(SOME_ID)):
            answer = await connection.ask(post(path, b'{"a":1}'))
            assert answer.status == 202
            assert json.loads(answer.body)["data"]["body"] == '{"a":1}'


async def test_proxy_that_names_two_clients_is_told_so_on_both_roads() -> None:
    services = ApiServices()
    server = msgspec.structs.replace(services.config.server, trusted_proxies=("127.0.0.0/8",))
    services.config = msgspec.structs.replace(services.config, server=server)
    torn = post(ECHO, b"{}", ("X-Forwarded-For", "203.0.113.9"), ("Forwarded", "for=198.51.100.1"))
    async with running_api(services, Registry([echo])) as running:
        for octets in (torn, slowly(torn)):
            async with raw_connection(running.server.base_url) as connection:
                answer = await connection.ask(octets)
                assert answer.status == 400
                assert json.loads(answer.body)["error"]["code"] == "FORWARDED_AMBIGUOUS"


def same(answer: Answer) -> tuple[Any, ...]:
    headers = {name: value for name, value in answer.headers if name.lower() not in (b"connection", b"x-request-id")}
    body: Any = json.loads(answer.body)
    if "error" in body:
        body["error"].pop("timestamp")
        if "under request" in body["error"]["message"]:
            body["error"]["message"] = "internal error"
    return answer.status_line, headers if "error" not in body else {**headers, b"content-length": b""}, body


@pytest.mark.parametrize(
    "octets",
    [
        post(ECHO, b'{"a":1}', ("Content-Type", "application/json"), ("X-Twice", "one"), ("X-Twice", "two")),
        post(ECHO, b""),
        post(ECHO, b"conflict"),
        post(ECHO, b"fault"),
        post(ECHO, b"reply"),
        post(ECHO, b"x" * MAX_BODY_BYTES),
        post(ECHO, b"x" * (MAX_BODY_BYTES + 1)),
        post(BY_ID.format(SOME_ID)),
        post(BY_ID.format("no-id")),
        post(BY_ID.format(SOME_ID[:-1] + "%31")),
        post(ECHO, b"{}", ("X-Request-Id", "mine.1")),
        post(ECHO, b"{}", ("X-Forwarded-For", "203.0.113.9")),
        post(ECHO, b"{}", ("Origin", "https://evil.example")),
        post(ECHO, b"{}", ("X-Latin", "caf\xe9"), ("X-Padded", "  two  words  ")),
        post(ECHO, b"{}").replace(b"Host: localhost", b"Host: evil.example"),
        post(ECHO + "/"),
        post("/api/v1/signals/none"),
    ],
)
async def test_answer_is_that_of_the_slow_road(api: RunningApi, octets: bytes) -> None:
    async with raw_connection(api.server.base_url) as one, raw_connection(api.server.base_url) as other:
        fast, slow = await one.ask(octets), await other.ask(slowly(octets))
    assert same(fast) == same(slow)
    given = dict(fast.headers)[b"x-request-id"]
    assert (given == b"mine.1") == (b"mine.1" in octets)
    assert b"s3cret" not in fast.body


async def test_roads_take_turns_on_one_connection_and_pipelined_requests_are_answered_in_order(api: RunningApi) -> None:
    chunked = (
        post(ECHO).replace(b"Content-Length: 2", b"Transfer-Encoding: chunked").replace(b"{}", b"2\r\n{}\r\n0\r\n\r\n")
    )
    async with raw_connection(api.server.base_url) as connection:
        for number in range(3):
            asked = [post(ECHO, b"%d" % number), chunked, post(ECHO, b"last %d" % number)]
            for octets in asked:
                assert (await connection.ask(octets)).status == 202
        await connection.send(b"".join(post(ECHO, b"%d" % number) for number in range(5)))
        for number in range(5):
            assert json.loads((await connection.answer()).body)["data"]["body"] == str(number)


async def test_request_that_comes_in_pieces_is_answered_once_it_is_whole(api: RunningApi, without_quart: None) -> None:
    octets = post(ECHO, b'{"a":1}')
    async with raw_connection(api.server.base_url) as connection:
        for place in range(0, len(octets), 7):
            await connection.send(octets[place : place + 7])
            await trio.sleep(0.001)
        assert json.loads((await connection.answer()).body)["data"]["body"] == '{"a":1}'


@pytest.mark.parametrize("sent", [30, 76, -1])
async def test_request_that_never_becomes_whole_is_cut(sent: int) -> None:
    limits = ServerLimits(head_s=0.3, request_s=0.5, body_silence_s=0.3, drain_s=0.3, linger_s=0.1)
    async with running_api(ApiServices(), Registry([echo]), limits=limits) as api:
        assert b" 202 " not in await api.exchange(post(ECHO, b'{"a":1}')[:sent])
        await gone(api)


async def gone(api: RunningApi) -> None:
    with trio.fail_after(5):
        while api.server.connections:
            await trio.sleep(0.02)


async def test_body_that_comes_byte_by_byte_has_its_head_read_a_few_times_only(
    api: RunningApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    whole = fast_lane.read
    monkeypatch.setattr(fast_lane, "read", lambda buffer, **kw: (read.append(len(buffer)), whole(buffer, **kw))[1])
    body = b"x" * 60
    octets = post(ECHO, body, ("X-Pad", "p" * 7_000))
    async with raw_connection(api.server.base_url) as connection:
        for _ in range(2):
            await connection.send(octets[: -len(body)])
            for byte in body:
                await trio.sleep(0.002)
                await connection.send(bytes([byte]))
            assert json.loads((await connection.answer()).body)["data"]["body"] == body.decode()
    assert len(read) < 12, read


@pytest.mark.parametrize("cut", [20, -1])
@pytest.mark.parametrize("is_half", [True, False])
async def test_client_that_leaves_in_the_middle_is_no_failure_of_the_server(
    api: RunningApi, caplog: pytest.LogCaptureFixture, cut: int, is_half: bool
) -> None:
    async with raw_connection(api.server.base_url) as connection:
        await connection.send(post(ECHO, b'{"a":1}')[:cut])
        await trio.sleep(0.05)
        if is_half:
            await connection.stream.send_eof()
            assert (await connection.answer()).status == 400
        else:
            await connection.stream.aclose()
    with trio.fail_after(5):
        while api.server.connections:
            await trio.sleep(0.01)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_connection_of_many_requests_ends_with_a_word_and_drain_waits_for_the_one_at_hand() -> None:
    limits = ServerLimits(keep_alive_requests=3, drain_s=2.0)
    async with (
        running_api(ApiServices(), Registry([echo]), limits=limits) as api,
        raw_connection(api.server.base_url) as connection,
    ):
        answers = [await connection.ask(post(ECHO)) for _ in range(3)]
        assert [dict(answer.headers).get(b"connection") for answer in answers] == [None, None, b"close"]
        assert await connection.is_closed()


async def test_connection_that_ended_is_freed_at_once_and_not_when_the_collector_comes_by(api: RunningApi) -> None:
    gc.disable()
    try:
        ended = []
        for _ in range(5):
            async with raw_connection(api.server.base_url) as connection:
                assert (await connection.ask(post(ECHO))).status == 202
                ended += [weakref.ref(member) for member in api.server._crowd._open]
            await gone(api)
        # whoever accepts remembers the last one
        await trio.testing.wait_all_tasks_blocked()
        assert [each() for each in ended[:-1]] == [None] * 4
    finally:
        gc.enable()


# in the real engine


@pytest.fixture(scope="module")
def engine(servers: TestServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    yield from paper_engine(servers, tmp_path_factory.mktemp("fast_lane"), "fast_lane")


def order_by(engine: EngineProcess, *, key: str, body: bytes | None = None, secret: str | None = None) -> bytes:
    api_key, real = engine.source
    raw = json.dumps(limit_order("INFY")).encode() if body is None else body
    headers = signed(raw, api_key, secret or real) | {"Idempotency-Key": key}
    return post("/api/v1/signals/sheets/webhook", raw, *headers.items())


async def ask(connection: RawConnection, octets: bytes) -> tuple[int, Any]:
    answer = await connection.ask(octets)
    return answer.status, json.loads(answer.body)


async def test_doors_of_the_engine_say_the_same_by_both_roads(engine: EngineProcess) -> None:
    update = json.dumps({"update_id": 1}).encode()
    telegram = ("X-Telegram-Bot-Api-Secret-Token", TELEGRAM_TOKEN)
    cases = {
        "wrong secret": order_by(engine, key="f1", secret="wrong"),
        "no JSON": order_by(engine, key="f2", body=b"{not json"),
        "wrong field": order_by(engine, key="f3", body=b'{"symbol": "INFY", "quantity": 1}'),
        "no signature": post("/api/v1/signals/sheets/webhook"),
        "unknown source": post(f"/api/v1/signals/webhook/{UUID(int=1)}"),
        "telegram": post("/api/v1/signals/telegram/webhook", update, telegram),
        "telegram without token": post("/api/v1/signals/telegram/webhook", update),
        "wrong password": sign_in("nobody@desk.example"),
        "no e-mail address": post("/api/v1/auth/login", b'{"password": "x"}', JSON),
        "sign-in that is no JSON": post("/api/v1/auth/login", b"{no", JSON),
        "sign-in as a form": post("/api/v1/auth/login", b"email=a&password=b"),
    }
    for name, octets in cases.items():
        async with raw_connection(engine.base_url) as one, raw_connection(engine.base_url) as other:
            assert same(await one.ask(octets)) == same(await other.ask(slowly(octets))), name


def sign_in(email: str, password: str = "wrong password here") -> bytes:
    return post("/api/v1/auth/login", json.dumps({"email": email, "password": password}).encode(), JSON)


async def test_signing_in_works_by_both_roads(engine: EngineProcess) -> None:
    octets = sign_in("admin@localhost", PASSWORD)
    async with raw_connection(engine.base_url) as one, raw_connection(engine.base_url) as other:
        for answer in (await one.ask(octets), await other.ask(slowly(octets))):
            assert answer.status == 200
            assert json.loads(answer.body)["data"]["accessToken"]


async def test_repeat_by_the_other_road_is_the_same_delivery(engine: EngineProcess) -> None:
    octets = order_by(engine, key="both-roads")
    async with raw_connection(engine.base_url) as one, raw_connection(engine.base_url) as other:
        status, first = await ask(one, octets)
        assert (status, first["data"]["duplicate"]) == (202, False)
        status, again = await ask(other, slowly(octets))
        assert (status, again["data"]["duplicate"]) == (202, True)
        assert again["data"]["intentId"] == first["data"]["intentId"]
        status, clash = await ask(
            one, order_by(engine, key="both-roads", body=json.dumps(limit_order("SBIN")).encode())
        )
        assert (status, clash["error"]["code"]) == (409, "IDEMPOTENCY_KEY_REUSED")
