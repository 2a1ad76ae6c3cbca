"""Orders of every variety on the wire of a running exchange."""

from pathlib import Path
from typing import Any

import httpx
import trio

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
