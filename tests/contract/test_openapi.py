"""The API against its own document: every operation, with valid and invalid input, stays in its contract."""

from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.contract.calls import operations, try_operation
from tests.support.engine import EngineProcess
from tests.support.shared_engine import SharedEngine


@pytest.fixture(scope="module")
def engine(shared_engine: SharedEngine) -> EngineProcess:
    return shared_engine.running()


@pytest.fixture(scope="module")
def document(engine: EngineProcess) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{engine.base_url}/openapi.json", timeout=10).json()
    return found


# what proves or un-proves who the caller is, and what only asks: nothing is created or traded
ONLY_PROOFS = (
    *("/auth/password", "/auth/logout-all", "/auth/step-up", "/auth/mfa/enroll", "/auth/mfa/confirm"),
    *("/auth/telegram/link", "/signals/preview"),
)
CASES = 2
"""Calls of each operation here; ``python -m tests.contract --cases 5000`` makes more."""


def test_document_is_openapi_3_1_and_names_every_required_operation(document: dict[str, Any]) -> None:
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


def test_sec_100_every_operation_answers_in_its_declared_form(engine: EngineProcess) -> None:
    found = operations(engine)
    for operation in found:
        try_operation(engine, operation, cases=CASES)
    assert len(found) > 20


def test_document_is_valid_by_the_meta_schema(document: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(document).validate()


def test_every_operation_has_examples_that_are_valid_where_they_stand(document: dict[str, Any]) -> None:
    shown = 0
    for path, item in document["paths"].items():
        for method, operation in item.items():
            bodies = [operation["requestBody"]] if "requestBody" in operation else []
            for place in [*bodies, *operation["responses"].values()]:
                for kind, entry in place["content"].items():
                    if kind != "application/json" or not entry["schema"]:
                        continue
                    found = (
                        [entry["example"]] if "example" in entry else [e["value"] for e in entry["examples"].values()]
                    )
                    assert found, f"{method} {path} has no example"
                    for value in found:
                        faults = list(validator(document, entry["schema"]).iter_errors(value))
                        assert not faults, f"{method} {path}: {faults[0].message} in {value}"
                        shown += 1
            for parameter in operation["parameters"]:
                if "example" in parameter:
                    faults = list(validator(document, parameter["schema"]).iter_errors(parameter["example"]))
                    assert not faults, f"{method} {path} {parameter['name']}: {faults[0].message}"
    assert shown > 300


def validator(document: dict[str, Any], schema: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator({**schema, "components": document["components"]}, format_checker=FormatChecker())


def test_every_operation_names_its_errors_headers_and_proof(document: dict[str, Any]) -> None:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            name = f"{method} {path}"
            answers = operation["responses"]
            assert "500" in answers, name
            if {"bearer": []} in operation.get("security", ()):
                assert {"401", "403"} <= answers.keys(), name
            if "{" in path:
                assert "404" in answers, name
            if "requestBody" in operation:
                assert "413" in answers, name
            headers = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "header"}
            assert "X-Request-Id" in headers, name
            if method == "post" and {"bearer": []} in operation.get("security", ()) and not path.endswith(ONLY_PROOFS):
                assert "Idempotency-Key" in headers, name
                assert "409" in answers, name
            for status, answer in answers.items():
                assert "X-Request-Id" in answer["headers"], name
                if status in ("429", "503"):
                    assert "Retry-After" in answer["headers"], name
                if status >= "400":
                    schema = answer["content"]["application/json"]["schema"]
                    form = "BareErrorEnvelope" if "openalgo" in operation["tags"] else "ErrorEnvelope"
                    assert schema == {"$ref": f"#/components/schemas/{form}"}, name
    sheets = document["paths"]["/api/v1/signals/sheets/webhook"]["post"]
    assert sheets["security"] == [{"sourceKey": [], "sourceSignature": []}]
    assert {"X-Timestamp", "Idempotency-Key"} <= {parameter["name"] for parameter in sheets["parameters"]}
    for path in ("signals/sheets/webhook", "signals/heartbeat/{sourceId}", "signals/sheets/ledger", "placeorder"):
        operation = document["paths"][f"/api/v1/{path}"]["post"]
        assert operation["requestBody"]["content"]["application/json"]["schema"], path
        assert ("sourceSignature" in str(operation.get("security"))) is path.startswith("signals"), path
    alert = document["paths"]["/api/v1/signals/tradingview/{sourceId}"]["post"]["requestBody"]["content"]
    assert set(alert) == {"application/json", "text/plain"}
