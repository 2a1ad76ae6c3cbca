"""How long a login is trusted, and which round over the accounts is due when."""

from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.clock import IST
from engine.domain.broker_session import Round, due, is_trusted, lacking, marks, may_vanish, trusted_until
from engine.domain.directory import BrokerLogin, Strategy
from tests.support.trade import STRATEGY, USER

READY, REMIND = time(8, 45), time(9, 0)
instants = st.builds(
    lambda seconds: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds), st.integers(0, 365 * 86400)
)


def at(clock: str, day: int = 23) -> datetime:
    return datetime.combine(date(2026, 11, day), time.fromisoformat(clock), tzinfo=IST)


def rounds(clock: str, done: dict[str, str] | None = None, *, trading: bool = True) -> list[Round]:
    return due(done or {}, at(clock), readiness_at=READY, remind_at=REMIND, is_trading_day=trading)


@pytest.mark.parametrize(
    ("clock", "vanishing"),
    [("04:59:59", False), ("05:00", True), ("07:29:59", True), ("07:30", False), ("23:00", False)],
)
def test_session_may_vanish_from_five_to_half_past_seven(clock: str, vanishing: bool) -> None:
    assert may_vanish(at(clock)) is vanishing


@pytest.mark.parametrize(
    ("made", "ends_day"), [("07:30", 24), ("15:00", 24), ("23:59", 24), ("00:10", 23), ("06:59", 23), ("07:29:59", 23)]
)
def test_login_ends_at_the_next_half_past_seven(made: str, ends_day: int) -> None:
    assert trusted_until(at(made)) == at("07:30", ends_day)


@given(made=instants, later=st.timedeltas(timedelta(0), timedelta(days=3)))
def test_login_is_never_trusted_over_a_morning_nor_longer_than_a_day(made: datetime, later: timedelta) -> None:
    now = made + later
    if is_trusted(made, now):
        assert later < timedelta(days=1)
        morning = datetime.combine(now.astimezone(IST).date(), time(7, 30), tzinfo=IST)
        assert not made < morning <= now
    else:
        assert now >= trusted_until(made)


def test_login_of_unknown_age_stands_until_the_broker_says_otherwise() -> None:
    assert is_trusted(None, at("12:00"))


def test_rounds_come_in_the_order_of_the_morning() -> None:
    assert rounds("05:59") == []
    assert rounds("06:00") == [Round.FLUSH_CHECK]
    done = {Round.FLUSH_CHECK.value: "2026-11-23"}
    assert rounds("07:29", done) == []
    assert rounds("07:30", done) == [Round.DAY_CHECK]
    done |= {Round.DAY_CHECK.value: "2026-11-23"}
    assert rounds("08:44", done) == []
    assert rounds("08:45", done) == [Round.READINESS]
    done |= {Round.READINESS.value: "2026-11-23"}
    assert rounds("09:00", done) == [Round.REMINDER]
    done |= {Round.REMINDER.value: "2026-11-23"}
    assert rounds("15:00", done) == []


def test_late_start_makes_up_for_what_still_makes_sense_with_one_word() -> None:
    assert rounds("11:00") == [Round.DAY_CHECK, Round.READINESS]
    told = marks(rounds("11:00"), at("11:00"), remind_at=REMIND)
    assert rounds("11:01", told) == []
    assert rounds("15:30") == [Round.DAY_CHECK]


def test_no_one_is_called_on_a_holiday() -> None:
    assert rounds("08:50", trading=False) == [Round.DAY_CHECK]


@given(now=instants, trading=st.booleans())
def test_each_round_is_made_once_on_its_day(now: datetime, trading: bool) -> None:
    first = due({}, now, readiness_at=READY, remind_at=REMIND, is_trading_day=trading)
    done = marks(first, now, remind_at=REMIND)
    assert due(done, now, readiness_at=READY, remind_at=REMIND, is_trading_day=trading) == []


def test_what_a_strategy_uses_and_the_account_may_not_is_named() -> None:
    login = BrokerLogin(exchanges=("NSE", "BSE"), products=("CNC", "MIS"))

    def strategy(**defaults: str) -> Strategy:
        return Strategy(id=STRATEGY, user_id=USER, name="s", defaults=defaults)

    assert lacking(login, [strategy(exchange="NSE", productType="MIS"), strategy(productType="MTF"), strategy()]) == []
    assert lacking(login, [strategy(exchange="NFO", productType="NRML")]) == [
        "strategy s trades on NFO, which the account may not",
        "strategy s uses NRML, which the account may not",
    ]
    assert lacking(None, [strategy(exchange="NFO")]) == lacking(BrokerLogin(), [strategy(exchange="NFO")]) == []
