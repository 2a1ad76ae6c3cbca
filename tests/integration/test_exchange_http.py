"""The paper exchange over real HTTP: routes, envelopes, login, limits, control."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import trio

from engine.clock import trading_day
from engine.exchange.config import Limits
from engine.exchange.events import OrderRequested, Traded
from engine.exchange.instruments import build_master
from engine.exchange.market import Market
from tests.support.exchange import running_exchange

ORDER: dict[str, str] = {
    "exchange": "NSE",
    "tradingsymbol": "INFY",
    "transaction_type": "BUY",
    "quantity": "10",
    "product": "MIS",
    "order_type": "LIMIT",
    "price": "1400.00",
    "validity": "DAY",
    "tag": "T1",
}


class SteadyClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.instant = datetime(2026, 11, 23, 4, 30, tzinfo=UTC)

    def now(self) -> datetime:
        return self.instant

    def boottime_ns(self) -> int:
        return 0


async def place(client: httpx.AsyncClient, **fields: str) -> str:
    response = await client.post("/orders/regular", data={**ORDER, **fields})
    assert response.status_code == 200, response.text
    return str(response.json()["data"]["order_id"])


async def rows_of(client: httpx.AsyncClient, path: str) -> Any:
    response = await client.get(path)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    envelope = response.json()
    assert envelope["status"] == "success"
    return envelope["data"]


async def test_exchange_order_goes_from_place_to_trade_and_position(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as exchange, exchange.client() as client:
        await exchange.set_price("NSE:INFY", "1450.00")
        order_id = await place(client)
        (row,) = await rows_of(client, "/orders")
        assert (row["order_id"], row["status"], row["tag"], row["tags"]) == (order_id, "OPEN", "T1", ["T1"])
        modified = await client.put(f"/orders/regular/{order_id}", data={"order_id": order_id, "price": "1410"})
        assert modified.json() == {"status": "success", "data": {"order_id": order_id}}
        await exchange.set_price("NSE:INFY", "1409.50")
        assert (await rows_of(client, f"/orders/{order_id}"))[-1]["status"] == "COMPLETE"
        (trade,) = await rows_of(client, "/trades")
        assert await rows_of(client, f"/orders/{order_id}/trades") == [trade]
        assert (trade["average_price"], trade["quantity"], len(trade["order_timestamp"])) == (1409.5, 10, 8)
        positions = await rows_of(client, "/portfolio/positions")
        assert [p["quantity"] for p in positions["net"]] == [p["quantity"] for p in positions["day"]] == [10]


async def test_exchange_resting_order_is_filled_by_the_moving_price(tmp_path: Path) -> None:
    """Nobody calls anything after the place: the ticker task finds the moved price."""
    clock = SteadyClock()
    market, reliance = Market(1), build_master(trading_day(clock.instant)).by_key["NSE:RELIANCE"]
    limit = market.last_price(reliance, clock.instant) - 3
    moments = (clock.instant + timedelta(minutes=5 * step) for step in range(160))
    cheaper = next(moment for moment in moments if market.last_price(reliance, moment) <= limit)
    async with running_exchange(tmp_path, clock=clock, seed=1) as exchange, exchange.client() as client:
        order_id = await place(client, tradingsymbol="RELIANCE", price=str(limit))
        assert (await rows_of(client, "/orders"))[0]["status"] == "OPEN"
        clock.instant = cheaper
        with trio.fail_after(10):
            while (await rows_of(client, "/orders"))[0]["status"] != "COMPLETE":
                await trio.lowlevel.checkpoint()
        assert [t.order_id for t in exchange.record() if isinstance(t, Traded)] == [order_id]


async def test_exchange_cancel_takes_the_query_and_answers_the_id(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as exchange, exchange.client() as client:
        order_id = await place(client)
        response = await client.delete(f"/orders/regular/{order_id}", params={"parent_order_id": ""})
        assert response.json()["data"] == {"order_id": order_id}
        again = await client.delete(f"/orders/regular/{order_id}")
        assert (again.status_code, again.json()["message"]) == (
            400,
            "Order cannot be cancelled as it is being processed. Try later.",
        )


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/nowhere", 404, "Route not found"),
        ("GET", "/_control/stats", 404, "Route not found"),
        ("POST", "/portfolio/positions", 405, "Method not allowed"),
        ("GET", "/orders/123", 500, "Couldn't find that `order_id`."),
        ("GET", "/user/margins/gold", 400, "Invalid `segment`."),
    ],
)
async def test_exchange_refuses_in_kites_envelope(
    tmp_path: Path, method: str, path: str, status: int, message: str
) -> None:
    async with running_exchange(tmp_path, control_routes=False) as exchange, exchange.client() as client:
        response = await client.request(method, path)
        assert response.status_code == status
        assert response.headers["content-type"] == "application/json"
        body = response.json()
        assert (body["status"], body["message"], body["data"]) == ("error", message, None)
        assert body["error_type"].endswith("Exception")


async def test_exchange_without_a_session_answers_403_everywhere_but_instruments(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as exchange, httpx.AsyncClient(base_url=exchange.base_url) as client:
        for method, path in [
            ("GET", "/orders"),
            ("POST", "/orders/regular"),
            ("PUT", "/orders/regular/1"),
            ("DELETE", "/orders/regular/1"),
            ("GET", "/trades"),
            ("GET", "/user/profile"),
            ("GET", "/user/margins"),
            ("GET", "/portfolio/holdings"),
            ("GET", "/quote/ltp?i=NSE:INFY"),
        ]:
            response = await client.request(method, path)
            assert (response.status_code, response.json()) == (
                403,
                {
                    "status": "error",
                    "message": "Incorrect `api_key` or `access_token`.",
                    "data": None,
                    "error_type": "TokenException",
                },
            )
        instruments = await client.get("/instruments/NSE")
        assert instruments.status_code == 200
        assert instruments.headers["content-type"].startswith("text/csv")


async def test_exchange_login_redirects_at_once_to_the_app(tmp_path: Path) -> None:
    async with (
        running_exchange(tmp_path, login=False, redirect_url="http://127.0.0.1:9/cb?a=1") as exchange,
        httpx.AsyncClient(base_url=exchange.base_url) as client,
    ):
        params = {"v": "3", "api_key": exchange.api_key, "redirect_params": "state=x%26y"}
        response = await client.get("/connect/login", params=params)
        assert response.status_code == 302
        target = urlsplit(response.headers["location"])
        query = parse_qs(target.query)
        assert (target.netloc, target.path) == ("127.0.0.1:9", "/cb")
        assert (query["a"], query["action"], query["status"], query["state"]) == (
            ["1"],
            ["login"],
            ["success"],
            ["x&y"],
        )
        unknown = await client.get("/connect/login", params={"v": "3", "api_key": "nobody"})
        assert unknown.status_code == 400


async def test_exchange_logout_ends_the_session(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as exchange, exchange.client() as client:
        params = {"api_key": exchange.api_key, "access_token": exchange.access_token}
        assert (await client.delete("/session/token", params=params)).json() == {"status": "success", "data": True}
        assert (await client.get("/user/profile")).status_code == 403


async def test_exchange_flushed_sessions_are_over(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as exchange, exchange.client() as client:
        await exchange.flush_sessions()
        assert (await client.get("/orders")).status_code == 403


async def test_exchange_quotes_leave_unknown_names_out(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as exchange, exchange.client() as client:
        asked = [("i", "NSE:INFY"), ("i", "NSE:NIFTY 50"), ("i", "NSE:NOPE"), ("i", "779521")]
        full = (await client.get("/quote", params=asked)).json()["data"]
        assert set(full) == {"NSE:INFY", "NSE:NIFTY 50", "779521"}
        infy = full["NSE:INFY"]
        assert infy["lower_circuit_limit"] < infy["last_price"] < infy["upper_circuit_limit"]
        assert len(infy["depth"]["buy"]) == len(infy["depth"]["sell"]) == 5
        ohlc = (await client.get("/quote/ohlc", params=asked)).json()["data"]["NSE:INFY"]
        assert set(ohlc) == {"instrument_token", "last_price", "ohlc"}
        ltp = (await client.get("/quote/ltp", params=asked)).json()["data"]["NSE:INFY"]
        assert set(ltp) == {"instrument_token", "last_price"}
        assert (await client.get("/quote")).json()["data"] == {}


async def test_exchange_body_over_the_bound_is_413(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as exchange, exchange.client() as client:
        response = await client.post("/orders/regular", content=b"x" * 300_000)
        assert (response.status_code, response.json()["status"]) == (413, "error")


@pytest.mark.parametrize("body", [b"\xff\xfe=1", b"&".join(b"a=1" for _ in range(200)), b"{}"])
async def test_exchange_body_that_is_no_form_is_refused_as_input(tmp_path: Path, body: bytes) -> None:
    async with running_exchange(tmp_path) as exchange, exchange.client() as client:
        response = await client.post("/orders/regular", content=body)
        assert (response.status_code, response.json()["error_type"]) == (400, "InputException")


async def test_exchange_rate_limits_answer_429_and_are_recorded(tmp_path: Path) -> None:
    clock = SteadyClock()
    limits = Limits(orders_per_second=3, reads_per_second=2, penalty_s=5)
    async with running_exchange(tmp_path, clock=clock, limits=limits) as exchange, exchange.client() as client:
        answers = [(await client.post("/orders/regular", data=ORDER)).status_code for _ in range(5)]
        assert answers == [200, 200, 200, 429, 429]
        assert [(await client.get("/orders")).status_code for _ in range(3)] == [200, 200, 429]
        assert (await client.get("/quote/ltp?i=NSE:INFY")).status_code == 200
        refused = await client.get("/quote/ltp?i=NSE:INFY")
        assert refused.json()["message"] == "Too many requests"
        clock.instant += timedelta(seconds=5)
        assert (await client.post("/orders/regular", data=ORDER)).status_code == 200
        requests = [e for e in exchange.record() if isinstance(e, OrderRequested)]
        assert [r.http_status for r in requests] == [200, 200, 200, 429, 429, 200]


async def test_exchange_money_is_written_exactly(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as exchange, exchange.client() as client:
        await exchange.set_price("NSE:SBIN", "815.05")
        await place(client, tradingsymbol="SBIN", quantity="3", price="815.05")
        text = (await client.get("/portfolio/positions")).text
        assert '"buy_value":2445.15' in text
        assert '"average_price":815.05' in text


async def test_exchange_concurrent_places_each_make_one_order(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as exchange, exchange.client() as client:
        placed: list[str] = []

        async def one(number: int) -> None:
            placed.append(await place(client, tag=f"N{number}"))

        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(one, number)
        book = await rows_of(client, "/orders")
        assert sorted(placed) == sorted({row["order_id"] for row in book})
        assert sorted(row["tag"] for row in book) == sorted(f"N{number}" for number in range(40))


async def test_exchange_client_that_hangs_up_leaves_its_order_recorded(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as exchange:
        host, port = urlsplit(exchange.base_url).hostname or "", urlsplit(exchange.base_url).port or 0
        body = "&".join(f"{name}={value}" for name, value in ORDER.items()).encode()
        head = (
            f"POST /orders/regular HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
            f"Authorization: {exchange.headers['Authorization']}\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\n\r\n"
        )
        stream = await trio.open_tcp_stream(host, port)
        await stream.send_all(head.encode() + body)
        await stream.receive_some(1)
        await stream.aclose()
        async with exchange.client() as client:
            book = await rows_of(client, "/orders")
        recorded = [e.order_id for e in exchange.record() if isinstance(e, OrderRequested)]
        assert [row["order_id"] for row in book] == recorded
        assert len(recorded) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/_control/price", b'{"key":"NSE:NOPE","price":1}'),
        ("/_control/price", b'{"key":"NSE:INFY"}'),
        ("/_control/market", b"open"),
    ],
)
async def test_control_bad_input_is_refused(tmp_path: Path, path: str, body: bytes) -> None:
    async with running_exchange(tmp_path) as exchange, exchange.client() as client:
        assert (await client.post(path, content=body)).status_code == 400


async def test_control_stats_counts(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as exchange, exchange.client() as client:
        await place(client)
        stats = await rows_of(client, "/_control/stats")
        assert (stats["accounts"], stats["sessions"], stats["orders"], stats["today"]) == (1, 1, 1, {"OPEN": 1})


async def test_control_market_closed_refuses_until_open(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as exchange, exchange.client() as client:
        await exchange.set_market_open(False)
        assert (await client.post("/orders/regular", data=ORDER)).status_code == 400
        amo = await client.post("/orders/amo", data=ORDER)
        assert amo.status_code == 200
        await exchange.set_market_open(True)
        await place(client)


async def test_control_liquidity_bounds_what_trades(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as exchange, exchange.client() as client:
        await exchange.set_liquidity("NSE:INFY", 4)
        await place(client, price="1500.00")
        assert (await rows_of(client, "/orders"))[0]["filled_quantity"] == 4
        await exchange.set_liquidity("NSE:INFY", None)
        assert (await rows_of(client, "/orders"))[0]["status"] == "COMPLETE"


async def test_exchange_has_no_server_header(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as exchange, exchange.client() as client:
        assert "server" not in (await client.get("/user/profile")).headers


async def test_exchange_error_of_its_own_answers_500_without_details(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_exchange(tmp_path) as exchange, exchange.client() as client:
        exchange.server.exchange.state.portfolios.clear()
        response = await client.get("/portfolio/positions")
        assert (response.status_code, response.json()["error_type"]) == (500, "GeneralException")
        assert "KeyError" not in response.text
        assert "KeyError" in caplog.text
        assert (await client.get("/orders")).status_code == 200
