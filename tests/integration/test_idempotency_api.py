"""Idempotency-Key on a running engine: a repeat gets the first answer, and nothing runs twice."""

import hashlib
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest

from engine.domain.enums import Role
from engine.http.endpoint import ApiRequest, Once, Registry, endpoint
from engine.http.once import OnceKeeper
from engine.http.permissions import WITHOUT_BEARER, Permission
from engine.http.routes import registry
from engine.security.envelope import KeyRing
from engine.store.directory import Vault
from tests.support.api import ApiServices, running_api
from tests.support.engine import EngineProcess, market_order
from tests.support.intruder import People, Person, address, assert_refused
from tests.support.servers import TestServers
from tests.support.shared_engine import paper_engine

NAME = "idempotency_api"


@pytest.fixture(scope="module")
def engine(servers: TestServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    yield from paper_engine(servers, tmp_path_factory.mktemp(NAME), NAME)


@pytest.fixture(scope="module")
def people(engine: EngineProcess) -> Iterator[People]:
    signed_up = People(engine)
    yield signed_up
    signed_up.close()


@pytest.fixture(scope="module")
def trader(people: People) -> Person:
    return people("trader", "TRADER")


def post(who: Person | EngineProcess, path: str, key: str, body: Any = None) -> httpx.Response:
    return who.request("POST", path, json=body, headers={"Idempotency-Key": key})


def stored(servers: TestServers, condition: str = "true") -> int:
    return int(servers.sql(f"SELECT count(*) FROM idempotency_keys WHERE {condition}", NAME))


def test_every_post_of_somebody_signed_in_says_what_a_repeat_comes_to() -> None:
    posts = [each for each in registry() if each.method == "POST" and each.permission not in WITHOUT_BEARER]
    assert {each.path.removeprefix("/api/v1") for each in posts if each.once is Once.NO} == {
        *("/auth/password", "/auth/logout-all", "/auth/step-up", "/auth/mfa/enroll", "/auth/mfa/confirm"),
        "/auth/telegram/link",
        "/signals/preview",
    }
    assert [each.path for each in posts if each.once is Once.UNKEPT] == ["/api/v1/auth/tokens"]
    assert {each.path for each in posts if each.once is Once.OWN} == {
        "/api/v1/signals",
        "/api/v1/risk/killswitch/enable",
    }


def test_repeat_gets_the_first_answer_and_makes_nothing(trader: Person) -> None:
    key, body = uuid4().hex, {"label": "once"}
    first, second = post(trader, "/accounts", key, body), post(trader, "/accounts", key, body)
    assert first.status_code == second.status_code == 201
    assert second.json() == first.json()
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert [a["label"] for a in trader.request("GET", "/accounts").json()["data"]].count("once") == 1


def test_key_of_another_call_is_409(trader: Person) -> None:
    key = uuid4().hex
    assert post(trader, "/strategies", key, {"name": "first"}).status_code == 201
    for path, body in (("/strategies", {"name": "second"}), ("/accounts", {"label": "first"})):
        assert assert_refused(post(trader, path, key, body), 409)["code"] == "IDEMPOTENCY_KEY_REUSED"
    assert [s["name"] for s in trader.request("GET", "/strategies").json()["data"]] == ["first"]


def test_key_of_another_caller_is_another_key(people: People, trader: Person) -> None:
    key, other = uuid4().hex, people("other", "TRADER")
    mine, theirs = (post(who, "/strategies", key, {"name": "same"}).json()["data"] for who in (trader, other))
    assert mine["id"] != theirs["id"]


def test_crowd_with_one_key_makes_one(trader: Person) -> None:
    key = uuid4().hex
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: post(trader, "/accounts", key, {"label": "crowd"}), range(8)))
    codes = sorted(answer.status_code for answer in answers)
    assert set(codes) <= {201, 409}
    assert 201 in codes
    assert {a.json()["error"]["code"] for a in answers if a.status_code == 409} <= {"IDEMPOTENCY_IN_FLIGHT"}
    assert len({a.json()["data"]["id"] for a in answers if a.status_code == 201}) == 1
    assert [a["label"] for a in trader.request("GET", "/accounts").json()["data"]].count("crowd") == 1


def test_refused_call_frees_its_key(trader: Person) -> None:
    key = uuid4().hex
    assert_refused(post(trader, "/strategies", key, {"name": "x", "accounts": [target(uuid4())]}), 404)
    assert_refused(post(trader, "/strategies", key, {"name": ""}), 422)
    assert post(trader, "/strategies", key, {"name": "mended"}).status_code == 201


def target(account: Any) -> dict[str, Any]:
    return {"accountId": str(account), "sizing": {"mode": "multiplier", "value": 1}}


def test_call_whose_outcome_nobody_knows_is_not_run_again(servers: TestServers, trader: Person) -> None:
    # as a crash between taking the key and keeping the answer leaves it
    key, body = uuid4().hex, {"label": "unknown"}
    made = post(trader, "/accounts", key, body)
    servers.sql(f"UPDATE idempotency_keys SET answer = NULL WHERE key = '{key}'", NAME)
    assert assert_refused(post(trader, "/accounts", key, body), 409)["code"] == "IDEMPOTENCY_OUTCOME_UNKNOWN"
    assert_refused(post(trader, "/accounts", key, {"label": "z"}), 409)
    trader.request("DELETE", f"/accounts/{made.json()['data']['id']}")
    # what may be done twice without harm is done
    again = uuid4().hex
    assert post(trader, "/executions/orders/cancel-all", again, {}).status_code == 200
    servers.sql(f"UPDATE idempotency_keys SET answer = NULL WHERE key = '{again}'", NAME)
    assert post(trader, "/executions/orders/cancel-all", again, {}).status_code == 200


def test_answer_with_a_secret_comes_again_and_is_sealed_in_the_store(servers: TestServers, trader: Person) -> None:
    strategy = trader.make("/strategies", name="with a source")
    key, body = uuid4().hex, {"type": "webhook", "strategyId": strategy["id"], "name": "hook"}
    first, second = post(trader, "/sources", key, body), post(trader, "/sources", key, body)
    secret = first.json()["data"]["secret"]
    assert second.json()["data"]["secret"] == secret
    row = servers.sql(f"SELECT t::text FROM idempotency_keys t WHERE key = '{key}'", NAME)
    assert secret not in row
    assert secret.encode().hex() not in row
    # moved to another row it opens no more, and the call still does not run
    other = uuid4().hex
    post(trader, "/strategies", other, {"name": "mover"})
    sealed = f"(SELECT answer FROM idempotency_keys WHERE key = '{key}')"
    servers.sql(f"UPDATE idempotency_keys SET answer = {sealed} WHERE key = '{other}'", NAME)
    lost = assert_refused(post(trader, "/strategies", other, {"name": "mover"}), 409)
    assert lost["code"] == "IDEMPOTENCY_ANSWER_LOST"


def test_token_is_made_once_and_kept_nowhere(servers: TestServers, trader: Person) -> None:
    key, body = uuid4().hex, {"name": "bot", "scopes": ["READ"]}
    assert post(trader, "/auth/tokens", key, body).status_code == 201
    again = assert_refused(post(trader, "/auth/tokens", key, body), 409)
    assert again["code"] == "IDEMPOTENCY_OUTCOME_UNKNOWN"
    assert len(trader.request("GET", "/auth/tokens").json()["data"]) == 1
    assert stored(servers, f"key = '{key}' AND answer IS NULL") == 1


def test_key_is_no_way_to_try_passwords_unseen_and_the_store_has_none_to_try(
    servers: TestServers, engine: EngineProcess, trader: Person
) -> None:
    key, right = uuid4().hex, {"password": trader.password}
    assert post(trader, "/auth/step-up", key, right).status_code == 200
    wrong = assert_refused(post(trader, "/auth/step-up", key, {"password": "not the password at all"}), 403)
    assert wrong["code"] == "INVALID_CREDENTIALS"
    again = post(trader, "/auth/step-up", key, right)
    assert "idempotency-replayed" not in again.headers
    assert stored(servers, f"key = '{key}'") == 0
    # where a body with a password is kept, its mark is under a key that the store does not have
    body = {"email": f"{key}@example.com", "password": "a password nobody guesses"}
    made = engine.request("POST", "/users", json=body, headers={"Idempotency-Key": key})
    assert made.status_code == 201, made.text
    head = json.dumps(["POST", "/api/v1/users"], separators=(",", ":")).encode()
    plain = hashlib.sha256(len(head).to_bytes(4, "big") + head + made.request.content).hexdigest()
    marks = servers.sql(f"SELECT encode(fingerprint, 'hex') FROM idempotency_keys WHERE key = '{key}'", NAME)
    assert len(marks) == 64
    assert marks != plain


def test_call_of_a_client_that_went_away_runs_to_its_end(engine: EngineProcess, trader: Person) -> None:
    key, raw = uuid4().hex, b'{"label":"gone"}'
    head = (
        f"POST /api/v1/accounts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {trader.token}\r\n"
        f"Idempotency-Key: {key}\r\nContent-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n"
    )
    with socket.create_connection(address(engine.base_url), timeout=5) as connection:
        connection.sendall(head.encode() + raw)

    def repeated() -> httpx.Response | None:
        answer = trader.request(
            "POST", "/accounts", content=raw, headers={"Idempotency-Key": key, "Content-Type": "application/json"}
        )
        return None if answer.status_code == 409 else answer

    answer = engine.wait_for("the answer", repeated)
    assert answer.status_code == 201, answer.text
    assert [a["label"] for a in trader.request("GET", "/accounts").json()["data"]].count("gone") == 1


@endpoint("POST", "/kept", permission=Permission.TRADE, summary="Kept")
async def kept(request: ApiRequest) -> str:
    return "ran"


@endpoint("POST", "/repeatable", permission=Permission.TRADE, summary="Repeatable", once=Once.REPEATABLE)
async def repeatable(request: ApiRequest) -> str:
    return "ran"


async def test_without_the_store_what_creates_waits_and_what_protects_does_not() -> None:
    services = ApiServices()
    keeper = OnceKeeper(
        database=services.database, vault=Vault(KeyRing([bytes(32)])), clock=services.clock, mark_key=bytes(32)
    )
    async with running_api(services, Registry([kept, repeatable]), once=keeper) as api:
        headers = services.bearer(services.add_user(Role.TRADER)) | {"Idempotency-Key": "k"}
        refused = await api.client.post("/api/v1/kept", headers=headers)
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        assert (await api.client.post("/api/v1/repeatable", headers=headers)).json()["data"] == "ran"
        without = {name: value for name, value in headers.items() if name != "Idempotency-Key"}
        assert (await api.client.post("/api/v1/kept", headers=without)).json()["data"] == "ran"


def test_key_is_forgotten_after_a_day(servers: TestServers, trader: Person) -> None:
    key = uuid4().hex
    assert post(trader, "/strategies", key, {"name": "yesterday"}).status_code == 201
    servers.sql(f"UPDATE idempotency_keys SET created_at = created_at - interval '25 h' WHERE key = '{key}'", NAME)
    assert post(trader, "/strategies", key, {"name": "today"}).status_code == 201


@pytest.mark.parametrize("key", ["", "a b", "é", "x" * 201])
def test_key_that_is_none_is_422_and_nothing_is_done(trader: Person, key: str) -> None:
    answer = trader.request(
        "POST", "/accounts", json={"label": "bad key"}, headers={"Idempotency-Key": key.encode("utf-8")}
    )
    assert "Idempotency-Key" in assert_refused(answer, 422)["details"]["fields"]
    assert "bad key" not in trader.request("GET", "/accounts").text


def test_signal_by_hand_keeps_its_key_in_the_journal(servers: TestServers, engine: EngineProcess) -> None:
    key, before = uuid4().hex, stored(servers)
    source = engine.get("/sources")[-1]
    body = market_order() | {"sourceId": source["id"]}
    first, second = post(engine, "/signals", key, body), post(engine, "/signals", key, body)
    assert first.json()["data"]["intentId"] == second.json()["data"]["intentId"]
    assert second.json()["data"]["duplicate"] is True
    assert second.headers["idempotency-replayed"] == "true"
    reused = assert_refused(post(engine, "/signals", key, body | {"quantity": 2}), 409)
    assert reused["code"] == "IDEMPOTENCY_KEY_REUSED"
    assert stored(servers) == before


def test_kill_switch_is_not_held_up_by_a_key(servers: TestServers, trader: Person) -> None:
    key, before = uuid4().hex, stored(servers)
    body = {"scope": f"user:{trader.id}", "reason": "drill", "squareOff": False}
    for reason in ("drill", "another reason"):
        assert post(trader, "/risk/killswitch/enable", key, body | {"reason": reason}).status_code == 200
    assert stored(servers) == before
