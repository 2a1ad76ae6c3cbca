"""Pages: limits, cursors and windows."""

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ValidationError
from engine.http.endpoint import Page
from engine.http.json_body import decode_query
from engine.http.paging import PageQuery, PageWindow, clamp_limit, decode_cursor, encode_cursor, parse_instant

AT = datetime(2026, 11, 23, 4, 0, 0, 123456, tzinfo=UTC)


@pytest.mark.parametrize(("asked", "given_"), [(-5, 1), (0, 1), (1, 1), (50, 50), (200, 200), (201, 200), (10**9, 200)])
def test_limit_is_brought_into_bounds(asked: int, given_: int) -> None:
    assert clamp_limit(asked) == given_


@given(st.datetimes(timezones=st.just(UTC)), st.uuids())
def test_cursor_of_timestamp_and_id_comes_back_exactly(at: datetime, row_id: UUID) -> None:
    window = PageWindow(cursor=decode_cursor(encode_cursor(at, row_id)))
    assert window.after() == (at, row_id)


def test_cursor_of_a_sequence_number_comes_back() -> None:
    assert PageWindow(cursor=decode_cursor(encode_cursor(2**53))).after_seq() == 2**53


def test_cursor_absent_starts_at_the_newest() -> None:
    assert PageWindow().after() is None
    assert PageWindow().after_seq() is None


@pytest.mark.parametrize("text", ["", "!", "AAAA", "bnVsbA", "W10=" * 200, "e30", "é", "W251bGxd"])
def test_cursor_that_is_not_ours_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValidationError) as caught:
        decode_cursor(text)
    assert "cursor" in caught.value.details["fields"]


def test_cursor_of_another_list_is_refused_by_name() -> None:
    seq = PageWindow(cursor=decode_cursor(encode_cursor(5)))
    pair = PageWindow(cursor=decode_cursor(encode_cursor(AT, UUID(int=1))))
    for read in (seq.after, pair.after_seq, PageWindow(cursor=("x", "y")).after):
        with pytest.raises(ValidationError) as caught:
            read()
        assert "cursor" in caught.value.details["fields"]


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-11-23T04:00:00Z", datetime(2026, 11, 23, 4, tzinfo=UTC)),
        ("2026-11-23T09:30:00+05:30", datetime(2026, 11, 23, 4, tzinfo=UTC)),
        ("2026-11-23T09:30:00 05:30", datetime(2026, 11, 23, 4, tzinfo=UTC)),
        ("2026-11-23", datetime(2026, 11, 23, tzinfo=UTC)),
    ],
)
def test_from_is_read_as_utc(text: str, instant: datetime) -> None:
    parsed = parse_instant(text, "from")
    assert parsed == instant
    assert parsed.tzinfo is UTC


def test_to_as_a_date_includes_that_day() -> None:
    assert parse_instant("2026-11-23", "to") == datetime(2026, 11, 24, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "2026-11-23T04:00:00", "2026-13-01", "2026-02-30", "1e9", "9999-12-31", "2026-11-23 04"],
)
def test_to_that_is_no_instant_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValidationError) as caught:
        parse_instant(text, "to")
    assert "to" in caught.value.details["fields"]


def test_query_gives_the_window() -> None:
    values = {"limit": ["500"], "from": ["2026-11-22"], "to": ["2026-11-23T00:00:00Z"]}
    window = decode_query(values, PageQuery).window()
    assert window.limit == 200
    assert window.end - window.start == timedelta(days=1)


def test_query_with_from_after_to_is_refused() -> None:
    with pytest.raises(ValidationError) as caught:
        decode_query({"from": ["2026-11-25"], "to": ["2026-11-23"]}, PageQuery).window()
    assert "from" in caught.value.details["fields"]


@pytest.mark.parametrize("values", [{"limit": ["many"]}, {"limit": ["1", "2"]}, {"limitt": ["1"]}, {"limit": ["1.5"]}])
def test_query_that_is_wrong_is_refused_by_name(values: dict[str, list[str]]) -> None:
    with pytest.raises(ValidationError) as caught:
        decode_query(values, PageQuery)
    assert list(caught.value.details["fields"]) == list(values)


def test_page_walked_by_its_cursors_shows_every_row_once() -> None:
    rows = [(AT - timedelta(seconds=n // 3), UUID(int=100 - n)) for n in range(10)]
    seen, cursor = [], None
    while True:
        window = PageWindow(limit=4, cursor=None if cursor is None else decode_cursor(cursor))
        after = window.after()
        rest = [row for row in rows if after is None or row < after]
        page = Page.cut(rest[: window.limit + 1], window, key=lambda row: row)
        seen += page.items
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == rows


def test_instant_in_another_zone_is_kept_exact() -> None:
    zone = timezone(timedelta(hours=-7))
    assert parse_instant(AT.astimezone(zone).isoformat(), "from") == AT
