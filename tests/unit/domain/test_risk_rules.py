"""The rules on numbers alone: what each denies, what a reducing order passes, and what it never does."""

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest

from engine.domain.enums import Exchange, KillMode, OrderStatus, Segment
from engine.domain.limits import OrderRequest, RiskLimits, TradingWindow
from engine.domain.live_units import Bounds
from engine.domain.risk_inputs import STRATEGY, USER, RiskInputs, ScopeCapital, ScopeInputs, inputs_of
from engine.domain.risk_rules import TRIP_MODES, breaches, evaluate
from engine.domain.risk_state import RiskState
from tests.support.trade import ACCOUNT, BUY, NOW, SELL, a_position, a_request, an_order
from tests.support.trade import STRATEGY as MINE

LAKH = Decimal(100_000)
OTHERS = UUID(int=44)


def inputs(request: OrderRequest | None = None, *, held: int = 0, order: dict[str, Any] | None = None, **scope: Any):
    return RiskInputs(
        request=request or a_request(),
        at=NOW,
        scopes=(ScopeInputs(scope=USER, capital=LAKH, **scope),),
        held=held,
        **(order or {}),
    )


def reasons(seen: RiskInputs, **limits: Any) -> list[str]:
    return [str(rule.denial) for rule in evaluate(seen, {USER: RiskLimits(**limits)}) if not rule.ok]


@pytest.mark.parametrize(
    ("scope", "limits", "reason"),
    [
        (
            {"net": Decimal(800)},
            {"profit_target_amount": Decimal(800)},
            "PROFIT_TARGET_AMOUNT: a profit of 800.00 today reaches 800.00",
        ),
        (
            {"net": Decimal(750), "peak": Decimal(1000)},
            {"profit_lock_trigger_amount": Decimal(900), "profit_lock_giveback_pct": Decimal(25)},
            "PROFIT_LOCK_GIVEBACK_PCT: 750.00 is 25.00% below the day's highest 1000.00, allowed 25%",
        ),
        (
            {"net": Decimal(-100), "peak": Decimal(400)},
            {"max_drawdown_amount": Decimal(500)},
            "MAX_DRAWDOWN_AMOUNT: -100.00 is 500.00 below the day's highest 400.00, allowed 500.00",
        ),
        (
            {"net": Decimal(-100), "peak": Decimal(400)},
            {"max_drawdown_pct": Decimal("0.5")},
            "MAX_DRAWDOWN_PCT: a fall of 500.00 today is 0.50% of 100000.00, allowed 0.5%",
        ),
        ({"trades": 4}, {"max_trades_per_day": 4}, "MAX_TRADES_PER_DAY: 5 exceeds 4"),
        ({"messages_in_minute": 11}, {"max_messages_per_minute": 10}, "MAX_MESSAGES_PER_MINUTE: 11 exceeds 10"),
        (
            {"losing_streak": 3, "last_loss_at": NOW - timedelta(seconds=20)},
            {"cooldown_after_losses": 3, "cooldown_s": 60},
            "COOLDOWN_AFTER_LOSSES: 3 losing trades in a row; no entries for another 40 s",
        ),
    ],
)
def test_entry_is_denied_and_what_reduces_passes(scope: dict[str, Any], limits: dict[str, Any], reason: str) -> None:
    assert reasons(inputs(**scope), **limits) == [reason]
    assert reasons(inputs(a_request(SELL), held=10, **scope), **limits) == []


@pytest.mark.parametrize(
    ("scope", "limits"),
    [
        ({"net": Decimal(799)}, {"profit_target_amount": Decimal(800)}),
        # never armed: the day's highest stayed below the trigger
        (
            {"net": Decimal(1), "peak": Decimal(899)},
            {"profit_lock_trigger_amount": Decimal(900), "profit_lock_giveback_pct": Decimal(25)},
        ),
        (
            {"net": Decimal(751), "peak": Decimal(1000)},
            {"profit_lock_trigger_amount": Decimal(900), "profit_lock_giveback_pct": Decimal(25)},
        ),
        ({"net": Decimal(-99), "peak": Decimal(400)}, {"max_drawdown_amount": Decimal(500)}),
        ({"trades": 3}, {"max_trades_per_day": 4}),
        ({"messages_in_minute": 10}, {"max_messages_per_minute": 10}),
        (
            {"losing_streak": 3, "last_loss_at": NOW - timedelta(seconds=60)},
            {"cooldown_after_losses": 3, "cooldown_s": 60},
        ),
        (
            {"losing_streak": 2, "last_loss_at": NOW},
            {"cooldown_after_losses": 3, "cooldown_s": 60},
        ),
    ],
)
def test_entry_within_the_limit_passes(scope: dict[str, Any], limits: dict[str, Any]) -> None:
    assert reasons(inputs(**scope), **limits) == []


def test_half_open_breaker_holds_entries_back_and_not_what_reduces() -> None:
    text = "CIRCUIT_BREAKER_FAILURES: half open after the cool-down: one order is being tried first"
    assert reasons(inputs(order={"probing": "account"})) == [text]
    assert reasons(inputs(a_request(SELL), held=10, order={"probing": "account"})) == []


def test_slices_count_as_so_many_orders() -> None:
    seen = inputs(order={"orders": 6}, orders_in_minute=5)
    assert reasons(seen, max_orders_per_minute=10) == ["MAX_ORDERS_PER_MINUTE: 11 exceeds 10"]
    assert reasons(seen, max_orders_per_minute=11) == []


@pytest.mark.parametrize(("price", "fits"), [("95", True), ("105", True), ("94.95", False), ("105.05", False)])
@pytest.mark.parametrize("held", [0, 10])
def test_circuit_limits_hold_for_what_reduces_as_well(price: str, fits: bool, held: int) -> None:
    request = a_request(SELL if held else BUY, price=price)
    seen = inputs(request, held=held, order={"lowest": Decimal(95), "highest": Decimal(105)})
    found = reasons(seen)
    assert found == (
        []
        if fits
        else [f"CIRCUIT_LIMIT: {price}{'' if '.' in price else '.00'} is outside the circuit limits, 95.00 to 105.00"]
    )


def test_limit_price_protection_is_judged_where_it_is_known() -> None:
    known = {"lpp_lowest": Decimal(60), "lpp_highest": Decimal(90)}
    assert reasons(inputs(order=known)) == ["LPP_RANGE: 100.00 is outside the limit price protection, 60.00 to 90.00"]
    assert reasons(inputs()) == []


def test_what_reduces_does_not_pass_the_price_band_or_the_rates() -> None:
    seen = inputs(a_request(SELL, price="130"), held=10, order={"last_price": Decimal(100)}, orders_in_day=5)
    assert [r.partition(":")[0] for r in reasons(seen, price_band_pct=Decimal(20), max_orders_per_day=5)] == [
        "PRICE_BAND_PCT",
        "MAX_ORDERS_PER_DAY",
    ]


def test_segments() -> None:
    seen = inputs(order={"segment": "NFO-OPT"})
    assert reasons(seen, allowed_segments=(Segment.NFO_OPT,)) == []
    assert reasons(seen, allowed_segments=(Segment.NSE,)) == ["ALLOWED_SEGMENTS: NFO-OPT is not among the allowed: NSE"]


def test_every_rule_that_is_set_is_listed_with_its_numbers() -> None:
    limits = RiskLimits(max_order_quantity=20, max_order_value=LAKH, max_daily_loss_amount=Decimal(50))
    found = evaluate(inputs(net=Decimal(-10)), {USER: limits})
    assert [(rule.code, rule.limit, rule.seen, rule.ok) for rule in found] == [
        ("MAX_ORDER_QUANTITY", 20, 10, True),
        ("MAX_ORDER_VALUE", LAKH, Decimal(1000), True),
        ("MAX_DAILY_LOSS_AMOUNT", Decimal(50), Decimal(10), True),
    ]


# self-trade


def opposed(state: RiskState, request: OrderRequest) -> list[str]:
    return reasons(inputs_of(request, state, (ScopeCapital(USER, None, LAKH),), at=NOW), self_trade_guard=True)


def test_self_trade_guard_sees_live_orders_of_others_only() -> None:
    state = RiskState()
    resting = an_order(OrderStatus.OPEN, transaction_type=SELL, strategy_id=OTHERS)
    state.track(resting)
    assert opposed(state, a_request()) == [
        f"SELF_TRADE_GUARD: a live order of strategy {OTHERS} stands on the other side of INFY in this account"
    ]
    assert opposed(state, a_request(SELL)) == []
    assert opposed(state, a_request(strategy_id=OTHERS)) == []
    assert opposed(state, a_request(account_id=UUID(int=9))) == []
    state.track(msgspec.structs.replace(resting, status=OrderStatus.CANCELLED))
    assert opposed(state, a_request()) == []


def test_self_trade_guard_sees_attached_exits_and_orders_by_hand() -> None:
    state = RiskState()
    target = an_order(OrderStatus.OPEN, transaction_type=SELL, strategy_id=None)
    state.track_exit(target)
    assert "by hand" in opposed(state, a_request())[0]
    assert state.reserved_quantity() == 0
    state.track_exit(msgspec.structs.replace(target, status=OrderStatus.COMPLETE, filled_quantity=10))
    assert opposed(state, a_request()) == []


# scopes


def test_strategy_scope_counts_its_own_orders_units_and_positions() -> None:
    state = RiskState()
    state.reserve(a_request(quantity=30), UUID(int=100))
    state.reserve(a_request(quantity=50, strategy_id=OTHERS), UUID(int=101))
    state.set_strategy_quantity(MINE, a_position().key, 15)
    state.set_strategy_quantity(OTHERS, a_position(symbol="SBIN").key, -5)

    def of(strategy: UUID) -> ScopeInputs:
        request = a_request(strategy_id=strategy)
        (seen,) = inputs_of(request, state, (ScopeCapital(STRATEGY, strategy, LAKH),), at=NOW).scopes
        return seen

    assert (of(MINE).units, of(MINE).orders_in_day, of(MINE).occupied, of(MINE).opens) == (55, 1, 1, False)
    assert (of(OTHERS).units, of(OTHERS).orders_in_day, of(OTHERS).occupied) == (60, 1, 2)
    both = ScopeCapital("strategy on account", (ACCOUNT, MINE), LAKH)
    (seen,) = inputs_of(a_request(), state, (both,), at=NOW).scopes
    assert (seen.units, seen.orders_in_minute, seen.net) == (55, 1, 0)
    # the account's own figures are of all strategies together
    assert state.exposures(ACCOUNT) == {(Exchange.NSE, "INFY"): 80}


def test_unknown_order_counts_as_filled_for_limits_and_as_unfilled_for_reducing() -> None:
    state = RiskState()
    state.track(an_order(OrderStatus.UNKNOWN, quantity=40, strategy_id=MINE))
    seen = inputs_of(a_request(SELL, 40), state, (ScopeCapital(USER, None, LAKH),), at=NOW)
    assert seen.scopes[0].occupied == 1
    assert reasons(
        inputs_of(a_request(), state, (ScopeCapital(USER, None, LAKH),), at=NOW), max_position_pct=Decimal(4)
    ) == ["MAX_POSITION_PCT: 5000.00 exceeds 4000.00, 4% of 100000.00"]
    # there is nothing yet that a sale could reduce
    assert reasons(seen, trading_window=TradingWindow(start="09:15", end="09:16"))
    # and a sale of unknown outcome has not reduced, but has the first claim on what is held
    state.set_position(a_position(quantity=40, buy_quantity=40, buy_value=Decimal(4000)))
    state.track(an_order(OrderStatus.UNKNOWN, id=UUID(int=8), transaction_type=SELL, quantity=40))
    again = inputs_of(a_request(SELL, 1), state, (ScopeCapital(USER, None, LAKH),), at=NOW)
    assert (again.held, again.claimed) == (40, 40)
    assert reasons(again, trading_window=TradingWindow(start="09:15", end="09:16"))


def test_bounds_of_the_state_reach_the_rules() -> None:
    state = RiskState()
    state.set_bounds(Exchange.NSE, "INFY", Bounds(lowest=Decimal(101)))
    seen = inputs_of(a_request(), state, (), at=NOW)
    assert reasons(seen) == ["CIRCUIT_LIMIT: 100.00 is outside the circuit limits, at least 101.00"]


# what trips


def past(limits: RiskLimits, open_positions: int = 0, **scope: Any) -> list[str]:
    seen = ScopeInputs(scope=USER, capital=LAKH, **scope)
    return [denial.code for denial in breaches(seen, limits, open_positions=open_positions)]


def test_breaches_name_every_limit_that_the_state_is_past_and_how_hard_it_trips() -> None:
    limits = RiskLimits(
        max_daily_loss_amount=Decimal(100),
        max_drawdown_pct=Decimal("0.2"),
        profit_target_amount=Decimal(900),
        max_open_positions=1,
    )
    found = past(limits, 2, net=Decimal(-100), peak=Decimal(150))
    assert found == ["MAX_DAILY_LOSS_AMOUNT", "MAX_DRAWDOWN_PCT", "MAX_OPEN_POSITIONS"]
    assert [TRIP_MODES[code] for code in found] == [KillMode.SQUARE_OFF, KillMode.SQUARE_OFF, KillMode.BLOCK]
    assert past(limits, 1, net=Decimal(900), peak=Decimal(900)) == ["PROFIT_TARGET_AMOUNT"]


def test_flat_day_is_past_no_limit_however_tight() -> None:
    tight = RiskLimits(
        max_daily_loss_amount=Decimal(0),
        max_daily_loss_pct=Decimal(0),
        max_drawdown_amount=Decimal(0),
        profit_target_amount=Decimal(0),
        profit_lock_trigger_amount=Decimal(0),
        profit_lock_giveback_pct=Decimal(0),
    )
    assert past(tight) == []


# taking back


def test_withdraw_undoes_all_that_a_reservation_did() -> None:
    state = RiskState()
    first = a_request(intent_id=UUID(int=70))
    state.reserve(first, UUID(int=100))
    state.reserve(a_request(intent_id=UUID(int=71), at=NOW + timedelta(seconds=1)), UUID(int=101))
    state.withdraw(UUID(int=101))
    today = NOW.date()
    for scope in (None, ACCOUNT, MINE, (ACCOUNT, MINE)):
        assert (state.orders_in_minute(NOW, scope), state.orders_in_day(today, scope)) == (1, 1)
    assert state.reserved_quantity() == 10
    assert state.last_like(first) == (NOW, UUID(int=70))
    state.withdraw(UUID(int=100))
    assert (state.reserved_quantity(), state.orders_in_day(today), state.last_like(first)) == (0, 0, None)
    assert state.occupied_positions(MINE) == state.exposure_after(a_request(quantity=0), MINE) == 0
