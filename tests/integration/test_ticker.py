"""The ticker client against a real WebSocket server on loopback that misbehaves on request."""

import base64
import hashlib
import random
from collections.abc import AsyncIterator, Callable, Sequence
from decimal import Decimal
from typing import Any

import pytest
import trio

from engine.broker.kite import ticker as ticker_module
from engine.broker.kite.ticker import BACKOFFS, Ticker, TickerCrowded, TickerLost, TickerRefused, Ticket
from engine.broker.kite.ticker_frames import Mode, Notice, Tick
from engine.broker.kite.ticker_pool import TickerPool
from engine.broker.values import BrokerOrder
from engine.errors import BrokerUnavailable, ConfigError
from tests.support.ticker_server import TickerServer, frame, ltp, order_text, until


class Sink:
    def __init__(self) -> None:
        self.opens = 0
        self.losses: list[BrokerUnavailable] = []
        self.prices: dict[int, Decimal] = {}
        self.orders: list[BrokerOrder] = []
        self.notices: list[Notice] = []
        self.garbage: list[BrokerUnavailable] = []

    def opened(self, ticker: Ticker) -> None:
        self.opens += 1

    def lost(self, ticker: Ticker, error: BrokerUnavailable) -> None:
        self.losses.append(error)

    def ticks(self, ticks: Sequence[Tick]) -> None:
        self.prices.update((tick.token, tick.last_price) for tick in ticks)

    async def order(self, update: BrokerOrder) -> None:
        self.orders.append(update)

    def notice(self, notice: Notice) -> None:
        self.notices.append(notice)

    def garbled(self, error: BrokerUnavailable) -> None:
        self.garbage.append(error)


class Rig:
    """A ticker with a ticket for *server*, which a test may take away or change."""

    def __init__(self, server: TickerServer) -> None:
        self.server = server
        self.sink = Sink()
        self.ticket: Ticket | None = Ticket(url=server.url, api_key="key", access_token="token&1")
        self.ticker = Ticker(lambda: self.ticket, self.sink, rng=random.Random(1))


@pytest.fixture
async def server(nursery: trio.Nursery) -> TickerServer:
    server = TickerServer()
    await nursery.start(server.run)
    return server


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    # the rules are the same, a tenth as long
    monkeypatch.setattr(ticker_module, "SILENCE_S", 0.5)
    monkeypatch.setattr(ticker_module, "_LOOK_S", 0.02)
    monkeypatch.setattr(ticker_module, "_CONNECT_S", 0.5)
    monkeypatch.setattr(ticker_module, "_CLOSE_S", 0.1)
    backoff = ticker_module.Backoff(first=0.02, longest=0.1)
    monkeypatch.setattr(ticker_module, "BACKOFFS", dict.fromkeys(BACKOFFS, backoff))


@pytest.fixture
async def rig(server: TickerServer, nursery: trio.Nursery) -> AsyncIterator[Rig]:
    rig = Rig(server)
    nursery.start_soon(rig.ticker.run)
    yield rig
    nursery.cancel_scope.cancel()


async def connected(rig: Rig, opens: int = 1) -> None:
    await until(lambda: rig.sink.opens >= opens and len(rig.server.clients) >= opens)


async def test_handshake_carries_key_token_and_version(rig: Rig) -> None:
    await connected(rig)
    client = rig.server.client
    assert client.query == {"api_key": "key", "access_token": "token&1"}
    assert client.headers["x-kite-version"] == "3"
    assert rig.ticker.is_open


async def test_prices_and_orders_arrive(rig: Rig) -> None:
    await connected(rig)
    await rig.server.client.send(frame(ltp(408065, 157315), ltp(315910, 727550)))
    await rig.server.client.send(order_text("1", "COMPLETE", filled=10))
    await rig.server.client.send('{"type":"message","data":"markets close early"}')
    await until(lambda: bool(rig.sink.notices))
    assert rig.sink.prices == {408065: Decimal("1573.15"), 315910: Decimal("72.755")}
    assert [update.broker_order_id for update in rig.sink.orders] == ["1"]
    assert rig.sink.notices[0].text == "markets close early"


async def test_subscriptions_follow_what_is_wanted(rig: Rig) -> None:
    await connected(rig)
    client = rig.server.client
    rig.ticker.want({1: Mode.LTP, 2: Mode.FULL})
    await until(lambda: client.modes == {1: "ltp", 2: "full"})
    rig.ticker.want({2: Mode.LTP, 3: Mode.QUOTE})
    await until(lambda: client.modes == {2: "ltp", 3: "quote"})
    asked = len(client.texts)
    rig.ticker.want({2: Mode.LTP, 3: Mode.QUOTE})
    rig.ticker.want({2: Mode.LTP})
    await until(lambda: client.modes == {2: "ltp"})
    assert len(client.texts) == asked + 1


async def test_everything_is_subscribed_to_again_after_a_reconnect(rig: Rig) -> None:
    rig.ticker.want({1: Mode.LTP, 2: Mode.FULL})
    await connected(rig)
    await until(lambda: rig.server.clients[0].modes == {1: "ltp", 2: "full"})
    await rig.server.clients[0].close()
    await connected(rig, opens=2)
    await until(lambda: rig.server.clients[1].modes == {1: "ltp", 2: "full"})
    assert isinstance(rig.sink.losses[0], TickerLost)


async def test_heartbeats_alone_keep_a_connection_alive(rig: Rig) -> None:
    await connected(rig)
    await trio.sleep(1.2)  # more than twice the silence that is allowed
    assert rig.sink.losses == []
    assert rig.ticker.connects == 1


async def test_silent_connection_is_dead_and_is_opened_anew(rig: Rig) -> None:
    rig.ticker.want({1: Mode.LTP})
    await connected(rig)
    rig.server.heartbeats = False
    await connected(rig, opens=2)
    rig.server.heartbeats = True
    assert "silent" in str(rig.sink.losses[0])
    await until(lambda: rig.server.clients[1].modes == {1: "ltp"})
    await rig.server.client.send(order_text("9"))
    await until(lambda: bool(rig.sink.orders))


@pytest.mark.parametrize(("status", "kind"), [(403, TickerRefused), (429, TickerCrowded), (502, TickerLost)])
async def test_refused_handshakes_are_told_apart(rig: Rig, status: int, kind: type[BrokerUnavailable]) -> None:
    await connected(rig)
    rig.server.status = status
    await rig.server.client.close()
    await until(lambda: len(rig.sink.losses) >= 3)
    assert {type(error) for error in rig.sink.losses[1:]} == {kind}
    assert str(status) in str(rig.sink.losses[1])
    assert "token&1" not in str(rig.sink.losses)
    assert not rig.ticker.is_open
    rig.server.status = None
    await connected(rig, opens=2)


async def test_each_refusal_waits_longer_than_a_lost_connection() -> None:
    waits = {
        kind: [backoff.delay_s(failures, random.Random(7)) for failures in (1, 2, 50)]
        for kind, backoff in ticker_module.__dict__["BACKOFFS"].items()
    }
    assert all(first < second <= last for first, second, last in waits.values())


async def test_frames_that_cannot_be_read_are_passed_over(rig: Rig) -> None:
    await connected(rig)
    await rig.server.client.send(frame(ltp(1, 100))[:-1])
    await rig.server.client.send("{not json")
    await rig.server.client.send(frame(ltp(1, 200)))
    await until(lambda: bool(rig.sink.prices))
    assert rig.sink.prices == {1: Decimal("2.00")}
    assert len(rig.sink.garbage) == 2
    assert rig.ticker.connects == 1


async def test_nothing_but_garbage_is_a_broken_connection(rig: Rig) -> None:
    await connected(rig)
    rig.server.heartbeats = False
    for _ in range(ticker_module._GARBLED_LIMIT):
        await rig.server.client.send("{")
    await connected(rig, opens=2)
    assert "cannot be read" in str(rig.sink.losses[0])


async def test_new_session_is_used_at_once_and_none_waits(rig: Rig) -> None:
    await connected(rig)
    rig.ticket = None
    await until(lambda: rig.server.client.gone.is_set() and not rig.ticker.is_open)
    rig.ticket = Ticket(url=rig.server.url, api_key="key", access_token="second")
    await connected(rig, opens=2)
    assert rig.server.client.query["access_token"] == "second"


async def raw_server(nursery: trio.Nursery, answer: Callable[[trio.SocketStream], Any]) -> str:
    listeners = await nursery.start(trio.serve_tcp, answer, 0)
    return f"ws://127.0.0.1:{listeners[0].socket.getsockname()[1]}"


MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
UPGRADE = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n"
)


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\x00\xff\x00garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\n\r\n<html>",
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
        UPGRADE,
        UPGRADE + b"\xff" * 50,
    ],
)
async def test_what_is_no_websocket_is_one_typed_error(nursery: trio.Nursery, octets: bytes) -> None:
    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some(4096)
            await stream.send_all(octets)

    sink = Sink()
    ticket = Ticket(url=await raw_server(nursery, answer), api_key="k", access_token="t")
    nursery.start_soon(Ticker(lambda: ticket, sink, rng=random.Random(1)).run)
    await until(lambda: len(sink.losses) >= 2)
    assert all(type(error) in BACKOFFS for error in sink.losses)
    assert sink.opens == 0
    nursery.cancel_scope.cancel()


async def test_nobody_listening_is_lost(nursery: trio.Nursery) -> None:
    sink = Sink()
    ticket = Ticket(url="ws://127.0.0.1:9", api_key="k", access_token="t")
    nursery.start_soon(Ticker(lambda: ticket, sink, rng=random.Random(1)).run)
    await until(lambda: len(sink.losses) >= 2)
    assert "cannot be reached" in str(sink.losses[0])
    nursery.cancel_scope.cancel()


async def test_other_machine_is_never_spoken_to_without_encryption() -> None:
    ticket = Ticket(url="ws://ticker.example.com", api_key="k", access_token="t")
    with pytest.raises(ConfigError, match="wss"):
        await Ticker(lambda: ticket, Sink(), rng=random.Random(1)).run()


async def test_fault_of_the_sink_is_no_lost_connection(server: TickerServer) -> None:
    class Faulty(Sink):
        def ticks(self, ticks: Sequence[Tick]) -> None:
            raise KeyError("a fault of this program")

    ticket = Ticket(url=server.url, api_key="k", access_token="t")
    sink = Faulty()

    async def send() -> None:
        await until(lambda: bool(server.clients))
        await server.client.send(frame(ltp(1, 100)))

    with pytest.RaisesGroup(KeyError):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await Ticker(lambda: ticket, sink, rng=random.Random(1)).run()
    assert sink.losses == []


@pytest.mark.parametrize("seed", range(12))
async def test_arbitrary_bytes_after_the_handshake_are_one_typed_error(nursery: trio.Nursery, seed: int) -> None:
    """The frames themselves are nonsense: opcodes, lengths, masks, UTF-8."""
    chance = random.Random(seed)

    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            request = await stream.receive_some(4096)
            key = next(line.split(b": ")[1] for line in request.split(b"\r\n") if line.startswith(b"Sec-WebSocket-Key"))
            proof = base64.b64encode(hashlib.sha1(key + MAGIC, usedforsecurity=False).digest())
            await stream.send_all(UPGRADE.replace(b"Accept: x", b"Accept: " + proof))
            await stream.send_all(bytes([0x81, 4]) + b"\xff\xfe\x00\x01" if seed == 0 else chance.randbytes(400))

    sink = Sink()
    ticket = Ticket(url=await raw_server(nursery, answer), api_key="k", access_token="t")
    nursery.start_soon(Ticker(lambda: ticket, sink, rng=random.Random(1)).run)
    await until(lambda: len(sink.losses) >= 2)
    assert sink.opens >= 1
    assert all(type(error) in BACKOFFS for error in sink.losses)
    nursery.cancel_scope.cancel()


# the pool


async def test_pool_opens_a_second_connection_only_when_one_is_full(
    server: TickerServer, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ticker_module, "MAX_INSTRUMENTS", 3)
    monkeypatch.setattr("engine.broker.kite.ticker_pool.MAX_INSTRUMENTS", 3)
    sink = Sink()
    ticket = Ticket(url=server.url, api_key="k", access_token="t")
    pool = TickerPool(lambda: ticket, sink, rng=random.Random(1))
    assert pool.want(dict.fromkeys(range(3), Mode.LTP)) == 0
    nursery.start_soon(pool.run)
    await until(lambda: bool(server.clients) and len(server.clients[0].modes) == 3)
    assert pool.connections == 1
    assert pool.want(dict.fromkeys(range(5), Mode.LTP)) == 0
    await until(lambda: len(server.clients) == 2 and len(server.clients[1].modes) == 2)
    assert set(server.clients[0].modes) == {0, 1, 2}, "those of the first stay where they are"
    assert pool.want(dict.fromkeys(range(1, 12), Mode.LTP)) == 2, "nine are all that three connections take"
    await until(lambda: sum(len(client.modes) for client in server.clients) == 9)
    assert pool.connections == 3
    nursery.cancel_scope.cancel()
