"""Reconciliation through the API of a real engine, with orders placed by hand at a real exchange."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.engine import PASSWORD, EngineProcess, limit_order
from tests.support.exchange_process import ExchangeProcess
from tests.support.kite_mode import OPEN_LIMITS, kite_environment, set_up
from tests.support.servers import TestServers


class Desk:
    """The engine, the exchange, and a person with the keys of the account."""

    def __init__(self, engine: EngineProcess, exchange: ExchangeProcess, access_token: str) -> None:
        self.engine = engine
        self.exchange = exchange
        self._headers = {"Authorization": f"token {exchange.api_key}:{access_token}", "X-Kite-Version": "3"}
        self.account = next(row["id"] for row in engine.get("/accounts") if row["broker"] == "kite")

    def by_hand(self, symbol: str, side: str, quantity: int, price: str) -> str:
        form = {
            "exchange": "NSE",
            "tradingsymbol": symbol,
            "transaction_type": side,
            "quantity": quantity,
            "product": "MIS",
            "order_type": "LIMIT",
            "price": price,
            "validity": "DAY",
        }
        url = f"{self.exchange.base_url}/orders/regular"
        answer = httpx.post(url, data=form, headers=self._headers, timeout=10)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["data"]["order_id"])

    def reconcile(self, **options: Any) -> httpx.Response:
        return self.engine.request("POST", f"/accounts/{self.account}/reconcile", **options)

    def orders(self) -> dict[str, Any]:
        return {row["brokerOrderId"]: row for row in self.engine.get("/executions/orders", accountId=self.account)}


@pytest.fixture(scope="module")
def desk(servers: TestServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("reconcile_api")
    name = f"reconcile_{uuid4().hex[:8]}"
    url, redis_url = servers.create_database(name), f"{servers.redis_url}?db=0"
    servers.flush(redis_url)
    with ExchangeProcess(folder / "exchange") as exchange:
        for key, price in (("NSE:SBIN", "800.00"), ("NSE:INFY", "1450.00")):
            exchange.control("price", {"key": key, "price": price})
        environment = kite_environment(exchange.base_url) | OPEN_LIMITS
        with EngineProcess(
            folder / "engine", ENGINE__DATABASE__URL=url, ENGINE__REDIS__URL=redis_url, **environment
        ) as engine:
            token = exchange.login()
            source = set_up(engine, api_key=exchange.api_key, api_secret=exchange.api_secret, access_token=token)
            engine.wait_for("the instruments", lambda: engine.get("/system/metrics")["instruments"]["count"])
            desk = Desk(engine, exchange, token)
            assert engine.signal(limit_order("SBIN", 810.0, 2), source=source).status_code == 202
            engine.wait_for("our order", lambda: [r for r in desk.orders().values() if r["status"] == "COMPLETE"])
            yield desk
    servers.drop_database(name)


def test_hand_orders_are_answered_listed_counted_and_can_be_cancelled(desk: Desk) -> None:
    filled, resting = desk.by_hand("SBIN", "SELL", 5, "790"), desk.by_hand("INFY", "BUY", 3, "1440")
    answer = desk.reconcile()
    assert answer.status_code == 200, answer.text
    report = answer.json()["data"]
    assert {"orders", "trades", "positions", "adopted", "differences", "unknown", "readAt"} <= report.keys()
    assert (report["orders"], report["trades"], report["unknown"]) == (3, 2, [])

    orders = desk.engine.wait_for("adoption", lambda: len(found := desk.orders()) == 3 and found)
    assert sorted(row["origin"] for row in orders.values()) == ["ENGINE", "EXTERNAL", "EXTERNAL"]
    row = orders[filled]
    assert (row["status"], row["filledQuantity"], row["intentId"], row["strategyId"]) == ("COMPLETE", 5, None, None)
    assert len(row["fills"]) == 1
    (position,) = desk.engine.get("/executions/positions", accountId=desk.account, symbol="SBIN")
    assert position["quantity"] == 2 - 5
    audit = [r for r in desk.engine.get("/audit", limit=200) if r["action"] == "EXTERNAL_ADOPTED"]
    assert {r["subject"] for r in audit} == {f"order:{orders[i]['id']}" for i in (filled, resting)}

    cancelled = desk.engine.request("POST", f"/executions/orders/{orders[resting]['id']}/cancel")
    assert (cancelled.status_code, cancelled.json()["data"]["status"]) == (200, "CANCELLED")
    again = desk.reconcile().json()["data"]
    assert (again["adopted"], again["differences"]) == ([], [])


def test_viewer_may_not_reconcile(desk: Desk) -> None:
    mail = f"{uuid4().hex}@example.org"
    body = {"email": mail, "password": PASSWORD, "name": "V", "role": "VIEWER"}
    assert desk.engine.request("POST", "/users", json=body).status_code == 201
    url = f"{desk.engine.base_url}/api/v1/auth/login"
    token = httpx.post(url, json={"email": mail, "password": PASSWORD}, timeout=10).json()["data"]["accessToken"]
    assert desk.reconcile(headers={"Authorization": f"Bearer {token}"}).status_code == 403


def test_account_that_does_not_exist_is_not_found(desk: Desk) -> None:
    assert desk.engine.request("POST", f"/accounts/{uuid4()}/reconcile").status_code == 404


def test_broker_that_cannot_be_read_answers_503(desk: Desk) -> None:
    desk.exchange.set_faults({"on": "read", "answer": "api_down"})
    try:
        answer = desk.reconcile()
        assert answer.status_code == 503
        assert "Retry-After" in answer.headers
    finally:
        desk.exchange.set_faults()
