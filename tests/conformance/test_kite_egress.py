"""By which connections and which address calls leave."""

import errno
import socket

import pytest
import trio
import trio.testing

from engine.broker.base import Accepted, NotSent, always_open
from engine.broker.kite.adapter import KiteBroker
from engine.broker.kite.origin import Origin
from engine.broker.kite.read_pacer import ReadPacer
from engine.broker.kite.reads import KiteReads, ReadRateLimited
from engine.broker.kite.wire import OrderWire
from engine.clock import SystemClock
from engine.config import KiteConfig
from engine.domain.enums import Variety
from engine.errors import BrokerUnavailable
from tests.support.broker_orders import committed_order
from tests.support.kite_stub import KiteStub, answer, free_port_url, running_stub

BUSY = b'{"status":"error","message":"Too many requests","error_type":"NetworkException"}'


def broker_at(url, key="stubkey", token="stubtoken", **config):
    local = KiteConfig(**config).leaves_by
    origin = Origin.parse(url)
    wire, reads = OrderWire(origin, local_address=local), KiteReads(origin, local_address=local)
    return KiteBroker(url, key, token, SystemClock(), wire=wire, reads=reads, read_pacer=ReadPacer()), wire, reads


async def closed(wire, reads):
    await wire.aclose()
    await reads.aclose()


async def test_reads_never_share_a_connection_with_order_calls():
    async with running_stub() as stub:
        broker, wire, reads = broker_at(stub.base_url)
        for _ in range(4):
            placed = await broker.place(committed_order(), always_open)
            assert isinstance(placed, Accepted)
            await broker.orders()
            await broker.cancel(placed.broker_order_id, Variety.REGULAR)
            await broker.trades()
        orders = {r.connection for r in stub.requests if r.method != "GET"}
        looks = {r.connection for r in stub.requests if r.method == "GET"}
        assert len(stub.requests) == 16
        assert not orders & looks
        await closed(wire, reads)


async def test_slow_read_does_not_stand_in_an_orders_way():
    async with running_stub() as stub:
        broker, wire, reads = broker_at(stub.base_url)
        held = trio.Event()

        async def hold(_wire, _request):
            held.set()
            await trio.sleep_forever()

        stub.next(hold)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(broker.orders)
            await held.wait()
            assert isinstance(await broker.place(committed_order(), always_open), Accepted)
            nursery.cancel_scope.cancel()
        await closed(wire, reads)


async def test_orders_and_reads_leave_by_the_address_that_is_configured():
    async with running_stub() as stub:
        broker, wire, reads = broker_at(stub.base_url, local_address="127.0.0.2")
        assert isinstance(await broker.place(committed_order(), always_open), Accepted)
        await broker.orders()
        assert {wire._sock.getpeername()[0] for wire in stub.wires} == {"127.0.0.2"}
        assert len(stub.wires) == 2
        await closed(wire, reads)


async def test_address_that_is_not_here_sends_nothing_and_names_the_key():
    broker, wire, reads = broker_at(free_port_url(), local_address="203.0.113.7")
    outcome = await broker.place(committed_order(), always_open)
    assert isinstance(outcome, NotSent)
    assert "from 203.0.113.7 (broker.kite.local_address)" in outcome.reason
    with pytest.raises(BrokerUnavailable):
        await broker.orders()
    await closed(wire, reads)


class BothFamilies(trio.abc.HostnameResolver):
    """Resolves every name to this machine, IPv6 first."""

    async def getaddrinfo(self, host, port, family=0, type=0, proto=0, flags=0):  # noqa: A002 -- trio's name
        await trio.lowlevel.checkpoint()
        found = [(socket.AF_INET6, ("::1", port, 0, 0)), (socket.AF_INET, ("127.0.0.1", port))]
        return [(of, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address) for of, address in found]

    async def getnameinfo(self, sockaddr, flags):
        raise NotImplementedError


async def listeners_of_both_families():
    """Listen at one free port of ::1 and of 127.0.0.1."""
    for _ in range(20):
        try:
            (six,) = await trio.open_tcp_listeners(0, host="::1")
        except OSError:
            pytest.skip("this machine has no IPv6")
        try:
            (four,) = await trio.open_tcp_listeners(six.socket.getsockname()[1], host="127.0.0.1")
        except OSError as taken:
            if taken.errno != errno.EADDRINUSE:
                raise
            await six.aclose()  # another test has the port in the other family
        else:
            return six, four
    pytest.fail("no port is free in both families")


@pytest.mark.parametrize(("ipv4_only", "peers"), [(False, {"::1"}), (True, {"127.0.0.1"})])
async def test_ipv4_can_be_forced_on_a_name_that_has_both(ipv4_only, peers):
    stub = KiteStub()
    six, four = await listeners_of_both_families()
    port = six.socket.getsockname()[1]
    before = trio.socket.set_custom_hostname_resolver(BothFamilies())
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, stub.serve, [six, four])
            broker, wire, reads = broker_at(f"http://localhost:{port}", ipv4_only=ipv4_only)
            assert isinstance(await broker.place(committed_order(), always_open), Accepted)
            await broker.orders()
            assert {wire._sock.getpeername()[0] for wire in stub.wires} == peers
            assert len(stub.requests) == 2
            await closed(wire, reads)
            nursery.cancel_scope.cancel()
    finally:
        trio.socket.set_custom_hostname_resolver(before)


async def test_429_on_a_read_rests_that_kind_of_read_and_no_order():
    async with running_stub() as stub:
        broker, wire, reads = broker_at(stub.base_url)
        stub.next(answer(429, BUSY))
        with pytest.raises(ReadRateLimited):
            await broker.margins()
        with pytest.raises(BrokerUnavailable, match="429"):
            await broker.profile()
        assert isinstance(await broker.place(committed_order(), always_open), Accepted)
        assert await broker.orders(), "the book may be looked at"
        assert [request.path for request in stub.requests] == ["/user/margins", "/orders/regular", "/orders"]
        await closed(wire, reads)
