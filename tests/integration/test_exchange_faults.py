"""The exchange's faults over HTTP: what the caller sees, and what the record says became of the request."""

import subprocess
import sys

import httpx
import pytest
import trio

from engine.exchange.events import OrderRequested
from engine.exchange.fault_answers import ANSWERS
from tests.support.exchange import RunningExchange, running_exchange
from tests.support.exchange_process import ExchangeProcess

FORM = {
    "exchange": "NSE",
    "tradingsymbol": "INFY",
    "transaction_type": "BUY",
    "quantity": "1",
    "product": "MIS",
    "order_type": "LIMIT",
    "price": "1400",
    "validity": "DAY",
}


async def place(exchange: RunningExchange, tag: str = "T1", timeout_s: float = 5) -> httpx.Response:
    async with exchange.client() as client:
        return await client.post("/orders/regular", data=FORM | {"tag": tag}, timeout=timeout_s)


async def book(exchange: RunningExchange) -> httpx.Response:
    async with exchange.client() as client:
        return await client.get("/orders")


def taken(exchange: RunningExchange) -> list[str | None]:
    return [
        event.tag_sent
        for event in exchange.record()
        if isinstance(event, OrderRequested) and event.action == "place" and event.accepted
    ]


@pytest.mark.parametrize("takes", ["now", "never"])
@pytest.mark.parametrize(
    ("answer", "seen"),
    [("drop", httpx.RemoteProtocolError), ("reset", (httpx.ReadError, httpx.RemoteProtocolError))],
)
async def test_lost_answer_is_a_broken_connection_whether_taken_or_not(tmp_path, takes, answer, seen):
    async with running_exchange(tmp_path) as exchange:
        await exchange.set_faults({"takes": takes, "answer": answer})
        with pytest.raises(seen):
            await place(exchange)
        assert taken(exchange) == (["T1"] if takes == "now" else [])


async def test_swallowed_request_is_never_answered_and_never_taken(tmp_path):
    async with running_exchange(tmp_path) as exchange:
        await exchange.set_faults({"takes": "never", "answer": "none", "count": 1})
        with pytest.raises(httpx.ReadTimeout):
            await place(exchange, timeout_s=0.2)
        assert (await place(exchange, "T2")).status_code == 200
        assert taken(exchange) == ["T2"]
        assert [hit["tag"] for hit in await exchange.fault_hits()] == ["T1"]


async def test_cut_answer_ends_inside_its_body_with_the_order_taken(tmp_path):
    async with running_exchange(tmp_path) as exchange:
        await exchange.set_faults({"answer": "cut", "after_bytes": 10})
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            await place(exchange)
        assert taken(exchange) == ["T1"]


async def test_late_order_is_recorded_when_it_is_taken_not_when_it_was_answered(tmp_path):
    async with running_exchange(tmp_path) as exchange:
        await exchange.set_faults({"takes": "late", "late_s": 0.3, "answer": "timed_out"})
        answer = await place(exchange)
        assert answer.status_code == 400
        assert answer.json()["message"].startswith("Order request timed out.")
        assert taken(exchange) == []
        with trio.fail_after(5):
            while not taken(exchange):
                await trio.sleep(0.02)
        await exchange.set_faults()
        assert [row["tag"] for row in (await book(exchange)).json()["data"]] == ["T1"]


@pytest.mark.parametrize("name", sorted(ANSWERS))
async def test_odd_answer_comes_byte_for_byte(tmp_path, name):
    async with running_exchange(tmp_path) as exchange:
        await exchange.set_faults({"takes": "now", "answer": name})
        answer = await place(exchange)
        wanted = ANSWERS[name]
        assert (answer.status_code, answer.content) == (wanted.status, wanted.body)
        assert answer.headers.get("content-type") == wanted.content_type
        assert taken(exchange) == ["T1"]


async def test_delayed_answer_is_the_real_one(tmp_path):
    async with running_exchange(tmp_path) as exchange:
        await exchange.set_faults({"delay_s": 0.1})
        answer = await place(exchange)
        assert answer.json()["data"]["order_id"]


async def test_flushed_session_answers_403_until_the_next_login(tmp_path):
    async with running_exchange(tmp_path) as exchange:
        await exchange.set_faults({"on": "any", "answer": "logout", "count": 1})
        assert (await place(exchange)).json()["error_type"] == "TokenException"
        assert (await book(exchange)).status_code == 403
        await exchange.login()
        assert (await book(exchange)).status_code == 200


async def test_order_book_is_stale_empty_partial_or_away(tmp_path):
    async with running_exchange(tmp_path) as exchange:
        await place(exchange, "T1")
        await exchange.set_faults({"on": "orders", "answer": "stale"})
        await place(exchange, "T2")
        assert [row["tag"] for row in (await book(exchange)).json()["data"]] == ["T1"]
        await exchange.set_faults({"on": "orders", "answer": "empty"})
        assert (await book(exchange)).json()["data"] == []
        await exchange.set_faults({"on": "orders", "answer": "partial"})
        assert len((await book(exchange)).json()["data"]) < 2
        await exchange.set_faults({"on": "orders", "takes": "never", "answer": "server_error"})
        assert (await book(exchange)).status_code == 500
        await exchange.set_faults()
        assert len((await book(exchange)).json()["data"]) == 2


async def test_limits_are_switched_on_while_it_runs(tmp_path):
    async with running_exchange(tmp_path) as exchange:
        await exchange.control("limits", {"orders_per_minute": 2, "orders_per_second": 1000})
        assert [(await place(exchange, f"T{n}")).status_code for n in range(3)] == [200, 200, 429]


async def test_bad_rule_is_refused_and_changes_nothing(tmp_path):
    async with running_exchange(tmp_path) as exchange, exchange.client() as client:
        await exchange.set_faults({"answer": "rate", "takes": "never"})
        answer = await client.post("/_control/faults", json={"rules": [{"takes": "never"}]})
        assert answer.status_code == 400
        assert (await place(exchange)).status_code == 429


def test_program_takes_rules_from_its_command_line(tmp_path):
    with ExchangeProcess(tmp_path, "--fault", "takes=never,answer=ip,symbol=INFY") as exchange:
        headers = {"Authorization": f"token {exchange.api_key}:{exchange.login()}"}
        answer = httpx.post(f"{exchange.base_url}/orders/regular", data=FORM, headers=headers)
        other = httpx.post(f"{exchange.base_url}/orders/regular", data=FORM | {"tradingsymbol": "TCS"}, headers=headers)
    assert answer.json()["error_type"] == "PermissionException"
    assert other.json()["error_type"] != "PermissionException"
    assert [event.params["tradingsymbol"] for event in exchange.places()] == ["TCS"]


def test_program_refuses_a_rule_that_it_cannot_read():
    words = [sys.executable, "-m", "engine", "exchange", "--fault", "answer=fly"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "answer" in done.stderr
