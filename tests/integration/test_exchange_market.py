"""Market data over HTTP, the static-IP rule, postbacks, several accounts, the control port and the page."""

import csv
import gzip
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from engine.exchange.config import ExchangeConfig, ExchangeError, Limits
from engine.exchange.server import ExchangeServer
from tests.support.exchange import API_SECRET, RunningExchange, login, running_exchange

ORDER = {
    "exchange": "NSE",
    "tradingsymbol": "INFY",
    "transaction_type": "BUY",
    "quantity": "10",
    "product": "MIS",
    "order_type": "LIMIT",
    "price": "1400.00",
    "validity": "DAY",
}


class SteadyClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        # Monday, 16:00 IST
        self.instant = datetime(2026, 11, 23, 10, 30, tzinfo=UTC)

    def now(self) -> datetime:
        return self.instant

    def boottime_ns(self) -> int:
        return 0


async def control(exchange: RunningExchange, name: str, body: dict[str, Any]) -> httpx.Response:
    async with httpx.AsyncClient(base_url=exchange.base_url) as client:
        return await client.post(f"/_control/{name}", json=body)


# instruments and candles


async def test_instruments_come_compressed_when_asked_for(tmp_path: Path) -> None:
    async with running_exchange(tmp_path, login=False) as exchange, exchange.client() as client:
        async with client.stream("GET", "/instruments", headers={"Accept-Encoding": "gzip"}) as zipped:
            packed = b"".join([chunk async for chunk in zipped.aiter_raw()])
        assert (zipped.headers["content-encoding"], zipped.headers["content-type"]) == ("gzip", "text/csv")
        plain = await client.get("/instruments", headers={"Accept-Encoding": "identity"})
        assert "content-encoding" not in plain.headers
        assert gzip.decompress(packed) == plain.content
        rows = list(csv.DictReader(io.StringIO(plain.text)))
        assert len(rows) > 4000
        bfo = await client.get("/instruments/BFO")
        assert {row["exchange"] for row in csv.DictReader(io.StringIO(bfo.text))} == {"BFO"}


async def test_candles_end_at_the_last_price_and_official_client_reads_them(tmp_path: Path) -> None:
    kiteconnect = pytest.importorskip("kiteconnect")
    clock = SteadyClock()
    async with running_exchange(tmp_path, clock=clock) as exchange:
        kite = kiteconnect.KiteConnect(exchange.api_key, exchange.access_token, root=exchange.base_url)
        read = partial(kite.historical_data, 408065, "2026-11-23 15:00:00", "2026-11-23 16:00:00", oi=True)
        candles = await trio.to_thread.run_sync(read, "15minute")
        assert [candle["date"].strftime("%H:%M") for candle in candles] == ["15:00", "15:15", "15:30", "15:45", "16:00"]
        assert all(candle["low"] <= candle["close"] <= candle["high"] for candle in candles)
        last = (await trio.to_thread.run_sync(kite.ltp, "408065"))["408065"]["last_price"]
        assert candles[-1]["close"] == last
        with pytest.raises(kiteconnect.exceptions.InputException, match="invalid interval"):
            await trio.to_thread.run_sync(read, "7minute")


async def test_candles_need_a_session_and_have_a_bucket_of_their_own(tmp_path: Path) -> None:
    clock = SteadyClock()
    path = "/instruments/historical/408065/day"
    params = {"from": "2026-11-20", "to": "2026-11-23"}
    async with running_exchange(tmp_path, clock=clock, limits=Limits()) as exchange, exchange.client() as client:
        assert [(await client.get(path, params=params)).status_code for _ in range(4)] == [200, 200, 200, 429]
        # the other buckets are open, this one is shut for ten seconds
        assert (await client.get("/orders")).status_code == 200
        clock.instant += timedelta(seconds=9)
        assert (await client.get(path, params=params)).status_code == 429
        clock.instant += timedelta(seconds=11)
        assert (await client.get(path, params=params)).status_code == 200
        anonymous = await client.get(path, params=params, headers={"Authorization": "token x:y"})
        assert (anonymous.status_code, anonymous.json()["error_type"]) == (403, "TokenException")


async def test_quote_of_a_contract_has_open_interest_and_every_field(tmp_path: Path) -> None:
    async with running_exchange(tmp_path, clock=SteadyClock()) as exchange, exchange.client() as client:
        asked = [("i", "NFO:NIFTY26NOVFUT"), ("i", "NSE:NIFTY 50")]
        data = (await client.get("/quote", params=asked)).json()["data"]
        future, index = data["NFO:NIFTY26NOVFUT"], data["NSE:NIFTY 50"]
        assert set(future) == set(index)
        assert future["oi_day_low"] <= future["oi"] <= future["oi_day_high"]
        assert future["oi"] % 65 == 0
        assert future["buy_quantity"] >= sum(level["quantity"] for level in future["depth"]["buy"]) > 0
        assert future["lower_circuit_limit"] < future["last_price"] < future["upper_circuit_limit"]
        assert (index["oi"], index["volume"], index["depth"]["buy"][0]["price"]) == (0, 0, 0)


# static IP


async def test_static_ip_blocks_orders_and_nothing_else(tmp_path: Path) -> None:
    async with running_exchange(tmp_path, static_ips=("203.0.113.9",)) as exchange, exchange.client() as client:
        refused = await client.post("/orders/regular", data=ORDER)
        assert (refused.status_code, refused.json()["error_type"]) == (403, "PermissionException")
        assert refused.json()["message"].startswith("IP (127.0.0.1) is not allowed to place orders for this app. ")
        for method, path in (("PUT", "/orders/regular/1"), ("DELETE", "/orders/regular/1")):
            assert (await client.request(method, path)).json()["error_type"] == "PermissionException"
        for path in ("/orders", "/trades", "/portfolio/positions", "/user/margins", "/quote/ltp?i=NSE:INFY"):
            assert (await client.get(path)).status_code == 200
        assert (await client.get("/orders")).json()["data"] == []
        assert (await control(exchange, "static-ip", {"addresses": ["127.0.0.1"]})).status_code == 200
        assert (await client.post("/orders/regular", data=ORDER)).status_code == 200
        assert (await control(exchange, "static-ip", {"addresses": []})).status_code == 200
        assert (await client.post("/orders/regular", data=ORDER)).status_code == 200
        assert (await control(exchange, "static-ip", {"addresses": ["home"]})).status_code == 400


# postbacks


@asynccontextmanager
async def receiver(*, answers: bool = True) -> AsyncIterator[tuple[str, trio.MemoryReceiveChannel[bytes]]]:
    """An HTTP server that takes postbacks; without *answers* it accepts and never says a word."""
    send, receive = trio.open_memory_channel[bytes](100)

    async def serve(stream: trio.SocketStream) -> None:
        octets = b""
        async for chunk in stream:
            octets += bytes(chunk)
            head, found, body = octets.partition(b"\r\n\r\n")
            length = next(
                (int(line[15:]) for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:"), 0
            )
            if found and len(body) >= length:
                assert head.startswith(b"POST /hook ")
                assert b"content-type: application/json" in head.lower()
                await send.send(body[:length])
                octets = body[length:]
                if answers:
                    await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(partial(trio.serve_listeners, serve, [listener]))
        yield f"http://127.0.0.1:{listener.socket.getsockname()[1]}/hook", receive
        nursery.cancel_scope.cancel()


async def test_postback_carries_the_checksum_of_the_apps_secret(tmp_path: Path) -> None:
    async with (
        receiver() as (url, bodies),
        running_exchange(tmp_path, postback_url=url) as exchange,
        exchange.client() as client,
    ):
        await exchange.set_price("NSE:INFY", "1450.00")
        order_id = (await client.post("/orders/regular", data=ORDER)).json()["data"]["order_id"]
        await client.put(f"/orders/regular/{order_id}", data={"price": "1410"})
        await exchange.set_liquidity("NSE:INFY", 4)
        await exchange.set_price("NSE:INFY", "1405.00")
        await client.delete(f"/orders/regular/{order_id}")
        with trio.fail_after(10):
            told = [json.loads(await bodies.receive()) for _ in range(3)]
        assert [(body["status"], body["filled_quantity"]) for body in told] == [
            ("UPDATE", 0),
            ("UPDATE", 4),
            ("CANCELLED", 4),
        ]
        for body in told:
            signed = f"{order_id}{body['order_timestamp']}{API_SECRET}"
            assert body["checksum"] == sha256(signed.encode()).hexdigest()
            assert body["user_id"] == exchange.user_id
            assert {"app_id", "unfilled_quantity", "guid"} <= body.keys()
            assert not {"account_id", "modified", "tags"} & body.keys()


async def test_postback_receiver_that_hangs_holds_nobody_up(tmp_path: Path) -> None:
    async with (
        receiver(answers=False) as (url, bodies),
        running_exchange(tmp_path, postback_url=url) as exchange,
        exchange.client() as client,
    ):
        await exchange.set_price("NSE:INFY", "1390.00")
        for _ in range(20):
            assert (await client.post("/orders/regular", data=ORDER)).status_code == 200
        with trio.fail_after(10):
            assert json.loads(await bodies.receive())["status"] == "COMPLETE"
        assert {row["status"] for row in (await client.get("/orders")).json()["data"]} == {"COMPLETE"}


def test_postback_elsewhere_is_refused_at_the_start() -> None:
    with pytest.raises(ExchangeError, match="this machine"):
        ExchangeServer(ExchangeConfig(postback_url="http://example.org/"), SteadyClock())


# accounts and control


async def test_accounts_are_added_while_it_runs_and_kept_apart(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as exchange, exchange.client() as client:
        made = (await control(exchange, "accounts", {"user_id": "ZZ0001", "capital": 5000})).json()["data"]
        token = await login(exchange.base_url, made["api_key"], made["api_secret"])
        header = {"Authorization": f"token {made['api_key']}:{token}"}
        await client.post("/orders/regular", data=ORDER)
        async with httpx.AsyncClient(base_url=exchange.base_url, headers=header) as theirs:
            assert (await theirs.get("/user/margins")).json()["data"]["equity"]["net"] == 5000
            assert (await theirs.get("/orders")).json()["data"] == []
            assert (await theirs.get("/user/profile")).json()["data"]["user_id"] == "ZZ0001"
            # set anew, the keys stay
            again = (await control(exchange, "accounts", {"user_id": "ZZ0001", "capital": 7000})).json()["data"]
            assert again == made
            assert (await theirs.get("/user/margins")).json()["data"]["equity"]["net"] == 7000
        for body in ({"user_id": "X", "capital": 0}, {"user_id": "X", "api_key": exchange.api_key}, {"capital": 1}):
            assert (await control(exchange, "accounts", body)).status_code == 400


async def test_control_port_is_loopback_only_and_apart_from_the_routes(tmp_path: Path) -> None:
    async with (
        running_exchange(tmp_path, control_routes=False, control_port=0) as exchange,
        exchange.client() as client,
    ):
        url = exchange.server.control_url
        assert url is not None
        assert url.startswith("http://127.0.0.1:")
        async with httpx.AsyncClient(base_url=url) as apart:
            priced = await apart.post("/_control/price", json={"key": "NSE:INFY", "price": 1390})
            assert priced.status_code == 200
            assert (await apart.get("/_control/stats")).json()["data"]["accounts"] == 1
            assert (await apart.get("/orders")).status_code == 404
            # a page of somebody else's in a browser of this machine
            for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
                assert (await apart.get("/_control/stats", headers=headers)).status_code == 404
        assert (await client.get("/quote/ltp", params={"i": "NSE:INFY"})).json()["data"]["NSE:INFY"][
            "last_price"
        ] == 1390
        assert (await client.get("/_control/stats")).status_code == 404


# the page


async def test_page_shows_the_book_and_escapes_what_clients_sent(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as exchange, exchange.client() as client:
        await exchange.set_price("NSE:INFY", "1390.00")
        await client.post("/orders/regular", data={**ORDER, "tag": "<b>&'\"x"})
        for path in ("/", "/book"):
            page = await client.get(path)
            assert page.headers["content-type"] == "text/html; charset=utf-8"
            assert "default-src 'none'" in page.headers["content-security-policy"]
            for text in (exchange.user_id, "INFY", "COMPLETE", "NSE:INFY", "1390", "&lt;b&gt;&amp;&#x27;&quot;x"):
                assert text in page.text
            for secret in (exchange.access_token, exchange.api_secret, exchange.api_key, "<b>", "http://", "https://"):
                assert secret not in page.text
        assert 'http-equiv="refresh"' in page.text
        assert (await client.get("/", headers={"Host": "evil.example"})).status_code == 404
