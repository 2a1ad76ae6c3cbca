"""The truth record with a real server: restarts, torn lines, kill -9, and the standalone command's lines."""

import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from subprocess import PIPE
from typing import Any

import httpx
import pytest
import trio

from engine.clock import SystemClock
from engine.exchange.config import ExchangeConfig, ExchangeError, Limits
from engine.exchange.events import OrderRequested, Traded
from engine.exchange.record import read_record
from engine.exchange.server import ExchangeServer
from tests.support.exchange import login, running_exchange

ORDER = {
    "exchange": "NSE",
    "tradingsymbol": "INFY",
    "transaction_type": "BUY",
    "quantity": "10",
    "product": "MIS",
    "order_type": "LIMIT",
    "price": "1500.00",
}
READS = ("/orders", "/trades", "/portfolio/positions", "/user/margins")


async def read_all(client: httpx.AsyncClient) -> list[Any]:
    return [(await client.get(path)).json() for path in READS]


async def test_restart_keeps_orders_trades_positions_session_and_counters(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as first, first.client() as client:
        await first.set_price("NSE:INFY", "1450.00")
        await client.post("/orders/regular", data=ORDER)
        resting = await client.post("/orders/regular", data={**ORDER, "price": "1400.00", "tag": "REST"})
        await client.post("/orders/regular", data={**ORDER, "price": "1450.05"})
        before = await read_all(client)
        token = first.access_token
    async with running_exchange(tmp_path, login=False) as second:
        second.use_token(token)
        await second.set_price("NSE:INFY", "1450.00")
        async with second.client() as client:
            assert await read_all(client) == before
            later = await client.post("/orders/regular", data=ORDER)
            assert int(later.json()["data"]["order_id"]) > int(resting.json()["data"]["order_id"])
            await second.set_price("NSE:INFY", "1399.00")
            book = (await client.get("/orders")).json()["data"]
            assert [row["status"] for row in book] == ["COMPLETE"] * 3
            trades = (await client.get("/trades")).json()["data"]
            assert len({trade["trade_id"] for trade in trades}) == 3


async def test_record_holds_every_write_request_accepted_or_refused(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as exchange, exchange.client() as client:
        placed = await client.post("/orders/regular", data={**ORDER, "price": "1400.00", "tag": "A"})
        order_id = placed.json()["data"]["order_id"]
        await client.post("/orders/regular", data={**ORDER, "price": "1400.05", "tag": "B"})
        await client.put(f"/orders/regular/{order_id}", data={"price": "1401.00"})
        await client.delete(f"/orders/regular/{order_id}")
        await client.delete(f"/orders/regular/{order_id}")
        await client.post("/orders/regular", data={**ORDER, "tag": "C"}, headers={"Authorization": "token x:y"})
        requests = [event for event in exchange.record() if isinstance(event, OrderRequested)]
        assert [(r.action, r.accepted, r.http_status) for r in requests] == [
            ("place", True, 200),
            ("place", False, 400),
            ("modify", True, 200),
            ("cancel", True, 200),
            ("cancel", False, 400),
            ("place", False, 403),
        ]
        assert [r.tag_sent for r in requests] == ["A", "B", None, None, None, "C"]
        assert requests[0].params["price"] == "1400.00"


async def test_record_torn_last_line_is_forgotten_at_start(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as first, first.client() as client:
        await client.post("/orders/regular", data={**ORDER, "price": "1400.00"})
        path = first.record_path
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"type":"request","at":"2026-11-')
    async with running_exchange(tmp_path) as second, second.client() as client:
        assert len((await client.get("/orders")).json()["data"]) == 1
        await client.post("/orders/regular", data={**ORDER, "price": "1400.00"})
        assert len([e for e in second.record() if isinstance(e, OrderRequested)]) == 2
    assert path.read_bytes().startswith(whole)


async def test_server_with_a_record_in_use_does_not_start(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as exchange:
        other = ExchangeServer(ExchangeConfig(record_path=exchange.record_path), SystemClock())
        with trio.fail_after(10), pytest.raises(ExchangeError, match="in use by another exchange"):
            await other.run()


async def test_server_without_a_record_keeps_its_state_over_runs() -> None:
    server = ExchangeServer(ExchangeConfig(limits=Limits(enabled=False)), SystemClock())
    server.add_account("k", "s", "U1", Decimal(1000))
    tokens = []
    for _ in range(2):
        async with trio.open_nursery() as nursery:
            with trio.fail_after(10):
                base_url = await nursery.start(server.run)
                async with httpx.AsyncClient(base_url=base_url) as client:
                    if not tokens:
                        tokens.append(await login(base_url, "k", "s"))
                    answer = await client.get("/user/profile", headers={"Authorization": f"token k:{tokens[0]}"})
            assert answer.json()["data"]["user_id"] == "U1"
            nursery.cancel_scope.cancel()


async def test_server_cancelled_frees_its_port_and_record(tmp_path: Path) -> None:
    config = ExchangeConfig(record_path=tmp_path / "record.jsonl")
    port = 0
    for _ in range(2):
        server = ExchangeServer(config, SystemClock())
        async with trio.open_nursery() as nursery:
            with trio.fail_after(10):
                base_url = await nursery.start(
                    lambda task_status, s=server, p=port: s.run(port=p, task_status=task_status)
                )
            port = int(base_url.rsplit(":", 1)[1])
            nursery.cancel_scope.cancel()


async def test_server_account_added_while_running_can_log_in_and_is_recorded(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as exchange:
        exchange.server.add_account("late", "secret", "LATE01", Decimal(500))
        assert await login(exchange.base_url, "late", "secret")
        assert [e.user_id for e in exchange.record() if hasattr(e, "capital")] == ["AB0001", "LATE01"]


@asynccontextmanager
async def standalone(record: Path) -> AsyncIterator[tuple[trio.Process, dict[str, str]]]:
    """The exchange as a process of its own; yields it with the lines it announced."""
    program = (
        "import sys, trio; from decimal import Decimal; from pathlib import Path;"
        "from engine.exchange.standalone import serve_standalone;"
        "trio.run(serve_standalone, '127.0.0.1', 0, Path(sys.argv[1]), 1, Decimal(1000000),"
        " lambda line: print(line, flush=True))"
    )
    process = await trio.lowlevel.open_process([sys.executable, "-c", program, str(record)], stdout=PIPE)
    try:
        assert process.stdout is not None
        text = b""
        with trio.fail_after(30):
            while b"exchange ready" not in text or not text.endswith(b"\n"):
                chunk = await process.stdout.receive_some()
                assert chunk, text
                text += chunk
        names = ("api_key", "api_secret", "exchange ready")
        lines = text.decode().splitlines()
        assert [line.rpartition(" ")[0] for line in lines] == list(names)
        yield process, {name: line.rpartition(" ")[2] for name, line in zip(names, lines, strict=True)}
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        if process.stdout is not None:
            await process.stdout.aclose()


async def test_standalone_killed_keeps_every_answered_order_and_its_keys(tmp_path: Path) -> None:
    record = tmp_path / "record.jsonl"
    answered: list[str] = []
    async with standalone(record) as (process, said):
        token = await login(said["exchange ready"], said["api_key"], said["api_secret"])
        headers = {"Authorization": f"token {said['api_key']}:{token}"}
        async with httpx.AsyncClient(base_url=said["exchange ready"], headers=headers) as client:
            for _ in range(8):
                answer = await client.post("/orders/regular", data={**ORDER, "quantity": "1"})
                answered.append(answer.json()["data"]["order_id"])
        process.kill()
    events = read_record(record)
    assert [e.order_id for e in events if isinstance(e, OrderRequested)] == answered
    assert [e.order_id for e in events if isinstance(e, Traded)] == answered
    async with standalone(record) as (process, again):
        assert (again["api_key"], again["api_secret"]) == (said["api_key"], said["api_secret"])
        async with httpx.AsyncClient(base_url=again["exchange ready"], headers=headers) as client:
            book = (await client.get("/orders")).json()["data"]
        assert [row["order_id"] for row in book] == answered
        process.send_signal(signal.SIGTERM)
        with trio.fail_after(10):
            assert await process.wait() == 0
