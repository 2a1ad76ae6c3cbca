"""Orders of every variety on the wire of a running exchange."""

from pathlib import Path
from typing import Any

import httpx
import trio

from tests.support.api import MovableClock
from tests.support.exchange import RunningExchange, running_exchange

ORDER: dict[str, str] = {
    "exchange": "NSE",
    "tradingsymbol": "INFY",
    "transaction_type": "BUY",
    "quantity": "10",
    "product": "MIS",
    "order_type": "LIMIT",
    "price": "1450.00",
}


async def place(client: httpx.AsyncClient, variety: str = "regular", **fields: str) -> str:
    response = await client.post(f"/orders/{variety}", data={**ORDER, **fields})
    assert response.status_code == 200, response.text
    return str(response.json()["data"]["order_id"])


async def book(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = (await client.get("/orders")).json()["data"]
    return rows


async def quiet(tmp_exchange: RunningExchange) -> None:
    await tmp_exchange.set_price("NSE:INFY", "1450.00")


async def test_amo_is_released_by_control(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as exchange, exchange.client() as client:
        await quiet(exchange)
        order_id = await place(client, "amo")
        assert [row["status"] for row in await book(client)] == ["AMO REQ RECEIVED"]
        await exchange.release_amo()
        history = (await client.get(f"/orders/{order_id}")).json()["data"]
        assert [row["status"] for row in history][-2:] == ["OPEN", "COMPLETE"]


async def test_cover_order_is_left_by_delete_with_its_parent(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as exchange, exchange.client() as client:
        await quiet(exchange)
        entry_id = await place(client, "co", trigger_price="1430.00")
        (stop_id,) = [row["order_id"] for row in await book(client) if row["parent_order_id"] == entry_id]
        response = await client.delete(f"/orders/co/{stop_id}", params={"parent_order_id": entry_id})
        assert response.json() == {"status": "success", "data": {"order_id": stop_id}}
        assert [row["status"] for row in await book(client)] == ["COMPLETE", "COMPLETE"]


async def test_interim_states_pass_by_the_clock_and_survive_a_restart(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as first, first.client() as client:
        await quiet(first)
        await first.behave(latency={"received_s": 3600})
        slow_id = await place(client)
        await first.behave(latency={"received_s": 0.02, "validation_s": 0.02, "exchange_s": 0.02})
        quick_id = await place(client)
        with trio.fail_after(10):
            while {row["order_id"]: row["status"] for row in await book(client)}[quick_id] != "COMPLETE":
                await trio.sleep(0.01)
        token = first.access_token
    async with running_exchange(tmp_path, login=False) as second:
        second.use_token(token)
        async with second.client() as client:
            statuses = {row["order_id"]: row["status"] for row in await book(client)}
            assert statuses == {slow_id: "PUT ORDER REQ RECEIVED", quick_id: "COMPLETE"}
            refused = await client.delete(f"/orders/regular/{slow_id}")
            assert (refused.status_code, refused.json()["error_type"]) == (400, "InputException")


async def test_iceberg_legs_are_recorded_and_not_released_twice(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as first, first.client() as client:
        await quiet(first)
        await place(client, "iceberg", quantity="30", iceberg_legs="3", iceberg_quantity="10")
        assert [row["meta"]["iceberg"]["leg"] for row in await book(client)] == [1, 2, 3]
        token = first.access_token
    async with running_exchange(tmp_path, login=False) as second:
        second.use_token(token)
        async with second.client() as client:
            assert [row["status"] for row in await book(client)] == ["COMPLETE"] * 3


async def test_holdings_are_authorised_in_the_browser_and_then_sold(tmp_path: Path) -> None:
    clock = MovableClock()  # half past nine in the morning, whatever the hour: holdings are authorised until 17:30
    async with running_exchange(tmp_path, clock=clock) as exchange, exchange.client() as client:
        await exchange.behave(needs_authorisation=True)
        empty = await client.post("/portfolio/holdings/authorise")
        request_id = empty.json()["data"]["request_id"]
        path = f"/connect/portfolio/authorise/holdings/{exchange.api_key}/{request_id}"
        assert (await client.get(path)).status_code == 200
        assert (await client.get(path)).json()["message"] == "Invalid `request_id`."
        unknown = await client.post("/portfolio/holdings/authorise", data={"isin": "INE0", "quantity": "1"})
        assert (unknown.status_code, unknown.json()["message"]) == (400, "Invalid `isin`.")
        lopsided = await client.post("/portfolio/holdings/authorise", data={"isin": ["a", "b"], "quantity": "1"})
        assert lopsided.json()["message"] == "Missing or empty field `quantity`"
        for name in ("summary", "compact", "auctions"):
            assert (await client.get(f"/portfolio/holdings/{name}")).json()["status"] == "success"
        assert (await client.get("/user/profile/full")).json()["data"]["user_id"] == exchange.user_id


async def test_wrong_method_is_405_in_kites_envelope(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as exchange, exchange.client() as client:
        wrong = (("PATCH", "/orders"), ("GET", "/margins/orders"), ("PUT", "/gtt/triggers"), ("POST", "/trades"))
        for method, path in wrong:
            answer = await client.request(method, path)
            assert (answer.status_code, answer.json()["status"]) == (405, "error"), path
        assert (await client.get("/gtt/triggers/99")).status_code == 404


async def test_calculators_want_a_session_and_a_json_array(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as exchange, exchange.client() as client:
        for path in ("/margins/orders", "/margins/basket", "/charges/orders"):
            refused = await client.post(path, json=[], headers={"Authorization": "token x:y"})
            assert (refused.status_code, refused.json()["error_type"]) == (403, "TokenException")
            odd = await client.post(path, content=b"\xff{")
            assert (odd.status_code, odd.json()["error_type"]) == (400, "InputException")


async def test_gtts_and_conversions_are_in_the_record(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as first, first.client() as client:
        await quiet(first)
        condition = '{"exchange":"NSE","tradingsymbol":"INFY","trigger_values":[1400.0],"last_price":1450.0}'
        order = '[{"transaction_type":"BUY","quantity":1,"product":"CNC","price":1400.5,"order_type":"LIMIT"}]'
        form = {"type": "single", "condition": condition, "orders": order}
        made = await client.post("/gtt/triggers", data=form)
        trigger_id = made.json()["data"]["trigger_id"]
        await place(client)
        asked = {
            "exchange": "NSE",
            "tradingsymbol": "INFY",
            "transaction_type": "BUY",
            "position_type": "day",
            "quantity": "4",
            "old_product": "MIS",
            "new_product": "CNC",
        }
        assert (await client.put("/portfolio/positions", data=asked)).json()["data"] is True
        before = (await client.get("/portfolio/positions")).json()
        token = first.access_token
    async with running_exchange(tmp_path, login=False) as second:
        second.use_token(token)
        await second.set_price("NSE:INFY", "1450.00")
        async with second.client() as client:
            assert (await client.get("/portfolio/positions")).json() == before
            (trigger,) = (await client.get("/gtt/triggers")).json()["data"]
            assert (trigger["id"], trigger["status"]) == (trigger_id, "active")
            await second.set_price("NSE:INFY", "1400.00")
            assert (await client.get(f"/gtt/triggers/{trigger_id}")).json()["data"]["status"] == "triggered"
