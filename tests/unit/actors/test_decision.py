"""Verdicts on intents: which accounts get an order, and every reason why not."""

from datetime import UTC, datetime, time
from decimal import Decimal
from uuid import UUID

import msgspec
import pytest

from engine.actors.decision import Rules, decide
from engine.clock import IST
from engine.domain.calendar import REGULAR, Calendar, SpecialSession
from engine.domain.decided import Approved
from engine.domain.directory import Account, Directory, Strategy, Target
from engine.domain.enums import AccountStatus, IntentStatus, KillState, OrderType, SizingMode
from engine.domain.instruments import InstrumentBook
from engine.domain.intent import Intent
from engine.domain.killswitch import KillRecord, KillSwitches
from engine.domain.limits import RiskLimits
from engine.domain.risk_state import RiskState
from tests.support.desk import BOOK, a_signal
from tests.support.trade import NOW, STRATEGY, USER

FIRST, SECOND = UUID(int=11), UUID(int=12)


def directory(**strategy):
    found = Directory()
    for account_id, label in ((FIRST, "Main"), (SECOND, "Second")):
        found.put_account(
            Account(
                id=account_id,
                user_id=USER,
                label=label,
                broker="paper",
                capital=Decimal(100_000),
                status=AccountStatus.ACTIVE,
                api_key="k",
            )
        )
    targets = tuple(Target(account_id=a, mode=SizingMode.MULTIPLIER, value=Decimal(1)) for a in (FIRST, SECOND))
    fields = {"id": STRATEGY, "user_id": USER, "name": "default", "targets": targets} | strategy
    found.put_strategy(Strategy(**fields))
    return found


def verdict(
    where=None,
    *,
    instruments=BOOK,
    kill=None,
    now=NOW,
    enforce_hours=False,
    limits=None,
    state=None,
    calendar=REGULAR,
    written=None,
    reserve=True,
    **signal,
):
    return decide(
        an_intent(now=now, written=written, **signal),
        directory=where or directory(),
        state=state or RiskState(),
        instruments=instruments,
        kill=kill or KillSwitches(),
        defaults=limits or RiskLimits(),
        rules=Rules(enforce_hours=enforce_hours, max_age_s=60, calendar=calendar),
        now=now,
        reserve=reserve,
    )


def an_intent(*, now=NOW, written=None, **signal):
    return Intent(
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
        written_symbol=written,
    )


def accounts(decision):
    return [approved.account.id for approved in decision.approved]


def test_every_account_of_the_strategy_gets_an_order():
    decision = verdict()
    assert accounts(decision) == [FIRST, SECOND]
    assert all(isinstance(a, Approved) and a.request.quantity == 10 for a in decision.approved)
    assert decision.reason is None


def test_named_account_alone_gets_it_whatever_the_case():
    assert accounts(verdict(account="SECOND")) == [SECOND]


def test_named_account_that_the_strategy_has_not_rejects():
    assert verdict(account="Third").reason.startswith("ACCOUNT_NOT_FOUND")


def test_strategy_that_is_gone_rejects():
    assert verdict(Directory()).reason.startswith("STRATEGY_GONE")


def test_strategy_switched_off_rejects():
    assert verdict(directory(enabled=False)).reason.startswith("STRATEGY_DISABLED")


def test_symbol_that_the_strategy_may_not_trade_rejects():
    assert verdict(directory(allowed_symbols=frozenset({"TCS"}))).reason.startswith("ALLOWED_SYMBOLS")


def test_symbol_may_be_allowed_as_it_was_written():
    allowed = directory(allowed_symbols=frozenset({"MINE"}))
    assert accounts(verdict(allowed, written="MINE")) == [FIRST, SECOND]
    assert verdict(allowed, written="OTHER").reason.startswith("ALLOWED_SYMBOLS")


def test_holiday_rejects_and_a_special_session_lets_pass():
    today = NOW.astimezone(IST).date()
    closed = Calendar(holidays={today: "of the test"})
    assert verdict(enforce_hours=True, calendar=closed).reason.startswith("MARKET_CLOSED")
    opened = Calendar(holidays=closed.holidays, special=(SpecialSession(day=today, start=time(9), end=time(12)),))
    assert accounts(verdict(enforce_hours=True, calendar=opened)) == [FIRST, SECOND]


def test_strategy_without_accounts_rejects():
    assert verdict(directory(targets=())).reason.startswith("NO_ACCOUNTS")


def test_unknown_symbol_rejects_and_an_empty_master_says_so():
    assert verdict(symbol="NOSUCH").reason.startswith("UNKNOWN_SYMBOL")
    assert "NIFTY ATM CE" in verdict(symbol="NIFTY WEEKLY ATM PE").reason
    assert verdict(instruments=InstrumentBook()).reason.startswith("INSTRUMENTS_NOT_LOADED")


def test_closed_market_rejects_only_where_hours_are_enforced():
    night = datetime(2026, 11, 18, 20, 0, tzinfo=UTC)
    assert verdict(now=night, enforce_hours=True).reason.startswith("MARKET_CLOSED")
    assert verdict(now=night).approved


def test_every_reason_against_the_signal_is_given():
    reason = verdict(directory(enabled=False), symbol="NOSUCH").reason
    assert "STRATEGY_DISABLED" in reason
    assert "UNKNOWN_SYMBOL" in reason


@pytest.mark.parametrize("scope", [f"account:{FIRST}", f"user:{USER}", f"strategy:{STRATEGY}", "global"])
def test_kill_switch_leaves_out_what_it_covers(scope):
    record = KillRecord(scope=scope, version=1, state=KillState.BLOCKED, reason="r", actor="a", at=NOW)
    decision = verdict(kill=KillSwitches([record]))
    assert accounts(decision) == ([SECOND] if scope.startswith("account") else [])
    assert str(decision.denied[0].denials[0]).startswith("KILL_SWITCH: ")


@pytest.mark.parametrize("status", [AccountStatus.LOGIN_REQUIRED, AccountStatus.ORDERS_BLOCKED])
def test_account_that_cannot_order_is_left_out(status):
    where = directory()
    where.put_account(msgspec.structs.replace(where.accounts[FIRST], status=status, status_reason="the reason"))
    decision = verdict(where)
    assert accounts(decision) == [SECOND]
    assert str(decision.denied[0].denials[0]) == f"{status}: account Main: the reason"


def test_account_of_somebody_else_is_left_out():
    where = directory()
    where.put_account(msgspec.structs.replace(where.accounts[FIRST], user_id=UUID(int=99)))
    assert accounts(verdict(where)) == [SECOND]


def test_account_named_twice_counts_once():
    target = Target(account_id=FIRST, mode=SizingMode.MULTIPLIER, value=Decimal(1))
    assert accounts(verdict(directory(targets=(target, target)))) == [FIRST]


def test_limits_of_the_user_reject_with_the_limit_named():
    decision = verdict(limits=RiskLimits(max_order_value=Decimal(999)))
    assert decision.reason == "MAX_ORDER_VALUE: 1000.00 exceeds 999.00"


def test_market_order_without_any_price_is_denied_where_a_limit_needs_one():
    limits = RiskLimits(max_order_value=Decimal(1_000_000))
    decision = verdict(limits=limits, order_type=OrderType.MARKET, price=None)
    assert decision.reason.startswith("PRICE_UNAVAILABLE")


def test_market_order_is_valued_at_the_last_price():
    state = RiskState()
    state.set_price(a_signal().exchange, "INFY", Decimal(123))
    decision = verdict(state=state, order_type=OrderType.MARKET, price=None)
    assert decision.approved[0].request.reference_price == Decimal(123)
