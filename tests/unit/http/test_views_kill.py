"""Kill switch scopes: what they cover, what is not flat, what is in doubt."""

from datetime import UTC, date, datetime
from uuid import UUID, uuid4

import pytest

from engine.domain.directory import Directory, Strategy, Target
from engine.domain.enums import (
    Exchange,
    KillState,
    OrderStatus,
    OrderType,
    ProductType,
    SizingMode,
    TransactionType,
)
from engine.domain.gtt import GttStatus
from engine.domain.killswitch import KillRecord
from engine.domain.order import Order
from engine.domain.position import Position
from engine.http.views.kill import Books, scope_view, status_view
from tests.support.gtts import a_gtt

AT = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)
USER, ACCOUNT, STRATEGY = uuid4(), uuid4(), uuid4()
NOBODY: frozenset[UUID] = frozenset()


def make_order(status: OrderStatus, *, strategy: UUID = STRATEGY) -> Order:
    return Order(
        id=uuid4(),
        account_id=ACCOUNT,
        user_id=USER,
        strategy_id=strategy,
        exchange=Exchange.NSE,
        symbol="INFY",
        transaction_type=TransactionType.BUY,
        quantity=10,
        order_type=OrderType.MARKET,
        product_type=ProductType.MIS,
        status=status,
        tag="T1",
        attempt=1,
        epoch=1,
        trading_day=date(2026, 11, 23),
        deadline=AT,
        created_at=AT,
        updated_at=AT,
    )


def books(*orders: Order, quantity: int = 0) -> list[Books]:
    position = Position(
        account_id=ACCOUNT, exchange=Exchange.NSE, symbol="SBIN", product_type=ProductType.MIS, quantity=quantity
    )
    return [Books(account_id=ACCOUNT, user_id=USER, orders=orders, positions=(position,))]


def record(scope: str, state: KillState) -> KillRecord:
    return KillRecord(scope=scope, version=1, state=state, reason="R", actor="user:1", at=AT)


def test_scope_that_was_never_switched_is_armed_and_off() -> None:
    view = scope_view("global", None, [], NOBODY)
    assert (view.enabled, view.state, view.enabled_at, view.flat) == (False, KillState.ARMED, None, True)


def test_scope_that_is_on_says_since_when_and_by_whom() -> None:
    view = scope_view("global", record("global", KillState.BLOCKED), [], NOBODY)
    assert (view.enabled, view.reason, view.actor, view.enabled_at) == (True, "R", "user:1", AT)


def test_released_scope_has_no_enabled_at() -> None:
    assert scope_view("global", record("global", KillState.ARMED), [], NOBODY).enabled_at is None


@pytest.mark.parametrize("scope", ["global", f"user:{USER}", f"account:{ACCOUNT}"], ids=["global", "user", "account"])
def test_open_position_and_live_order_are_not_flat_in_every_scope_around_them(scope: str) -> None:
    view = scope_view(scope, None, books(make_order(OrderStatus.OPEN), quantity=-3), NOBODY)
    assert not view.flat
    assert [(v.symbol, v.quantity, v.open_orders) for v in view.not_flat] == [("INFY", 0, 1), ("SBIN", -3, 0)]


def test_scope_of_somebody_else_is_flat() -> None:
    assert scope_view(f"user:{uuid4()}", None, books(make_order(OrderStatus.OPEN), quantity=5), NOBODY).flat


def test_finished_orders_and_closed_positions_are_flat() -> None:
    assert scope_view("global", None, books(make_order(OrderStatus.COMPLETE)), NOBODY).flat


def test_strategy_scope_counts_its_orders_and_positions_of_its_accounts() -> None:
    held = books(make_order(OrderStatus.OPEN), make_order(OrderStatus.OPEN, strategy=uuid4()), quantity=5)
    without = scope_view(f"strategy:{STRATEGY}", None, held, NOBODY)
    assert [(v.symbol, v.open_orders) for v in without.not_flat] == [("INFY", 1)]
    within = scope_view(f"strategy:{STRATEGY}", None, held, frozenset({ACCOUNT}))
    assert [v.symbol for v in within.not_flat] == ["INFY", "SBIN"]


def test_status_has_global_first_even_when_it_was_never_switched() -> None:
    directory = Directory()
    target = Target(account_id=ACCOUNT, mode=SizingMode.FIXED, value=1)  # type: ignore[arg-type]
    directory.put_strategy(Strategy(id=STRATEGY, user_id=USER, name="s", targets=(target,)))
    scope = f"strategy:{STRATEGY}"
    view = status_view({scope: record(scope, KillState.FLATTENING)}, books(quantity=5), directory)
    assert [(v.scope, v.enabled, v.flat) for v in view.scopes] == [("global", False, False), (scope, True, False)]


def test_trigger_that_rests_at_the_broker_is_not_flat_until_it_is_over() -> None:
    live = a_gtt(GttStatus.ACTIVE, account_id=ACCOUNT, user_id=USER, strategy_id=STRATEGY)
    held = [Books(account_id=ACCOUNT, user_id=USER, gtts=(live,))]
    for scope in ("global", f"account:{ACCOUNT}", f"strategy:{STRATEGY}"):
        view = scope_view(scope, None, held, NOBODY)
        assert [(v.symbol, v.quantity, v.open_orders, v.resting_gtts) for v in view.not_flat] == [("INFY", 0, 0, 1)]
        assert not view.flat
    assert scope_view(f"strategy:{uuid4()}", None, held, NOBODY).flat
    over = Books(account_id=ACCOUNT, user_id=USER, gtts=(a_gtt(GttStatus.TRIGGERED),))
    assert scope_view("global", None, [over], NOBODY).flat
