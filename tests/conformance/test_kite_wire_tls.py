"""The order wire over TLS: the same promises, with the encryption in between."""

import socket
import ssl

import pytest
import trio
import trio.testing

from engine.broker.base import Accepted, NotSent, Unknown, always_open
from engine.broker.kite.adapter import KiteBroker
from engine.broker.kite.origin import Origin
from engine.broker.kite.wire import OrderWire
from engine.clock import SystemClock
from tests.support.broker_orders import committed_order
from tests.support.certificates import self_signed
from tests.support.kite_stub import hang, reset, running_stub, then_close


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A self-signed certificate for localhost, in one PEM file with its key."""
    return self_signed(tmp_path_factory.mktemp("tls"), "localhost")


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["tls1.2", "tls1.3"])
async def stub(certificate, request):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = request.param
    context.load_cert_chain(certificate)
    async with running_stub(context) as stub:
        yield stub


@pytest.fixture
async def wire(stub, certificate):
    context = ssl.create_default_context(cafile=str(certificate))
    wire = OrderWire(Origin.parse(stub.base_url), ssl_context=context, timeout_s=5)
    yield wire
    await wire.aclose()


@pytest.fixture
async def broker(stub, wire):
    broker = KiteBroker(stub.base_url, stub.api_key, stub.access_token, SystemClock(), wire=wire)
    yield broker
    await broker.aclose()


async def test_orders_over_tls_share_one_connection(stub, broker):
    for _ in range(3):
        assert isinstance(await broker.place(committed_order(), always_open), Accepted)
    assert stub.connections == 1


async def test_gate_over_tls_that_refuses_sends_nothing_and_keeps_the_connection(stub, broker):
    await broker.place(committed_order(), always_open)
    assert await broker.place(committed_order(), lambda: "kill switch") == NotSent(reason="kill switch", gated=True)
    assert isinstance(await broker.place(committed_order(), always_open), Accepted)
    assert (len(stub.requests), stub.connections) == (2, 1)


async def test_gate_and_ciphertext_have_no_other_task_between(stub, broker, wire):
    log = []

    async def bystander() -> None:
        while True:
            log.append("bystander")
            await trio.lowlevel.checkpoint()

    await broker.place(committed_order(), always_open)
    (channel,) = wire._idle
    flush = channel.flush
    channel.flush = lambda: log.append("flush") or flush()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bystander)
        await trio.lowlevel.checkpoint()
        await broker.place(committed_order(), lambda: log.append("gate"))
        nursery.cancel_scope.cancel()
    assert log[log.index("gate") + 1] == "flush"


async def test_idle_connection_over_tls_that_ended_is_replaced_before_use(stub, broker):
    await broker.place(committed_order(), always_open)
    await stub.wires[0].close()
    await trio.testing.wait_all_tasks_blocked()
    assert isinstance(await broker.place(committed_order(), always_open), Accepted)
    assert [request.connection for request in stub.requests] == [1, 2]


@pytest.mark.parametrize("step", [reset, then_close(), then_close(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{")])
async def test_connection_over_tls_lost_after_sending_is_unknown(stub, broker, step):
    stub.next(step)
    assert isinstance(await broker.place(committed_order(), always_open), Unknown)
    assert len(stub.requests) == 1


async def test_untrusted_certificate_is_not_sent(stub):
    wire = OrderWire(Origin.parse(stub.base_url), timeout_s=5)
    broker = KiteBroker(stub.base_url, "k", "t", SystemClock(), wire=wire)
    outcome = await broker.place(committed_order(), always_open)
    assert isinstance(outcome, NotSent)
    assert "certificate" in outcome.reason.lower()
    assert stub.requests == []
    await wire.aclose()
    await broker.aclose()


async def test_handshake_that_never_ends_is_not_sent(certificate):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"https://localhost:{silent.getsockname()[1]}"
        wire = OrderWire(Origin.parse(url), timeout_s=0.1)
        broker = KiteBroker(url, "k", "t", SystemClock(), wire=wire)
        outcome = await broker.place(committed_order(), always_open)
        assert isinstance(outcome, NotSent)
        assert "before the first byte" in outcome.reason
        await broker.aclose()


async def test_deadline_over_tls_is_unknown(stub, certificate):
    context = ssl.create_default_context(cafile=str(certificate))
    wire = OrderWire(Origin.parse(stub.base_url), ssl_context=context, timeout_s=0.6)
    broker = KiteBroker(stub.base_url, "k", "t", SystemClock(), wire=wire)
    stub.next(hang)
    await broker.warm()
    assert isinstance(await broker.place(committed_order(), always_open), Unknown)
    await wire.aclose()
    await broker.aclose()


async def test_large_request_over_tls_arrives_whole(stub, wire):
    body = b"x" * 3_000_000
    request = b"POST /orders/none HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    stub.next(then_close(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"))
    got = await wire.send(request, always_open)
    assert (got.status, got.body) == (200, b"{}")
    assert got.bytes_written > len(request)
    assert stub.requests[0].body == body
