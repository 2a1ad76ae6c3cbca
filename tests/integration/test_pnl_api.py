"""The profit and loss of a day, and the strategy books, as a user of the API meets them."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from tests.support.engine import EngineProcess, market_order
from tests.support.servers import TestServers
from tests.support.shared_engine import paper_engine


@pytest.fixture(scope="module")
def engine(servers: TestServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    yield from paper_engine(servers, tmp_path_factory.mktemp("pnl"), "pnl_api")


def trade(engine: EngineProcess, **order: Any) -> None:
    answer = engine.signal(market_order(**order))
    assert answer.status_code == 202, answer.text
    intent = answer.json()["data"]["intentId"]
    engine.wait_for("the fill", lambda: engine.get(f"/signals/intents/{intent}")["status"] == "EXECUTED")


def test_day_is_told_in_all_by_account_and_by_strategy_net_of_charges(engine: EngineProcess) -> None:
    blank = engine.get("/executions/pnl")
    assert (blank["total"]["pnl"], blank["total"]["stale"]) == (0, False)
    (strategy,) = engine.get("/strategies")
    (account,) = engine.get("/accounts")
    trade(engine, symbol="SBIN", quantity=10, productType="MIS")
    trade(engine, symbol="SBIN", quantity=4, productType="MIS", transactionType="SELL")

    day = engine.wait_for(
        "one trip's charges", lambda: (found := engine.get("/executions/pnl"))["total"]["charges"] and found
    )
    total, (of_account,), (of_strategy,) = day["total"], day["accounts"], day["strategies"]
    assert of_account["accountId"] == account["id"]
    assert (of_strategy["strategyId"], of_strategy["book"]) == (strategy["id"], "STRATEGY")
    assert (total["capital"], total["book"], total["accountId"]) == (1_000_000, "ALL", None)
    for name in ("realisedPnl", "unrealisedPnl", "charges", "pnl"):
        assert total[name] == of_account[name] == of_strategy[name], name
    gross = Decimal(str(total["realisedPnl"])) + Decimal(str(total["unrealisedPnl"]))
    assert Decimal(str(total["pnl"])) == gross - Decimal(str(total["charges"]))
    shown = sum(Decimal(str(order["charges"]["total"])) for order in engine.get("/executions/orders"))
    assert abs(shown - Decimal(str(total["charges"]))) < Decimal("0.001")
    state = engine.get("/risk/state")
    assert abs(state["user"]["dayPnl"] - total["pnl"]) < 50, "prices move; charges are in both"

    narrowed = engine.get("/executions/pnl", accountId=account["id"], strategyId=strategy["id"])
    assert narrowed["total"]["accountId"] == account["id"]
    assert narrowed["total"]["strategyId"] == strategy["id"]
    assert len(narrowed["accounts"]) == len(narrowed["strategies"]) == 1


def test_positions_are_the_brokers_and_by_strategy_the_books(engine: EngineProcess) -> None:
    (strategy,) = engine.get("/strategies")
    (net,) = engine.get("/executions/positions")
    (book,) = engine.get("/executions/positions", by="strategy")
    assert (net["strategyId"], net["quantity"]) == (None, 6)
    assert (book["strategyId"], book["quantity"]) == (strategy["id"], 6)
    assert set(net) == set(book)
    assert engine.get("/executions/positions", strategyId=strategy["id"]) != []
    assert engine.get("/executions/positions", strategyId=str(uuid4())) == []
    assert engine.request("GET", "/executions/positions", params={"by": "moon"}).status_code == 422


def test_other_days_and_other_peoples_figures(engine: EngineProcess) -> None:
    past = engine.get("/executions/pnl", date="2026-01-05")
    assert (past["date"], past["total"]["pnl"], past["accounts"], past["strategies"]) == ("2026-01-05", 0, [], [])
    assert engine.request("GET", "/executions/pnl", params={"date": "2099-01-01"}).status_code == 422
    for name in ("accountId", "strategyId", "userId"):
        assert engine.request("GET", "/executions/pnl", params={name: str(uuid4())}).status_code == 404


def test_capital_of_a_kite_account_may_be_left_to_its_margins(engine: EngineProcess) -> None:
    body = {"label": "z", "broker": "kite", "apiKey": "k" * 16, "apiSecret": "s" * 32}
    made = engine.request("POST", "/accounts", json=body).json()["data"]
    assert (made["capital"], made["capitalFrom"], made["capitalReadAt"]) == (0, "BROKER", None)
    stated = engine.request("PATCH", f"/accounts/{made['id']}", json={"capital": 50_000}).json()["data"]
    assert (stated["capital"], stated["capitalFrom"]) == (50_000, "STATED")
    again = engine.request("PATCH", f"/accounts/{made['id']}", json={"capital": None}).json()["data"]
    assert (again["capital"], again["capitalFrom"]) == (50_000, "BROKER")
    paper = next(a for a in engine.get("/accounts") if a["broker"] == "paper")
    assert engine.request("PATCH", f"/accounts/{paper['id']}", json={"capital": None}).status_code == 422
