"""/broker/kite/postback: forged, replayed, with a genuine checksum around lies (F32, SEC-052, T17)."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.engine import EngineProcess
from tests.support.intruder import assert_refused

DOOR = "/api/v1/broker/kite/postback"
SECRET = "app-secret-0123456789"
PER_MINUTE = 150
ENVIRONMENT = {
    # nobody listens there: what matters here is the door
    "ENGINE__BROKER__KITE__ROOT_URL": "http://127.0.0.1:9",
    "ENGINE__BROKER__KITE__WS_URL": "ws://127.0.0.1:9",
    "ENGINE__LIMITS__WEBHOOK_PER_MINUTE": str(PER_MINUTE),
}


@pytest.fixture(scope="module")
def client(engine: EngineProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=engine.base_url, timeout=20) as client:
        yield client


@pytest.fixture(scope="module")
def account(engine: EngineProcess) -> dict[str, Any]:
    body = {
        "label": "kite",
        "broker": "kite",
        "apiKey": "appkey",
        "apiSecret": SECRET,
        "accessToken": "token",
        "capital": 1000,
    }
    answer = engine.request("POST", "/accounts", json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json()["data"])


def postback(order_id: str = "240101000000001", secret: str = SECRET, **changes: Any) -> dict[str, Any]:
    at = "2026-11-02 10:00:00"
    checksum = hashlib.sha256(f"{order_id}{at}{secret}".encode()).hexdigest()
    told = {"order_id": order_id, "order_timestamp": at, "checksum": checksum, "user_id": "AB1234", "app_id": 1}
    return told | {"status": "COMPLETE", "filled_quantity": 10, "quantity": 10} | changes


def test_door_is_closed_while_no_account_has_the_secret(client: httpx.Client) -> None:
    for secret in ("", SECRET):
        assert assert_refused(client.post(DOOR, json=postback(secret=secret)), 401)["code"] == "BAD_CHECKSUM"


def test_genuine_postback_is_taken_and_a_replay_answered_like_the_first(
    engine: EngineProcess, client: httpx.Client, account: dict[str, Any]
) -> None:
    before = engine.get("/executions/orders")
    for _ in range(20):
        answer = client.post(DOOR, json=postback())
        assert answer.status_code == 200
        assert answer.json() == {"success": True, "data": {}}
    assert engine.get("/executions/orders") == before


def test_body_comes_in_any_content_type(client: httpx.Client, account: dict[str, Any]) -> None:
    raw = json.dumps(postback()).encode()
    for content_type in ("application/json", "text/plain", "application/x-www-form-urlencoded"):
        assert client.post(DOOR, content=raw, headers={"Content-Type": content_type}).status_code == 200


def test_sec_052_valid_checksum_around_lies_changes_nothing(
    engine: EngineProcess, client: httpx.Client, account: dict[str, Any]
) -> None:
    before = {path: engine.get(path) for path in ("/executions/orders", "/executions/positions", "/executions/trades")}
    lies = ({"status": "COMPLETE", "filled_quantity": 999}, {"status": "CANCELLED"}, {"average_price": -1, "tag": "x"})
    for lie in lies:
        assert client.post(DOOR, json=postback(**lie)).status_code == 200
    assert {path: engine.get(path) for path in before} == before


@pytest.mark.parametrize(
    "changes",
    [
        {"checksum": ""},
        {"checksum": "0" * 64},
        {"order_id": "240101000000002"},
        {"order_timestamp": "2026-11-02 10:00:01"},
    ],
)
def test_sec_052_forged_postback_is_401_and_on_record(
    engine: EngineProcess, client: httpx.Client, account: dict[str, Any], changes: dict[str, Any]
) -> None:
    assert assert_refused(client.post(DOOR, json=postback() | changes), 401)["code"] == "BAD_CHECKSUM"
    refused = [entry for entry in engine.get("/audit", action="WEBHOOK_REFUSED") if DOOR in json.dumps(entry)]
    assert refused
    assert SECRET not in json.dumps(refused)


@pytest.mark.parametrize("raw", [b"", b"{", b"a=1&b=2", b'{"order_id":1}', b"\xff\xfe", b"[" * 5000])
def test_what_cannot_be_read_is_400(client: httpx.Client, account: dict[str, Any], raw: bytes) -> None:
    assert_refused(client.post(DOOR, content=raw), 400)


def test_sec_052_digit_moved_between_id_and_time_is_no_postback(client: httpx.Client, account: dict[str, Any]) -> None:
    told = postback()
    moved = told | {"order_id": told["order_id"] + "2", "order_timestamp": told["order_timestamp"][1:]}
    assert_refused(client.post(DOOR, json=moved), 400)


def test_body_above_64_kib_is_413(client: httpx.Client, account: dict[str, Any]) -> None:
    assert_refused(client.post(DOOR, json=postback(guid="x" * 70_000)), 413)


def test_secret_of_a_deleted_account_opens_nothing(engine: EngineProcess, client: httpx.Client) -> None:
    body = {"label": "gone", "broker": "kite", "apiKey": "k2", "apiSecret": "another-secret", "capital": 1000}
    made = engine.request("POST", "/accounts", json=body).json()["data"]
    assert client.post(DOOR, json=postback(secret="another-secret")).status_code == 200
    assert engine.request("DELETE", f"/accounts/{made['id']}").status_code in (200, 204)
    assert_refused(client.post(DOOR, json=postback(secret="another-secret")), 401)


def test_flood_is_429_with_a_time_to_wait(client: httpx.Client, account: dict[str, Any]) -> None:
    answers = [client.post(DOOR, json=postback(secret="guess")) for _ in range(PER_MINUTE + 30)]
    assert {answer.status_code for answer in answers} == {401, 429}
    # on a slow machine the last one may be let in again: a second has gone by
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers if answer.status_code == 429)
