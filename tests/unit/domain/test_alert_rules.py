"""Whom an alert goes to: severities, routes, quiet hours, and the words that channels get."""

from datetime import UTC, datetime, time
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.alert_book import AlertRecord
from engine.domain.alert_notice import Notice, compose
from engine.domain.alert_rules import AlertRules, QuietHours, Route, Severity, code_of

ALL = ("telegram", "email", "ntfy")
AT = datetime(2026, 11, 30, 4, 0, tzinfo=UTC)
NIGHT = QuietHours(start=time(22), end=time(7))


def record(text="FEED_DOWN: gone", **changes):
    values = {"id": UUID(int=1), "code": code_of(text), "subject": "account:x", "text": text, "first_at": AT}
    return AlertRecord(**values | {"last_at": AT, "severity": Severity.WARNING} | changes)


@pytest.mark.parametrize(
    ("text", "code", "severity"),
    [
        ("PARKED: the order book cannot be read", "PARKED", "critical"),
        ("STORE_BACK: the ledger answers again", "STORE_BACK", "info"),
        ("FEED_DOWN: gone", "FEED_DOWN", "warning"),
        ("the kill switch of user:1 is ON (BLOCK), version 3, by x: y", "KILL_SWITCH_ON", "critical"),
        ("the kill switch of global tripped by itself: MAX_DAILY_LOSS_PCT", "KILL_SWITCH_ON", "critical"),
        ("the kill switch of global is off, version 4, by x: y", "KILL_SWITCH_OFF", "info"),
        ("the circuit breaker of account:1 opened: three", "CIRCUIT_BREAKER", "warning"),
        ("Not a code: at all", "ALERT", "warning"),
    ],
)
def test_code_and_severity_follow_from_the_words(text, code, severity):
    assert code_of(text) == code
    assert AlertRules().severity_of(code) == severity


def test_severity_of_the_configuration_wins():
    rules = AlertRules(severities={"FEED_DOWN": Severity.CRITICAL, "PARKED": Severity.INFO})
    assert (rules.severity_of("FEED_DOWN"), rules.severity_of("PARKED")) == (Severity.CRITICAL, Severity.INFO)


def test_without_routes_everybody_is_told_of_everything():
    assert AlertRules().channels_for("X_Y", Severity.INFO, ALL) == ALL


def test_routes_are_added_up_in_the_order_of_the_channels():
    rules = AlertRules(
        routes=(
            Route(channels=("ntfy",), codes=("PARKED",)),
            Route(channels=("telegram",), min_severity=Severity.WARNING),
        )
    )
    assert rules.channels_for("PARKED", Severity.CRITICAL, ALL) == ("telegram", "ntfy")
    assert rules.channels_for("FEED_DOWN", Severity.WARNING, ALL) == ("telegram",)
    assert rules.channels_for("STORE_BACK", Severity.INFO, ALL) == ()


def test_route_with_a_delay_is_taken_once_when_its_time_has_come():
    rules = AlertRules(routes=(Route(channels=("telegram",)), Route(channels=("email",), after_s=300)))
    critical = ("PARKED", Severity.CRITICAL, ALL)
    assert rules.channels_for(*critical) == ("telegram",)
    assert rules.channels_for(*critical, from_s=0, age_s=299) == ()
    assert rules.channels_for(*critical, from_s=0, age_s=300) == ("email",)
    assert rules.channels_for(*critical, from_s=300, age_s=9999) == ()


@given(
    st.lists(
        st.builds(
            Route,
            channels=st.lists(st.sampled_from([*ALL, "nobody"]), min_size=1).map(tuple),
            min_severity=st.sampled_from(Severity),
            codes=st.lists(st.sampled_from(["PARKED", "OTHER"])).map(tuple),
            after_s=st.sampled_from([0, 300]),
        )
    ).map(tuple),
    st.times(),
)
def test_what_is_critical_is_always_told_at_once_to_somebody(routes, at):
    rules = AlertRules(routes=routes, quiet=NIGHT)
    assert rules.channels_for("PARKED", Severity.CRITICAL, ALL)
    assert not rules.is_held(Severity.CRITICAL, at)


@given(st.times(), st.times(), st.times())
def test_quiet_hours_and_the_hours_between_them_are_the_whole_day(start, end, at):
    if start != end:
        assert QuietHours(start=start, end=end).holds(at) is not QuietHours(start=end, end=start).holds(at)


@pytest.mark.parametrize(("at", "is_quiet"), [("21:59", False), ("22:00", True), ("03:00", True), ("07:00", False)])
def test_quiet_hours_pass_midnight(at, is_quiet):
    assert NIGHT.holds(time.fromisoformat(at)) is is_quiet


def test_alerts_that_wait_together_are_one_message_the_worst_first():
    worst = record("PARKED: look by hand", severity=Severity.CRITICAL, subject="order:1", count=3)
    message = compose([Notice(record=record()), Notice(record=worst, again=True)])
    assert message.title == "[CRITICAL] 2 alerts, first PARKED: order:1"
    assert message.severity is Severity.CRITICAL
    assert message.body.splitlines()[0] == (
        "STILL CRITICAL order:1: PARKED: look by hand (x3 since 30 Nov 09:30:00 IST)"
    )
    assert "WARNING account:x: FEED_DOWN: gone" in message.body
    assert "and 10 more" in compose([Notice(record=record())] * 60).body
