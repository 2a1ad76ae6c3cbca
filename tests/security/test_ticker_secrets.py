"""The ticker's address holds the session's token: whatever the server does, it is told nobody (SEC-060, 075, 084)."""

import random
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
import trio

from engine.broker.kite import ticker as ticker_module
from engine.broker.kite.ticker import Ticker, Ticket
from engine.broker.kite.ticker_frames import Notice, Tick
from engine.broker.values import BrokerOrder
from engine.errors import BrokerUnavailable
from tests.support.certificates import self_signed

TOKEN, KEY = "canary0token0of0a0session", "canary0key0of0an0app"
LOCATION = b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:9/elsewhere\r\nContent-Length: 0\r\n\r\n"
ANSWERS = {
    "redirect": LOCATION,
    "404 that repeats the address": b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n%b",
    "no HTTP": b"\x00\xff nonsense \r\n\r\n",
    "status line with the address": b"HTTP/1.1 500 %b\r\nContent-Length: 0\r\n\r\n",
    "upgrade without a proof": b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX: %b\r\n\r\n",
}


class Sink:
    """Keeps what a feed would tell a person."""

    def __init__(self) -> None:
        self.lost_by: list[BrokerUnavailable] = []
        self.some = trio.Event()

    def opened(self, ticker: Ticker) -> None:
        raise AssertionError("nobody has shaken hands")

    def lost(self, ticker: Ticker, error: BrokerUnavailable) -> None:
        self.lost_by.append(error)
        self.some.set()

    def ticks(self, ticks: Sequence[Tick]) -> None: ...

    async def order(self, update: BrokerOrder) -> None: ...

    def notice(self, notice: Notice) -> None: ...

    def garbled(self, error: BrokerUnavailable) -> None: ...


@asynccontextmanager
async def server(answer: bytes, heard: list[bytes], context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Take connections, keep what they say, answer *answer* with what was asked for in it."""

    async def serve(stream: Any) -> None:
        with trio.move_on_after(5):
            try:
                asked = bytes(await stream.receive_some())
                heard.append(asked)
                target = asked.split(b" ")[1] if asked.count(b" ") > 1 else b""
                holes = (len(target), target) if b"%d" in answer else (target,) * answer.count(b"%b")
                await stream.send_all(answer % holes)
            except (trio.BrokenResourceError, ssl.SSLError):
                pass
        await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        if context is None:
            [listener] = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
            yield listener.socket.getsockname()[1]
        else:
            [tls] = await nursery.start(partial(trio.serve_ssl_over_tcp, serve, 0, context, host="127.0.0.1"))
            yield tls.transport_listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def lose(url: str) -> str:
    """Connect until that has failed once; return all that was said about it."""
    sink = Sink()
    ticket = Ticket(url=url, api_key=KEY, access_token=TOKEN)
    with structlog.testing.capture_logs() as logs, trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Ticker(lambda: ticket, sink, rng=random.Random(1)).run)
            await sink.some.wait()
            nursery.cancel_scope.cancel()
    [error] = sink.lost_by
    assert logs
    return repr([logs, ticket, error, error.__cause__, error.__context__, error.__dict__])


@pytest.mark.parametrize("name", ANSWERS)
async def test_no_answer_makes_the_ticker_say_its_token(name: str) -> None:
    heard: list[bytes] = []
    async with server(ANSWERS[name], heard) as port:
        said = await lose(f"ws://127.0.0.1:{port}")
    assert TOKEN.encode() in heard[0]
    assert len(heard) == 1, "a redirect is not followed"
    assert TOKEN not in said
    assert KEY not in said


async def test_server_that_cannot_prove_its_name_is_told_nothing(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path, "localhost"))
    heard: list[bytes] = []
    async with server(b"", heard, context) as port:
        said = await lose(f"wss://localhost:{port}")
    assert "CERTIFICATE_VERIFY_FAILED" in said
    assert TOKEN not in said
    assert b"".join(heard) == b""


async def test_server_that_can_is_spoken_to_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = self_signed(tmp_path, "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    trusting = ssl.create_default_context(cafile=str(certificate))
    monkeypatch.setattr(ticker_module, "_tls", lambda: trusting)
    heard: list[bytes] = []
    async with server(ANSWERS["redirect"], heard, context) as port:
        said = await lose(f"wss://localhost:{port}")
        assert "answered 302" in said
        # a name that the certificate does not bear is another server
        assert "IP address mismatch" in await lose(f"wss://127.0.0.1:{port}")
    assert [TOKEN.encode() in octets for octets in heard] == [True]
