"""The official ticker client, unchanged and in a process of its own, against the paper exchange."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trio

from tests.support.exchange import RunningExchange, running_exchange

pytest.importorskip("kiteconnect")
INFY, NIFTY = 408065, 256265
SBIN, BANKNIFTY = 779521, 260105
BOTH_FULL = {INFY: "full", NIFTY: "full"}
PROGRAM = """
import json, sys, warnings
warnings.simplefilter("ignore")
from kiteconnect import KiteTicker

def say(kind, data):
    print(json.dumps([kind, data], default=str), flush=True)

def connected(ws, response):
    for token, mode in json.loads(sys.argv[4]).items():
        ws.subscribe([int(token)])
        if mode:
            ws.set_mode(mode, [int(token)])
    say("connect", None)

ticker = KiteTicker(sys.argv[2], sys.argv[3], root=sys.argv[1], reconnect_max_tries=1)
ticker.on_connect = connected
ticker.on_ticks = lambda ws, ticks: say("ticks", ticks)
ticker.on_order_update = lambda ws, data: say("order", data)
ticker.on_error = lambda ws, code, reason: say("error", [code, reason])
ticker.on_close = lambda ws, code, reason: say("close", [code, reason])
ticker.connect()
"""


class Official:
    """The running client: what it says, one message after the other."""

    def __init__(self, output: Any) -> None:
        self._output = output
        self._rest = b""

    async def next(self, kind: str) -> Any:
        """Return the data of the next message of *kind*; others are dropped."""
        with trio.fail_after(20):
            while True:
                while b"\n" not in self._rest:
                    chunk = await self._output.receive_some()
                    assert chunk, f"the client ended before {kind}"
                    self._rest += bytes(chunk)
                line, _, self._rest = self._rest.partition(b"\n")
                said, data = json.loads(line)
                if said == kind:
                    return data


@asynccontextmanager
async def official_ticker(
    exchange: RunningExchange, access_token: str, modes: Mapping[int, str | None] = BOTH_FULL
) -> AsyncIterator[Official]:
    """Run the client; it subscribes to *modes* by token, None for a plain subscription."""
    root = f"ws://{urlsplit(exchange.base_url).netloc}"
    process = await trio.lowlevel.open_process(
        [sys.executable, "-c", PROGRAM, root, exchange.api_key, access_token, json.dumps(modes)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield Official(process.stdout)
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


async def test_official_ticker_gets_ticks_and_order_updates(tmp_path: Path) -> None:
    async with (
        running_exchange(tmp_path, ticker_interval_s=0.05) as exchange,
        exchange.client() as rest,
        official_ticker(exchange, exchange.access_token) as official,
    ):
        await exchange.set_price("NSE:INFY", "1450.00")
        await official.next("connect")
        seen: dict[int, Any] = {}
        while set(seen) != {INFY, NIFTY}:
            seen |= {t["instrument_token"]: t for t in await official.next("ticks") if t["mode"] == "full"}
        assert (seen[INFY]["last_price"], seen[INFY]["tradable"], len(seen[INFY]["depth"]["buy"])) == (1450.0, True, 5)
        assert (seen[NIFTY]["ohlc"]["close"], seen[NIFTY]["tradable"]) == (24500.0, False)
        await exchange.set_price("NSE:INFY", "1440.00")
        moved = 0.0
        while moved != 1440.0:
            moved = next(
                (t["last_price"] for t in await official.next("ticks") if t["instrument_token"] == INFY), moved
            )
        order = {
            "exchange": "NSE",
            "tradingsymbol": "INFY",
            "transaction_type": "BUY",
            "quantity": "3",
            "product": "MIS",
            "order_type": "LIMIT",
            "price": "1440.00",
            "validity": "DAY",
        }
        order_id = (await rest.post("/orders/regular", data=order)).json()["data"]["order_id"]
        update = await official.next("order")
        assert (update["order_id"], update["status"], update["filled_quantity"]) == (order_id, "COMPLETE", 3)
        await exchange.flush_sessions()
        await official.next("close")


async def test_official_ticker_is_told_that_its_token_is_wrong(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as exchange, official_ticker(exchange, "wrong") as official:
        code, reason = await official.next("error")
        assert code == 1006
        assert "403" in reason


async def test_official_ticker_decodes_the_three_modes_of_shares_and_indices(tmp_path: Path) -> None:
    # SENSEX only in its shortest form, beside a future of the currency segment, which has other divisors
    modes = {INFY: "ltp", SBIN: None, 2953217: "full", NIFTY: "quote", BANKNIFTY: "full", 265: "ltp"}
    async with (
        running_exchange(tmp_path, ticker_interval_s=0.05) as exchange,
        official_ticker(exchange, exchange.access_token, modes) as official,
    ):
        await exchange.set_price("NSE:INFY", "1450.10")
        await official.next("connect")
        wanted = {token: mode or "quote" for token, mode in modes.items()}
        seen: dict[int, Any] = {}
        # the first packet after a subscription is in quote mode; those after the mode was set are in it
        with trio.fail_after(20):
            while {token: tick["mode"] for token, tick in seen.items()} != wanted:
                seen |= {tick["instrument_token"]: tick for tick in await official.next("ticks")}
        assert seen[INFY] == {"tradable": True, "mode": "ltp", "instrument_token": INFY, "last_price": 1450.1}
        assert seen[265].keys() == seen[INFY].keys()
        assert not seen[265]["tradable"]
        assert {"volume_traded", "ohlc"} <= seen[SBIN].keys()
        assert "depth" not in seen[SBIN]
        assert len(seen[2953217]["depth"]["sell"]) == 5
        assert seen[NIFTY].keys() & {"ohlc", "exchange_timestamp", "volume_traded"} == {"ohlc"}
        ohlc = seen[BANKNIFTY]["ohlc"]
        assert ohlc["low"] <= seen[BANKNIFTY]["last_price"] <= ohlc["high"]
        assert "exchange_timestamp" in seen[BANKNIFTY]


async def test_official_ticker_is_told_of_modify_fill_cancel_and_reject(tmp_path: Path) -> None:
    order = {
        "exchange": "NSE", "tradingsymbol": "INFY", "transaction_type": "BUY", "quantity": "10", "product": "MIS",
        "order_type": "LIMIT", "price": "1400.00", "validity": "DAY", "tag": "OWN",
    }  # fmt: skip
    async with (
        running_exchange(tmp_path, ticker_interval_s=0.05) as exchange,
        exchange.client() as rest,
        official_ticker(exchange, exchange.access_token, {}) as official,
    ):
        await exchange.set_price("NSE:INFY", "1450.00")
        await official.next("connect")

        async def placed(**fields: str) -> str:
            answer = await rest.post("/orders/regular", data={**order, **fields})
            return str(answer.json()["data"]["order_id"])

        async def told() -> tuple[str, str, int]:
            update = await official.next("order")
            assert update.keys() >= {"account_id", "unfilled_quantity", "checksum", "guid", "tag", "status_message"}
            assert "tags" not in update
            return update["order_id"], update["status"], update["filled_quantity"]

        # nothing is told of the mere placing (kite.md 15.5)
        first = await placed()
        await rest.put(f"/orders/regular/{first}", data={"quantity": "8", "price": "1405.00"})
        assert await told() == (first, "UPDATE", 0)
        await exchange.set_liquidity("NSE:INFY", 3)
        await exchange.set_price("NSE:INFY", "1405.00")
        assert await told() == (first, "UPDATE", 3)
        await rest.delete(f"/orders/regular/{first}")
        assert await told() == (first, "CANCELLED", 3)
        await exchange.set_liquidity("NSE:INFY", None)
        await exchange.behave(order_rejects={"NSE:INFY": "RMS:Rule: Check circuit limit"})
        rejected = await placed()
        assert await told() == (rejected, "REJECTED", 0)
        await exchange.behave()
        stop = await placed(order_type="SL", trigger_price="1410.00", price="1411.00")
        await exchange.set_price("NSE:INFY", "1410.00")
        assert await told() == (stop, "OPEN", 0)
        assert await told() == (stop, "COMPLETE", 10)
