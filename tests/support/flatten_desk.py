"""A real engine at a real exchange with something to flatten; the engine may be killed on the way."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from tests.support.engine import EngineProcess, limit_order
from tests.support.exchange_process import ExchangeProcess
from tests.support.kite_mode import OPEN_LIMITS, kite_environment, set_up
from tests.support.servers import TestServers

ROOT = Path(__file__).resolve().parents[2]
LIMITS = {
    "ENGINE__RISK__MAX_OPEN_POSITIONS": "none",
    "ENGINE__LIMITS__API_PER_MINUTE": "10000000",
    "ENGINE__LIMITS__LOGIN_PER_MINUTE": "1000",
}


class DyingEngine(EngineProcess):
    """An engine that is killed where the plan says, once it is armed."""

    program = ("-m", "tests.support.crashing_engine", "plan.json")

    def plan(self, point: str, hit: int = 1) -> None:
        """Let the next life end at the *hit*-th passing of *point* after `arm` is called; "" for none."""
        (self.folder / "armed").unlink(missing_ok=True)
        (self.folder / "plan.json").write_text(json.dumps({"point": point, "hit": hit, "arm": "armed"}))

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
        self.signal(symbol, round(last * 1.002, 1), quantity)
        self.engine.wait_for("the position", lambda: self.position(symbol) == before + quantity)
        self.signal(symbol, round(last * 0.95, 1), 1)
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
        self.engine._token = ""  # the sign-in must be a fresh one
        answer = self.engine.request("POST", "/risk/killswitch/disable", json=body)
        assert answer.status_code == 200, answer.text

    def await_death(self, point: str, *, within_s: float = 20) -> None:
        """Wait until the engine has died at *point*."""
        assert self.engine.process is not None
        deadline = time.monotonic() + within_s
        while self.engine.process.poll() is None:
            assert time.monotonic() < deadline, f"{point} was not passed"
            time.sleep(0.02)
        self.engine.kill()


@contextmanager
def flatten_desk(
    folder: Path,
    servers: TestServers,
    *options: str,
    point: str = "",
    orders_per_second: int = 100_000,
    orders_per_minute: int = 6_000_000,
) -> Iterator[Desk]:
    """Run an engine and an exchange with *options*; the first life ends at *point*, once that is armed."""
    name = f"flatten_{uuid4().hex[:8]}"
    url, redis_url = servers.create_database(name), f"{servers.redis_url}?db=0"
    servers.flush(redis_url)
    (folder / "engine").mkdir(parents=True)
    with ExchangeProcess(folder / "exchange", *options) as exchange:
        environment = kite_environment(exchange.base_url, orders_per_second=orders_per_second)
        environment["ENGINE__BROKER__KITE__ORDERS_PER_MINUTE"] = str(orders_per_minute)
        environment |= OPEN_LIMITS | LIMITS | {"PYTHONPATH": str(ROOT)}
        engine = DyingEngine(folder / "engine", ENGINE__DATABASE__URL=url, ENGINE__REDIS__URL=redis_url, **environment)
        engine.plan(point)
        with engine:
            token = exchange.login()
            source = set_up(engine, api_key=exchange.api_key, api_secret=exchange.api_secret, access_token=token)
            yield Desk(engine, exchange, source, token)
    servers.drop_database(name)
