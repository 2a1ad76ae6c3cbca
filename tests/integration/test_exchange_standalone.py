"""``engine exchange`` as a process: its lines, further users, replayed prices on a faster clock, and restarts."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from engine.cli.exchange import exchange
from engine.exchange.config import ExchangeError
from tests.support.exchange import login

ORDER = {
    "exchange": "NSE",
    "tradingsymbol": "SBIN",
    "transaction_type": "BUY",
    "quantity": "1",
    "product": "MIS",
    "order_type": "LIMIT",
    "price": "800.00",
    "validity": "DAY",
}


class Process:
    """A running exchange and the lines it printed until it was ready."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.url = lines[-1].removeprefix("exchange ready ")
        self.keys = [line.split()[1] for line in lines if line.startswith("api_key ")]
        self.secrets = [line.split()[1] for line in lines if line.startswith("api_secret ")]

    async def client(self, number: int = 0) -> httpx.AsyncClient:
        token = await login(self.url, self.keys[number], self.secrets[number])
        header = {"Authorization": f"token {self.keys[number]}:{token}"}
        return httpx.AsyncClient(base_url=self.url, headers=header, timeout=10)


@asynccontextmanager
async def exchange_process(*options: str) -> AsyncIterator[Process]:
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "engine", "exchange", *options],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        octets = b""
        with trio.fail_after(60):
            while b"exchange ready" not in octets or not octets.endswith(b"\n"):
                chunk = await process.stdout.receive_some()
                assert chunk, f"the exchange ended: {octets!r}"
                octets += bytes(chunk)
        yield Process(octets.decode().splitlines())
        process.send_signal(signal.SIGTERM)
        with trio.fail_after(15):
            assert await process.wait() == 0
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


async def test_process_prints_its_keys_and_keeps_them_and_serves_more_users(tmp_path: Path) -> None:
    record = str(tmp_path / "record.jsonl")
    async with exchange_process("--record", record, "--capital", "250000") as first:
        assert [line.split()[0] for line in first.lines] == ["api_key", "api_secret", "exchange"]
    options = (
        "--record",
        record,
        "--capital",
        "250000",
        "--user",
        "AB1234:70000",
        "--user",
        "CD5678",
        "--control-port",
        "0",
    )
    options += ("--order-ids", "dated", "--reject", "async", "--behaviour", '{"positions_lag_s": 0.5}')
    async with exchange_process(*options) as again:
        kinds = [line.rpartition(" ")[0] for line in again.lines]
        assert kinds == [*["api_key", "api_secret"] * 3, "control ready", "exchange ready"]
        assert (again.keys[0], again.secrets[0]) == (first.keys[0], first.secrets[0])
        for number, (user, money) in enumerate((("PAPER1", 250000), ("AB1234", 70000), ("CD5678", 250000))):
            async with await again.client(number) as client:
                assert (await client.get("/user/profile")).json()["data"]["user_id"] == user
                assert (await client.get("/user/margins")).json()["data"]["equity"]["net"] == money
        async with await again.client(1) as client:
            placed = await client.post("/orders/regular", data={**ORDER, "quantity": "1000"})
            assert placed.status_code == 200, placed.text
            [order] = (await client.get("/orders")).json()["data"]
            assert (order["status"], len(order["order_id"])) == ("REJECTED", 15)
        async with httpx.AsyncClient(base_url=again.lines[-2].split()[-1]) as control:
            assert (await control.get("/_control/stats")).json()["data"]["accounts"] == 3


async def test_login_is_sent_where_the_app_is_registered() -> None:
    callback = "http://127.0.0.1:8080/api/v1/accounts/callback"
    async with exchange_process("--redirect-url", callback, "--user", "AB1234") as process:
        async with httpx.AsyncClient(base_url=process.url) as browser:
            for key in process.keys:
                sent = await browser.get("/connect/login", params={"v": "3", "api_key": key})
                assert sent.headers["location"].startswith(f"{callback}?request_token=")
        with trio.fail_after(60):
            words = [sys.executable, "-m", "engine", "exchange", "--port", process.url.rpartition(":")[2]]
            second = await trio.run_process(words, check=False, capture_stderr=True, capture_stdout=True)
        assert second.returncode == 1
        assert b"cannot listen on 127.0.0.1:" in second.stderr
        assert b"take another port" in second.stderr


async def test_process_replays_prices_on_a_faster_clock(tmp_path: Path) -> None:
    file, record = tmp_path / "prices.csv", str(tmp_path / "record.jsonl")
    file.write_text(
        "time,instrument,price\n2026-11-23 09:15:00,NSE:INFY,1500\n2026-11-23 10:15:00,NSE:INFY,1510\n"
        "2026-11-23 12:15:00,NSE:INFY,1520\n"
    )
    options = ("--replay", str(file), "--record", record, "--no-limits")
    async with exchange_process(*options, "--speed", "3600") as process, await process.client() as client:
        seen = []
        with trio.fail_after(60):
            while 1520 not in seen:
                row = (await client.get("/quote", params={"i": "NSE:INFY"})).json()["data"]["NSE:INFY"]
                seen.append(row["last_price"])
        assert seen == sorted(seen)
        assert set(seen) <= {1500, 1510, 1520}
        await client.post("/orders/regular", data=ORDER)
        placed_at = (await client.get("/orders")).json()["data"][0]["order_timestamp"]
        assert placed_at > "2026-11-23 12:15:00"
    # it goes on where it stopped: time does not run back to the file's start
    async with exchange_process(*options) as process, await process.client() as client:
        row = (await client.get("/quote", params={"i": "NSE:INFY"})).json()["data"]["NSE:INFY"]
        assert row["timestamp"] >= placed_at


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"user": ["A:x"]}, r"ID\[:capital\]"),
        ({"start_at": "soon"}, "--start-at"),
        ({"replay": Path("/nowhere.csv")}, r"/nowhere\.csv"),
        ({"ws_fault": ["fault=loud"]}, "ticker fault.*one of duplicate, missing.*refuse_429"),
        ({"behaviour": '{"latency": 1}'}, "--behaviour"),
        ({"behaviour": '{"lag": 1}'}, "`lag` is not known; there are latency"),
        ({"behaviour": '{"autoslice_answer": "v3"}'}, "one of v2, v1"),
        ({"redirect_url": "localhost:8080"}, "http://127.0.0.1:8080/api/v1/accounts/callback"),
        ({"postback_url": "http://example.org/"}, "this machine"),
    ],
)
def test_option_that_cannot_be_is_named(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ExchangeError, match=text):
        exchange(**options)


async def test_process_that_cannot_start_says_why_in_a_line() -> None:
    with trio.fail_after(60):
        done = await trio.run_process(
            [sys.executable, "-m", "engine", "exchange", "--static-ip", "home"],
            check=False,
            capture_stderr=True,
            capture_stdout=True,
        )
    assert done.returncode == 1
    assert b"static IP" in done.stderr
    assert b"Traceback" not in done.stderr
