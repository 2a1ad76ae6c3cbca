from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import accumulate
from typing import Any

import pytest

from engine.domain.enums import Exchange, OrderStatus, ProductType
from engine.domain.reconcile import (
    AbsenceProof,
    BookRead,
    BookRow,
    Verdict,
    clean_read,
    match_by_tag,
    next_day_close,
    next_poll_delay,
    verdict,
)
from tests.support.trade import BUY, NOW


def after(seconds: float) -> Any:
    return NOW + timedelta(seconds=seconds)


def clean(*seconds: float) -> list[BookRead]:
    return [BookRead(started_at=after(each), clean=True) for each in seconds]


def failed(second: float) -> BookRead:
    return BookRead(started_at=after(second), clean=False)


def a_row(tag: str | None = None, *tags: str) -> BookRow:
    return BookRow(
        broker_order_id="42",
        tag=tag,
        tags=tags,
        status=OrderStatus.OPEN,
        filled=0,
        avg=Decimal(0),
        exchange=Exchange.NSE,
        symbol="INFY",
        transaction_type=BUY,
        quantity=10,
        product=ProductType.MIS,
    )


def test_next_poll_delay_adds_up_to_the_schedule() -> None:
    at = list(accumulate(next_poll_delay(n) for n in range(13)))
    assert at == [0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 90, 120, 150, 180]
    assert next_poll_delay(13) == next_poll_delay(10_000) == 10
    with pytest.raises(ValueError):
        next_poll_delay(-1)


def test_clean_read_needs_every_known_order() -> None:
    assert clean_read({"1", "2"}, {"1", "2", "3"}, after(1), NOW)
    assert clean_read(set(), set(), after(1), NOW)
    assert not clean_read({"1", "2"}, {"1", "3"}, after(1), NOW)


def test_clean_read_begun_before_the_order_left_is_not() -> None:
    assert not clean_read(set(), set(), NOW, NOW)
    assert not clean_read(set(), set(), after(-1), NOW)


def test_clean_read_of_another_ist_day_is_not() -> None:
    sent = NOW.replace(hour=18, minute=29, second=59)
    assert not clean_read(set(), set(), sent + timedelta(seconds=1), sent)


@pytest.mark.parametrize(
    ("reads", "now", "expected"),
    [
        ([], 1, Verdict.WAIT),
        (clean(1, 60, 120, 179.9), 180, Verdict.WAIT),
        (clean(120, 150, 180), 180.5, Verdict.NOT_PLACED),
        (clean(150, 180), 181, Verdict.WAIT),
        ([*clean(60, 90, 120), failed(150), *clean(180)], 181, Verdict.WAIT),
        ([*clean(60, 90, 120), failed(150), *clean(180, 190, 200)], 201, Verdict.NOT_PLACED),
        ([*clean(120, 150, 180), failed(190)], 191, Verdict.WAIT),
        ([failed(180)], 199.9, Verdict.WAIT),
        ([failed(180), failed(190)], 200, Verdict.PARKED),
        ([], 100_000, Verdict.PARKED),
        ([failed(180), *clean(300, 310, 320)], 321, Verdict.NOT_PLACED),
        ([*clean(120), BookRead(started_at=after(150), clean=False, found=True)], 151, Verdict.FOUND),
        ([BookRead(started_at=after(4), clean=True, found=True), *clean(120, 150, 180)], 181, Verdict.FOUND),
    ],
)
def test_verdict_of_reads(reads: list[BookRead], now: float, expected: Verdict) -> None:
    assert verdict(reads, NOW, after(now)) is expected


def test_verdict_in_time_for_the_promise_of_240_seconds() -> None:
    at, n, reads = 0.0, 0, []
    while verdict(reads, NOW, after(at)) is Verdict.WAIT:
        at, n = at + next_poll_delay(n), n + 1
        reads += clean(at)
    assert verdict(reads, NOW, after(at)) is Verdict.NOT_PLACED
    assert at == 180


def test_verdict_horizon_is_configurable_but_never_short() -> None:
    assert verdict(clean(60, 90, 120), NOW, after(121), horizon_s=120) is Verdict.NOT_PLACED
    with pytest.raises(ValueError, match="at least 120"):
        verdict([], NOW, NOW, horizon_s=119)


def test_absence_proof_push_with_the_tag_finds() -> None:
    proof = AbsenceProof(NOW)
    for read in clean(120, 150):
        proof.add(read)
    proof.found()
    assert proof.verdict(after(181)) is Verdict.FOUND


@pytest.mark.parametrize(
    "row",
    [a_row("TE1A"), a_row("te1a"), a_row(None, "mktp", "TE1A"), a_row("other", "te1A")],
)
def test_match_by_tag_in_tag_or_tags_in_any_case(row: BookRow) -> None:
    assert match_by_tag([a_row(), row, a_row("TE1B", "mktp")], "TE1A") == (row,)


def test_match_by_tag_gives_every_order_of_the_tag() -> None:
    first, second = a_row("TE1A"), a_row("TE1A", "autoslice")
    assert match_by_tag([first, second], "TE1A") == (first, second)
    assert match_by_tag([], "TE1A") == ()


@pytest.mark.parametrize(
    ("now", "due"),
    [
        (datetime(2026, 11, 18, 4, 30, tzinfo=UTC), datetime(2026, 11, 18, 10, 5, tzinfo=UTC)),
        (datetime(2026, 11, 18, 10, 5, tzinfo=UTC), datetime(2026, 11, 18, 18, 25, tzinfo=UTC)),
        (datetime(2026, 11, 18, 18, 25, 1, tzinfo=UTC), datetime(2026, 11, 19, 10, 5, tzinfo=UTC)),
        # 00:30 IST: of the new day, whose date in UTC is still the old one
        (datetime(2026, 11, 18, 19, 0, tzinfo=UTC), datetime(2026, 11, 19, 10, 5, tzinfo=UTC)),
    ],
)
def test_next_day_close_is_the_first_after_now(now: datetime, due: datetime) -> None:
    assert next_day_close(now) == due
