"""Risk as a user meets it: limits of a strategy, why an order was refused, what trips by itself, and the replay."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from engine.cli.root import program
from tests.support.engine import EngineProcess, limit_order, market_order
from tests.support.servers import TestServers
from tests.support.shared_engine import paper_engine


@pytest.fixture(scope="module")
def engine(servers: TestServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    yield from paper_engine(servers, tmp_path_factory.mktemp("risk"), "risk_api")


def command(engine: EngineProcess, *words: str) -> Result:
    return CliRunner().invoke(program(), [*words], env=engine._environment)


def sent(engine: EngineProcess, signal: dict[str, Any]) -> dict[str, Any]:
    answer = engine.signal(signal)
    assert answer.status_code == 202, answer.text
    intent = answer.json()["data"]["intentId"]

    def look() -> Any:
        found = engine.get(f"/signals/intents/{intent}")
        return found if found["riskVerdict"] is not None else None

    found: dict[str, Any] = engine.wait_for("the verdict", look)
    return found


def rules_of(intent: dict[str, Any], code: str) -> list[tuple[Any, ...]]:
    (account,) = intent["verdict"]["accounts"]
    return [(r["scope"], r["limit"], r["seen"], r["ok"]) for r in account["rules"] if r["code"] == code]


def test_limits_of_a_strategy_narrow_and_every_rule_shows_its_numbers(engine: EngineProcess) -> None:
    (strategy,) = engine.get("/strategies")
    (account,) = engine.get("/accounts")
    body = {"strategyId": strategy["id"], "maxOrderQuantity": 5, "profitTargetAmount": 100000}
    made = engine.request("POST", "/risk/limits", json=body)
    assert made.status_code == 201, made.text
    assert made.json()["data"]["strategyId"] == strategy["id"]
    assert engine.request("POST", "/risk/limits", json=body).status_code == 409
    both = {"strategyId": strategy["id"], "accountId": account["id"]}
    of_both = engine.request("POST", "/risk/limits", json=both | {"maxDailyLossAmount": 5})
    assert list(of_both.json()["error"]["details"]["fields"]) == ["maxDailyLossAmount"]
    lock = engine.request("POST", "/risk/limits", json=both | {"maxOrderQuantity": 7})
    assert lock.status_code == 201, lock.text
    half = engine.request("PUT", f"/risk/limits/{made.json()['data']['id']}", json={"cooldownS": 60})
    assert list(half.json()["error"]["details"]["fields"]) == ["cooldownAfterLosses"]

    refused = sent(engine, limit_order(quantity=6))
    assert (refused["status"], refused["reason"]) == ("REJECTED", "MAX_ORDER_QUANTITY: 6 exceeds 5")
    assert rules_of(refused, "MAX_ORDER_QUANTITY") == [
        ("user", 100000, 6, True),
        ("strategy", 5, 6, False),
        ("strategy on account", 7, 6, True),
    ]
    assert rules_of(refused, "MAX_ORDER_VALUE") == [("user", 1000000, 4890, True)]
    approved = sent(engine, limit_order(quantity=5))
    assert approved["verdict"]["approved"]
    assert approved["verdict"]["accounts"][0]["inputs"]["request"]["quantity"] == 5

    state = engine.get("/risk/state")
    (of_strategy,) = state["strategies"]
    assert of_strategy["messagesInMinute"] == 2
    assert of_strategy["ordersInDay"] == 1
    assert {limit["name"] for limit in of_strategy["limits"]} == {"maxOrderQuantity", "profitTargetAmount"}
    used = {limit["name"]: limit for limit in state["user"]["limits"]}
    assert (used["maxOrdersPerDay"]["used"], used["maxOrdersPerDay"]["limit"]) == (1, 5000)
    assert state["user"]["figures"].keys() >= {"net", "peak", "drawdown", "charges", "trades"}
    assert state["accounts"][0]["breaker"] == {"state": "CLOSED", "failures": 0, "until": None}


def test_explain_and_replay_work_beside_the_running_engine(engine: EngineProcess, tmp_path: Path) -> None:
    intent = sent(engine, limit_order(quantity=4))["id"]
    told = command(engine, "explain", intent)
    assert told.exit_code == 0, told.output
    assert "risk: APPROVED" in told.stdout
    assert "MAX_ORDER_VALUE" in told.stdout
    assert "saw 3260.0, limit 1000000" in told.stdout.replace("3260.0000", "3260.0")
    found = json.loads(command(engine, "explain", intent, "--json").stdout)
    assert found["intent"]["id"] == intent
    assert found["verdicts"][0]["accounts"][0]["approved"] is True
    assert command(engine, "explain", "018f3c5e-0000-7000-8000-000000000000").exit_code == 1

    again = command(engine, "replay", "--check", "--json")
    assert again.exit_code == 0, again.output
    done = json.loads(again.stdout)
    assert done["verdicts"] >= 1
    assert done["different"] == []
    other = tmp_path / "other.toml"
    other.write_text("[risk]\nmax_order_value = 3000\n")
    refused = json.loads(command(engine, "replay", "--limits", str(other), "--json").stdout)["refused"]
    assert {intent} <= {each["intentId"] for each in refused}
    assert refused[-1]["reasons"] == ["MAX_ORDER_VALUE: 3260.00 exceeds 3000.00"]
    assert command(engine, "replay").exit_code == 2
    assert "MAX_ORDER_VALUE" in command(engine, "codes").stdout


def test_trace_shows_every_stage_of_a_signal_and_the_metrics_have_them(engine: EngineProcess) -> None:
    intent = sent(engine, market_order(quantity=3))["id"]

    def filled() -> Any:
        return engine.get(f"/signals/intents/{intent}")["status"] == "EXECUTED"

    engine.wait_for("the fill", filled)
    told = command(engine, "trace", intent)
    assert told.exit_code == 0, told.output
    found = json.loads(command(engine, "trace", intent, "--json").stdout)
    (order,) = found["orders"]
    assert order["brokerOrderId"] in told.stdout
    assert order["fills"][0]["tradeId"] in told.stdout
    assert order["status"] == "COMPLETE"
    offsets = {step["stage"]: step["atMs"] for step in order["stages"]}
    if order["exact"]:
        # the order book may have shown the order before the answer to it was read: then there are no stages of it
        way = [offsets[stage] for stage in ("parsed", "decided", "committed", "sent", "answered", "filled")]
        assert way == sorted(way)
        assert sum(step["share"] or 0 for step in order["stages"]) == pytest.approx(1, abs=0.01)
    assert "filled" in offsets
    measured = engine.get("/system/metrics")["measured"]
    assert measured["stage_ns{stage=wire}"]["count"] >= 1
    assert command(engine, "trace", "018f3c5e-0000-7000-8000-000000000000").exit_code == 1
    assert command(engine, "trace", "no-id").exit_code == 2


def test_refusals_at_the_broker_open_the_breaker_and_block_the_account(engine: EngineProcess) -> None:
    (account,) = engine.get("/accounts")
    body = {"accountId": account["id"], "circuitBreakerFailures": 2, "circuitBreakerCooldownS": 600}
    assert engine.request("POST", "/risk/limits", json=body).status_code == 201
    # more than the account has money for, which risk no longer minds
    free = {"maxOrderValue": None, "maxPositionPct": None, "maxOrderQuantity": None}
    assert engine.request("POST", "/risk/limits", json=free).status_code == 201
    for held in engine.get("/risk/limits"):
        assert engine.request("PUT", f"/risk/limits/{held['id']}", json=free).status_code == 200

    def blocked() -> Any:
        # an order of before that fills in between begins the count anew
        assert engine.signal(limit_order(quantity=5000, productType="CNC")).status_code in (202, 503)
        scopes = engine.get("/risk/killswitch/status")["scopes"]
        return next((s for s in scopes if s["scope"] == f"account:{account['id']}" and s["enabled"]), None)

    found = engine.wait_for("the breaker", blocked)
    assert found["reason"].startswith("CIRCUIT_BREAKER_FAILURES: 2 in a row")
    (seen,) = engine.get("/risk/state")["accounts"]
    assert seen["breaker"]["state"] == "OPEN"
    assert seen["breaker"]["until"] is not None
