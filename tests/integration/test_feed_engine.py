"""A real engine in kite mode: the ticker tells it of prices, postbacks of orders, and without it goes on polling."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

from tests.support.engine import EngineProcess, limit_order
from tests.support.exchange import RunningExchange, running_exchange
from tests.support.kite_mode import OPEN_LIMITS, kite_environment, set_up
from tests.support.servers import TestServers
from tests.support.ticker_server import TickerServer, frame, ltp, order_text, until

POSTBACK = "/broker/kite/postback"


async def aside(call: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Run a blocking call while the servers of this test go on."""
    with trio.fail_after(60):
        return await trio.to_thread.run_sync(lambda: call(*args, **options))


def child_names(tree: dict[str, Any]) -> set[str]:
    return {tree["name"]}.union(*(child_names(child) for child in tree["children"]))


class Desk:
    """What the test asks of the engine."""

    def __init__(self, engine: EngineProcess, exchange: RunningExchange, source: tuple[str, str]) -> None:
        self.engine = engine
        self.exchange = exchange
        self.source = source

    async def get(self, path: str) -> Any:
        return await aside(self.engine.get, path)

    async def order(self, symbol: str, price: float) -> str:
        """Place an order and return its id at the broker once it is open there."""
        answer = await aside(self.engine.signal, limit_order(symbol, price, 10), source=self.source)
        assert answer.status_code == 202, answer.text

        def found() -> str:
            rows = self.engine.get("/executions/orders")
            return next((r["brokerOrderId"] for r in rows if r["symbol"] == symbol and r["status"] == "OPEN"), "")

        return str(await aside(self.engine.wait_for, "the order", found))

    async def ready(self, connected: int) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            view: dict[str, Any] = self.engine.get("/system/ready")
            return view if view["feeds"]["connected"] == connected else None

        found: dict[str, Any] = await aside(self.engine.wait_for, f"{connected} feeds", look)
        return found


async def test_engine_trades_with_its_ticker_and_without(
    tmp_path: Path, servers: TestServers, nursery: trio.Nursery
) -> None:
    ticker = TickerServer()
    await nursery.start(ticker.run)
    async with running_exchange(tmp_path) as exchange:
        environment = {
            **OPEN_LIMITS,
            **kite_environment(exchange.base_url),
            "ENGINE__BROKER__KITE__WS_URL": ticker.url,
            "ENGINE__DATABASE__URL": await aside(servers.create_database, "feed_engine"),
            "ENGINE__REDIS__URL": f"{servers.redis_url}?db=11",
        }
        servers.flush(f"{servers.redis_url}?db=11")
        engine = EngineProcess(tmp_path, **environment)
        try:
            await aside(engine.start)
            keys = {"api_key": exchange.api_key, "api_secret": exchange.api_secret}
            source = await aside(set_up, engine, access_token=exchange.access_token, **keys)
            await drive(Desk(engine, exchange, source), ticker)
        finally:
            await aside(engine.kill)
            await aside(servers.drop_database, "feed_engine")
    nursery.cancel_scope.cancel()


async def drive(desk: Desk, ticker: TickerServer) -> None:
    exchange = desk.exchange
    assert (await desk.ready(0))["feeds"]["detail"] == "no account needs one now"
    assert ticker.clients == [], "an idle account costs no connection"

    # the first order brings the connection, and the price of its instrument
    await exchange.set_price("NSE:SBIN", "820")
    broker_id = await desk.order("SBIN", 810.0)
    await until(lambda: bool(ticker.clients), timeout_s=20)
    assert ticker.client.query == {"api_key": exchange.api_key, "access_token": exchange.access_token}
    await until(lambda: "ltp" in ticker.client.modes.values(), timeout_s=20)
    (token,) = ticker.client.modes
    assert any(name.startswith("feed:") for name in child_names(await desk.get("/system/actors")))
    assert (await desk.ready(1))["status"] == "ok"

    # it fills; the push is no more than a wink
    await exchange.set_price("NSE:SBIN", "805")
    await ticker.client.send(order_text(broker_id, "COMPLETE", filled=10, average_price=1.0))

    def position() -> dict[str, Any] | None:
        rows: list[dict[str, Any]] = desk.engine.get("/executions/positions")
        return next((row for row in rows if row["symbol"] == "SBIN" and row["quantity"] == 10), None)

    held = await aside(desk.engine.wait_for, "the fill", position)
    assert held["averagePrice"] in (805, 810), "the broker's book counts, not the push"

    # the position is marked with what the ticker says, not with the broker's own lagging row
    await ticker.client.send(frame(ltp(token, 90_000)))
    await aside(desk.engine.wait_for, "the mark", lambda: (position() or {}).get("lastPrice") == 900)

    # refused from now on: reported, and no more
    ticker.status = 403
    await ticker.client.close()
    view = await desk.ready(0)
    assert view["status"] == "ok"
    await aside(desk.engine.wait_for, "a reason", lambda: "403" in desk.engine.get("/system/ready")["feeds"]["detail"])
    await exchange.set_price("NSE:INFY", "1500")
    second = await desk.order("INFY", 1450.0)
    at = "2026-11-02 10:00:00"
    checksum = hashlib.sha256(f"{second}{at}{exchange.api_secret}".encode()).hexdigest()
    told = {"order_id": second, "order_timestamp": at, "checksum": checksum, "status": "UPDATE"}
    answer = await aside(desk.engine.request, "POST", POSTBACK, json=told)
    assert answer.status_code == 200, answer.text
    forged = await aside(desk.engine.request, "POST", POSTBACK, json=told | {"checksum": "0" * 64})
    assert forged.status_code == 401
    assert all(child["state"] == "RUNNING" for child in (await desk.get("/system/actors"))["children"])
