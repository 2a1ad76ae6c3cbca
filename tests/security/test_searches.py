"""Searches must not hold up orders: each scans the whole master under the interpreter's lock (SEC-097, 098)."""

import threading
from types import SimpleNamespace
from typing import Any, cast

import trio
import trio.testing

from engine.domain.instrument_index import Found, InstrumentIndex
from engine.domain.instruments import InstrumentBook
from engine.errors import RateLimitError
from engine.http.endpoint import ApiRequest
from engine.http.routes.instruments import InstrumentQuery, search_instruments
from tests.support.chain import CONTRACTS

CALLERS = 60


class HeldIndex(InstrumentIndex):
    """A master whose searches end when the test says so."""

    def __init__(self) -> None:
        super().__init__(CONTRACTS)
        self.go_on = threading.Event()
        self.inside = self.most_inside = 0
        self._lock = threading.Lock()

    def find(self, query: str = "", **options: Any) -> list[Found]:
        with self._lock:
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)
        assert self.go_on.wait(20)
        with self._lock:
            self.inside -= 1
        return super().find(query, **options)


async def test_sec_097_crowd_of_searches_takes_turns_and_the_rest_is_told_to_come_again() -> None:
    index = HeldIndex()
    master = SimpleNamespace(loaded_at=1, index=index, book=InstrumentBook(CONTRACTS))
    services = SimpleNamespace(master=master, prices=SimpleNamespace(get=lambda _: None))
    request = cast("ApiRequest", SimpleNamespace(services=services, query=InstrumentQuery(query="infy")))
    found: list[Any] = []
    refused: list[RateLimitError] = []

    async def search() -> None:
        try:
            found.append(await search_instruments(request))
        except RateLimitError as error:
            refused.append(error)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for _ in range(CALLERS):
                nursery.start_soon(search)
            await trio.testing.wait_all_tasks_blocked()
            # nor may searches use up the threads that orders are put on disk by
            assert trio.to_thread.current_default_thread_limiter().borrowed_tokens == 0
            index.go_on.set()
    assert index.most_inside == 1
    assert len(found) + len(refused) == CALLERS
    assert found
    assert all(page.items[0].symbol == "INFY" for page in found)
    assert refused
    assert {error.retry_after_s for error in refused} == {1}
