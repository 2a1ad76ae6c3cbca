"""The HTTP conventions of the contract, on a real port."""

import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest

from engine.config import Config
from engine.domain.enums import Role
from engine.errors import ConflictError, KillSwitchError, OutcomeUnknown, RiskViolationError, UnavailableError
from engine.http.endpoint import ApiBody, ApiRequest, ApiStruct, EventStream, Page, Raw, Registry, Reply, endpoint
from engine.http.paging import PageQuery
from engine.http.permissions import Permission
from engine.http.ratelimit import RateClass
from engine.ids import uuid7
from tests.support.api import ApiServices, RunningApi, running_api

BASE = "/api/v1"


class Price(ApiBody, frozen=True, kw_only=True):
    limit_price: Decimal
    note: str = ""


class Seen(ApiStruct, frozen=True, kw_only=True):
    limit_price: Decimal
    seen_at: datetime
    client_ip: str
    request_id: str


class Things(PageQuery, frozen=True, kw_only=True):
    status: str | None = None


@endpoint("GET", "/open", permission=Permission.PUBLIC, summary="Open")
async def is_open(request: ApiRequest) -> dict[str, Any]:
    return {"principal": request.principal, "ip": request.client_ip}


@endpoint("POST", "/prices", permission=Permission.TRADE, summary="Echo", body=Price, response=Seen)
async def echo(request: ApiRequest) -> Seen:
    at = datetime(2026, 11, 23, 9, 15, 0, 5000, tzinfo=UTC)
    return Seen(
        limit_price=request.body.limit_price, seen_at=at, client_ip=request.client_ip, request_id=request.request_id
    )


@endpoint("GET", "/things/{id}", permission=Permission.READ, summary="One")
async def one(request: ApiRequest) -> UUID:
    identity: UUID = request.path["id"]
    return identity


@endpoint("GET", "/things", permission=Permission.READ, summary="Many", query=Things, list_of=int)
async def many(request: ApiRequest) -> Page[int]:
    window = request.query.window()
    start = window.after_seq() or 0
    return Page.cut(list(range(start + 1, 8))[: window.limit + 1], window, key=lambda number: (number,))


@endpoint("DELETE", "/things/{id}", permission=Permission.ADMIN, summary="Remove")
async def remove(request: ApiRequest) -> Reply:
    return Reply(202, {"id": request.path["id"]}, {"X-Extra": "1"})


@endpoint("POST", "/hook/{name:str}", permission=Permission.WEBHOOK, summary="Hook", raw_body=True)
async def hook(request: ApiRequest) -> dict[str, Any]:
    return {"name": request.path["name"], "raw": request.raw.decode("latin-1"), "type": request.header("content-type")}


@endpoint("GET", "/text", permission=Permission.PUBLIC, summary="Text", media_type="text/plain", root=True)
async def text(request: ApiRequest) -> Raw:
    return Raw(b"metric 1\n", "text/plain; version=0.0.4")


@endpoint("POST", "/stop", permission=Permission.TRADE, summary="Stop", rate=RateClass.KILL_SWITCH)
async def stop(request: ApiRequest) -> None:
    return None


FAILURES: dict[str, Exception] = {
    "risk": RiskViolationError("MAX_ORDER_VALUE: 2 exceeds 1", details={"limit": "maxOrderValue"}),
    "kill": KillSwitchError("the kill switch is on"),
    "conflict": ConflictError("already there"),
    "later": UnavailableError("later", retry_after_s=7),
    "bug": KeyError("password=hunter2"),
    "unknown": OutcomeUnknown("sent /srv/secret.py"),
    "group": ExceptionGroup("two", [ValueError("select * from users"), KeyError("x")]),
}


@endpoint("GET", "/fail/{name:str}", permission=Permission.PUBLIC, summary="Fail")
async def fail(request: ApiRequest) -> None:
    raise FAILURES[request.path["name"]]


@endpoint("GET", "/events", permission=Permission.READ, summary="Events")
async def events(request: ApiRequest) -> EventStream:
    async def chunks() -> Any:
        yield b"event: a\n\n"
        await request.draining.wait()
        yield b"event: end\n\n"

    return EventStream(chunks())


REGISTRY = Registry([is_open, echo, one, many, remove, hook, text, stop, fail, events])


@pytest.fixture
def services() -> ApiServices:
    return ApiServices()


@pytest.fixture
async def api(services: ApiServices) -> Any:
    async with running_api(services, REGISTRY) as running:
        yield running


def assert_error(response: Any, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"success", "error"}
    assert body["success"] is False
    error: dict[str, Any] = body["error"]
    assert set(error) == {"message", "code", "statusCode", "timestamp", "details"}
    assert (error["code"], error["statusCode"]) == (code, status)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", error["timestamp"])
    return error


async def test_success_has_the_envelope_with_exact_decimals_and_utc(api: RunningApi) -> None:
    headers = api.services.bearer(api.services.add_user(Role.TRADER))
    answer = await api.client.post(
        f"{BASE}/prices", content=b'{"limitPrice":2450.50}', headers={**headers, "content-type": "application/json"}
    )
    assert answer.status_code == 200
    assert b'"limitPrice":2450.50' in answer.content
    assert b'"seenAt":"2026-11-23T09:15:00.005000Z"' in answer.content
    assert answer.json()["success"] is True
    assert answer.headers["content-type"] == "application/json"


async def test_every_response_carries_the_protective_headers(api: RunningApi) -> None:
    for path in (f"{BASE}/open", "/nothing", "/docs", "/text", f"{BASE}/things", f"{BASE}/fail/bug"):
        answer = await api.client.get(path)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers
        assert answer.headers["x-request-id"]


@pytest.mark.parametrize("given", ["abc-DEF_1.2", "x" * 64])
async def test_request_id_that_is_wellformed_is_taken_over(api: RunningApi, given: str) -> None:
    for path in (f"{BASE}/open", "/nothing"):
        answer = await api.client.get(path, headers={"X-Request-Id": given})
        assert answer.headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", 'a"b', "a;b", "é".encode("latin-1")])
async def test_request_id_that_is_not_is_replaced(api: RunningApi, given: Any) -> None:
    answer = await api.client.get(f"{BASE}/open", headers={"X-Request-Id": given})
    assert re.fullmatch("[0-9a-f]{24}", answer.headers["x-request-id"])


async def test_unknown_path_is_404(api: RunningApi) -> None:
    for path in ("/", "/nothing", f"{BASE}/open/", f"{BASE}/things/a/b", "/static/x", "/%00"):
        assert_error(await api.client.get(path), 404, "NOT_FOUND")


async def test_path_with_doubled_slashes_is_404_and_no_redirect(api: RunningApi) -> None:
    raw = await api.exchange(b"GET /api//v1/open HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert raw.startswith(b"HTTP/1.1 404")


async def test_unknown_method_is_405_with_allow(api: RunningApi) -> None:
    for method in ("PUT", "OPTIONS", "TRACE", "BREW"):
        answer = await api.client.request(method, f"{BASE}/things/{uuid7()}")
        assert_error(answer, 405, "METHOD_NOT_ALLOWED")
        assert answer.headers["allow"] == "DELETE, GET, HEAD"


async def test_head_answers_like_get_without_a_body(api: RunningApi) -> None:
    answer = await api.client.head(f"{BASE}/open")
    assert (answer.status_code, answer.content) == (200, b"")
    assert (await api.client.head(f"{BASE}/things")).status_code == 401


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Basic YTpi", "Bearer x.y.z", "Token x"])
async def test_bearer_missing_or_wrong_is_401(api: RunningApi, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = await api.client.get(f"{BASE}/things", headers=headers)
    assert_error(answer, 401, "UNAUTHORIZED")
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_bearer_in_the_address_or_a_cookie_is_not_accepted(api: RunningApi) -> None:
    token = api.services.bearer(api.services.add_user(Role.ADMIN))["Authorization"].removeprefix("Bearer ")
    assert_error(await api.client.get(f"{BASE}/things?access_token={token}"), 401, "UNAUTHORIZED")
    assert_error(await api.client.get(f"{BASE}/things", headers={"Cookie": f"token={token}"}), 401, "UNAUTHORIZED")


async def test_bearer_of_a_gone_disabled_or_changed_user_is_401(api: RunningApi) -> None:
    services = api.services
    gone, disabled, changed, ended = (services.add_user(Role.TRADER) for _ in range(4))
    session = uuid7()
    headers = [services.bearer(user) for user in (gone, disabled, changed)]
    headers.append(services.bearer(ended, session_id=session))
    for each in headers:
        assert (await api.client.get(f"{BASE}/things", headers=each)).status_code == 200
    services.users._by_id.pop(gone.id)
    services.users.put(msgspec.structs.replace(disabled, disabled=True))
    services.users.put(msgspec.structs.replace(changed, token_epoch=1))
    services.sessions.revoke(session, at=services.clock.now())
    for each in headers:
        assert_error(await api.client.get(f"{BASE}/things", headers=each), 401, "UNAUTHORIZED")


async def test_bearer_expired_is_401(api: RunningApi) -> None:
    headers = api.services.bearer(api.services.add_user(Role.TRADER))
    api.services.clock.advance(1000)
    assert_error(await api.client.get(f"{BASE}/things", headers=headers), 401, "UNAUTHORIZED")


async def test_role_lowered_after_sign_in_counts_at_once(api: RunningApi) -> None:
    user = api.services.add_user(Role.ADMIN)
    headers = api.services.bearer(user)
    path = f"{BASE}/things/{uuid7()}"
    assert (await api.client.delete(path, headers=headers)).status_code == 202
    api.services.users.put(msgspec.structs.replace(user, role=Role.VIEWER))
    assert_error(await api.client.delete(path, headers=headers), 403, "FORBIDDEN")


@pytest.mark.parametrize("role", Role)
async def test_roles_reach_exactly_their_endpoints(api: RunningApi, role: Role) -> None:
    headers = api.services.bearer(api.services.add_user(role))
    reached = {}
    for item in REGISTRY:
        if item.permission in {Permission.PUBLIC, Permission.WEBHOOK} or item is events:
            continue
        path = item.template.replace("{id}", str(uuid7()))
        answer = await api.client.request(item.method, path, headers=headers, json={"limitPrice": 1})
        reached[item.name] = answer.status_code != 403
    trade, admin = role is not Role.VIEWER, role is Role.ADMIN
    assert reached == {"echo": trade, "one": True, "many": True, "remove": admin, "stop": trade}


async def test_refusals_come_before_the_body_is_read(api: RunningApi) -> None:
    viewer = api.services.bearer(api.services.add_user(Role.VIEWER))["Authorization"]
    for authorization, status in (("", b"401"), (f"Authorization: {viewer}\r\n", b"403")):
        async with await api.connect() as stream:
            head = f"POST {BASE}/prices HTTP/1.1\r\nHost: x\r\n{authorization}Content-Length: 1000\r\n\r\n"
            await stream.send_all(head.encode())
            assert (await stream.receive_some(100)).startswith(b"HTTP/1.1 " + status)


async def test_refused_address_comes_before_the_body_is_judged(api: RunningApi) -> None:
    headers = api.services.bearer(api.services.add_user(Role.ADMIN))
    assert_error(await api.client.get(f"{BASE}/things/not-a-uuid", headers=headers), 404, "NOT_FOUND")


async def test_body_refusals_have_their_own_status(api: RunningApi) -> None:
    headers = api.services.bearer(api.services.add_user(Role.TRADER))
    path, kind = f"{BASE}/prices", {"content-type": "application/json"}

    async def post(content: bytes, extra: dict[str, str]) -> Any:
        return await api.client.post(path, content=content, headers={**headers, **extra})

    assert_error(await post(b"{", kind), 400, "BAD_REQUEST")
    assert_error(await post(b'{"limitPrice":1,"limitPrice":2}', kind), 400, "BAD_REQUEST")
    assert_error(await post(b'{"limitPrice":NaN}', kind), 400, "BAD_REQUEST")
    assert_error(await post(b"", kind), 400, "BAD_REQUEST")
    assert_error(await post(b'{"limitPrice":1}', {}), 415, "UNSUPPORTED_MEDIA_TYPE")
    assert_error(await post(b'{"limitPrice":1}', {"content-type": "text/plain"}), 415, "UNSUPPORTED_MEDIA_TYPE")
    error = assert_error(await post(b'{"limitPrice":true,"userId":1}', kind), 422, "VALIDATION_ERROR")
    assert set(error["details"]["fields"]) == {"limitPrice", "userId"}
    assert_error(await post(b"x" * (64 * 1024 + 1), kind), 413, "PAYLOAD_TOO_LARGE")


async def test_body_of_exactly_the_limit_is_read(api: RunningApi) -> None:
    headers = api.services.bearer(api.services.add_user(Role.TRADER))
    body = b'{"limitPrice":1,"note":"%s"}'
    whole = body % (b"x" * (64 * 1024 - len(body) + 2))
    assert len(whole) == 64 * 1024
    answer = await api.client.post(
        f"{BASE}/prices", content=whole, headers={**headers, "content-type": "application/json"}
    )
    assert answer.status_code == 200


async def test_body_far_too_large_is_answered_and_not_just_cut(api: RunningApi) -> None:
    answer = await api.client.post(f"{BASE}/hook/a", content=b"x" * 3_000_000)
    assert_error(answer, 413, "PAYLOAD_TOO_LARGE")


async def test_body_too_large_in_chunks_is_413(api: RunningApi) -> None:
    async def chunks() -> Any:
        for _ in range(20):
            yield b"x" * 8000

    assert_error(await api.client.post(f"{BASE}/hook/a", content=chunks()), 413, "PAYLOAD_TOO_LARGE")


async def test_webhook_gets_the_raw_bytes_whatever_their_type(api: RunningApi) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        answer = await api.client.post(f"{BASE}/hook/a", content=b"\xff a=1", headers={"content-type": kind})
        assert answer.json()["data"] == {"name": "a", "raw": "\xff a=1", "type": kind}


async def test_list_is_paged_by_its_cursor(api: RunningApi) -> None:
    headers = api.services.bearer(api.services.add_user(Role.VIEWER))
    seen: list[int] = []
    query: dict[str, Any] = {"limit": 3}
    while True:
        body = (await api.client.get(f"{BASE}/things", headers=headers, params=query)).json()
        assert body["page"]["limit"] == 3
        seen += body["data"]
        if body["page"]["nextCursor"] is None:
            break
        query["cursor"] = body["page"]["nextCursor"]
    assert seen == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("query", "field"), [("limit=x", "limit"), ("cursor=%21", "cursor"), ("from=now", "from"), ("colour=red", "colour")]
)
async def test_list_with_a_wrong_query_is_422(api: RunningApi, query: str, field: str) -> None:
    headers = api.services.bearer(api.services.add_user(Role.VIEWER))
    error = assert_error(await api.client.get(f"{BASE}/things?{query}", headers=headers), 422, "VALIDATION_ERROR")
    assert list(error["details"]["fields"]) == [field]


async def test_errors_keep_their_code_and_details(api: RunningApi) -> None:
    error = assert_error(await api.client.get(f"{BASE}/fail/risk"), 403, "RISK_VIOLATION")
    assert error["details"] == {"limit": "maxOrderValue"}
    assert_error(await api.client.get(f"{BASE}/fail/conflict"), 409, "CONFLICT")
    for name, code, after in (("kill", "KILL_SWITCH", "2"), ("later", "UNAVAILABLE", "7")):
        answer = await api.client.get(f"{BASE}/fail/{name}")
        assert_error(answer, 503, code)
        assert answer.headers["retry-after"] == after


@pytest.mark.parametrize("name", ["bug", "unknown", "group"])
async def test_exception_inside_is_a_500_that_says_nothing_and_is_logged(
    api: RunningApi, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await api.client.get(f"{BASE}/fail/{name}", headers={"X-Request-Id": "trace-me"})
    assert_error(answer, 500, "INTERNAL_ERROR")
    for leaked in ("hunter2", "Traceback", "secret.py", "select", "KeyError"):
        assert leaked not in answer.text
    assert "trace-me" in answer.text
    assert any("trace-me" in record.getMessage() and record.exc_info for record in caplog.records)


async def test_raw_answer_has_its_own_type_and_no_envelope(api: RunningApi) -> None:
    answer = await api.client.get("/text")
    assert (answer.content, answer.headers["content-type"]) == (b"metric 1\n", "text/plain; version=0.0.4")


async def test_reply_sets_status_and_headers(api: RunningApi) -> None:
    headers = api.services.bearer(api.services.add_user(Role.ADMIN))
    identity = uuid7()
    answer = await api.client.delete(f"{BASE}/things/{identity}", headers=headers)
    assert answer.status_code == 202
    assert answer.json() == {"success": True, "data": {"id": str(identity)}}
    assert answer.headers["x-extra"] == "1"


async def test_event_stream_flows_and_ends_with_the_drain(api: RunningApi) -> None:
    headers = api.services.bearer(api.services.add_user(Role.VIEWER))
    received = b""
    async with api.client.stream("GET", f"{BASE}/events", headers=headers) as answer:
        async for chunk in answer.aiter_raw():
            received += chunk
            if received == b"event: a\n\n":
                api.server.drain()
    assert received == b"event: a\n\nevent: end\n\n"


async def test_rate_limit_is_429_and_leaves_the_kill_switch_alone() -> None:
    config = msgspec.structs.replace(Config(), limits=msgspec.structs.replace(Config().limits, api_per_minute=3))
    services = ApiServices(config=config)
    async with running_api(services, REGISTRY) as api:
        headers = services.bearer(services.add_user(Role.TRADER))
        other = services.bearer(services.add_user(Role.TRADER))
        for _ in range(3):
            assert (await api.client.get(f"{BASE}/things", headers=headers)).status_code == 200
        answer = await api.client.get(f"{BASE}/things", headers=headers)
        assert_error(answer, 429, "RATE_LIMITED")
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert (await api.client.post(f"{BASE}/stop", headers=headers)).status_code == 200
        assert (await api.client.get(f"{BASE}/things", headers=other)).status_code == 200


async def test_gate_closes_after_authorization_and_before_the_body(services: ApiServices) -> None:
    async def gate(item: Any, request: ApiRequest) -> None:
        if item.method != "GET":
            raise UnavailableError("on standby", retry_after_s=5)

    async with running_api(services, REGISTRY, gate=gate) as api:
        headers = services.bearer(services.add_user(Role.TRADER))
        assert_error(await api.client.post(f"{BASE}/prices"), 401, "UNAUTHORIZED")
        assert_error(await api.client.post(f"{BASE}/prices", content=b"{", headers=headers), 503, "UNAVAILABLE")
        assert (await api.client.get(f"{BASE}/things", headers=headers)).status_code == 200


async def test_forwarded_address_counts_only_behind_a_trusted_proxy(services: ApiServices) -> None:
    spoof = {"X-Forwarded-For": "203.0.113.9"}
    async with running_api(services, REGISTRY) as api:
        assert (await api.client.get(f"{BASE}/open", headers=spoof)).json()["data"]["ip"] == "127.0.0.1"
    server = msgspec.structs.replace(Config().server, trusted_proxies=("127.0.0.0/8",))
    async with running_api(ApiServices(config=msgspec.structs.replace(Config(), server=server)), REGISTRY) as api:
        assert (await api.client.get(f"{BASE}/open", headers=spoof)).json()["data"]["ip"] == "203.0.113.9"


async def test_api_document_and_page_are_served(api: RunningApi) -> None:
    first, second = await api.client.get("/openapi.json"), await api.client.get(f"{BASE}/openapi.json")
    assert first.content == second.content
    assert json.loads(first.content)["openapi"].startswith("3.1")
    page = await api.client.get("/docs")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    style = await api.client.get("/docs/style.css")
    assert style.headers["content-type"].startswith("text/css")
