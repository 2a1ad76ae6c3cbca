from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from engine.domain.enums import Exchange, OrderStatus, ProductType
from engine.domain.limits import OrderRequest, RiskLimits, TradingWindow
from engine.domain.risk import is_reducing
from engine.domain.risk_state import RiskState
from tests.support.risk_check import breached, check
from tests.support.trade import ACCOUNT, BUY, NOW, OTHER_ACCOUNT, SELL, TODAY, a_position, a_request, an_order

LAKH = Decimal(100_000)


def denied(
    request: OrderRequest,
    state: RiskState | None = None,
    *,
    capital: Decimal | None = LAKH,
    now: Any = NOW,
    scope: UUID | None = None,
    **limits: Any,
) -> list[str]:
    verdict = check(request, state or RiskState(), RiskLimits(**limits), capital=capital, now=now, scope_account=scope)
    return [str(denial) for denial in verdict]


def long_of(quantity: int, *, at: str = "100", last: str = "100", **fields: Any) -> RiskState:
    state = RiskState(TODAY)
    bought = quantity * Decimal(at)
    state.set_position(
        a_position(
            quantity=quantity,
            buy_quantity=quantity,
            buy_value=bought,
            day_buy_quantity=quantity,
            day_buy_value=bought,
            last_price=Decimal(last),
            **fields,
        )
    )
    return state


def test_check_no_limits_approves() -> None:
    assert denied(a_request(price=None), capital=None) == []


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"max_order_value": Decimal(999)}, "MAX_ORDER_VALUE: 1000.00 exceeds 999.00"),
        ({"max_order_quantity": 9}, "MAX_ORDER_QUANTITY: 10 exceeds 9"),
        ({"max_open_positions": 0}, "MAX_OPEN_POSITIONS: 1 exceeds 0"),
        ({"max_orders_per_minute": 0}, "MAX_ORDERS_PER_MINUTE: 1 exceeds 0"),
        ({"max_orders_per_day": 0}, "MAX_ORDERS_PER_DAY: 1 exceeds 0"),
        ({"max_position_pct": Decimal("0.9")}, "MAX_POSITION_PCT: 1000.00 exceeds 900.00, 0.9% of 100000.00"),
        ({"allowed_exchanges": (Exchange.BSE,)}, "ALLOWED_EXCHANGES: NSE is not among the allowed: BSE"),
        ({"allowed_products": ()}, "ALLOWED_PRODUCTS: MIS is not among the allowed: none"),
        (
            {"trading_window": TradingWindow(start="10:01", end="15:20")},
            "TRADING_WINDOW: 10:00 is not within 10:01 to 15:20",
        ),
        (
            {"trading_window": TradingWindow(start="09:15", end="10:00")},
            "TRADING_WINDOW: 10:00 is not within 09:15 to 10:00",
        ),
    ],
)
def test_check_past_a_limit_names_it_its_value_and_what_was_asked(limits: dict[str, Any], reason: str) -> None:
    assert denied(a_request(), **limits) == [reason]


@pytest.mark.parametrize(
    "limits",
    [
        {"max_order_value": Decimal(1000)},
        {"max_order_quantity": 10},
        {"max_open_positions": 1},
        {"max_orders_per_minute": 1},
        {"max_orders_per_day": 1},
        {"max_position_pct": Decimal(1)},
        {"allowed_exchanges": (Exchange.NSE,)},
        {"allowed_products": (ProductType.MIS,)},
        {"trading_window": TradingWindow(start="10:00", end="10:01")},
        {"max_daily_loss_amount": Decimal(1)},
        {"max_daily_loss_pct": Decimal(1)},
        {"duplicate_window_s": 60},
    ],
)
def test_check_exactly_at_a_limit_approves(limits: dict[str, Any]) -> None:
    assert denied(a_request(), **limits) == []


def test_check_several_reasons_are_all_given() -> None:
    reasons = denied(a_request(), max_order_value=Decimal(1), max_order_quantity=1, allowed_products=(ProductType.CNC,))
    assert [reason.partition(":")[0] for reason in reasons] == [
        "ALLOWED_PRODUCTS",
        "MAX_ORDER_QUANTITY",
        "MAX_ORDER_VALUE",
    ]


@pytest.mark.parametrize("quantity", [0, -5])
def test_check_no_quantity_denied_though_nothing_is_limited(quantity: int) -> None:
    assert denied(a_request(SELL, quantity), long_of(10)) == [
        f"QUANTITY_REQUIRED: {quantity} is not a quantity of units to trade"
    ]


@pytest.mark.parametrize("price", [None, "0"])
@pytest.mark.parametrize("limits", [{"max_order_value": LAKH}, {"max_position_pct": Decimal(50)}])
def test_check_value_limit_without_price_denied(limits: dict[str, Any], price: str | None) -> None:
    assert denied(a_request(price=price), **limits) == ["PRICE_UNAVAILABLE: no price of NSE:INFY is known"]


@pytest.mark.parametrize("limits", [{"max_daily_loss_pct": Decimal(1)}, {"max_position_pct": Decimal(50)}])
def test_check_percentage_without_capital_denied(limits: dict[str, Any]) -> None:
    assert denied(a_request(), capital=None, **limits) == [
        "CAPITAL_UNKNOWN: a limit in percent needs the account's capital; set its field capital"
    ]


def test_check_value_includes_multiplier() -> None:
    request = a_request(multiplier=Decimal(1000))
    assert denied(request, max_order_value=LAKH) == ["MAX_ORDER_VALUE: 1000000.00 exceeds 100000.00"]


@pytest.mark.parametrize(("price", "fits"), [("105", True), ("95", True), ("105.05", False), ("94.95", False)])
def test_check_price_band_both_sides(price: str, fits: bool) -> None:
    state = RiskState()
    state.set_price(Exchange.NSE, "INFY", Decimal(100))
    assert (denied(a_request(price=price), state, price_band_pct=Decimal(5)) == []) is fits


def test_check_price_band_reason_names_distance() -> None:
    state = RiskState()
    state.set_price(Exchange.NSE, "INFY", Decimal(100))
    (reason,) = denied(a_request(price="110"), state, price_band_pct=Decimal(5))
    assert reason == "PRICE_BAND_PCT: 110.00 is 10.00% from 100.00, allowed 5%"


def test_check_price_band_without_last_price_denied() -> None:
    assert denied(a_request(), price_band_pct=Decimal(5)) == ["PRICE_UNAVAILABLE: no last price of NSE:INFY is known"]


def test_check_minute_rolls() -> None:
    state = RiskState()
    state.reserve(a_request(), UUID(int=100))
    limits: dict[str, Any] = {"max_orders_per_minute": 1}
    assert denied(a_request(), state, now=NOW + timedelta(seconds=59.9), **limits)
    assert denied(a_request(), state, now=NOW + timedelta(seconds=60), **limits) == []


def test_check_day_rolls_at_ist_midnight_and_not_backwards() -> None:
    state = RiskState()
    state.reserve(a_request(), UUID(int=100))
    limits: dict[str, Any] = {"max_orders_per_day": 1}
    before, after = NOW.replace(hour=18, minute=29), NOW.replace(hour=18, minute=30)
    assert denied(a_request(), state, now=before, **limits)
    assert denied(a_request(), state, now=after, **limits) == []
    assert denied(a_request(), state, now=NOW - timedelta(days=1), **limits)


def test_check_rates_are_of_the_scope() -> None:
    state = RiskState()
    state.reserve(a_request(), UUID(int=100))
    other = a_request(account_id=OTHER_ACCOUNT)
    assert denied(other, state, scope=OTHER_ACCOUNT, max_orders_per_day=1) == []
    assert denied(other, state, scope=None, max_orders_per_day=1) == ["MAX_ORDERS_PER_DAY: 2 exceeds 1"]


def test_check_repetition_within_window_denied() -> None:
    state = RiskState()
    state.reserve(a_request(), UUID(int=100))
    again = a_request(intent_id=UUID(int=7))
    soon, late = NOW + timedelta(seconds=12), NOW + timedelta(seconds=60)
    assert denied(again, state, now=soon, duplicate_window_s=60) == [
        "DUPLICATE_WINDOW_S: the same order was placed 12 s ago, within 60 s"
    ]
    assert denied(again, state, now=late, duplicate_window_s=60) == []


@pytest.mark.parametrize(
    "other",
    [
        a_request(),
        a_request(SELL, intent_id=UUID(int=7)),
        a_request(quantity=11, intent_id=UUID(int=7)),
        a_request(symbol="SBIN", intent_id=UUID(int=7)),
        a_request(account_id=OTHER_ACCOUNT, intent_id=UUID(int=7)),
    ],
    ids=["slice of the same intent", "other side", "other quantity", "other symbol", "other account"],
)
def test_check_different_order_is_no_repetition(other: OrderRequest) -> None:
    state = RiskState()
    state.reserve(a_request(), UUID(int=100))
    assert denied(other, state, duplicate_window_s=60) == []


def test_check_open_positions_counts_reserved_openings() -> None:
    state = long_of(10)
    state.reserve(a_request(symbol="SBIN"), UUID(int=100))
    assert denied(a_request(symbol="TCS"), state, max_open_positions=2) == ["MAX_OPEN_POSITIONS: 3 exceeds 2"]
    assert denied(a_request(symbol="SBIN"), state, max_open_positions=2) == []


def test_check_position_pct_counts_positions_and_live_orders_of_symbol() -> None:
    state = long_of(500)
    state.reserve(a_request(quantity=400, product_type=ProductType.CNC), UUID(int=100))
    limits: dict[str, Any] = {"max_position_pct": Decimal(100)}
    assert denied(a_request(quantity=100), state, **limits) == []
    assert denied(a_request(quantity=101), state, **limits) == [
        "MAX_POSITION_PCT: 100100.00 exceeds 100000.00, 100% of 100000.00"
    ]


@pytest.mark.parametrize(("last", "fits"), [("90.01", True), ("90", False), ("80", False)])
def test_check_at_or_past_daily_loss_no_new_exposure(last: str, fits: bool) -> None:
    state = long_of(10, last=last)
    assert (denied(a_request(), state, max_daily_loss_amount=LAKH / 1000) == []) is fits
    assert (denied(a_request(), state, max_daily_loss_pct=Decimal("0.1")) == []) is fits


def test_check_daily_loss_reason_names_loss_and_limit() -> None:
    state = long_of(10, last="80")
    assert denied(a_request(), state, max_daily_loss_amount=Decimal(150), max_daily_loss_pct=Decimal("0.15")) == [
        "MAX_DAILY_LOSS_AMOUNT: a loss of 200.00 today reaches 150.00",
        "MAX_DAILY_LOSS_PCT: a loss of 200.00 today is 0.20% of 100000.00, allowed 0.15%",
    ]


def test_check_reducing_order_passes_position_loss_and_window_limits() -> None:
    state = long_of(10, last="50")
    assert (
        denied(
            a_request(SELL, 10),
            state,
            capital=None,
            max_daily_loss_amount=Decimal(1),
            max_daily_loss_pct=Decimal(1),
            max_position_pct=Decimal("0.001"),
            max_open_positions=0,
            trading_window=TradingWindow(start="09:15", end="09:16"),
        )
        == []
    )


@pytest.mark.parametrize(
    ("side", "quantity", "reducing"), [(SELL, 10, True), (SELL, 1, True), (SELL, 11, False), (BUY, 1, False)]
)
def test_is_reducing_only_within_the_position(side: Any, quantity: int, reducing: bool) -> None:
    assert is_reducing(a_request(side, quantity), long_of(10)) is reducing


def test_is_reducing_other_product_is_another_position() -> None:
    assert not is_reducing(a_request(SELL, 5, product_type=ProductType.CNC), long_of(10))


@pytest.mark.parametrize("status", [OrderStatus.OPEN, OrderStatus.UNKNOWN])
def test_is_reducing_live_exits_have_first_claim(status: OrderStatus) -> None:
    state = long_of(10)
    state.track(an_order(status, transaction_type=SELL, quantity=7))
    assert is_reducing(a_request(SELL, 3), state)
    assert not is_reducing(a_request(SELL, 4), state)


def test_is_reducing_unfilled_entry_is_nothing_to_reduce() -> None:
    state = RiskState()
    state.track(an_order(OrderStatus.UNKNOWN))
    assert not is_reducing(a_request(SELL, 5), state)


def test_breached_daily_loss_names_the_limit() -> None:
    state = long_of(10, last="90")
    assert breached(state, RiskLimits(max_daily_loss_amount=Decimal("100.01")), None) is None
    for limits in (RiskLimits(max_daily_loss_amount=Decimal(100)), RiskLimits(max_daily_loss_pct=Decimal("0.1"))):
        denial = breached(state, limits, LAKH)
        assert denial is not None
        assert denial.code.startswith("MAX_DAILY_LOSS_")


def test_breached_too_many_positions() -> None:
    state = long_of(10)
    assert breached(state, RiskLimits(max_open_positions=1), None) is None
    assert str(breached(state, RiskLimits(max_open_positions=0), None)) == "MAX_OPEN_POSITIONS: 1 exceeds 0"
    assert breached(state, RiskLimits(max_open_positions=0), None, account_id=OTHER_ACCOUNT) is None


def test_breached_reservations_and_refusals_trip_nothing() -> None:
    state = RiskState()
    state.reserve(a_request(), UUID(int=100))
    assert breached(state, RiskLimits(max_open_positions=0, max_daily_loss_amount=Decimal(0)), None) is None


def test_scope_account_sees_only_its_own_loss() -> None:
    state = long_of(10, last="50")
    limits: dict[str, Any] = {"max_daily_loss_amount": Decimal(100)}
    other = a_request(account_id=OTHER_ACCOUNT)
    assert denied(other, state, scope=OTHER_ACCOUNT, **limits) == []
    assert denied(other, state, scope=None, **limits)
    assert denied(a_request(), state, scope=ACCOUNT, **limits)
