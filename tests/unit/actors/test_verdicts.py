"""Verdicts as they are stored: reserved account by account, whole, and the same to the byte when judged again."""

from decimal import Decimal
from uuid import UUID

import msgspec
import pytest

from engine.actors.decision import leave_no_trace
from engine.domain.decided import take_back
from engine.domain.directory import Limits
from engine.domain.enums import Exchange
from engine.domain.limits import RiskLimits, TradingWindow
from engine.domain.replay import check, under
from engine.domain.risk_state import RiskState
from engine.domain.verdict import decode, encode, row_of
from tests.support.trade import BUY, NOW, STRATEGY, TODAY, USER, a_fill
from tests.unit.actors.test_decision import FIRST, SECOND, accounts, an_intent, directory, verdict

EVERY_LIMIT = RiskLimits(
    max_daily_loss_pct=Decimal(5),
    max_daily_loss_amount=Decimal("5000.5"),
    max_position_pct=Decimal(100),
    max_open_positions=50,
    max_order_value=Decimal(1_000_000),
    max_order_quantity=100_000,
    price_band_pct=Decimal("0.5"),
    max_orders_per_minute=400,
    max_orders_per_day=5000,
    duplicate_window_s=60,
    allowed_exchanges=tuple(Exchange),
    trading_window=TradingWindow(start="09:15", end="15:20"),
    profit_target_amount=Decimal(10_000),
    profit_lock_trigger_amount=Decimal(100),
    profit_lock_giveback_pct=Decimal(50),
    max_drawdown_amount=Decimal(7),
    max_drawdown_pct=Decimal("0.3"),
    cooldown_after_losses=2,
    cooldown_s=60,
    max_trades_per_day=9,
    max_messages_per_minute=9,
    self_trade_guard=True,
)


def busy_state():
    state = RiskState(TODAY)
    state.set_price(Exchange.NSE, "INFY", Decimal("100.35"))
    state.apply_fill(a_fill(BUY, 7, "101.123456789", account_id=FIRST))
    return state


def narrowed(**limits):
    where = directory()
    for number, (scope, held) in enumerate(limits.items()):
        account = FIRST if scope in ("account", "both") else None
        strategy = STRATEGY if scope in ("strategy", "both") else None
        where.put_limits(
            Limits(id=UUID(int=900 + number), user_id=USER, account_id=account, strategy_id=strategy, limits=held)
        )
    return where


def test_accounts_of_one_signal_cannot_pass_a_limit_of_the_user_together():
    # each account alone may: 10 at 100 is a thousandth of the user's 200,000
    state = RiskState()
    decision = verdict(state=state, limits=RiskLimits(max_position_pct=Decimal("0.5")))
    assert accounts(decision) == [FIRST]
    assert [str(d) for d in decision.denied[0].denials] == [
        "MAX_POSITION_PCT: 2000.00 exceeds 1000.00, 0.5% of 200000.00"
    ]
    assert state.reserved_quantity() == 10


@pytest.mark.parametrize(
    "limits",
    [{"max_orders_per_minute": 1}, {"max_orders_per_day": 1}, {"max_open_positions": 1}],
)
def test_rates_and_counts_of_the_user_are_taken_up_by_the_first_account(limits):
    assert accounts(verdict(state=RiskState(), limits=RiskLimits(**limits))) == [FIRST]


def test_decision_that_is_taken_back_leaves_the_state_as_it_was():
    state = RiskState()
    decision = verdict(state=state)
    assert state.reserved_quantity() == 20
    for approved in decision.approved:
        take_back(state, approved)
    assert (state.reserved_quantity(), state.orders_in_day(TODAY), state.orders_in_minute(NOW)) == (0, 0, 0)


def test_fault_while_judging_a_later_account_frees_the_earlier():
    state, where = RiskState(), directory()
    broken = msgspec.structs.replace(where.accounts[SECOND], capital="not a number")
    where.put_account(broken)
    with pytest.raises(TypeError):
        verdict(where, state=state, limits=RiskLimits(max_position_pct=Decimal(1)))
    assert state.reserved_quantity() == 0


def test_looking_without_reserving_changes_nothing():
    state = RiskState()
    assert verdict(state=state, reserve=False).approved
    assert (state.reserved_quantity(), state.messages_in_minute(NOW)) == (0, 0)


def test_look_at_what_would_be_decided_leaves_no_trace():
    state, where, limits = RiskState(), directory(), RiskLimits(max_position_pct=Decimal("0.5"))
    looked = verdict(where, state=state, limits=limits)
    # the second account is judged with what the first one would be approved for
    assert accounts(looked) == [FIRST]
    leave_no_trace(looked, an_intent(), directory=where, state=state, now=NOW)
    scopes = (None, STRATEGY, FIRST, (FIRST, STRATEGY), SECOND)
    assert [state.messages_in_minute(NOW, scope) for scope in scopes] == [0] * 5
    assert (state.reserved_quantity(), state.orders_in_day(TODAY), state.orders_in_minute(NOW)) == (0, 0, 0)
    assert verdict(where, state=state, limits=limits) == looked


@pytest.mark.parametrize("scope", ["account", "strategy", "both"])
def test_limits_of_account_and_strategy_narrow_those_of_the_user(scope):
    where = narrowed(**{scope: RiskLimits(max_order_quantity=9)})
    decision = verdict(where)
    assert accounts(decision) == ([] if scope == "strategy" else [SECOND])
    name = "strategy on account" if scope == "both" else scope
    (denied,) = [d for d in decision.denied if d.account_id == FIRST]
    assert [(r.code, r.scope) for r in denied.verdict.rules if not r.ok] == [("MAX_ORDER_QUANTITY", name)]


def test_strategy_throttle_counts_refused_signals_too():
    state, where = RiskState(), narrowed(strategy=RiskLimits(max_messages_per_minute=3))
    for _ in range(3):
        verdict(where, state=state, symbol="NOSUCH")
    assert verdict(where, state=state).reason.startswith("MAX_MESSAGES_PER_MINUTE: 4 exceeds 3")


def test_half_open_breaker_lets_one_entry_through():
    state = RiskState()
    state.half_open(FIRST)
    assert accounts(verdict(state=state)) == [FIRST, SECOND]
    again = verdict(state=state, symbol="SBIN")
    assert accounts(again) == [SECOND]
    assert again.denied[0].denials[0].code == "CIRCUIT_BREAKER_FAILURES"
    state.end_trial(state.trial(FIRST))
    assert accounts(verdict(state=state, symbol="TCS")) == [FIRST, SECOND]


# what is stored


def test_every_rule_is_stored_with_its_numbers_and_again_the_same_to_the_byte():
    where = narrowed(
        account=RiskLimits(max_order_value=Decimal("999.9999"), price_band_pct=Decimal(3)),
        strategy=EVERY_LIMIT,
        both=RiskLimits(max_order_quantity=5),
    )
    state = busy_state()
    decisions = [verdict(where, state=state, limits=EVERY_LIMIT) for _ in range(3)]
    rows = [row_of(decision.verdict) for decision in decisions]
    assert check(rows) == []
    stored = decode(rows[0].body)
    assert encode(stored) == rows[0].body
    first, second = stored.accounts
    assert {rule.scope for rule in first.rules} == {"user", "account", "strategy", "strategy on account"}
    assert not first.approved
    assert [rule.code for rule in first.facts] == ["KILL_SWITCH", "LOGIN_REQUIRED", "LOT_SIZE", "TICK_SIZE"]
    # the limits are stored once, though every account was judged by them
    assert len(stored.limits) == 3
    assert second.inputs is not None


def test_refusals_without_an_order_are_stored_and_replay_too():
    rows = [row_of(verdict(symbol="NOSUCH").verdict), row_of(verdict(quantity=0).verdict)]
    assert check(rows) == []
    assert decode(rows[0].body).against[0].code == "UNKNOWN_SYMBOL"


def test_replay_finds_a_verdict_that_its_numbers_do_not_give():
    row = row_of(verdict(limits=RiskLimits(max_order_value=Decimal(2000))).verdict)
    for forged in (row.body.replace('"2000"', '"900"', 1), row.body.replace("true", "false", 1), "{}", "no json"):
        assert [d.intent_id for d in check([msgspec.structs.replace(row, body=forged)])] == [row.intent_id]


def test_other_limits_show_what_they_would_have_refused_and_only_the_users_change():
    where = narrowed(account=RiskLimits(max_order_value=Decimal(5000)))
    rows = [row_of(verdict(where, quantity=quantity).verdict) for quantity in (10, 30)]

    def lower(limits):
        return msgspec.structs.replace(limits, max_order_value=Decimal(2000))

    assert under(rows, lambda limits: limits) == []
    found = under(rows, lower)
    assert [(refused.label, refused.reasons) for refused in found] == [
        (label, ("MAX_ORDER_VALUE: 3000.00 exceeds 2000.00",)) for label in ("Main", "Second")
    ]


def test_decision_of_nothing_reserves_nothing():
    state = RiskState()
    decide_nothing = verdict(state=state, symbol="NOSUCH")
    assert not decide_nothing.approved
    assert state.reserved_quantity() == 0
    assert state.messages_in_minute(NOW, STRATEGY) == 1
