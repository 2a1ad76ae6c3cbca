"""Books that are read again and again: read as anew, whatever changed, and what stands still is the same object."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.broker.book import Book
from engine.broker.kite import codec
from engine.broker.kite.kept_book import BLOCK_ROWS, KeptBook
from engine.broker.values import BrokerOrder, BrokerTrade
from engine.errors import BrokerUnavailable
from tests.support.api import MovableClock

NOW = datetime(2026, 11, 20, 5, 0, tzinfo=UTC)
SIZE = 5 * BLOCK_ROWS + 9


def row(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "order_id": str(number),
        "status": "COMPLETE",
        "quantity": 7,
        "filled_quantity": 7,
        "average_price": 156.7,
        "tag": f"T{number}",
        "meta": {"odd": [{"order_id": "1"}, "],"]},
        **changes,
    }


def wrapped(rows: list[dict[str, Any]], *, indent: int | None = None) -> bytes:
    return json.dumps({"status": "success", "data": rows}, indent=indent).encode()


@contextmanager
def kept_orders() -> Iterator[KeptBook[BrokerOrder]]:
    kept = KeptBook(MovableClock(NOW), codec.decode_order_row)
    yield kept
    kept.forget()


def read(kept: KeptBook[BrokerOrder], body: bytes) -> Book[BrokerOrder]:
    book, known = kept.read(body)
    kept.keep(known)
    assert list(book) == codec.decode_orders(body)
    assert len(book) == sum(1 for _ in book)
    return book


def test_rows_that_were_let_go_of_are_the_same_when_they_are_asked_for():
    rows = [row(number) for number in range(SIZE)]
    with kept_orders() as kept:
        first = read(kept, wrapped(rows))
        told, ids = list(first), first.ids
        for block in first.blocks:
            block.let_go()
        assert (list(first), first.ids, len(first)) == (told, ids, SIZE)
        assert first[BLOCK_ROWS + 3] == told[BLOCK_ROWS + 3]
        assert stood_still(first, read(kept, wrapped([*rows, row(SIZE)]))) == [True] * 5 + [False]


def stood_still(before: Book[BrokerOrder], after: Book[BrokerOrder]) -> list[bool]:
    return [block in after.blocks for block in before.blocks]


def test_book_that_only_grew_keeps_its_blocks():
    rows = [row(number) for number in range(SIZE)]
    with kept_orders() as kept:
        first = read(kept, wrapped(rows))
        assert [len(block.rows) for block in first.blocks] == [BLOCK_ROWS] * 5 + [9]
        second = read(kept, wrapped([*rows, row(SIZE)]))
        assert stood_still(first, second) == [True] * 5 + [False]
        assert stood_still(second, read(kept, wrapped([*rows, row(SIZE)])))[:5] == [True] * 5
        many = rows + [row(SIZE + number) for number in range(2 * BLOCK_ROWS)]
        third = read(kept, wrapped(many))
        assert stood_still(second, third)[:5] == [True] * 5
        assert stood_still(third, read(kept, wrapped([*many, row(9999)])))[:-1] == [True] * 7


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("place", [0, 1, BLOCK_ROWS - 1, BLOCK_ROWS, 2 * BLOCK_ROWS + 5, SIZE - 1])
def test_row_that_changed_takes_its_block_along_and_no_other(place: int, indent: int | None):
    rows = [row(number) for number in range(SIZE)]
    with kept_orders() as kept:
        first = read(kept, wrapped(rows, indent=indent))
        rows[place] |= {"status": "CANCELLED AMO", "status_message": "longer than it was"}
        second = read(kept, wrapped(rows, indent=indent))
        stood = stood_still(first, second)
        assert [number for number, still in enumerate(stood) if not still] == sorted({place // BLOCK_ROWS, 5})
        assert stood_still(second, read(kept, wrapped(rows, indent=indent)))[:5] == [True] * 5


@pytest.mark.parametrize(
    "damage",
    [
        lambda body: body[:-2],
        lambda body: body[:-2] + b",]}",
        lambda body: body.replace(b'"success"', b'"error"'),
        lambda body: body.replace(b'"order_id": "200"', b'"order_id": []'),
        lambda body: body.replace(b', {"order_id": "70"', b',, {"order_id": "70"'),
        lambda body: body.replace(b'{"order_id": "71"', b'"order_id": "71"'),
        lambda body: b"",
    ],
)
def test_damage_is_told_as_it_is_to_who_reads_anew(damage: Any):
    body = wrapped([row(number) for number in range(SIZE)])
    with kept_orders() as kept:
        read(kept, body)
        with pytest.raises(BrokerUnavailable) as anew:
            codec.decode_orders(damage(body))
        with pytest.raises(BrokerUnavailable) as again:
            kept.read(damage(body))
        assert str(again.value)[:12] == str(anew.value)[:12]
        read(kept, body)


def test_book_that_began_anew_is_read_as_it_is():
    with kept_orders() as kept:
        read(kept, wrapped([row(number) for number in range(SIZE)]))
        assert list(read(kept, wrapped([]))) == []
        read(kept, wrapped([{} for _ in range(SIZE)]))
        read(kept, wrapped([{} for _ in range(SIZE + 1)]))


EDITS = st.lists(
    st.tuples(st.sampled_from(["change", "drop", "insert", "append", "swap"]), st.integers(0, 10_000)), max_size=6
)


@given(st.lists(EDITS, min_size=1, max_size=5), st.integers(0, 3 * BLOCK_ROWS))
def test_whatever_changes_between_two_reads_the_second_is_read_as_anew(rounds: list[Any], size: int):
    rows = [row(number) for number in range(size)]
    fresh = iter(range(20_000, 90_000))
    with kept_orders() as kept:
        read(kept, wrapped(rows))
        for edits in rounds:
            for kind, at in edits:
                place = at % len(rows) if rows else 0
                if kind == "append" or not rows:
                    rows += [row(next(fresh)) for _ in range(at % (2 * BLOCK_ROWS))]
                elif kind == "insert":
                    rows.insert(place, row(next(fresh)))
                elif kind == "drop":
                    del rows[place]
                elif kind == "change":
                    rows[place] = {**rows[place], "filled_quantity": at % 7}
                else:
                    rows[place], rows[0] = rows[0], rows[place]
            read(kept, wrapped(rows))


def test_trade_without_a_time_is_of_the_read_that_shows_it():
    rows = [
        {
            "trade_id": str(n),
            "order_id": "9",
            "quantity": 1,
            "average_price": 10,
            "fill_timestamp": "2026-11-20 10:00:00",
        }
        for n in range(SIZE)
    ]
    del rows[3]["fill_timestamp"]
    clock = MovableClock(NOW)
    kept = KeptBook[BrokerTrade](clock, codec.decode_trade_row, lambda trade, now: trade.filled_at is not now)
    for _ in range(2):
        book, known = kept.read(wrapped(rows))
        kept.keep(known)
        assert list(book) == codec.decode_trades(wrapped(rows), clock.now())
        clock.advance(1)
    kept.forget()


def test_read_that_ends_after_the_book_was_closed_is_not_kept():
    kept = KeptBook(MovableClock(NOW), codec.decode_order_row)
    before = KeptBook._rows_of_all
    _, known = kept.read(wrapped([row(number) for number in range(SIZE)]))
    kept.forget()
    kept.keep(known)
    assert KeptBook._rows_of_all == before
