"""What the sender of an OpenAlgo order is told: success for what the broker took, and for nothing else."""

from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID, uuid4

import pytest

from engine.domain.enums import Exchange, IntentStatus, OrderStatus, OrderType, ProductType, TransactionType
from engine.domain.order import Order
from engine.errors import BadRequestError, ConflictError, KillSwitchError, RiskViolationError
from engine.http.openalgo.outcome import MATCHED, Fate, fate, is_settled
from engine.store.queries.placed import Placed

AT = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)
INTENT, FIRST, SECOND = uuid4(), uuid4(), uuid4()
LABELS = {FIRST: "first", SECOND: "second"}


def order(status: OrderStatus, *, account: UUID = FIRST, broker: str | None = "B1", filled: int = 0) -> Order:
    return Order(
        id=uuid4(),
        intent_id=INTENT,
        account_id=account,
        user_id=uuid4(),
        exchange=Exchange.NSE,
        symbol="INFY",
        transaction_type=TransactionType.BUY,
        quantity=10,
        order_type=OrderType.MARKET,
        product_type=ProductType.MIS,
        status=status,
        status_message="margin is short" if status is OrderStatus.REJECTED else None,
        tag="T",
        attempt=1,
        epoch=1,
        trading_day=date(2026, 11, 23),
        deadline=AT,
        created_at=AT,
        updated_at=AT,
        broker_order_id=broker,
        filled_quantity=filled,
        average_price=Decimal(0),
    )


def told(status: IntentStatus, *orders: Order, reason: str | None = None, left_out: tuple[str, ...] = ()) -> Fate:
    placed = Placed(intent_id=INTENT, status=status, reason=reason, orders=orders, left_out=left_out)
    return fate(INTENT, placed, LABELS, duplicate=False)


def test_one_order_goes_by_the_brokers_id() -> None:
    found = told(IntentStatus.EXECUTING, order(OrderStatus.OPEN)).answer()
    assert (found.status, found.orderid, found.data.orders[0].account) == ("success", "B1", "first")


def test_several_orders_go_by_the_intents_id() -> None:
    orders = (order(OrderStatus.OPEN), order(OrderStatus.OPEN, account=SECOND, broker="B2"))
    found = told(IntentStatus.EXECUTING, *orders).answer()
    assert found.orderid == str(INTENT)
    assert [row.orderid for row in found.data.orders] == ["B1", "B2"]


@pytest.mark.parametrize("status", [OrderStatus.PENDING, OrderStatus.SUBMITTING, OrderStatus.UNKNOWN])
def test_order_without_a_brokers_id_is_taken_and_pending(status: OrderStatus) -> None:
    found = told(IntentStatus.EXECUTING, order(status, broker=None)).answer()
    assert found.orderid == str(INTENT)
    assert "has not given an id yet" in str(found.message)


def test_signal_of_which_nothing_is_known_yet_is_taken_all_the_same() -> None:
    found = fate(INTENT, None, LABELS, duplicate=True).answer()
    assert (found.status, found.orderid, found.data.duplicate) == ("success", str(INTENT), True)


@pytest.mark.parametrize(
    ("reason", "kind", "code"),
    [
        ("MAX_ORDER_VALUE: 245050.00 exceeds 100000.00", RiskViolationError, "MAX_ORDER_VALUE"),
        ("KILL_SWITCH: global is blocked: a test", KillSwitchError, "KILL_SWITCH"),
        ("NOTHING_TO_DO: it is; MAX_ORDER_VALUE: too much", RiskViolationError, "MAX_ORDER_VALUE"),
        ("TARGET_BUSY: orders work", RiskViolationError, "TARGET_BUSY"),
        (None, RiskViolationError, "RISK_VIOLATION"),
    ],
)
def test_refusal_by_risk_is_an_error(reason: str | None, kind: type[Exception], code: str) -> None:
    with pytest.raises(kind) as raised:
        told(IntentStatus.REJECTED, reason=reason).answer()
    assert raised.value.code == code  # type: ignore[attr-defined]
    assert raised.value.details["intent_id"] == str(INTENT)  # type: ignore[attr-defined]


def test_nothing_to_do_is_a_success_without_an_order() -> None:
    found = told(IntentStatus.REJECTED, reason="NOTHING_TO_DO: the position is 10 as asked for").answer()
    assert (found.status, found.message) == ("success", MATCHED)
    assert not isinstance(found.orderid, str)


@pytest.mark.parametrize("status", [OrderStatus.REJECTED, OrderStatus.FAILED, OrderStatus.EXPIRED])
def test_order_that_the_broker_refused_is_an_error(status: OrderStatus) -> None:
    with pytest.raises(BadRequestError, match=f"first: {status}"):
        told(IntentStatus.FAILED, order(status)).answer()


def test_account_that_failed_is_named_beside_one_that_did_not() -> None:
    orders = (order(OrderStatus.COMPLETE, filled=10), order(OrderStatus.REJECTED, account=SECOND, broker="B2"))
    found = told(IntentStatus.PARTIAL, *orders, left_out=("third: MAX_ORDER_VALUE: too much",)).answer()
    assert found.status == "success"
    assert "second: REJECTED margin is short" in str(found.message)
    assert "third: MAX_ORDER_VALUE" in str(found.message)


def test_cancelled_order_that_has_filled_in_part_is_no_refusal() -> None:
    assert told(IntentStatus.PARTIAL, order(OrderStatus.CANCELLED, filled=4)).answer().orderid == "B1"


@pytest.mark.parametrize("status", [IntentStatus.EXPIRED, IntentStatus.CANCELLED, IntentStatus.FAILED])
def test_signal_that_ended_without_an_order_is_an_error(status: IntentStatus) -> None:
    with pytest.raises(ConflictError, match="too old"):
        told(status, reason="too old").answer()


def test_signal_that_waits_for_a_person_is_taken() -> None:
    assert "approve" in str(told(IntentStatus.PENDING_APPROVAL).answer().message)


@pytest.mark.parametrize(
    ("placed", "expected"),
    [
        (None, False),
        (Placed(intent_id=INTENT, status=IntentStatus.RECEIVED, reason=None), False),
        (Placed(intent_id=INTENT, status=IntentStatus.PENDING_APPROVAL, reason=None), True),
        (Placed(intent_id=INTENT, status=IntentStatus.REJECTED, reason="X: y"), True),
        (Placed(intent_id=INTENT, status=IntentStatus.EXECUTING, reason=None), False),
    ],
)
def test_waiting_ends_when_there_is_nothing_more_to_hear(placed: Placed | None, expected: bool) -> None:
    assert is_settled(placed) is expected


def test_waiting_ends_when_every_order_has_an_id_or_an_end() -> None:
    here, there = order(OrderStatus.OPEN), order(OrderStatus.SUBMITTING, broker=None)
    failed = order(OrderStatus.FAILED, broker=None)

    def executing(*orders: Order) -> Placed:
        return Placed(intent_id=INTENT, status=IntentStatus.EXECUTING, reason=None, orders=orders)

    assert is_settled(executing(here, failed))
    assert not is_settled(executing(here, there))
