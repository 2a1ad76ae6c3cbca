"""How far back history goes."""

from datetime import date

import pytest

from engine.actors.history_keeper import kept_since


@pytest.mark.parametrize(
    ("today", "months", "first"),
    [
        (date(2026, 11, 30), 60, date(2021, 11, 1)),
        (date(2026, 1, 31), 12, date(2025, 1, 1)),
        (date(2026, 12, 1), 12, date(2025, 12, 1)),
        (date(2027, 3, 31), 15, date(2025, 12, 1)),
    ],
)
def test_whole_months_are_kept_before_that_of_today(today, months, first):
    assert kept_since(today, months) == first
