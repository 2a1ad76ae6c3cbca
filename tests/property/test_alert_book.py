"""The list of alerts under any course of events: nothing critical is lost, nothing is told twice too soon."""

from datetime import UTC, datetime, time, timedelta
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.domain.alert_book import AlertBook, AlertRecord
from engine.domain.alert_rules import AlertRules, QuietHours, Route, Severity, code_of

START = datetime(2026, 11, 30, 3, 0, tzinfo=UTC)
NOON = time(12)
PARKED = "PARKED: look by hand"
NUMBERS = iter(range(1, 10**9))


def raised(at, text=PARKED, subject="order:1", rules=None):
    rules, code = rules or AlertRules(), code_of(text)
    return AlertRecord(
        id=UUID(int=next(NUMBERS)), code=code, subject=subject, text=text, severity=rules.severity_of(code),
        first_at=at, last_at=at,
    )  # fmt: skip


def after(seconds):
    return START + timedelta(seconds=seconds)


def book(**rules):
    return AlertBook(AlertRules(**rules), ("telegram", "email"))


def test_repeats_are_counted_and_told_once_with_their_number_when_the_time_is_over():
    alerts = book(coalesce_s=100, repeat_s=0)
    first = alerts.take(raised(START, "FEED_DOWN: a"))
    assert [told.record.id for told in alerts.due(START, NOON)] == [first.id]
    for second in (10, 50, 90):
        assert alerts.take(raised(after(second), "FEED_DOWN: b")).id == first.id
        assert alerts.due(after(second), NOON) == []
    alerts.take(raised(after(101), "FEED_DOWN: c"))
    (told,) = alerts.due(after(101), NOON)
    assert (told.again, told.record.count, told.record.text) == (True, 5, "FEED_DOWN: c")
    assert alerts.take(raised(after(500), "FEED_DOWN: d")).id != first.id


def test_critical_one_is_told_again_until_it_is_acknowledged():
    alerts = book(repeat_s=60)
    record = alerts.take(raised(START))
    times = [second for second in range(0, 301, 10) if alerts.due(after(second), NOON)]
    assert times == [0, 60, 120, 180, 240, 300]
    acked = alerts.acknowledge(record.id, by="user:1", at=after(301))
    assert acked is not None
    assert alerts.acknowledge(record.id, by="user:2", at=after(302)) == acked
    assert not any(alerts.due(after(second), NOON) for second in range(310, 1000, 10))
    # it goes on without a pause: it has been seen
    assert alerts.take(raised(after(305))).acked_by == "user:1"
    assert alerts.due(after(306), NOON) == []
    assert alerts.acknowledge(UUID(int=0), by="user:1", at=START) is None


def test_critical_one_in_other_words_is_news_and_in_other_numbers_is_not():
    alerts = book(repeat_s=0)
    record = alerts.take(raised(START, "FLAT_FAILED: INFY 10 left"))
    alerts.due(START, NOON)
    alerts.acknowledge(record.id, by="user:1", at=after(1))
    alerts.take(raised(after(2), "FLAT_FAILED: INFY 7 left"))
    assert alerts.due(after(2), NOON) == []
    alerts.take(raised(after(3), "FLAT_FAILED: SBIN 7 left"))
    (told,) = alerts.due(after(3), NOON)
    assert (told.record.count, told.record.is_open) == (3, True)


def test_what_the_engine_says_is_over_is_told_no_more():
    alerts = book(repeat_s=60)
    on = alerts.take(raised(START, "the kill switch of user:1 tripped by itself: X", "user:1"))
    named = alerts.take(raised(START, "the kill switch of user:1 is ON (BLOCK)", "killswitch:user:1"))
    alerts.due(START, NOON)
    off = alerts.take(raised(after(10), "the kill switch of user:1 is off, by x", "killswitch:user:1"))
    assert alerts.get(on.id).over_at == alerts.get(named.id).over_at == after(10)
    assert [told.record.id for told in alerts.due(after(100), NOON)] == [off.id]
    assert alerts.take(raised(after(200), "the kill switch of user:1 is ON (BLOCK)", "killswitch:user:1")).count == 1


def test_quiet_hours_hold_all_but_the_critical_ones_until_they_end_over_a_restart():
    quiet = QuietHours(start=time(22), end=time(7))
    alerts = book(quiet=quiet, repeat_s=0)
    alerts.take(raised(START, "FEED_DOWN: a"))
    alerts.take(raised(START, "STORE_AWAY: a", "ledger"))
    alerts.take(raised(START))
    assert [told.record.code for told in alerts.due(START, time(23))] == ["PARKED"]
    again = book(quiet=quiet, repeat_s=0)
    again.restore(alerts.newest_first())
    assert again.due(after(100), time(6, 59)) == []
    assert {told.record.code for told in again.due(after(200), time(7))} == {"FEED_DOWN", "STORE_AWAY"}
    assert again.due(after(201), time(7)) == []


def test_escalation_goes_to_the_later_route_once_and_not_after_an_acknowledgement():
    routes = (Route(channels=("telegram",)), Route(channels=("email",), after_s=300))
    alerts, seen = book(routes=routes, repeat_s=0), book(routes=routes, repeat_s=0)
    for each in (alerts, seen):
        record = each.take(raised(START))
        assert [told.channels for told in each.due(START, NOON)] == [("telegram",)]
    seen.acknowledge(record.id, by="user:1", at=after(200))
    assert [told.channels for second in range(0, 900, 50) for told in alerts.due(after(second), NOON)] == [("email",)]
    assert not [told for second in range(0, 900, 50) for told in seen.due(after(second), NOON)]


def test_list_is_bounded_and_lets_go_of_what_nobody_waits_for_first():
    alerts = AlertBook(AlertRules(), ("telegram",), most=10)
    critical = alerts.take(raised(START))
    for number in range(30):
        record = alerts.take(raised(after(number), f"FEED_DOWN: {number}", f"account:{number}"))
        alerts.acknowledge(record.id, by="user:1", at=after(number))
    assert len(alerts) == 10
    assert alerts.get(critical.id) is not None
    changed, gone = alerts.take_changes()
    assert len(changed) == 10
    assert len(gone) == 21
    alerts.not_kept(changed, gone)
    assert {record.id for record in alerts.take_changes()[0]} == {record.id for record in changed}
    alerts.forget_before(after(10_000))
    assert len(alerts) == 0


STEPS = st.lists(
    st.tuples(
        st.sampled_from([PARKED, "FEED_DOWN: x", "STORE_AWAY: x", "STORE_BACK: x", "no code"]),
        st.sampled_from(["a", "b"]),
        st.integers(0, 400),
        st.booleans(),
    ),
    max_size=40,
)


@given(STEPS, st.times())
@settings(max_examples=60)
def test_any_course_tells_each_critical_alert_at_once_and_no_alert_twice_within_its_time(steps, local):
    rules = AlertRules(coalesce_s=300, repeat_s=300, quiet=QuietHours(start=time(20), end=time(8)))
    alerts = AlertBook(rules, ("telegram",))
    now, last_told, count = START, {}, 0
    for text, subject, wait_s, acks in steps:
        now += timedelta(seconds=wait_s)
        record = alerts.take(raised(now, text, subject, rules))
        count += 1
        told = {each.record.id: each for each in alerts.due(now, local)}
        if record.severity is Severity.CRITICAL and record.told_at is None and record.acked_at is None:
            assert record.id in told
        for each in told.values():
            if each.again:
                assert (now - last_told[each.record.id]).total_seconds() >= 300
            last_told[each.record.id] = now
        if acks:
            alerts.acknowledge(record.id, by="user:1", at=now)
    assert sum(record.count for record in alerts.newest_first()) == count
    restored = AlertBook(rules, ("telegram",))
    restored.restore(alerts.newest_first())
    assert restored.newest_first() == alerts.newest_first()
