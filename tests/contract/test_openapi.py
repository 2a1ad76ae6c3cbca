"""The API against its own document: every operation, with valid and invalid input, stays in its contract."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from tests.support.engine import EngineProcess
from tests.support.servers import TestServers
from tests.support.shared_engine import paper_engine


@pytest.fixture(scope="module")
def engine(servers: TestServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    yield from paper_engine(servers, tmp_path_factory.mktemp("contract"), "contract_api")


@pytest.fixture(scope="module")
def api_schema(engine: EngineProcess) -> Any:
    return schemathesis.openapi.from_url(f"{engine.base_url}/openapi.json")


EXCLUDED = [
    # the administrator's token is sent with every call, also where none is needed
    ignored_auth,
    # a schema cannot say that a strategy must exist, or that `from` must not be after `to`
    positive_data_acceptance,
]
# these end the sessions of the one administrator that the test signs in as
ENDS_SESSIONS = ("/auth/logout", "/auth/password")


def test_document_is_openapi_3_1_and_names_every_required_operation(engine: EngineProcess) -> None:
    document = httpx.get(f"{engine.base_url}/openapi.json", timeout=10).json()
    assert document["openapi"].startswith("3.1")
    operations = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    for method, path in (
        ("POST", "/auth/login"),
        ("POST", "/signals/sheets/webhook"),
        ("POST", "/signals/telegram/webhook"),
        ("GET", "/signals/intents"),
        ("GET", "/signals/intents/{id}"),
        ("GET", "/executions/orders"),
        ("GET", "/executions/orders/{id}"),
        ("GET", "/executions/positions"),
        ("POST", "/risk/killswitch/enable"),
        ("POST", "/risk/killswitch/disable"),
        ("GET", "/risk/killswitch/status"),
        ("GET", "/system/health"),
        ("GET", "/system/ready"),
        ("GET", "/system/actors"),
        ("GET", "/system/queues"),
        ("GET", "/audit"),
        ("GET", "/audit/verify"),
    ):
        assert (method, f"/api/v1{path}") in operations, f"{method} {path}"


def test_documentation_page_names_no_other_host(engine: EngineProcess) -> None:
    page = httpx.get(f"{engine.base_url}/docs", timeout=10)
    assert page.status_code == 200
    assert "text/html" in page.headers["content-type"]
    assert "//" not in page.text.replace(engine.base_url, "").replace("http://www.w3.org", "")


def test_every_operation_answers_in_its_declared_form(engine: EngineProcess, api_schema: Any) -> None:
    headers = {"Authorization": f"Bearer {engine.login()}"}
    tried = 0
    for found in api_schema.get_all_operations():
        operation = found.ok()
        if any(operation.path.endswith(path) for path in ENDS_SESSIONS) or "killswitch" in operation.path:
            continue
        tried += 1

        @settings(
            max_examples=6,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            derandomize=True,
            database=None,
            deadline=None,
        )
        @given(case=operation.as_strategy())
        def check(case: Any) -> None:
            answer = case.call(headers=headers)
            assert answer.status_code < 500 or answer.status_code == 503, answer.text
            case.validate_response(answer, excluded_checks=EXCLUDED)

        check()
    assert tried > 20
