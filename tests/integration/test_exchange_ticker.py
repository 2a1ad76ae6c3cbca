"""The exchange's WebSocket: handshake, subscriptions, ticks, order updates, and the ways it may misbehave."""

from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from tests.support.exchange import RunningExchange, login, running_exchange
from tests.support.ticker import DEADLINE_S, Closed, Refused, TickerClient, ticker

INFY, SBIN, RELIANCE, NIFTY = 408065, 779521, 738561, 256265
FAST = {"ticker_interval_s": 0.02, "heartbeat_s": 0.05}
ORDER = {
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


async def place(client: httpx.AsyncClient, variety: str = "regular", **fields: str) -> str:
    answer = await client.post(f"/orders/{variety}", data={**ORDER, **fields})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["data"]["order_id"])


async def listening(client: TickerClient) -> None:
    """Wait until the server has taken up what the client said so far."""
    await client.send({"a": "subscribe", "v": [RELIANCE]})
    await client.ticks()
    await client.send({"a": "unsubscribe", "v": [RELIANCE]})


async def heartbeat(client: TickerClient) -> None:
    with trio.fail_after(DEADLINE_S):
        while (message := await client.receive()) != b"\x00":
            assert isinstance(message, bytes)


async def test_ticker_refuses_a_wrong_token_and_a_fourth_connection(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as exchange:
        with pytest.raises(Refused) as wrong:
            async with ticker(exchange, access_token="nope"):
                pass
        assert wrong.value.status == 403
        assert b"TokenException" in wrong.value.body
        with pytest.raises(Refused) as elsewhere:
            async with ticker(exchange, path="/ws"):
                pass
        assert elsewhere.value.status == 404
        async with ticker(exchange), ticker(exchange), ticker(exchange) as third:
            with pytest.raises(Refused) as fourth:
                async with ticker(exchange):
                    pass
            assert fourth.value.status == 429
            await third.stream.aclose()
            # the place of the one that has gone is free again
            with trio.fail_after(DEADLINE_S):
                while True:
                    try:
                        async with ticker(exchange) as again:
                            await listening(again)
                            break
                    except Refused:
                        await trio.lowlevel.checkpoint()


async def test_ticker_snapshot_comes_in_the_mode_that_was_asked_for(tmp_path: Path) -> None:
    async with running_exchange(tmp_path, **FAST) as exchange, ticker(exchange) as client:
        await exchange.set_price("NSE:INFY", "1450.00")
        await client.send({"a": "subscribe", "v": [INFY, 999999999]})
        [tick] = await client.ticks()
        assert (tick["mode"], tick["instrument_token"], tick["last_price"]) == ("quote", INFY, 1450.0)
        for mode in ("full", "ltp"):
            await client.send({"a": "mode", "v": [mode, [INFY]]})
            [tick] = await client.ticks()
            assert tick["mode"] == mode
        await client.subscribe("full", NIFTY)
        modes = {tick["mode"] for tick in await client.ticks() if tick["instrument_token"] == NIFTY}
        assert modes <= {"quote", "full"}


async def test_ticker_tells_only_of_what_moved_and_beats_when_idle(tmp_path: Path) -> None:
    async with running_exchange(tmp_path, **FAST) as exchange, ticker(exchange) as client:
        await exchange.set_price("NSE:INFY", "1450.00")
        await exchange.set_price("NSE:SBIN", "815.00")
        await client.send({"a": "mode", "v": ["ltp", [INFY, SBIN]]})
        assert {tick["instrument_token"] for tick in await client.ticks()} == {INFY, SBIN}
        await heartbeat(client)
        await exchange.set_price("NSE:SBIN", "816.00")
        [tick] = await client.ticks()
        assert (tick["instrument_token"], tick["last_price"]) == (SBIN, 816.0)
        await client.send({"a": "unsubscribe", "v": [SBIN]})
        await listening(client)
        await exchange.set_price("NSE:SBIN", "817.00")
        await exchange.set_price("NSE:INFY", "1451.00")
        assert [tick["instrument_token"] for tick in await client.ticks()] == [INFY]


async def test_ticker_tells_of_a_price_that_moved_right_after_the_snapshot(tmp_path: Path) -> None:
    async with running_exchange(tmp_path, ticker_interval_s=0.5) as exchange, ticker(exchange) as client:
        await exchange.set_price("NSE:INFY", "1450.00")
        await client.send({"a": "subscribe", "v": [INFY]})
        [snapshot] = await client.ticks()
        assert snapshot["last_price"] == 1450
        await exchange.set_price("NSE:INFY", "1440.00")
        [tick] = await client.ticks()
        assert tick["last_price"] == 1440


async def test_ticker_packs_many_instruments_into_one_frame_with_their_quotes(tmp_path: Path) -> None:
    async with running_exchange(tmp_path, **FAST) as exchange, exchange.client() as rest, ticker(exchange) as client:
        tokens = list(exchange.server.exchange.roll(exchange.server._clock.now()).by_token)[:900]
        await client.send({"a": "subscribe", "v": tokens})
        assert {tick["instrument_token"] for tick in await client.ticks()} == set(tokens)
        await exchange.set_price("NSE:INFY", "1450.00")
        await client.send({"a": "mode", "v": ["full", [INFY]]})
        found: list[dict[str, Any]] = []
        while not found:
            # the others go on moving
            found = [
                tick for tick in await client.ticks() if (tick["instrument_token"], tick["mode"]) == (INFY, "full")
            ]
        [tick] = found
        row = (await rest.get("/quote", params={"i": "NSE:INFY"})).json()["data"]["NSE:INFY"]
        assert (tick["last_price"], tick["ohlc"]["close"]) == (row["last_price"], row["ohlc"]["close"])
        assert [level["price"] for level in tick["depth"]["sell"]] == [level["price"] for level in row["depth"]["sell"]]


async def test_ticker_refuses_more_than_3000_instruments_and_what_it_cannot_read(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as exchange, ticker(exchange) as client:
        tokens = list(exchange.server.exchange.roll(exchange.server._clock.now()).by_token)[:3001]
        await client.send({"a": "subscribe", "v": tokens})
        assert "3000" in (await client.text())["data"]
        for nonsense in ("{", "[]", '{"a":"subscribe","v":7}', '{"a":"mode","v":["loud",[1]]}', '{"a":"x","v":[]}'):
            await client.send(nonsense)
            assert (await client.text())["type"] == "error"
        await listening(client)


async def test_ticker_pushes_fill_modify_and_cancel_but_no_placing_and_no_amo(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as exchange, exchange.client() as rest, ticker(exchange) as client:
        await exchange.set_price("NSE:INFY", "1450.00")
        await place(rest, "amo", tag="AMO")
        order_id = await place(rest)
        await rest.put(f"/orders/regular/{order_id}", data={"price": "1410"})
        update = await client.order()
        # nothing came for the placing, nor for the AMO
        assert (update["order_id"], update["status"], update["price"]) == (order_id, "UPDATE", 1410)
        assert (update["account_id"], update["checksum"], update["unfilled_quantity"]) == (exchange.user_id, "", 10)
        assert "user_id" not in update
        assert "app_id" not in update
        await exchange.set_liquidity("NSE:INFY", 4)
        await exchange.set_price("NSE:INFY", "1405.00")
        partial = await client.order()
        assert (partial["status"], partial["filled_quantity"], partial["unfilled_quantity"]) == ("UPDATE", 4, 6)
        await rest.delete(f"/orders/regular/{order_id}")
        cancelled = await client.order()
        assert (cancelled["status"], cancelled["filled_quantity"], cancelled["tag"]) == ("CANCELLED", 4, "T1")
        await exchange.set_liquidity("NSE:INFY", None)
        await place(rest, price="1450.00")
        assert (await client.order())["status"] == "COMPLETE"


async def test_ticker_pushes_reach_every_connection_of_the_account_and_no_other(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as exchange, exchange.client() as rest:
        async with httpx.AsyncClient(base_url=exchange.base_url) as control:
            other = (await control.post("/_control/accounts", json={"user_id": "ZZ0001"})).json()["data"]
        token = await login(exchange.base_url, other["api_key"], other["api_secret"])
        async with (
            ticker(exchange) as one,
            ticker(exchange) as two,
            ticker(exchange, api_key=other["api_key"], access_token=token) as strange,
        ):
            await exchange.set_price("NSE:INFY", "1390.00")
            order_id = await place(rest)
            assert [(await client.order())["order_id"] for client in (one, two)] == [order_id, order_id]
            header = {"Authorization": f"token {other['api_key']}:{token}"}
            async with httpx.AsyncClient(base_url=exchange.base_url, headers=header) as theirs:
                own = await place(theirs, price="1391.00")
            assert (await strange.order())["order_id"] == own


async def test_ticker_update_is_on_the_disk_before_it_is_told(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as exchange, exchange.client() as rest, ticker(exchange) as client:
        await exchange.set_price("NSE:INFY", "1390.00")
        order_id = await place(rest)
        assert (await client.order())["order_id"] == order_id
        assert any(getattr(event, "order_id", None) == order_id for event in exchange.record())


async def test_ticker_ends_with_its_session_and_with_the_server(tmp_path: Path) -> None:
    async with running_exchange(tmp_path, **FAST) as exchange:
        async with ticker(exchange) as client:
            await exchange.flush_sessions()
            assert await client.closed() == 1008
        with pytest.raises(Refused):
            async with ticker(exchange):
                pass
        await exchange.login()
        async with ticker(exchange) as client:
            await listening(client)
            exchange.server.stop()
            assert await client.closed() == 1001


async def test_ticker_new_login_ends_connections_of_the_old_one(tmp_path: Path) -> None:
    async with running_exchange(tmp_path, **FAST) as exchange, ticker(exchange) as client:
        await exchange.login()
        assert await client.closed() == 1008
        async with ticker(exchange) as fresh:
            await listening(fresh)


async def test_ticker_client_that_takes_nothing_is_cut_off_and_hurts_nobody(tmp_path: Path) -> None:
    slow = {"ticker_interval_s": 0.01, "send_timeout_s": 0.2}
    async with running_exchange(tmp_path, **slow) as exchange, ticker(exchange) as stuck, ticker(exchange) as client:
        tokens = list(exchange.server.exchange.roll(exchange.server._clock.now()).by_token)[:1500]
        with trio.fail_after(DEADLINE_S * 2):
            # each snapshot is 280 KB that nobody reads
            while True:
                try:
                    await stuck.send({"a": "mode", "v": ["full", tokens]})
                except trio.BrokenResourceError:
                    break
                await trio.sleep(0.02)
        await listening(client)


async def test_ticker_chatterbox_is_closed(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as exchange, ticker(exchange) as client:

        async def chatter() -> None:
            while True:
                await client.send({"a": "subscribe", "v": "nothing"})

        with trio.fail_after(DEADLINE_S), pytest.raises((Closed, trio.BrokenResourceError)):
            await chatter()
        async with ticker(exchange) as fresh:
            await listening(fresh)


# faults


@pytest.mark.parametrize(("fault", "status"), [("refuse_403", 403), ("refuse_429", 429)])
async def test_ticker_fault_refuses_handshakes_as_often_as_told(tmp_path: Path, fault: str, status: int) -> None:
    async with running_exchange(tmp_path) as exchange:
        await exchange.set_ticker_faults({"fault": fault, "count": 1})
        with pytest.raises(Refused) as refused:
            async with ticker(exchange):
                pass
        assert refused.value.status == status
        async with ticker(exchange) as client:
            await listening(client)


async def three_fills(exchange: RunningExchange, rest: httpx.AsyncClient) -> list[str]:
    await exchange.set_price("NSE:INFY", "1390.00")
    return [await place(rest, tag=f"N{number}") for number in range(3)]


async def test_ticker_fault_duplicate_sends_twice(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as exchange, exchange.client() as rest, ticker(exchange) as client:
        await exchange.set_ticker_faults({"fault": "duplicate", "skip": 1, "count": 1})
        await three_fills(exchange, rest)
        assert [(await client.order())["tag"] for _ in range(4)] == ["N0", "N1", "N1", "N2"]


async def test_ticker_fault_missing_leaves_out_and_reorder_swaps(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as exchange, exchange.client() as rest, ticker(exchange) as client:
        await exchange.set_ticker_faults({"fault": "missing", "count": 1})
        await three_fills(exchange, rest)
        assert [(await client.order())["tag"] for _ in range(2)] == ["N1", "N2"]
        await exchange.set_ticker_faults({"fault": "reorder", "count": 1, "after_s": 30})
        await three_fills(exchange, rest)
        assert [(await client.order())["tag"] for _ in range(3)] == ["N1", "N0", "N2"]


async def test_ticker_fault_reorder_lets_a_last_update_go_in_the_end(tmp_path: Path) -> None:
    async with running_exchange(tmp_path, **FAST) as exchange, exchange.client() as rest, ticker(exchange) as client:
        await exchange.set_ticker_faults({"fault": "reorder", "after_s": 0.01})
        await exchange.set_price("NSE:INFY", "1390.00")
        order_id = await place(rest)
        assert (await client.order())["order_id"] == order_id


async def everything_until_the_end(exchange: RunningExchange, client: TickerClient) -> list[str | bytes]:
    exchange.server.stop()
    said = []
    with trio.fail_after(DEADLINE_S):
        try:
            while True:
                said.append(await client.receive())
        except Closed:
            return said


async def test_ticker_fault_silent_says_nothing_while_the_connection_stands(tmp_path: Path) -> None:
    async with running_exchange(tmp_path, **FAST) as exchange, exchange.client() as rest:
        await exchange.set_ticker_faults({"fault": "silent", "count": 1})
        async with ticker(exchange) as dead, ticker(exchange) as other:
            await exchange.set_price("NSE:INFY", "1390.00")
            for client in (dead, other):
                await client.send({"a": "subscribe", "v": [INFY]})
            await place(rest)
            assert (await other.order())["status"] == "COMPLETE"
            for _ in range(3):
                await heartbeat(other)
            assert await everything_until_the_end(exchange, dead) == []


async def test_ticker_fault_silent_is_over_when_the_rule_is_lifted(tmp_path: Path) -> None:
    async with running_exchange(tmp_path, **FAST) as exchange, exchange.client() as rest, ticker(exchange) as client:
        await exchange.set_ticker_faults({"fault": "silent"})
        await exchange.set_price("NSE:INFY", "1390.00")
        await place(rest, tag="LOST")
        await rest.get("/orders")
        await exchange.set_ticker_faults()
        await place(rest, tag="HEARD")
        assert (await client.order())["tag"] in ("LOST", "HEARD")
        await heartbeat(client)


async def test_ticker_fault_no_heartbeat_leaves_ticks_alone(tmp_path: Path) -> None:
    async with running_exchange(tmp_path, **FAST) as exchange:
        await exchange.set_ticker_faults({"fault": "no_heartbeat", "count": 1})
        async with ticker(exchange) as mute, ticker(exchange) as other:
            await exchange.set_price("NSE:INFY", "1390.00")
            await mute.send({"a": "subscribe", "v": [INFY]})
            await mute.ticks()
            for _ in range(3):
                await heartbeat(other)
            assert b"\x00" not in await everything_until_the_end(exchange, mute)


async def test_ticker_fault_logout_ends_the_session_and_drop_only_the_connection(tmp_path: Path) -> None:
    async with running_exchange(tmp_path, **FAST) as exchange, exchange.client() as rest:
        async with ticker(exchange) as client:
            await exchange.set_ticker_faults({"fault": "drop", "count": 1})
            assert await client.closed() in (None, 1006)
        await exchange.set_ticker_faults({"fault": "drop"})
        async with ticker(exchange) as client:
            # a new one is hit as well
            assert await client.closed() in (None, 1006)
        await exchange.set_ticker_faults()
        assert (await rest.get("/orders")).status_code == 200
        async with ticker(exchange) as client:
            await exchange.set_ticker_faults({"fault": "logout", "count": 1})
            assert await client.closed() == 1008
        assert (await rest.get("/orders")).status_code == 403


async def test_ticker_faults_count_their_hits(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as exchange, exchange.client() as rest, ticker(exchange) as client:
        await exchange.set_ticker_faults({"fault": "refuse_403"}, {"fault": "duplicate"})
        await exchange.set_price("NSE:INFY", "1390.00")
        await place(rest)
        await client.order()
        assert (await rest.get("/_control/ticker-faults")).json()["data"] == {"counts": [0, 1]}


async def test_exchange_served_again_pushes_once(tmp_path: Path) -> None:
    """Without a record the same core is served again: its old subscriber must be gone."""
    async with running_exchange(tmp_path, record_path=None) as exchange:
        server = exchange.server
    async with trio.open_nursery() as nursery:
        exchange.base_url = await nursery.start(server.run)
        await exchange.login()
        async with exchange.client() as rest, ticker(exchange) as client:
            await exchange.set_price("NSE:INFY", "1390.00")
            await place(rest, tag="ONE")
            await place(rest, tag="TWO")
            assert [(await client.order())["tag"] for _ in range(2)] == ["ONE", "TWO"]
        assert len(server.exchange.state.order_listeners) == 1
        server.stop()
