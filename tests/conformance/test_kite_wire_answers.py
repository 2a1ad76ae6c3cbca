"""Odd answers and broken connections: what the adapter makes of each, byte for byte."""

import gzip
import json

import pytest
import trio
import trio.testing

from engine.broker.base import (
    Accepted,
    BrokerAuthError,
    BrokerNotPermitted,
    BrokerUnavailable,
    NotSent,
    RefusalCode,
    Refused,
    Unknown,
    always_open,
)
from engine.broker.kite.adapter import KiteBroker
from engine.broker.kite.origin import Origin
from engine.broker.kite.reads import KiteReads
from engine.broker.kite.routes import KiteConnect
from engine.broker.kite.wire import OrderWire
from engine.clock import SystemClock
from engine.domain.enums import OrderType, Variety
from engine.errors import ConfigError
from tests.support import kite_stub
from tests.support.broker_orders import committed_order
from tests.support.kite_book import error_body, reply
from tests.support.kite_stub import answer, free_port_url, hang, in_pieces, raw, reset, running_stub, then_close

TAKEN = b'{"status":"success","data":{"order_id":"151220000000000"}}'
ACCEPTED = Accepted(broker_order_id="151220000000000")
HTML = b"<html><h1>502 Bad Gateway</h1></html>"
TIMED_OUT = "Order request timed out. Please check the order book and confirm before placing again."


@pytest.fixture
async def stub():
    async with running_stub() as stub:
        yield stub


@pytest.fixture
async def broker(stub):
    broker = KiteBroker(stub.base_url, stub.api_key, stub.access_token, SystemClock())
    yield broker
    await broker.aclose()


@pytest.fixture
async def hasty(stub):
    broker = KiteBroker(stub.base_url, stub.api_key, stub.access_token, SystemClock(), 0.5)
    yield broker
    await broker.aclose()


async def test_place_bytes_are_the_documented_request(stub, broker):
    stub.next(answer(200, TAKEN))
    order = committed_order(order_type=OrderType.MARKET, symbol="M&M", tag="a b")
    assert await broker.place(order, always_open) == ACCEPTED
    (request,) = stub.requests
    assert (request.method, request.target) == ("POST", "/orders/regular")
    assert request.headers["x-kite-version"] == "3"
    assert request.headers["authorization"] == "token stubkey:stubtoken"
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert request.headers["host"] == stub.base_url.removeprefix("http://")
    assert request.body.startswith(
        b"variety=regular&exchange=NSE&tradingsymbol=M%26M&transaction_type=BUY&quantity=1&product=MIS&order_type=MARKET"
    )
    assert request.body.endswith(b"&tag=a+b&market_protection=-1")


async def test_cancel_bytes_are_the_documented_request(stub, broker):
    stub.next(answer(200, TAKEN), answer(200, TAKEN))
    assert await broker.cancel("151", Variety.REGULAR) == ACCEPTED
    assert await broker.cancel("151", Variety.CO, parent_order_id="99") == ACCEPTED
    plain, leg = stub.requests
    assert (plain.method, plain.target, plain.body) == ("DELETE", "/orders/regular/151", b"")
    assert (leg.method, leg.target, leg.body) == ("DELETE", "/orders/co/151?parent_order_id=99", b"")
    assert "content-length" not in plain.headers


async def test_replace_bytes_are_the_documented_request(stub, broker):
    stub.next(answer(200, TAKEN))
    assert await broker.replace("151", Variety.REGULAR, quantity=3, order_type=OrderType.LIMIT) == ACCEPTED
    (request,) = stub.requests
    assert (request.method, request.target) == ("PUT", "/orders/regular/151")
    assert request.body == b"variety=regular&order_id=151&quantity=3&order_type=LIMIT"


async def test_official_package_sends_the_same_form(stub, broker):
    stub.next(answer(200, TAKEN), answer(200, TAKEN))
    order = committed_order(order_type=OrderType.SL_M, trigger_price=committed_order().price, tag="TAG1")
    await broker.place(order, always_open)
    official = KiteConnect(stub.api_key, access_token=stub.access_token, root=stub.base_url)

    def place() -> str:
        with official.reqsession:
            return official.place_order(
                variety="regular",
                exchange="NSE",
                tradingsymbol="INFY",
                transaction_type="BUY",
                quantity=1,
                product="MIS",
                order_type="SL-M",
                validity="DAY",
                trigger_price="1400.00",
                tag="TAG1",
                market_protection=-1,
            )

    assert await trio.to_thread.run_sync(place) == "151220000000000"
    ours, theirs = stub.requests
    assert (ours.method, ours.target, ours.body) == (theirs.method, theirs.target, theirs.body)
    for header in ("authorization", "x-kite-version", "content-type"):
        assert ours.headers[header] == theirs.headers[header]


async def test_connection_is_kept_between_orders(stub, broker):
    for _ in range(3):
        await broker.place(committed_order(), always_open)
    assert stub.connections == 1


async def test_chunked_answer_is_accepted(stub, broker):
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (TAKEN[:7], TAKEN[7:]))
    stub.next(raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"))
    assert await broker.place(committed_order(), always_open) == ACCEPTED


async def test_answer_in_single_bytes_is_accepted(stub, broker):
    stub.next(in_pieces(reply(200, TAKEN)))
    assert await broker.place(committed_order(), always_open) == ACCEPTED


async def test_answer_without_length_is_accepted_at_the_end_of_the_connection(stub, broker):
    stub.next(then_close(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + TAKEN))
    assert await broker.place(committed_order(), always_open) == ACCEPTED


@pytest.mark.parametrize(
    "step",
    [
        answer(200, b'{"status":"success","data":{}}'),
        answer(200, b'{"status":"success","data":null}'),
        answer(200, b"not json"),
        answer(502, HTML, "text/html"),
        answer(503, error_body("API is down", "NetworkException")),
        answer(504, b"", None),
        answer(500, error_body("Something went wrong", "GeneralException")),
        answer(400, error_body(TIMED_OUT, "OrderException")),
        answer(400, error_body(TIMED_OUT, "InputException")),
        answer(400, error_body("bad", None)),
        answer(429, HTML, "text/html"),
        answer(301, b"", None, "Location: /orders/regular\r\n"),
        answer(307, b"", None, "Location: /orders/regular\r\n"),
        answer(200, gzip.compress(TAKEN), extra="Content-Encoding: gzip\r\n"),
        raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
        raw(b"garbage\r\n\r\n"),
        reset,
        then_close(),
        then_close(reply(200, TAKEN)[:-5]),
        then_close(b"HTTP/1.1 200 O"),
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n" + b"x" * 2_000_000),
    ],
    ids=lambda step: None,
)
async def test_answer_that_proves_nothing_is_unknown_and_never_sent_again(stub, broker, step):
    stub.next(step)
    assert isinstance(await broker.place(committed_order(), always_open), Unknown)
    assert len(stub.requests) == 1


@pytest.mark.parametrize(
    "step", [reset, then_close(), then_close(b"HTTP/1.1 200 O"), answer(502, HTML, "text/html")], ids=lambda step: None
)
async def test_order_on_a_kept_connection_that_fails_after_sending_is_unknown_and_never_sent_again(stub, broker, step):
    await broker.place(committed_order(), always_open)
    stub.next(step)
    assert isinstance(await broker.place(committed_order(), always_open), Unknown)
    await trio.testing.wait_all_tasks_blocked()
    assert [request.connection for request in stub.requests] == [1, 1]


@pytest.mark.parametrize("last", ["Connection: close", "connection: Close"])
async def test_answer_that_asks_to_close_ends_the_connection(stub, broker, last):
    stub.next(answer(200, TAKEN, extra=last + "\r\n"))
    assert await broker.place(committed_order(), always_open) == ACCEPTED
    await broker.place(committed_order(), always_open)
    assert [request.connection for request in stub.requests] == [1, 2]


async def test_answer_with_a_second_one_behind_it_counts_once_and_ends_the_connection(stub, broker):
    stub.next(raw(reply(200, TAKEN) + reply(200, TAKEN.replace(b"1512", b"9999"))))
    assert await broker.place(committed_order(), always_open) == ACCEPTED
    second = await broker.place(committed_order(), always_open)
    assert isinstance(second, Accepted)
    assert not second.broker_order_id.startswith("9999")
    assert [request.connection for request in stub.requests] == [1, 2]


@pytest.mark.parametrize(
    ("status", "message", "error_type", "code"),
    [
        (400, "Insufficient funds. Required margin is 2 but available margin is 1. Check the orderbook for open "
         "orders.", "MarginException", RefusalCode.FUNDS),
        (403, "Incorrect `api_key` or `access_token`.", "TokenException", RefusalCode.TOKEN_DEAD),
        (403, "IP (203.0.113.9) is not allowed to place orders for this app.", "PermissionException",
         RefusalCode.STATIC_IP),
        (429, "Too many requests", "NetworkException", RefusalCode.RATE_LIMITED),
    ],
)  # fmt: skip
async def test_definite_error_is_refused(stub, broker, status, message, error_type, code):
    stub.next(answer(status, error_body(message, error_type)))
    outcome = await broker.place(committed_order(), always_open)
    assert isinstance(outcome, Refused)
    assert outcome.code is code
    assert outcome.auth_blocked is (code is RefusalCode.TOKEN_DEAD)
    assert outcome.rate_limited is (code is RefusalCode.RATE_LIMITED)


async def test_connection_refused_is_not_sent():
    broker = KiteBroker(free_port_url(), "k", "t", SystemClock())
    outcome = await broker.place(committed_order(), always_open)
    assert isinstance(outcome, NotSent)
    assert not outcome.gated
    await broker.aclose()


async def test_no_answer_within_the_deadline_is_unknown_and_the_late_one_is_not_mistaken(stub, hasty):
    stub.next(hang, answer(200, b'{"status":"success","data":{"order_id":"999999999999999"}}'))
    await hasty.warm()
    assert isinstance(await hasty.place(committed_order(), always_open), Unknown)
    assert await hasty.place(committed_order(), always_open) == Accepted(broker_order_id="999999999999999")
    assert [request.connection for request in stub.requests] == [1, 2]


async def test_no_free_connection_within_the_deadline_is_not_sent(stub):
    wire = OrderWire(Origin.parse(stub.base_url), timeout_s=0.05, max_connections=0)
    broker = KiteBroker(stub.base_url, "k", "t", SystemClock(), wire=wire)
    outcome = await broker.place(committed_order(), always_open)
    assert isinstance(outcome, NotSent)
    assert "before the first byte" in outcome.reason
    assert stub.connections == 0
    await broker.aclose()


async def test_idle_connection_that_the_server_closed_is_replaced_before_use(stub, broker):
    await broker.place(committed_order(), always_open)
    await stub.wires[0].close()
    await trio.testing.wait_all_tasks_blocked()
    assert isinstance(await broker.place(committed_order(), always_open), Accepted)
    assert [request.connection for request in stub.requests] == [1, 2]


async def test_idle_connection_that_the_server_reset_is_replaced_before_use(stub, broker):
    await broker.place(committed_order(), always_open)
    await stub.wires[0].reset()
    await trio.testing.wait_all_tasks_blocked()
    assert isinstance(await broker.place(committed_order(), always_open), Accepted)


async def test_idle_connection_with_unasked_bytes_is_replaced_before_use(stub, broker):
    await broker.place(committed_order(), always_open)
    await trio.testing.wait_all_tasks_blocked()
    await stub.wires[0].send(reply(408, b""))
    await trio.testing.wait_all_tasks_blocked()
    outcome = await broker.place(committed_order(), always_open)
    assert isinstance(outcome, Accepted)
    assert [request.connection for request in stub.requests] == [1, 2]


async def test_connection_dying_as_the_gate_is_asked_sends_on_a_fresh_one(stub, broker):
    await broker.place(committed_order(), always_open)
    (channel,) = broker._wire._idle
    asked = []

    def gate() -> None:
        if not asked:
            channel._sock.shutdown(kite_stub.socket.SHUT_WR)
        asked.append(1)

    # The first send fails with nothing written, so that a fresh connection may carry the order.
    assert isinstance(await broker.place(committed_order(), gate), Accepted)
    assert len(asked) == 2
    assert len(stub.writes) == 2


async def test_gate_is_asked_after_the_connection_is_ready(stub, broker):
    seen = []
    await broker.place(committed_order(), lambda: seen.append(stub.connections) or None)
    # A gate that refuses leaves the connection whole for the next order.
    assert isinstance(await broker.place(committed_order(), lambda: "no"), NotSent)
    await broker.place(committed_order(), always_open)
    assert len(stub.writes) == 2
    assert stub.connections == 1


async def test_gate_and_first_byte_have_no_other_task_between(stub, broker):
    log = []

    async def bystander() -> None:
        while True:
            log.append("bystander")
            await trio.lowlevel.checkpoint()

    await broker.place(committed_order(), always_open)
    (channel,) = broker._wire._idle
    flush = channel.flush
    channel.flush = lambda: log.append("flush") or flush()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bystander)
        await trio.lowlevel.checkpoint()
        await broker.place(committed_order(), lambda: log.append("gate"))
        nursery.cancel_scope.cancel()
    assert log[log.index("gate") + 1] == "flush"


async def test_gate_that_raises_is_passed_on_and_nothing_is_sent(stub, broker):
    def gate() -> None:
        raise LookupError("no kill word")

    with pytest.raises(LookupError, match="no kill word"):
        await broker.place(committed_order(), gate)
    assert stub.requests == []


async def test_cancelled_request_closes_its_connection_and_the_cancellation_passes(stub, broker):
    stub.next(hang)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(broker.place, committed_order(), always_open)
            await stub.arrived.wait()
            scope.cancel()
    assert scope.cancelled_caught
    assert broker._wire.idle_connections == 0
    assert isinstance(await broker.place(committed_order(), always_open), Accepted)
    assert [request.connection for request in stub.requests] == [1, 2]


async def test_cancelled_task_sends_nothing(stub, broker):
    await broker.place(committed_order(), always_open)
    with trio.CancelScope() as scope:
        scope.cancel()
        await broker.place(committed_order(), always_open)
    assert scope.cancelled_caught
    await trio.testing.wait_all_tasks_blocked()
    assert len(stub.requests) == 1


async def test_cancelled_requests_do_not_leak_slots(stub):
    wire = OrderWire(Origin.parse(stub.base_url), max_connections=2)
    broker = KiteBroker(stub.base_url, "k", "t", SystemClock(), wire=wire)
    stub.next(*[hang] * 10)
    for _ in range(5):
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(broker.place, committed_order(), always_open)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    stub.script.clear()
    outcomes = [await broker.place(committed_order(), always_open) for _ in range(3)]
    assert all(isinstance(outcome, Accepted) for outcome in outcomes)
    await wire.aclose()
    await broker.aclose()


async def test_large_request_counts_every_byte(stub):
    wire = OrderWire(Origin.parse(stub.base_url))
    stub.next(answer(200, TAKEN))
    body = b"x" * 5_000_000
    request = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    got = await wire.send(request, always_open)
    assert (got.status, got.bytes_written) == (200, len(request))
    assert stub.requests[0].body == body
    await wire.aclose()


async def test_idle_connection_that_is_too_old_is_replaced_before_use(stub):
    wire = OrderWire(Origin.parse(stub.base_url), max_idle_s=0)
    broker = KiteBroker(stub.base_url, "k", "t", SystemClock(), wire=wire)
    for _ in range(3):
        assert isinstance(await broker.place(committed_order(), always_open), Accepted)
    assert [request.connection for request in stub.requests] == [1, 2, 3]
    assert wire.idle_connections == 1
    await wire.aclose()
    await broker.aclose()


async def test_shared_wire_outlives_one_of_its_brokers(stub):
    wire = OrderWire(Origin.parse(stub.base_url))
    first = KiteBroker(stub.base_url, "k1", "t1", SystemClock(), wire=wire)
    second = KiteBroker(stub.base_url, "k2", "t2", SystemClock(), wire=wire)
    await first.place(committed_order(), always_open)
    await first.aclose()
    assert isinstance(await second.place(committed_order(), always_open), Accepted)
    assert stub.connections == 1
    assert [request.headers["authorization"] for request in stub.requests] == ["token k1:t1", "token k2:t2"]
    await second.aclose()
    await wire.aclose()


async def test_host_name_that_cannot_be_encoded_is_not_sent():
    broker = KiteBroker(f"https://{'a' * 70}.example", "k", "t", SystemClock())
    assert isinstance(await broker.place(committed_order(), always_open), NotSent)
    await broker.aclose()


async def test_warm_replaces_what_has_gone_stale(stub, broker):
    await broker.warm(2)
    await trio.testing.wait_all_tasks_blocked()
    await stub.wires[0].close()
    await trio.testing.wait_all_tasks_blocked()
    await broker.warm(2)
    assert (stub.connections, broker._wire.idle_connections) == (3, 2)


async def test_warm_connections_carry_the_first_orders(stub, broker):
    await broker.warm(2)
    await broker.place(committed_order(), always_open)
    assert (stub.connections, broker._wire.idle_connections) == (2, 2)


@pytest.mark.parametrize(
    ("step", "error"),
    [
        (answer(403, error_body("Incorrect `api_key` or `access_token`.", "TokenException")), BrokerAuthError),
        (answer(403, error_body("Insufficient permission for that call.", "PermissionException")), BrokerNotPermitted),
        (answer(502, HTML, "text/html"), BrokerUnavailable),
        (answer(200, HTML, "text/html"), BrokerUnavailable),
        (answer(200, b'{"status":"success","data":[{"quantity":"x"}]}'), BrokerUnavailable),
        (answer(302, b"", None, "Location: /trades\r\n"), BrokerUnavailable),
        (answer(200, b"not gzip", extra="Content-Encoding: gzip\r\n"), BrokerUnavailable),
        (reset, BrokerUnavailable),
        (then_close(), BrokerUnavailable),
        (raw(b"garbage\r\n\r\n"), BrokerUnavailable),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_read_that_fails_is_unavailable(stub, broker, step, error):
    stub.next(step)
    with pytest.raises(BrokerUnavailable) as caught:
        await broker.orders()
    assert type(caught.value) is error
    assert "stubtoken" not in str(caught.value)
    assert len(stub.requests) == 1


async def test_read_without_an_answer_is_unavailable(stub, hasty):
    stub.next(hang)
    with pytest.raises(BrokerUnavailable, match="/orders: ReadTimeout"):
        await hasty.orders()


each_way = pytest.mark.parametrize("read", ["orders", "holdings"])
"""What the order protocol reads goes over lean connections, everything else over httpx."""


@each_way
async def test_read_that_drips_for_ever_is_unavailable(stub, read):
    async def drip(wire, _) -> None:
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n")
        while wire.is_open:
            await wire.send(b" ")
            await trio.sleep(0.01)

    reads = KiteReads(Origin.parse(stub.base_url), total_s=0.3)
    broker = KiteBroker(stub.base_url, "k", "t", SystemClock(), reads=reads)
    stub.next(drip)
    with pytest.raises(BrokerUnavailable, match="no answer within"):
        await getattr(broker, read)()
    await reads.aclose()
    await broker.aclose()


@each_way
async def test_read_that_is_compressed_is_read(stub, broker, read):
    rows = [{"order_id": str(n), "tag": "T", "tradingsymbol": "INFY", "exchange": "NSE"} for n in range(5000)]
    book = json.dumps({"status": "success", "data": rows}).encode()
    stub.next(answer(200, gzip.compress(book), extra="Content-Encoding: gzip\r\n"))
    assert len(await getattr(broker, read)()) == 5000


@each_way
async def test_read_refused_connection_is_unavailable(read):
    broker = KiteBroker(free_port_url(), "k", "t", SystemClock())
    with pytest.raises(BrokerUnavailable):
        await getattr(broker, read)()
    await broker.aclose()


@each_way
async def test_reads_cancelled_under_contention_do_not_leak_the_pool(stub, read):
    reads = KiteReads(Origin.parse(stub.base_url), max_connections=2)
    broker = KiteBroker(stub.base_url, "k", "t", SystemClock(), reads=reads)

    async def impatient(steps: int) -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(getattr(broker, read))
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                scope.cancel()

    for round_ in range(10):
        async with trio.open_nursery() as nursery:
            for number in range(12):
                nursery.start_soon(impatient, 3 * number + round_)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(getattr(broker, read))
    await reads.aclose()
    await broker.aclose()


@each_way
async def test_reads_over_the_bound_wait_for_a_connection(stub, read):
    reads = KiteReads(Origin.parse(stub.base_url), max_connections=2)
    broker = KiteBroker(stub.base_url, "k", "t", SystemClock(), reads=reads)
    stub.next(*[hang] * 6)
    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(getattr(broker, read))
        while len(stub.requests) < 2:
            await stub.arrived.wait()
            await trio.testing.wait_all_tasks_blocked()
        assert (len(stub.requests), stub.connections) == (2, 2)
        nursery.cancel_scope.cancel()
    await reads.aclose()
    await broker.aclose()


async def test_order_id_that_would_change_the_path_never_leaves(stub, broker):
    assert isinstance(await broker.cancel("1/../../session/token?x", Variety.REGULAR), Refused)
    with pytest.raises(BrokerUnavailable):
        await broker.order_history("1 2")
    assert stub.requests == []


@pytest.mark.parametrize("token", ["a\r\nX: y", "a b", "a:b", "ü"])
async def test_token_that_would_change_the_header_is_refused(stub, broker, token):
    with pytest.raises(ConfigError, match="access_token"):
        broker.set_access_token(token)


async def test_new_access_token_is_used_from_the_next_request_on(stub, broker):
    broker.set_access_token("fresh")
    await broker.place(committed_order(), always_open)
    await broker.orders()
    assert {request.headers["authorization"] for request in stub.requests} == {"token stubkey:fresh"}


def test_broker_over_plain_http_outside_loopback_is_refused():
    with pytest.raises(ConfigError, match="https"):
        KiteBroker("http://api.kite.trade", "k", "t", SystemClock())


@each_way
async def test_read_tells_the_date_of_every_answer_whatever_its_status(stub, read):
    heard = []
    reads = KiteReads(Origin.parse(stub.base_url), heard=lambda date, elapsed_s: heard.append((date, elapsed_s)))
    broker = KiteBroker(stub.base_url, stub.api_key, stub.access_token, SystemClock(), reads=reads)
    date = "Wed, 18 Nov 2026 04:30:00 GMT"
    stub.next(answer(200, b'{"status": "success", "data": []}', extra=f"Date: {date}\r\n"))
    await getattr(broker, read)()
    stub.next(answer(503, b"{}", extra=f"Date: {date}\r\n"))
    with pytest.raises(BrokerUnavailable):
        await getattr(broker, read)()
    assert [seen for seen, _ in heard] == [date, date]
    assert all(elapsed_s >= 0 for _, elapsed_s in heard)
    await reads.aclose()
    await broker.aclose()


@each_way
async def test_cookie_that_an_answer_to_one_account_sets_goes_out_with_no_request_of_another(stub, read):
    reads = KiteReads(Origin.parse(stub.base_url))
    first, second = (KiteBroker(stub.base_url, key, "t", SystemClock(), reads=reads) for key in ("one", "two"))
    body = b'{"status": "success", "data": []}'
    stub.next(answer(200, body, extra="Set-Cookie: session=secret-of-one; Path=/\r\n"))
    await getattr(first, read)()
    stub.next(answer(200, body))
    await getattr(second, read)()
    assert [request.headers.get("cookie") for request in stub.requests] == [None, None]
    await reads.aclose()
