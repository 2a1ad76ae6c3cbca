"""Anything at all as the ticker's server, over a real socket: what comes is told to the sink, and nothing raises."""

import base64
import hashlib
import random
from collections.abc import Sequence
from functools import partial
from unittest.mock import patch

import trio
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from engine.broker.kite import ticker as ticker_module
from engine.broker.kite.ticker import Mode, Notice, Tick, Ticker, TickerCrowded, TickerLost, TickerRefused, Ticket
from engine.broker.values import BrokerOrder
from engine.errors import BrokerUnavailable
from tests.conformance.test_kite_wire_fuzz import ANSWERS
from tests.support import kite_answers as answers
from tests.support.maimed import damaged, maimed_bytes

PHASES = [Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink]
TEXT, BINARY = 1, 2
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def wrapped(opcode: int, payload: bytes) -> bytes:
    """One unmasked WebSocket frame, as servers send it."""
    size = bytes([len(payload)]) if len(payload) < 126 else b"\x7e" + len(payload).to_bytes(2)
    return bytes([0x80 | opcode]) + size + payload[:65535]


FRAMES = st.one_of(
    maimed_bytes(answers.FRAME).map(partial(wrapped, BINARY)),
    st.binary(max_size=80).map(partial(wrapped, BINARY)),
    damaged(answers.PUSH).map(lambda text: wrapped(TEXT, text[:65535])),
    st.builds(wrapped, st.integers(0, 15), st.binary(max_size=60)),
    maimed_bytes(wrapped(BINARY, answers.FRAME)),
    st.binary(max_size=60),
)
# what the server says instead of a handshake, or after a good one
SCRIPTS = st.one_of(
    st.tuples(st.just(False), ANSWERS), st.tuples(st.just(True), st.lists(FRAMES, max_size=14).map(b"".join))
)


class Sink:
    """Notes what it is told, and that it is of the right kind."""

    def __init__(self) -> None:
        self.error: BrokerUnavailable | None = None
        self.ended = trio.Event()

    def opened(self, ticker: Ticker) -> None:
        return None

    def lost(self, ticker: Ticker, error: BrokerUnavailable) -> None:
        self.error = error
        self.ended.set()

    def ticks(self, ticks: Sequence[Tick]) -> None:
        assert all(isinstance(tick, Tick) for tick in ticks)

    async def order(self, update: BrokerOrder) -> None:
        assert update.broker_order_id

    def notice(self, notice: Notice) -> None:
        assert notice.kind in ("error", "message")

    def garbled(self, error: BrokerUnavailable) -> None:
        assert isinstance(error, BrokerUnavailable)


async def serve(script: tuple[bool, bytes], stream: trio.SocketStream) -> None:
    """Answer one handshake by *script*, then close."""
    head = b""
    async with stream:
        while b"\r\n\r\n" not in head:
            head += await stream.receive_some()
        is_good, said = script
        if is_good:
            key = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:"))
            proof = base64.b64encode(hashlib.sha1(key.split(b":")[1].strip() + _GUID).digest())  # noqa: S324
            said = (
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + proof + b"\r\n\r\n" + said
            )
        try:
            await stream.send_all(said)
        except trio.BrokenResourceError:
            return  # the client has seen enough


async def told(script: tuple[bool, bytes]) -> BrokerUnavailable:
    """What a ticker tells its sink of a server that does as *script* says."""
    sink = Sink()
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, partial(serve, script), 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        ticket = Ticket(url=f"ws://127.0.0.1:{port}", api_key="key", access_token="secrettoken")
        ticker = Ticker(lambda: ticket, sink, rng=random.Random(1))
        ticker.want({408065: Mode.FULL})
        nursery.start_soon(ticker.run)
        with trio.fail_after(10):
            await sink.ended.wait()
        nursery.cancel_scope.cancel()
    assert sink.error is not None
    return sink.error


@settings(max_examples=50, phases=PHASES)
@given(script=SCRIPTS)
def test_any_server_is_a_lost_connection_and_nothing_raises(script):
    # a handshake that breaks off half-way is told by its deadline alone
    with patch.object(ticker_module, "_CONNECT_S", 0.3):
        error = trio.run(told, script)
    assert type(error) in (TickerLost, TickerRefused, TickerCrowded)
    assert "secrettoken" not in str(error)
