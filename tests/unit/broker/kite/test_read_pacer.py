"""Pacing of reads in virtual time: no second over its limit, the books first, nobody starved, a rest after 429."""

import pytest
import trio

from engine.broker.kite.read_pacer import BOOK_REST_S, REST_S, ReadKind, ReadPacer, is_book, kind_of
from engine.errors import BrokerUnavailable


def most_within(times: list[float], span: float = 1.0) -> int:
    return max(sum(start <= at < start + span for at in times) for start in times)


@pytest.mark.parametrize(
    ("path", "kind", "book"),
    [
        ("/quote", ReadKind.QUOTE, False),
        ("/quote/ltp", ReadKind.QUOTE, False),
        ("/instruments/historical/408065/minute", ReadKind.HISTORICAL, False),
        ("/instruments", ReadKind.OTHER, False),
        ("/quotes", ReadKind.OTHER, False),
        ("/orders", ReadKind.OTHER, True),
        ("/orders/151220000000000/trades", ReadKind.OTHER, True),
        ("/trades", ReadKind.OTHER, True),
        ("/user/margins", ReadKind.OTHER, False),
    ],
)
def test_paths_are_told_apart(path: str, kind: ReadKind, book: bool) -> None:
    assert (kind_of(path), is_book(path)) == (kind, book)


async def read(pacer: ReadPacer, path: str, times: list[float]) -> None:
    await pacer.turn(path)
    times.append(trio.current_time())


@pytest.mark.parametrize(
    ("path", "limit", "reads"), [("/quote", 1, 5), ("/instruments/historical/1/day", 3, 15), ("/orders", 10, 50)]
)
async def test_no_second_sees_more_than_the_limit(autojump_clock, path, limit, reads):
    pacer, times = ReadPacer(), []
    async with trio.open_nursery() as nursery:
        for _ in range(reads):
            nursery.start_soon(read, pacer, path, times)
    assert len(times) == reads
    assert most_within(times) == limit


async def test_reads_of_the_book_go_before_the_others_which_are_not_starved(autojump_clock):
    pacer, books, others = ReadPacer(), [], []

    async def keep_reading() -> None:
        while True:
            await read(pacer, "/orders", books)

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(read, pacer, "/portfolio/positions", others)
        await trio.testing.wait_all_tasks_blocked()
        asked = trio.current_time()
        await read(pacer, "/trades", books)
        assert trio.current_time() == asked, "a part of the second is left to it"
        for _ in range(3):
            nursery.start_soon(keep_reading)
        with trio.move_on_after(7):
            while len(others) < 20:
                await trio.sleep(0.1)
        assert len(others) >= 10
        assert most_within([*books, *others]) <= 10
        nursery.cancel_scope.cancel()


async def test_quotes_wait_for_nothing_but_quotes(autojump_clock):
    pacer, others, quotes = ReadPacer(), [], []
    async with trio.open_nursery() as nursery:
        for _ in range(30):
            nursery.start_soon(read, pacer, "/user/profile", others)
        await trio.testing.wait_all_tasks_blocked()
        await read(pacer, "/quote/ltp", quotes)
        assert quotes[0] == others[0]


async def test_read_that_cannot_come_in_time_says_so(autojump_clock):
    pacer = ReadPacer()
    failed = []

    async def quote() -> None:
        try:
            await pacer.turn("/quote")
        except BrokerUnavailable as error:
            failed.append(str(error))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(quote)
    assert len(failed) == 3
    assert all("too many reads of this API key wait" in text for text in failed)


async def test_after_a_429_reads_rest_but_the_books_are_looked_at_slowly(autojump_clock):
    pacer, books = ReadPacer(), []
    await pacer.turn("/portfolio/positions")
    pacer.limited("/portfolio/positions")
    with pytest.raises(BrokerUnavailable, match="429"):
        await pacer.turn("/user/margins")
    began = trio.current_time()
    await pacer.turn("/quote")
    assert trio.current_time() == began, "quotes are counted apart"
    while trio.current_time() < began + REST_S - BOOK_REST_S:
        await read(pacer, "/orders", books)
    assert 3 <= len(books) <= 5
    await trio.sleep(REST_S)
    await pacer.turn("/user/margins")
