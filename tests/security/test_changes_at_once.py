"""Changes at one moment: none undoes what another was answered with success (SEC-020, 036, 043, 108)."""

import hashlib
import hmac
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.support.engine import EngineProcess
from tests.support.intruder import People, Person

SIGNAL = (
    b'{"symbol":"INFY","exchange":"NSE","transactionType":"BUY","quantity":1,"orderType":"MARKET","productType":"MIS"}'
)
ROUNDS = 4


def at_once(*calls: Callable[[], httpx.Response]) -> list[httpx.Response]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def changing(who: Any, method: str, path: str, bodies: Sequence[dict[str, Any]]) -> list[Callable[[], httpx.Response]]:
    return [lambda body=body: who.request(method, path, json=body) for body in bodies]  # type: ignore[misc]


RENAMES = [{"name": f"name {number}"} for number in range(4)]


@pytest.fixture(scope="module")
def trader(people: People) -> Person:
    return people("at-once", "TRADER")


@pytest.fixture(scope="module")
def strategy(trader: Person) -> dict[str, Any]:
    return trader.make("/strategies", name="at once", accounts=[])


def test_sec_036_tightening_beside_tightening_ends_with_the_tightest(trader: Person) -> None:
    path = f"/risk/limits/{trader.make('/risk/limits', maxOrderValue=1000)['id']}"
    values = [990, 600, 950, 500, 700, 800, 505, 650]
    answers = at_once(*changing(trader, "PUT", path, [{"maxOrderValue": value} for value in values]))
    taken = [value for value, answer in zip(values, answers, strict=True) if answer.status_code == 200]
    assert {answer.status_code for answer in answers} <= {200, 403}
    at_once(*changing(trader, "PUT", path, [{"maxOrdersPerDay": 5}, {"maxOrderQuantity": 7}, {"maxOpenPositions": 3}]))
    (held,) = trader.request("GET", "/risk/limits").json()["data"]
    assert held["maxOrderValue"] == min(taken)
    assert (held["maxOrdersPerDay"], held["maxOrderQuantity"], held["maxOpenPositions"]) == (5, 7, 3)


def test_sec_043_leaked_keys_stay_dead_when_a_source_is_renamed_while_it_rotates(
    engine: EngineProcess, trader: Person, strategy: dict[str, Any]
) -> None:
    for _ in range(ROUNDS):
        source = trader.make("/sources", type="webhook", strategyId=strategy["id"], name="leaked")
        path = f"/sources/{source['id']}"
        rotate = changing(trader, "POST", f"{path}/rotate", [{"graceS": 0}])
        assert {a.status_code for a in at_once(*rotate, *changing(trader, "PATCH", path, RENAMES))} == {200}
        assert deliver(engine, source).status_code == 401
        # nor does one that is deleted meanwhile live on
        end = [lambda path=path: trader.request("DELETE", path)]
        answers = at_once(*changing(trader, "PATCH", path, RENAMES), *end)
        assert {answer.status_code for answer in answers} <= {200, 404}
        assert trader.request("GET", path).status_code == 404


def deliver(engine: EngineProcess, source: dict[str, Any]) -> httpx.Response:
    timestamp = str(int(time.time()))
    signature = hmac.new(source["secret"].encode(), timestamp.encode() + b"." + SIGNAL, hashlib.sha256).hexdigest()
    headers = {"X-API-Key": source["apiKey"], "X-Timestamp": timestamp, "X-Signature": signature}
    url = f"{engine.base_url}/api/v1/signals/webhook/{source['id']}"
    return httpx.post(url, content=SIGNAL, headers={"Content-Type": "application/json", **headers}, timeout=20)


def test_sec_108_strategy_that_was_switched_off_stays_off(trader: Person, strategy: dict[str, Any]) -> None:
    path = f"/strategies/{strategy['id']}"
    for _ in range(ROUNDS):
        trader.request("PATCH", path, json={"enabled": True})
        at_once(*changing(trader, "PATCH", path, [{"enabled": False}, *RENAMES]))
        assert trader.request("GET", path).json()["data"]["enabled"] is False


def test_sec_020_user_who_was_disabled_stays_disabled(engine: EngineProcess, people: People) -> None:
    victim = people("renamed", "TRADER")
    path = f"/users/{victim.id}"
    for _ in range(ROUNDS):
        engine.request("PATCH", path, json={"disabled": False, "role": "TRADER"})
        at_once(*changing(engine, "PATCH", path, [{"disabled": True}, {"role": "VIEWER"}, *RENAMES]))
        held = engine.get(path)
        assert (held["disabled"], held["role"]) == (True, "VIEWER")
    assert victim.request("GET", "/auth/me").status_code == 401


def test_administrators_who_end_each_others_role_do_not_wait_in_a_circle(engine: EngineProcess, people: People) -> None:
    first, second = people("first-admin", "ADMIN"), people("second-admin", "ADMIN")
    ends = [
        lambda who=who, whom=whom: who.request("PATCH", f"/users/{whom.id}", json={"role": "VIEWER"})
        for who, whom in ((first, second), (second, first))
    ]
    assert {answer.status_code for answer in at_once(*ends)} <= {200, 403}
