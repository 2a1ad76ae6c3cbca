"""Kill switches that prove flat, through the API of a real engine at a real exchange; killed on the way, it goes on.

Every point of the way: FLATTEN_POINTS=K2.begun,K3.before_cancel,... pytest tests/integration/test_flatten_paper.py
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.engine import EngineProcess, limit_order
from tests.support.exchange_process import ExchangeProcess
from tests.support.kite_mode import OPEN_LIMITS, kite_environment, set_up
from tests.support.servers import TestServers

ROOT = Path(__file__).resolve().parents[2]
POINTS = os.environ.get("FLATTEN_POINTS", "K3.cancelled,K4.placed").split(",")


class DyingEngine(EngineProcess):
    """An engine that is killed where the plan says, once it is armed."""

    program = ("-m", "tests.support.crashing_engine", "plan.json")

    def plan(self, point: str) -> None:
        """Let the next life end at *point*, once `arm` is called."""
        (self.folder / "armed").unlink(missing_ok=True)
        (self.folder / "plan.json").write_text(json.dumps({"point": point, "arm": "armed"}))

    def arm(self) -> None:
        (self.folder / "armed").touch()


class Desk:
    """The engine, the exchange, and a person with the keys of the account."""

    def __init__(self, engine: DyingEngine, exchange: ExchangeProcess, source: tuple[str, str], token: str) -> None:
        self.engine = engine
        self.exchange = exchange
        self._source = source
        self._headers = {"Authorization": f"token {exchange.api_key}:{token}", "X-Kite-Version": "3"}

    def signal(self, symbol: str, price: float, quantity: int, **fields: Any) -> None:
        body = limit_order(symbol, price, quantity, productType="MIS", **fields)
        answer = self.engine.signal(body, source=self._source)
        assert answer.status_code == 202, answer.text

    def hold(self, symbol: str, last: float, quantity: int) -> None:
        """Buy, and leave another order resting far below."""
        self.exchange.control("price", {"key": f"NSE:{symbol}", "price": f"{last:.2f}"})
        before = self.position(symbol)
        self.signal(symbol, last * 1.002, quantity)
        self.engine.wait_for("the position", lambda: self.position(symbol) == before + quantity)
        self.signal(symbol, last * 0.95, 1)
        self.engine.wait_for("the resting order", lambda: self.engine.get("/executions/orders", status="OPEN"))

    def position(self, symbol: str) -> int:
        return sum(int(row["quantity"]) for row in self.engine.get("/executions/positions", symbol=symbol))

    def at_broker(self) -> tuple[dict[str, int], int]:
        """Units held by symbol, and orders that may fill, as the broker has it."""
        with httpx.Client(base_url=self.exchange.base_url, headers=self._headers, timeout=10) as client:
            net = client.get("/portfolio/positions").json()["data"]["net"]
            orders = client.get("/orders").json()["data"]
        over = ("COMPLETE", "CANCELLED", "REJECTED")
        held = {row["tradingsymbol"]: row["quantity"] for row in net if row["quantity"]}
        return held, sum(row["status"] not in over for row in orders)

    def closed(self, symbol: str) -> list[dict[str, Any]]:
        rows = self.engine.get("/executions/orders", symbol=symbol, limit=100)
        return [row for row in rows if row["origin"] == "SQUARE_OFF"]

    def scope(self) -> dict[str, Any]:
        (found,) = [row for row in self.engine.get("/risk/killswitch/status")["scopes"] if row["scope"] == "global"]
        return dict(found)

    def kill(self) -> None:
        body = {"scope": "global", "reason": "test", "squareOff": True}
        answer = self.engine.request("POST", "/risk/killswitch/enable", json=body)
        assert answer.status_code == 200, answer.text

    def flat(self) -> dict[str, Any]:
        def look() -> Any:
            found = self.scope()
            return found if found["state"] == "FLAT_VERIFIED" else None

        return dict(self.engine.wait_for("a proof that all is flat", look, within_s=240))

    def release(self) -> None:
        body = {"scope": "global", "reason": "over"}
        answer = self.engine.request("POST", "/risk/killswitch/disable", json=body)
        assert answer.status_code == 200, answer.text


@pytest.fixture(scope="module")
def desk(servers: TestServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("flatten")
    name = f"flatten_{uuid4().hex[:8]}"
    url, redis_url = servers.create_database(name), f"{servers.redis_url}?db=0"
    (folder / "engine").mkdir()
    with ExchangeProcess(folder / "exchange") as exchange:
        environment = kite_environment(exchange.base_url) | OPEN_LIMITS | {"PYTHONPATH": str(ROOT)}
        engine = DyingEngine(folder / "engine", ENGINE__DATABASE__URL=url, ENGINE__REDIS__URL=redis_url, **environment)
        engine.plan(POINTS[0])
        with engine:
            token = exchange.login()
            source = set_up(engine, api_key=exchange.api_key, api_secret=exchange.api_secret, access_token=token)
            engine.wait_for("the instruments", lambda: engine.get("/system/metrics")["instruments"]["count"])
            yield Desk(engine, exchange, source, token)
    servers.drop_database(name)


def test_kill_switch_ends_orders_and_positions_and_proves_it(desk: Desk) -> None:
    desk.hold("SBIN", 800, 4)
    desk.kill()
    scope = desk.flat()
    assert (scope["flat"], scope["notFlat"]) == (True, [])
    assert desk.at_broker() == ({}, 0)
    (closing,) = desk.closed("SBIN")
    assert (closing["transactionType"], closing["quantity"], closing["intentId"]) == ("SELL", 4, None)
    (certificate,) = desk.engine.get("/risk/killswitch/certificates")
    assert certificate["id"] == scope["certificate"]["id"]
    assert (certificate["outcome"], certificate["valid"]) == ("FLAT_VERIFIED", True)
    content = json.loads(certificate["content"])
    (account,) = [row for row in content["accounts"] if len(row["proofs"]) == 2 and row["proofs"][0]["orders"]]
    assert account["flat"]
    assert [row["quantity"] for row in account["proofs"][1]["positions"]] == [0]
    assert content["timeToFlatS"] > 2
    actions = {record["action"] for record in desk.engine.get("/audit", limit=100)}
    assert {"SQUARE_OFF_ORDER", "KILL_CERTIFICATE", "KILLSWITCH_ADVANCED"} <= actions
    desk.release()


def test_chosen_position_is_squared_off_without_a_kill_switch(desk: Desk) -> None:
    desk.hold("INFY", 1400, 3)
    desk.hold("SBIN", 800, 2)
    answer = desk.engine.request("POST", "/executions/positions/square-off", json={"symbol": "INFY"})
    assert answer.status_code == 200, answer.text
    (row,) = answer.json()["data"]["positions"]
    assert (row["symbol"], row["quantityBefore"], row["quantity"], row["problem"]) == ("INFY", 3, 0, None)
    held, open_orders = desk.at_broker()
    assert (held, open_orders) == ({"SBIN": 2}, 1)
    nobody = {"accountId": str(uuid4())}
    assert desk.engine.request("POST", "/executions/positions/square-off", json=nobody).status_code == 404
    answer = desk.engine.request("POST", "/executions/positions/square-off")
    assert (answer.status_code, answer.json()["data"]["remaining"]) == (200, 0)
    assert desk.at_broker() == ({}, 0)


def test_engine_killed_while_it_flattens_goes_on_at_the_next_start(desk: Desk) -> None:
    for number, point in enumerate(POINTS):
        desk.hold("INFY", 1400, 2 + number)
        before = len(desk.closed("INFY"))
        desk.engine.arm()
        was_answered = True
        try:
            desk.kill()
        except httpx.TransportError:
            was_answered = False
        assert desk.engine.process is not None
        deadline = time.monotonic() + 20
        while desk.engine.process.poll() is None:
            assert time.monotonic() < deadline, f"{point} was not passed"
            time.sleep(0.02)
        desk.engine.kill()
        desk.engine.plan(POINTS[min(number + 1, len(POINTS) - 1)])
        desk.engine.start()
        if not was_answered and not desk.scope()["enabled"]:
            desk.kill()  # it had died before the block was on disk, and had promised nothing
        desk.flat()
        assert desk.at_broker() == ({}, 0)
        filled = [row["filledQuantity"] for row in desk.closed("INFY")[: len(desk.closed("INFY")) - before]]
        assert sum(filled) == 2 + number, f"{point}: {filled}"
        desk.release()
