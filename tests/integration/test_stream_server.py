"""The event stream over a real socket: a reader that stalls is cut, and costs the others nothing."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID

import trio

from engine.actors.event_hub import EventHub
from engine.domain.enums import Role
from engine.domain.stream_event import StreamType
from engine.http.endpoint import ApiRequest, EventStream, Raw, Registry, endpoint
from engine.http.event_stream import EventStreamReader, StreamSeats
from engine.http.limits import ServerLimits
from engine.http.permissions import Permission
from engine.http.views.stream import EventViews
from tests.support.api import ApiServices, RunningApi, running_api
from tests.support.event_stream import parse

NOW = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)
ACCOUNT = UUID(int=5)


class Streaming(ApiServices):
    def __init__(self) -> None:
        super().__init__()
        self.user = self.add_user(Role.TRADER)
        self.hub = EventHub(1, owner_of=lambda _kind, _id: self.user.id)
        self.seats = StreamSeats()
        self.views = EventViews(kill_view=_nothing, pnl_view=_nothing, instrument=_nothing)


def _nothing(*_: object) -> None:
    return None


@endpoint("GET", "/stream", permission=Permission.READ, summary="Follow", response=Raw, media_type="text/event-stream")
async def follow(request: ApiRequest) -> EventStream:
    services: Streaming = request.services
    return EventStream(
        EventStreamReader(
            services.hub,
            services.views,
            caller=request.user,
            again=lambda: request.user,
            place=services.hub.ring.place(None),
            had_place=False,
            kinds=frozenset(StreamType),
            account_id=None,
            seats=services.seats,
            draining=request.draining,
            clock=services.clock,
        )
    )


@asynccontextmanager
async def streaming() -> AsyncIterator[tuple[Streaming, RunningApi]]:
    services = Streaming()
    async with running_api(services, Registry([follow]), limits=ServerLimits(drain_s=2, write_s=1)) as api:
        yield services, api


async def opened(services: Streaming, api: RunningApi) -> trio.SocketStream:
    stream = await api.connect()
    bearer = services.bearer(services.user)["Authorization"]
    await stream.send_all(f"GET /api/v1/stream HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer}\r\n\r\n".encode())
    return stream


async def read_until(stream: trio.SocketStream, ending: str) -> str:
    text = bytearray()
    seen = 0
    with trio.fail_after(20):
        # not from the start each time: who reads megabytes so is too slow, and is cut itself
        while text.find(ending.encode(), seen) < 0:
            seen = max(0, len(text) - len(ending))
            octets = await stream.receive_some(65536)
            assert octets, text[-500:]
            text += octets
    return text.decode()


async def test_a_reader_that_stalls_is_cut_and_no_other_loses_a_word() -> None:
    async with streaming() as (services, api):
        stalled, quick = await opened(services, api), await opened(services, api)
        await read_until(stalled, "hello")
        await read_until(quick, "hello")
        assert len(services.seats) == 2
        heard: list[str] = []

        async def listen() -> None:
            heard.append(await read_until(quick, "THE_LAST"))

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(listen)
                for number in range(400):
                    # more than the kernel keeps for a socket that nobody reads
                    services.hub.alert(f"account:{ACCOUNT}", f"CODE: {number} " + "x" * 20_000, NOW)
                    if number % 20 == 0:
                        await trio.sleep(0.01)
                services.hub.alert(f"account:{ACCOUNT}", "THE_LAST: word", NOW)
            while len(services.seats) > 1:
                await trio.sleep(0.02)
        text = "".join(line for line in heard[0].split("\r\n") if len(line) > 8 or line.startswith(("id", "event")))
        numbers = [int(told.data["text"].split()[1]) for told in parse(text) if told.data["text"].startswith("CODE")]
        assert numbers == list(range(400))
        await stalled.aclose()
        await quick.aclose()


async def test_a_client_that_goes_away_frees_its_seat_and_a_drain_ends_the_rest() -> None:
    async with streaming() as (services, api):
        gone, staying = await opened(services, api), await opened(services, api)
        await read_until(gone, "hello")
        await read_until(staying, "hello")
        await gone.aclose()
        with trio.fail_after(10):
            while len(services.seats) > 1:
                await trio.sleep(0.02)
        api.server.drain()
        services.hub.nudge()
        with trio.fail_after(1.5):
            rest = b""
            while octets := await staying.receive_some(65536):
                rest += octets
        assert rest.endswith(b"0\r\n\r\n")
        await staying.aclose()
