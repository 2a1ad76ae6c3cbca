"""Exits kept as triggers (GTT), through the API of a real engine at a real exchange: fired, cancelled, outlived."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.engine import PASSWORD, EngineProcess, limit_order
from tests.support.exchange_process import ExchangeProcess
from tests.support.kite_mode import OPEN_LIMITS, kite_environment, set_up
from tests.support.servers import TestServers

ROOT = Path(__file__).resolve().parents[2]


class DyingEngine(EngineProcess):
    """An engine that is killed once the second request of its life has left (the first is the entry's)."""

    program = ("-m", "tests.support.crashing_engine", "plan.json")


class Desk:
    """The engine, the exchange, and a person with the keys of the account."""

    def __init__(self, engine: EngineProcess, exchange: ExchangeProcess, source: tuple[str, str], token: str) -> None:
        self.engine = engine
        self.exchange = exchange
        self._source = source
        self._headers = {"Authorization": f"token {exchange.api_key}:{token}", "X-Kite-Version": "3"}

    def enter(self, symbol: str, last: float, **changes: Any) -> None:
        """Buy for delivery at once, with a stop 5 % below the last price and a target 5 % above."""
        self.exchange.control("price", {"key": f"NSE:{symbol}", "price": f"{last:.2f}"})
        exits = {"productType": "CNC", "stopLoss": last * 0.95, "target": last * 1.05}
        body = limit_order(symbol, last * 1.002, 4, **(exits | changes))
        answer = self.engine.signal(body, source=self._source)
        assert answer.status_code == 202, answer.text

    def gtt(self, symbol: str, status: str) -> dict[str, Any]:
        """Wait until the trigger of a symbol is in *status*."""

        def look() -> Any:
            found = self.engine.get("/executions/gtts", symbol=symbol)
            return found if found and found[0]["status"] == status else None

        (row,) = self.engine.wait_for(f"{symbol} {status}", look)
        return dict(row)

    def at_broker(self) -> list[dict[str, Any]]:
        """The active triggers, as the account's owner sees them at the broker."""
        answer = httpx.get(f"{self.exchange.base_url}/gtt/triggers", headers=self._headers, timeout=10)
        return [row for row in answer.json()["data"] if row["status"] == "active"]

    def actions(self, gtt: dict[str, Any]) -> list[str]:
        """What the audit log has of a trigger, oldest first, each once."""
        records = self.engine.get("/audit", limit=200)
        return list(dict.fromkeys(r["action"] for r in reversed(records) if r["subject"] == f"gtt:{gtt['id']}"))

    def position(self, symbol: str) -> int:
        return sum(int(row["quantity"]) for row in self.engine.get("/executions/positions", symbol=symbol))


@pytest.fixture(scope="module")
def desk(servers: TestServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("gtts")
    name = f"gtts_{uuid4().hex[:8]}"
    url, redis_url = servers.create_database(name), f"{servers.redis_url}?db=0"
    servers.flush(redis_url)
    (folder / "engine").mkdir()
    (folder / "engine" / "plan.json").write_text('{"point": "S6.sent", "hit": 2, "arm": "armed"}')
    with ExchangeProcess(folder / "exchange") as exchange:
        environment = kite_environment(exchange.base_url) | OPEN_LIMITS | {"PYTHONPATH": str(ROOT)}
        with DyingEngine(
            folder / "engine", ENGINE__DATABASE__URL=url, ENGINE__REDIS__URL=redis_url, **environment
        ) as engine:
            token = exchange.login()
            source = set_up(engine, api_key=exchange.api_key, api_secret=exchange.api_secret, access_token=token)
            engine.wait_for("the instruments", lambda: engine.get("/system/metrics")["instruments"]["count"])
            yield Desk(engine, exchange, source, token)
    servers.drop_database(name)


def test_entry_for_delivery_gets_a_trigger_and_its_stop_closes_the_position(desk: Desk) -> None:
    desk.enter("SBIN", 800)
    gtt = desk.gtt("SBIN", "ACTIVE")
    assert (gtt["transactionType"], gtt["quantity"], gtt["productType"]) == ("SELL", 4, "CNC")
    assert (gtt["stopTrigger"], gtt["stopPrice"], gtt["targetTrigger"], gtt["targetPrice"]) == (760, 756.2, 840, 840)
    assert [str(row["id"]) for row in desk.at_broker()] == [gtt["triggerId"]]
    assert desk.position("SBIN") == 4
    (scope,) = desk.engine.get("/risk/killswitch/status")["scopes"]
    assert {row["symbol"]: row["restingGtts"] for row in scope["notFlat"]} == {"SBIN": 1}

    desk.exchange.control("price", {"key": "NSE:SBIN", "price": "759.00"})
    # otherwise within thirty seconds, when the list is read again
    account = next(row["id"] for row in desk.engine.get("/accounts") if row["broker"] == "kite")
    assert desk.engine.request("POST", f"/accounts/{account}/reconcile").status_code == 200
    fired = desk.gtt("SBIN", "TRIGGERED")
    assert fired["firedRole"] == "STOP"
    desk.engine.wait_for("the position to close", lambda: desk.position("SBIN") == 0)

    def tied() -> Any:
        rows = desk.engine.get("/executions/orders", symbol="SBIN")
        return [row for row in rows if row["role"] == "STOP" and row["status"] == "COMPLETE"]

    (order,) = desk.engine.wait_for("the order to be tied to its entry", tied)
    assert (order["brokerOrderId"], order["origin"], order["parentId"]) == (
        fired["brokerOrderId"],
        "EXTERNAL",
        gtt["entryId"],
    )
    assert desk.actions(gtt) == ["GTT_SUBMITTING", "GTT_ACTIVE", "GTT_TRIGGERED", "GTT_ORDER_LINKED"]


def test_trigger_is_cancelled_by_its_owner_alone_and_not_placed_again(desk: Desk) -> None:
    desk.enter("INFY", 1450)
    gtt = desk.gtt("INFY", "ACTIVE")
    mail = f"{uuid4().hex}@example.org"
    body = {"email": mail, "password": PASSWORD, "name": "T", "role": "TRADER"}
    assert desk.engine.request("POST", "/users", json=body).status_code == 201
    url = f"{desk.engine.base_url}/api/v1"
    token = httpx.post(f"{url}/auth/login", json={"email": mail, "password": PASSWORD}, timeout=10).json()
    headers = {"Authorization": f"Bearer {token['data']['accessToken']}"}
    path = f"/executions/gtts/{gtt['id']}/cancel"
    assert httpx.post(url + path, headers=headers, timeout=10).status_code == 404
    assert httpx.get(f"{url}/executions/gtts", headers=headers, timeout=10).json()["data"] == []

    answer = desk.engine.request("POST", path)
    assert (answer.status_code, answer.json()["data"]["status"]) == (200, "CANCELLED")
    assert not desk.at_broker()
    again = desk.engine.request("POST", path)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "ORDER_FINISHED")
    assert desk.engine.request("POST", f"/executions/gtts/{uuid4()}/cancel").status_code == 404
    assert len(desk.engine.get("/executions/gtts", symbol="INFY")) == 1


def test_engine_killed_between_request_and_answer_finds_that_trigger_and_one_that_fired_meanwhile(desk: Desk) -> None:
    desk.enter("TCS", 3900)
    fires = desk.gtt("TCS", "ACTIVE")
    (desk.engine.folder / "armed").touch()
    desk.enter("RELIANCE", 2500)
    assert desk.engine.process is not None
    assert desk.engine.process.wait(20) == -signal.SIGKILL
    desk.engine.kill()
    (desk.engine.folder / "armed").unlink()
    desk.exchange.control("price", {"key": "NSE:TCS", "price": "4096.00"})
    deadline = time.monotonic() + 5
    while [row["condition"]["tradingsymbol"] for row in desk.at_broker()] != ["RELIANCE"]:
        assert time.monotonic() < deadline, f"the exchange has {desk.at_broker()}"
        time.sleep(0.05)

    desk.engine.start()
    found = desk.gtt("RELIANCE", "ACTIVE")
    assert [str(row["id"]) for row in desk.at_broker()] == [found["triggerId"]]
    assert desk.actions(found) == ["GTT_SUBMITTING", "GTT_UNKNOWN", "GTT_ACTIVE"]
    fired = desk.gtt("TCS", "TRIGGERED")
    assert (fired["id"], fired["firedRole"]) == (fires["id"], "TARGET")
    desk.engine.wait_for("the position to close", lambda: desk.position("TCS") == 0)
