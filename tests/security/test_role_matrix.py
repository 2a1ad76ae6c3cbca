"""Every role on every operation with every method, out of the document that the engine serves (SEC-030, 031)."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from engine.domain.enums import Role
from engine.errors import StartupError
from engine.http.app import create_app
from engine.http.endpoint import Registry, endpoint
from engine.http.permissions import ROLES, Permission, is_allowed
from tests.security.role_table import ACTS, ANYONE, HOLDERS, OWN_DOOR, TABLE
from tests.support.api import ApiServices
from tests.support.engine import EngineProcess
from tests.support.intruder import People, assert_refused

Operation = tuple[str, str]
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW")
VERBS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}


@pytest.fixture(scope="module")
def served(engine: EngineProcess) -> set[Operation]:
    document = httpx.get(f"{engine.base_url}/openapi.json", timeout=10).json()
    return {(verb.upper(), path) for path, item in document["paths"].items() for verb in item if verb in VERBS}


@pytest.fixture(scope="module")
def tokens(engine: EngineProcess, people: People) -> dict[str, str]:
    return {
        "ADMIN": engine.login(),
        "TRADER": people("matrix-trader", "TRADER").token,
        "VIEWER": people("matrix-viewer", "VIEWER").token,
    }


@pytest.fixture(scope="module")
def client(engine: EngineProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=engine.base_url, timeout=20) as client:
        yield client


def call(client: httpx.Client, method: str, path: str, token: str | None) -> httpx.Response:
    """Call with ids that nobody has and a body that nobody can read; of a stream only the beginning is read."""
    while "{" in path:
        head, _, rest = path.partition("{")
        path = head + str(uuid4()) + rest.partition("}")[2]
    headers = {"Content-Type": "application/json"} | ({} if token is None else {"Authorization": f"Bearer {token}"})
    content = b"{" if method in ("POST", "PUT", "PATCH") else None
    answer = client.send(client.build_request(method, path, headers=headers, content=content), stream=True)
    if not answer.headers.get("content-type", "").startswith("text/event-stream"):
        answer.read()
    answer.close()
    return answer


def test_sec_031_every_operation_that_is_served_has_its_line_in_the_table(served: set[Operation]) -> None:
    assert served - TABLE.keys() == set(), "decide who may call these, and write them into role_table.py"
    assert set(TABLE) - served == set(), "these are not served any more"
    assert set(ACTS) <= set(TABLE)


def test_sec_031_every_role_on_every_operation(
    client: httpx.Client, served: set[Operation], tokens: dict[str, str]
) -> None:
    cells = wrong = 0
    faults: list[str] = []
    for method, path in sorted(served):
        who = TABLE[method, path]
        for role, token in [("anonymous", None), *tokens.items()]:
            may = who in (ANYONE, OWN_DOOR) or role in HOLDERS.get(who, set())
            if may and (method, path) in ACTS:
                continue
            cells += 1
            answer = call(client, method, path, token)
            if who == OWN_DOOR:
                # this machine may read /metrics; that another may not is test_api_rules.py's
                fine = answer.status_code in (400, 401, 403, 404, 415, 422) or path == "/metrics"
            elif may:
                fine = answer.status_code not in (401, 403, 405) and answer.status_code < 500
            else:
                fine = answer.status_code == (401 if token is None else 403)
            if not fine:
                wrong += 1
                faults.append(f"{role} {method} {path}: {answer.status_code}")
            if answer.status_code >= 400 and (answer.is_stream_consumed or answer.content):
                assert_refused(answer, answer.status_code)
    assert faults == []
    assert cells > 300


def test_sec_031_methods_that_are_not_served_do_nothing_for_anybody(
    client: httpx.Client, served: set[Operation], tokens: dict[str, str]
) -> None:
    for path in sorted({path for _, path in served}):
        known = {method for method, served_at in served if served_at == path}
        for method in METHODS:
            if method in known or (method == "HEAD" and "GET" in known):
                continue
            answer = call(client, method, path, tokens["ADMIN"])
            assert answer.status_code in (400, 404, 405, 501), f"{method} {path}: {answer.status_code}"
            if method != "HEAD":
                assert_refused(answer, answer.status_code)
            assert tokens["ADMIN"] not in answer.text


def test_sec_031_head_reaches_no_further_than_get(
    client: httpx.Client, served: set[Operation], tokens: dict[str, str]
) -> None:
    for method, path in sorted(served):
        if method != "GET" or path.endswith("/stream"):
            continue
        holders = HOLDERS.get(TABLE[method, path])
        if holders is None:
            continue
        assert call(client, "HEAD", path, None).status_code == 401, path
        for role in tokens.keys() - holders:
            assert call(client, "HEAD", path, tokens[role]).status_code == 403, f"{role} {path}"


def test_sec_030_route_without_a_permission_stops_the_start() -> None:
    app = create_app(ApiServices(), Registry())
    app.add_url_rule("/api/v1/bare", view_func=lambda: "open")
    with pytest.raises(StartupError, match="/api/v1/bare declares no permission"):
        app.refuse_bare_routes()
    nothing: Any = None
    with pytest.raises(StartupError, match="declares no permission"):
        endpoint("GET", "/x", permission=nothing, summary="x")


def test_sec_030_permission_that_no_line_gives_is_held_by_nobody() -> None:
    granted = dict(ROLES)
    assert set(granted) == set(Permission) - {Permission.PUBLIC, Permission.WEBHOOK}
    assert not any(is_allowed("NEW", role) for role in Role)  # type: ignore[arg-type]
