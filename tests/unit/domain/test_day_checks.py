"""The checks of the day: what is well, what warns, what fails, each with its mend; the morning's words and its gate."""

from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

import pytest

from engine.clock import IST
from engine.domain import day_checks, readiness_gate
from engine.domain.calendar import Calendar, SpecialSession
from engine.domain.day_checks import BackupFacts, Check, LeftOver, Scope, State
from engine.domain.morning import report_at, told
from engine.domain.readiness import Finding

MONDAY, SUNDAY = date(2026, 11, 23), date(2026, 11, 22)
NOW = datetime(2026, 11, 23, 8, 45, tzinfo=IST)
USUAL = time(8, 45)
ACCOUNT, OTHER = UUID(int=1), UUID(int=2)
OK, WARN, FAIL = State.OK, State.WARN, State.FAIL


def a_check(code: str = "disk", state: State = OK, subject: UUID | None = None) -> Check:
    scope = Scope.ENGINE if subject is None else Scope.ACCOUNT
    return Check(code=code, state=state, found="seen", mend="do it", checked_at=NOW, scope=scope, subject=subject)


def test_every_look_that_is_not_well_says_how_it_is_mended():
    now, old = NOW.astimezone(UTC), timedelta(hours=48)
    kept = BackupFacts(file="/b/x", at=now - timedelta(hours=5), is_there=True)
    looks = [
        (OK, day_checks.disk(2 << 30, "/d", writable=True)),
        (FAIL, day_checks.disk(1 << 20, "/d", writable=True)),
        (FAIL, day_checks.disk(2 << 30, "/d", writable=False)),
        (
            WARN,
            day_checks.disk(
                2 << 30, "/d", writable=True, samples=((now - timedelta(hours=2), 3 << 30), (now, 2 << 30))
            ),
        ),
        (OK, day_checks.memory(1 << 30)),
        (WARN, day_checks.memory(300 << 20)),
        (FAIL, day_checks.memory(1 << 20)),
        (FAIL, day_checks.descriptors(95, 100)),
        (WARN, day_checks.descriptors(75, 100)),
        (FAIL, day_checks.clock(datetime(1999, 1, 1, tzinfo=UTC))),
        (FAIL, day_checks.clock(now, suspect="it was set back by 4 s")),
        (WARN, day_checks.clock(now, is_kept=False)),
        (OK, day_checks.backup(None, wanted="", at="02:30", old_after=old, now=now, live=False)),
        (WARN, day_checks.backup(None, wanted="", at="02:30", old_after=old, now=now, live=True)),
        (FAIL, day_checks.backup(None, wanted="/b", at="02:30", old_after=old, now=now, live=True)),
        (OK, day_checks.backup(kept, wanted="/b", at="02:30", old_after=old, now=now, live=True)),
        (FAIL, day_checks.backup(kept, wanted="/b", at="02:30", old_after=timedelta(hours=4), now=now, live=True)),
        (FAIL, day_checks.instruments(None, MONDAY, 0)),
        (FAIL, day_checks.instruments(SUNDAY, MONDAY, 5)),
        (WARN, day_checks.freeze(date(2026, 1, 1), MONDAY, live=True)),
        (FAIL, day_checks.holidays(now, Calendar())),
    ]
    for state, seen in looks:
        assert (seen.state, bool(seen.mend)) == (state, state is not OK), seen


def test_what_the_day_before_left_is_named():
    seen = day_checks.left_over(
        LeftOver(dead={"risk": 2}, approvals=1, old_unknown=1, overnight=("5 NSE:SBIN of a",)), live=True
    )
    assert {code: each.state for code, each in seen.items()} == {
        "deadLetters": WARN,
        "approvals": WARN,
        "unknownOrders": FAIL,
        "overnight": FAIL,
    }
    assert "5 NSE:SBIN of a" in seen["overnight"].found
    kills = day_checks.kill_switches({"user:1"}, {"user:1"})
    assert (kills["killSwitches"].state, kills["flattening"].state) == (WARN, FAIL)
    assert day_checks.kill_switches({"global"}, ())["killSwitches"].state is FAIL


def test_an_accounts_looks_are_its_own_and_what_cannot_be_known_is_no_fault():
    findings = [
        Finding(check="session", ok=False, detail="TOKEN_DEAD"),
        Finding(check="staticIp", ok=None, detail="cannot be seen"),
        Finding(check="clock", ok=False, detail="the engine's"),
    ]
    checks = day_checks.account(findings, subject=ACCOUNT, name="main", at=NOW, login="http://here/login")
    assert [(each.code, each.state) for each in checks] == [("session", FAIL), ("staticIp", OK)]
    assert "http://here/login" in checks[0].mend


def test_a_source_that_used_to_signal_and_does_not_any_more_is_told():
    weekdays = [MONDAY - timedelta(days=back) for back in range(5, 19)]
    quiet = Calendar()
    assert day_checks.source(None, 0, weekdays, MONDAY, quiet).state is WARN
    assert day_checks.source(None, 0, [*weekdays, MONDAY - timedelta(days=3)], MONDAY, quiet).state is OK
    assert day_checks.source(None, 0, weekdays[:2], MONDAY, quiet).state is OK
    assert day_checks.source(NOW, 0, [], MONDAY, quiet).state is WARN
    assert day_checks.source(None, 3, [MONDAY], MONDAY, quiet).found.startswith("3 ")


def test_the_report_is_made_on_days_with_a_session_and_before_a_special_one():
    muhurat = SpecialSession(day=SUNDAY, start=time(18, 15), end=time(19, 15))
    calendar = Calendar(holidays={date(2026, 11, 24): "Holiday"}, special=(muhurat,))
    assert report_at(MONDAY, calendar, USUAL) == NOW
    assert report_at(date(2026, 11, 24), calendar, USUAL) is None
    assert report_at(date(2026, 11, 21), calendar, USUAL) is None
    assert report_at(SUNDAY, calendar, USUAL) == datetime(2026, 11, 22, 17, 45, tzinfo=IST)


def test_one_line_when_all_is_well_and_else_every_fault_the_failures_first():
    well = told([a_check(), a_check("keys")], NOW, Calendar())
    assert (well.startswith("READY: 2 checks, all well"), "\n" in well) == (True, False)
    assert "09:15" in well
    bad = told([a_check("backup", WARN), a_check(), a_check("disk", FAIL)], NOW, Calendar())
    assert bad.startswith("NOT_READY: 1 of 3")
    assert [line.split(":")[0] for line in bad.splitlines()[1:]] == ["FAIL disk", "WARN backup"]


def test_a_scope_that_has_passed_stays_open_for_the_period_and_no_longer():
    gate = readiness_gate.judged(readiness_gate.Gate(), [a_check(state=FAIL), a_check("session", OK, ACCOUNT)], MONDAY)
    assert "disk" in str(readiness_gate.holds(gate, MONDAY, ACCOUNT))
    gate = readiness_gate.judged(gate, [a_check(), a_check("session", FAIL, OTHER)], MONDAY)
    assert readiness_gate.holds(gate, MONDAY) is None
    assert readiness_gate.holds(gate, MONDAY, ACCOUNT) is None
    assert "session" in str(readiness_gate.holds(gate, MONDAY, OTHER))
    later = readiness_gate.judged(gate, [a_check(state=FAIL)], MONDAY)
    assert readiness_gate.holds(later, MONDAY, ACCOUNT) is None
    assert readiness_gate.holds(gate, date(2026, 11, 24), ACCOUNT) is not None
    warned = readiness_gate.judged(readiness_gate.Gate(), [a_check(state=WARN), a_check("telegram", FAIL)], MONDAY)
    assert readiness_gate.holds(warned, MONDAY) is None


@pytest.mark.parametrize(("clock", "period"), [("08:44", SUNDAY), ("08:45", MONDAY), ("23:59", MONDAY)])
def test_a_period_begins_with_the_report(clock, period):
    now = datetime.combine(MONDAY, time.fromisoformat(clock), IST)
    assert readiness_gate.period_of(now, Calendar(), USUAL) == period
