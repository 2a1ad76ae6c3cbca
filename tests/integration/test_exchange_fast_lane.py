"""The exchange's fast lane over real sockets: it answers what the routes answer, and leaves them what is theirs.

A request with ``TE: trailers`` is one that the lane leaves alone: so the same request takes either road.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.broker.base import Accepted, always_open
from engine.broker.kite.adapter import KiteBroker
from engine.clock import SystemClock
from engine.exchange.config import Limits
from engine.exchange.core import Exchange
from engine.exchange.events import OrderRequested
from engine.exchange.fast_lane import FastLane
from tests.support.broker_orders import committed_order
from tests.support.exchange import RunningExchange, running_exchange
from tests.support.raw_http import Answer, RawConnection, raw_connection

SLOW = ("TE: trailers",)
FORM = {
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
Request = tuple[str, str, dict[str, str]]


class StillClock:
    """A clock that stands: two exchanges make the same order ids."""

    def now(self) -> datetime:
        return datetime(2026, 11, 23, 4, 30, tzinfo=UTC)

    def boottime_ns(self) -> int:
        return 0


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The requests that the fast lane has answered, by method and path."""
    seen: list[str] = []
    answer = FastLane.answer

    def counted(lane, request, address):
        made = answer(lane, request, address)
        if made is not None:
            seen.append(f"{request.method.decode()} {request.path}")
        return made

    monkeypatch.setattr(FastLane, "answer", counted)
    return seen


def encoded(exchange: RunningExchange, request: Request, *headers: str) -> bytes:
    method, target, form = request
    body = urlencode(form).encode()
    lines = [f"{method} {target} HTTP/1.1", "Host: kite", f"Authorization: {exchange.headers['Authorization']}"]
    if method != "GET":
        lines += ["Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


def place(**fields: str) -> Request:
    return ("POST", "/orders/regular", {**FORM, **fields})


BOOK: Request = ("GET", "/orders", {})
IDS = [str(2_124_700_000_000_000_000), "1", "99999999999999999999"]


@asynccontextmanager
async def connected(exchange: RunningExchange) -> AsyncIterator[RawConnection]:
    async with raw_connection(exchange.base_url) as connection:
        yield connection


forms = st.builds(
    lambda **fields: {name: value for name, value in fields.items() if value is not None},
    exchange=st.sampled_from(["NSE", "NFO", "ABC", None]),
    tradingsymbol=st.sampled_from(["INFY", "SBIN", "M&M", "NOWHERE", "RELIANCE"]),
    transaction_type=st.sampled_from(["BUY", "SELL", ""]),
    quantity=st.sampled_from(["1", "10", "0", "x"]),
    product=st.sampled_from(["MIS", "CNC", "NRML"]),
    order_type=st.sampled_from(["LIMIT", "MARKET", "SL"]),
    price=st.sampled_from(["1400.00", "1500", "1500.03", None]),
    trigger_price=st.sampled_from(["1480", None]),
    market_protection=st.sampled_from(["-1", "2", None]),
    validity=st.sampled_from(["DAY", "IOC", None]),
    tag=st.sampled_from(["T1", "a b+c%", "äö", None]),
)
# the number stands for an order that was placed before, by its turn
changes = st.tuples(
    st.sampled_from(["PUT", "DELETE"]), st.integers(0, 5), st.sampled_from([{}, {"price": "1410"}, {"quantity": "7"}])
)
reads = st.sampled_from(
    [
        "/orders",
        "/trades",
        "/portfolio/positions",
        "/quote/ltp?i=NSE:INFY&i=NSE%3ANIFTY+50&i=NSE:NIFTY%2050&i=NSE%3AM%26M&i=x",
        "/quote/ltp",
    ]
)
steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["/orders/regular", "/orders/amo", "/orders/nothing"]), forms),
        st.tuples(st.just("/orders/regular"), st.just(FORM)),
        changes,
        reads,
    ),
    min_size=1,
    max_size=12,
)


async def play(exchange: RunningExchange, wanted: list, headers: tuple[str, ...]) -> list[Answer]:
    """Carry out *wanted* and read the book after it."""
    placed: list[str] = []
    answers = []
    async with connected(exchange) as connection:
        for step in [*wanted, "/orders", "/trades", "/portfolio/positions"]:
            match step:
                case str():
                    request: Request = ("GET", step, {})
                case (path, form):
                    request = ("POST", path, form)
                case (method, turn, form):
                    order_id = placed[turn % len(placed)] if placed else "1"
                    query = "?parent_order_id=&parent_order_id=2" if turn == 5 and method == "DELETE" else ""
                    request = (method, f"/orders/regular/{order_id}{query}", form)
            answer = await connection.ask(encoded(exchange, request, *headers))
            if request[0] == "POST" and answer.status == 200:
                placed.append(answer.body.rpartition(b':"')[2].rstrip(b'"}').decode())
            answers.append(answer)
    return answers


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(wanted=steps)
def test_both_roads_answer_the_same_bytes_and_leave_the_same_record(wanted, tmp_path_factory, served) -> None:
    async def both() -> None:
        outcomes = []
        for headers in ((), SLOW):
            served.clear()
            folder = tmp_path_factory.mktemp("exchange")
            async with running_exchange(folder, clock=StillClock(), token_expiry=False) as exchange:
                await exchange.set_price("NSE:INFY", "1450.00")
                answers = await play(exchange, wanted, headers)
                requests = [event for event in exchange.record() if isinstance(event, OrderRequested)]
            assert len(served) == (0 if headers else len(answers))
            outcomes.append((answers, requests))
        assert outcomes[0] == outcomes[1]

    trio.run(both)


async def test_every_repeated_call_of_the_engines_adapter_takes_the_lane(tmp_path: Path, served: list[str]) -> None:
    async with running_exchange(tmp_path) as exchange:
        await exchange.set_price("NSE:INFY", "1500.00")
        broker = KiteBroker(exchange.base_url, exchange.api_key, exchange.access_token, SystemClock())
        order = committed_order()
        outcome = await broker.place(order, always_open)
        assert isinstance(outcome, Accepted)
        await broker.cancel(outcome.broker_order_id, order.variety)
        await broker.orders()
        await broker.trades()
        await broker.positions()
        await broker.last_prices(["NSE:INFY", "NSE:M&M", "NSE:NIFTY 50"])
        await broker.aclose()
    order_id = outcome.broker_order_id
    assert served == [
        "POST /orders/regular",
        f"DELETE /orders/regular/{order_id}",
        *("GET /orders", "GET /trades", "GET /portfolio/positions", "GET /quote/ltp"),
    ]


async def test_pipelined_requests_of_both_roads_are_answered_in_turn(tmp_path: Path, served: list[str]) -> None:
    async with running_exchange(tmp_path) as exchange, connected(exchange) as connection:
        margins: Request = ("GET", "/user/margins", {})
        sent = [place(tag="A"), place(tag="B"), margins, place(tag="C"), BOOK]
        await connection.send(b"".join(encoded(exchange, request) for request in sent))
        answers = [await connection.answer() for _ in sent]
        assert [answer.status for answer in answers] == [200] * 5
        assert b'"equity"' in answers[2].body
        tags = [request.tag_sent for request in exchange.record() if isinstance(request, OrderRequested)]
        assert tags == ["A", "B", "C"]
        assert [answers[4].body.count(b'"tag":"%s"' % tag) for tag in (b"A", b"B", b"C")] == [1, 1, 1]
        # what h11 had read ahead was its own to answer; from the next request on the lane serves again
        assert (await connection.ask(encoded(exchange, BOOK))).status == 200
        assert served[-1] == "GET /orders"


async def test_a_client_that_pipelines_hundreds_of_requests_gets_every_answer(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as exchange, connected(exchange) as connection:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.send, encoded(exchange, place()) * 300)
            ids = [(await connection.answer()).body for _ in range(300)]
        assert len(set(ids)) == 300
        assert len([event for event in exchange.record() if isinstance(event, OrderRequested)]) == 300


async def test_a_large_book_is_the_same_on_both_roads(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as exchange, connected(exchange) as connection:
        await connection.send(encoded(exchange, place()) * 200)
        assert {(await connection.answer()).status for _ in range(200)} == {200}
        fast = await connection.ask(encoded(exchange, BOOK) + encoded(exchange, ("GET", "/trades", {})))
        assert (await connection.answer()).body == b'{"status":"success","data":[]}'
        assert len(fast.body) > 100_000
        assert fast == await connection.ask(encoded(exchange, BOOK, *SLOW))


async def test_a_request_that_comes_byte_by_byte_is_taken_once(tmp_path: Path, served: list[str]) -> None:
    async with running_exchange(tmp_path) as exchange, connected(exchange) as connection:
        octets = encoded(exchange, place(tradingsymbol="M&M"))
        for at in range(len(octets)):
            await connection.send(octets[at : at + 1])
        assert (await connection.answer()).status in (200, 400)
        assert served == ["POST /orders/regular"]
        assert [e.params["tradingsymbol"] for e in exchange.record() if isinstance(e, OrderRequested)] == ["M&M"]


async def test_half_a_request_then_the_end_places_nothing(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as exchange:
        async with connected(exchange) as connection:
            await connection.send(encoded(exchange, place())[:-5])
            await connection.stream.send_eof()
            assert (await connection.answer()).status == 400
            assert await connection.is_closed()
        assert not [event for event in exchange.record() if isinstance(event, OrderRequested)]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda octets: octets.replace(b"HTTP/1.1", b"HTTP/1.0"), 200),
        (lambda octets: octets.replace(b"Host: kite\r\n", b"Connection: close\r\nHost: kite\r\n"), 200),
        (lambda octets: octets.replace(b"Host: kite\r\n", b"Expect: 100-continue\r\nHost: kite\r\n"), 100),
        (lambda octets: octets.replace(b"/orders/regular", b"/orders/%72egular"), 200),
        (lambda octets: octets.replace(b"/orders/regular", b"/orders/regular?x=1"), 200),
        (lambda octets: octets.replace(b"Host: kite\r\n", b""), 400),
        (lambda octets: octets.replace(b"Host: kite\r\n", b"Host: kite\r\nX: a\x00b\r\n"), 400),
        (lambda octets: octets.replace(b"INFY", b"\xff\xff\xff\xff"), 400),
        (lambda octets: octets.replace(b"Content-Length: ", b"Content-Length: 9999"), 413),
    ],
)
async def test_odd_requests_are_answered_as_ever(tmp_path: Path, served: list[str], change, status) -> None:
    async with running_exchange(tmp_path) as exchange, connected(exchange) as connection:
        octets = change(encoded(exchange, place()))
        assert (await connection.ask(octets)).status == status
        if status == 100:
            assert (await connection.answer()).status == 200
        placed = [event for event in exchange.record() if isinstance(event, OrderRequested) and event.accepted]
        assert len(placed) == (status in (100, 200))
        assert (served == []) or b"?x=1" in octets


async def test_chunked_body_is_taken_by_the_routes(tmp_path: Path, served: list[str]) -> None:
    async with running_exchange(tmp_path) as exchange, connected(exchange) as connection:
        head, _, body = encoded(exchange, place()).partition(b"\r\n\r\n")
        head = b"\r\n".join(line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length"))
        chunked = b"%s\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (head, len(body), body)
        assert (await connection.ask(chunked)).status == 200
        assert (await connection.ask(encoded(exchange, BOOK))).body.count(b'"status":"OPEN"') == 1
        assert served == ["GET /orders"]


async def test_only_kinds_of_requests_that_no_rule_looks_at_keep_the_lane(tmp_path: Path, served: list[str]) -> None:
    async with running_exchange(tmp_path) as exchange, connected(exchange) as connection:
        await exchange.set_faults({"on": "place", "takes": "never", "answer": "rate", "tag": "BAD", "count": 1})
        assert (await connection.ask(encoded(exchange, place(tag="BAD")))).status == 429
        assert (await connection.ask(encoded(exchange, place(tag="GOOD")))).status == 200
        assert served == []
        assert (await connection.ask(encoded(exchange, BOOK))).status == 200
        assert served == ["GET /orders"]
        await exchange.set_faults({"on": "any", "answer": "own"})
        assert (await connection.ask(encoded(exchange, BOOK))).status == 200
        assert served == ["GET /orders"]
        assert [hit["kind"] for hit in await exchange.fault_hits()] == ["place", "orders"]


@pytest.mark.parametrize("road", [(), SLOW])
async def test_static_ip_rule_holds_on_both_roads(tmp_path: Path, road: tuple[str, ...]) -> None:
    async with (
        running_exchange(tmp_path, static_ips=("203.0.113.9",)) as exchange,
        connected(exchange) as connection,
    ):
        refused = await connection.ask(encoded(exchange, place(), *road))
        assert (refused.status, b"127.0.0.1" in refused.body) == (403, True)
        assert (await connection.ask(encoded(exchange, BOOK, *road))).status == 200
    async with (
        running_exchange(tmp_path, static_ips=("127.0.0.1",)) as exchange,
        connected(exchange) as connection,
    ):
        assert (await connection.ask(encoded(exchange, place(), *road))).status == 200


async def test_limits_count_the_requests_of_both_roads_together(tmp_path: Path) -> None:
    limits = Limits(orders_per_second=3, reads_per_second=2)
    roads = ((), SLOW, (), (), SLOW)
    async with (
        running_exchange(tmp_path, clock=StillClock(), limits=limits) as exchange,
        connected(exchange) as connection,
    ):
        orders = [(await connection.ask(encoded(exchange, place(), *road))).status for road in roads]
        books = [(await connection.ask(encoded(exchange, BOOK, *road))).status for road in roads]
    assert orders == [200, 200, 200, 429, 429]
    assert books == [200, 200, 429, 429, 429]


async def test_a_failing_request_is_answered_500_and_the_exchange_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: list[str]
) -> None:
    async with running_exchange(tmp_path) as exchange, connected(exchange) as connection:
        with monkeypatch.context() as broken:
            broken.setattr(Exchange, "request_order", lambda *_: 1 / 0)
            fast = await connection.ask(encoded(exchange, place()))
            slow = await connection.ask(encoded(exchange, place(), *SLOW))
        assert fast == slow
        assert fast.status == 500
        assert (await connection.ask(encoded(exchange, place()))).status == 200
        assert len(served) == 2


async def test_stop_answers_the_request_at_hand_and_closes_idle_connections(tmp_path: Path) -> None:
    async with running_exchange(tmp_path) as exchange, connected(exchange) as busy, connected(exchange) as idle:
        assert (await idle.ask(encoded(exchange, BOOK))).status == 200
        await busy.send(encoded(exchange, place()))
        with trio.fail_after(10):
            while not exchange.server.exchange.state.orders:
                await trio.lowlevel.checkpoint()
        exchange.server.stop()
        assert (await busy.answer()).status == 200
        assert await busy.is_closed()
        assert await idle.is_closed()
    assert len([event for event in exchange.record() if isinstance(event, OrderRequested)]) == 1


noise = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from(
            [
                b"POST /orders/regular HTTP/1.1\r\n",
                b"GET /orders HTTP/1.1\r\nHost: h\r\n\r\n",
                b"Content-Length: 3\r\n",
                b"Transfer-Encoding: chunked\r\n",
                b"Host: h\r\n",
                b"\r\n",
                b"\r\n\r\n",
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                b"Upgrade: h2c\r\nConnection: Upgrade\r\n",
            ]
        ),
    ),
    max_size=12,
)


def test_no_bytes_bring_the_exchange_down_or_place_an_order(tmp_path: Path) -> None:
    async def bombard() -> None:
        async with running_exchange(tmp_path) as exchange:

            @settings(max_examples=80, deadline=None)
            @given(pieces=noise)
            def strike(pieces: list[bytes]) -> None:
                trio.from_thread.run(one, pieces)

            async def one(pieces: list[bytes]) -> None:
                async with connected(exchange) as connection:
                    try:
                        for piece in pieces:
                            await connection.send(piece)
                        await connection.stream.send_eof()
                        with trio.move_on_after(5) as waiting:
                            while await connection.stream.receive_some(65536):
                                pass
                        assert not waiting.cancelled_caught
                    except trio.BrokenResourceError:
                        pass  # it has hung up on the noise

            await trio.to_thread.run_sync(strike)
            async with connected(exchange) as connection:
                assert (await connection.ask(encoded(exchange, BOOK))).body == b'{"status":"success","data":[]}'

    trio.run(bombard)
