"""When positions may be opened: not after the square-off by the clock, by anybody it concerns; exits always."""

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

import msgspec
import pytest

from engine.actors.decision import Rules, decide
from engine.clock import IST
from engine.domain.books import Book
from engine.domain.calendar import REGULAR, Calendar, SpecialSession
from engine.domain.decided import Decision
from engine.domain.directory import Account, Directory, Strategy, Target
from engine.domain.enums import AccountStatus, Exchange, IntentStatus, ProductType, SizingMode, TransactionType, Variety
from engine.domain.intent import Intent
from engine.domain.killswitch import KillSwitches
from engine.domain.limits import RiskLimits, TradingWindow
from engine.domain.risk_state import RiskState
from engine.domain.square_off_times import dues_of, squared_off_since
from tests.support.desk import BOOK, a_signal
from tests.support.trade import STRATEGY, USER, a_position

ACCOUNT = UUID(int=11)
OTHER = UUID(int=99)
MONDAY, SUNDAY = date(2026, 11, 23), date(2026, 11, 22)
TIMES = dict.fromkeys(Exchange, time(15, 20))


def at(hhmm: str, day: date = MONDAY) -> datetime:
    return datetime.combine(day, time.fromisoformat(hhmm), IST)


def decided(
    now: datetime,
    *,
    times: dict[Exchange, time] | None = None,
    calendar: Calendar = REGULAR,
    state: RiskState | None = None,
    square_off_at: str | None = None,
    entry_window: TradingWindow | None = None,
    held: str | None = None,
    **signal: object,
) -> Decision:
    directory = Directory()
    directory.put_account(
        Account(
            id=ACCOUNT,
            user_id=USER,
            label="Main",
            broker="paper",
            capital=Decimal(100_000),
            status=AccountStatus.ACTIVE,
            api_key="k",
        )
    )
    directory.put_strategy(
        Strategy(
            id=STRATEGY,
            user_id=USER,
            name="gap",
            targets=(Target(account_id=ACCOUNT, mode=SizingMode.MULTIPLIER, value=Decimal(1)),),
            square_off_at=square_off_at,
            entry_window=entry_window,
        )
    )
    intent = Intent(
        id=UUID(int=1),
        source_id=UUID(int=2),
        strategy_id=STRATEGY,
        user_id=USER,
        signal=a_signal(**signal),
        status=IntentStatus.RECEIVED,
        received_at=now,
        updated_at=now,
        idempotency_key="k",
        body_sha256=b"1" * 32,
    )
    return decide(
        intent,
        directory=directory,
        state=state or RiskState(),
        instruments=BOOK,
        kill=KillSwitches(),
        defaults=RiskLimits(),
        rules=Rules(enforce_hours=False, max_age_s=60, calendar=calendar, square_off_times=times or {}),
        now=now,
        held=lambda _account: held,
    )


def holding(units: int, owner: UUID | None = None) -> RiskState:
    """A state in which the account holds *units*, by *owner* or by hand."""
    state = RiskState(MONDAY)
    held = a_position(account_id=ACCOUNT, quantity=units, buy_quantity=units, buy_value=Decimal(100 * units))
    state.take_positions((held,), (Book(position=msgspec.structs.replace(held, strategy_id=owner)),))
    return state


SELL = {"transaction_type": TransactionType.SELL}


def codes(decision: Decision) -> list[str]:
    return [denial.code for denied in decision.denied for denial in denied.denials]


def test_intraday_entries_are_refused_from_the_square_off_to_the_end_of_the_day() -> None:
    assert decided(at("15:19"), times=TIMES).approved
    refused = decided(at("15:20"), times=TIMES)
    assert refused.reason == (
        "AFTER_SQUARE_OFF: MIS positions on NSE are squared off since 15:20 IST; none is opened until the next "
        "trading day"
    )
    (rule,) = [fact for fact in refused.denied[0].verdict.facts if not fact.ok]
    assert rule.code == "AFTER_SQUARE_OFF"
    assert codes(decided(at("23:59"), times=TIMES)) == ["AFTER_SQUARE_OFF"]
    assert decided(at("09:30") + timedelta(days=1), times=TIMES).approved


@pytest.mark.parametrize(
    "fields",
    [
        {"times": {}},
        {"product_type": ProductType.CNC},
        {"variety": Variety.AMO},
        {"state": holding(10), **SELL},
        {"times": TIMES | {Exchange.NSE: time(15, 29)}},
    ],
    ids=["off", "delivery", "for the next session", "exit", "not yet"],
)
def test_what_was_not_squared_off_and_exits_pass(fields: dict[str, object]) -> None:
    assert decided(at("15:25"), **({"times": TIMES} | fields)).approved


def test_order_that_would_turn_the_position_round_is_an_entry() -> None:
    assert codes(decided(at("15:25"), times=TIMES, state=holding(4), **SELL)) == ["AFTER_SQUARE_OFF"]


def test_special_session_has_its_own_time_and_days_without_one_have_none() -> None:
    muhurat = Calendar(special=(SpecialSession(day=SUNDAY, start=time(18), end=time(19)),))
    assert decided(at("18:49", SUNDAY), times=TIMES, calendar=muhurat).approved
    assert codes(decided(at("18:50", SUNDAY), times=TIMES, calendar=muhurat)) == ["AFTER_SQUARE_OFF"]
    assert decided(at("16:00", SUNDAY), times=TIMES).approved
    assert squared_off_since(Exchange.NSE, at("16:00", SUNDAY), REGULAR, time(15, 20)) is None


def test_strategy_opens_nothing_after_its_own_time_whatever_the_product() -> None:
    assert decided(at("14:29"), square_off_at="14:30").approved
    for product in (ProductType.MIS, ProductType.CNC):
        refused = decided(at("14:30"), square_off_at="14:30", product_type=product)
        assert refused.reason is not None
        assert refused.reason.startswith("AFTER_SQUARE_OFF: gap is squared off on NSE since 14:30 IST")
    assert decided(at("14:35"), square_off_at="14:30", variety=Variety.AMO).approved
    assert decided(at("09:30") + timedelta(days=1), square_off_at="14:30").approved


@pytest.mark.parametrize("owner", [STRATEGY, None], ids=["its own", "from before there were books"])
def test_strategy_may_leave_what_it_holds_after_its_time(owner: UUID | None) -> None:
    assert decided(at("15:00"), square_off_at="14:30", state=holding(10, owner), **SELL).approved


def test_what_another_strategy_holds_is_not_for_this_one_to_sell_short() -> None:
    assert codes(decided(at("15:00"), square_off_at="14:30", state=holding(10, OTHER), **SELL)) == ["AFTER_SQUARE_OFF"]


def test_all_that_stands_against_the_hour_is_named() -> None:
    window = TradingWindow(start="09:20", end="12:00")
    found = codes(decided(at("15:25"), times=TIMES, square_off_at="15:00", entry_window=window))
    assert found == ["ENTRY_WINDOW", "AFTER_SQUARE_OFF", "AFTER_SQUARE_OFF"]


def test_square_offs_of_a_strategy_have_names_of_their_own_and_end_with_their_exchanges() -> None:
    strategy = Strategy(id=STRATEGY, user_id=USER, name="gap", square_off_at="15:10")
    found = dues_of(strategy, MONDAY, REGULAR)
    assert {due.at for due in found} == {at("15:10")}
    ends = {next(iter(due.exchanges & {"NSE", "CDS", "MCX"}), ""): due.until for due in found}
    assert (ends["NSE"], ends["CDS"]) == (at("15:30"), at("17:00"))
    assert len({due.name for due in found}) == len(found)
    assert found[0].name.startswith(f"2026-11-23:{STRATEGY}:15:10:")
    assert dues_of(Strategy(id=STRATEGY, user_id=USER, name="gap"), MONDAY, REGULAR) == []
    assert dues_of(strategy, SUNDAY, REGULAR) == []


def test_entries_wait_for_the_mornings_checks_and_exits_never_do() -> None:
    assert codes(decided(at("10:00"), held="session: log in")) == ["NOT_READY"]
    assert decided(at("10:00"), held="session: log in", state=holding(10), **SELL).approved
    assert decided(at("10:00")).approved
