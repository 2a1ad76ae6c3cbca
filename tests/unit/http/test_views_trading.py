"""Intents, orders and positions as the API shows them."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import msgspec
import pytest

from engine.domain.enums import (
    Exchange,
    IntentStatus,
    OrderStatus,
    OrderType,
    ProductType,
    TransactionType,
)
from engine.domain.fill import Fill
from engine.domain.intent import Intent, IntentEvent
from engine.domain.order import Order, OrderEvent
from engine.domain.position import Position, apply_fill
from engine.domain.signal import Signal
from engine.http.errors import encode
from engine.http.views.trading import intent_view, order_view, position_view, risk_verdict, trade_view
from engine.store.queries.holdings import HeldPosition, Trade
from engine.store.queries.intents import IntentStory
from engine.store.queries.orders import OrderStory

AT = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)
ACCOUNT, USER = uuid4(), uuid4()


def make_order(**changes: object) -> Order:
    order = Order(
        id=uuid4(),
        intent_id=uuid4(),
        account_id=ACCOUNT,
        user_id=USER,
        strategy_id=uuid4(),
        exchange=Exchange.NSE,
        symbol="INFY",
        transaction_type=TransactionType.BUY,
        quantity=10,
        order_type=OrderType.LIMIT,
        product_type=ProductType.MIS,
        price=Decimal("1450.5000"),
        status=OrderStatus.PARTIALLY_FILLED,
        tag="T1",
        attempt=1,
        epoch=1,
        trading_day=date(2026, 11, 23),
        deadline=AT,
        created_at=AT,
        updated_at=AT,
        filled_quantity=4,
        average_price=Decimal("1450.500000"),
    )
    return msgspec.structs.replace(order, **changes)


def make_fill(order_id: UUID, *, side: TransactionType = TransactionType.BUY, price: str = "100") -> Fill:
    return Fill(
        trade_id="7",
        order_id=order_id,
        account_id=ACCOUNT,
        broker_order_id="42",
        exchange=Exchange.NSE,
        symbol="INFY",
        product_type=ProductType.MIS,
        transaction_type=side,
        quantity=4,
        price=Decimal(price),
        filled_at=AT,
    )


def make_intent() -> Intent:
    return Intent(
        id=uuid4(),
        source_id=uuid4(),
        strategy_id=uuid4(),
        user_id=USER,
        signal=Signal(
            symbol="INFY",
            exchange=Exchange.NSE,
            transaction_type=TransactionType.BUY,
            quantity=10,
            order_type=OrderType.MARKET,
            product_type=ProductType.MIS,
        ),
        status=IntentStatus.REJECTED,
        reason="MAX_ORDER_VALUE: 245050.00 exceeds 100000.00",
        received_at=AT,
        updated_at=AT,
        idempotency_key="k",
        body_sha256=b"",
    )


def event(name: str, detail: str = "") -> IntentEvent:
    return IntentEvent(intent_id=uuid4(), at=AT, event=name, detail=detail)


def test_order_view_has_the_fields_and_numbers_of_the_contract() -> None:
    order = make_order()
    happened = OrderEvent(
        order_id=order.id,
        at=AT,
        from_status=OrderStatus.OPEN,
        to_status=OrderStatus.PARTIALLY_FILLED,
        filled_quantity=4,
    )
    shown = msgspec.json.decode(
        encode(order_view(OrderStory(order=order, events=[happened], fills=[make_fill(order.id, price="1450.5000")])))
    )
    wanted = (
        "id intentId accountId strategyId symbol exchange transactionType quantity filledQuantity price averagePrice "
        "orderType productType status statusMessage brokerOrderId tag createdAt updatedAt events fills"
    )
    assert set(wanted.split()) <= set(shown)
    assert (shown["price"], shown["averagePrice"]) == (1450.5, 1450.5)
    assert shown["events"][0]["toStatus"] == "PARTIALLY_FILLED"
    assert shown["fills"] == [{"tradeId": "7", "quantity": 4, "price": 1450.5, "filledAt": "2026-11-23T04:00:00Z"}]


def test_intent_view_has_the_fields_of_the_contract() -> None:
    order = make_order()
    story = IntentStory(
        intent=make_intent(),
        orders=[OrderStory(order=order)],
        timeline=[event("RECEIVED"), event("REJECTED", "MAX_ORDER_VALUE: 245050.00 exceeds 100000.00")],
    )
    shown = msgspec.json.decode(encode(intent_view(story)))
    wanted = (
        "id sourceId strategyId userId symbol exchange transactionType quantity price orderType productType status "
        "reason receivedAt orders timeline"
    )
    assert set(wanted.split()) <= set(shown)
    assert [entry["event"] for entry in shown["timeline"]] == ["RECEIVED", "REJECTED"]
    assert set(shown["timeline"][0]) == {"at", "event", "detail"}
    assert shown["orders"][0]["id"] == str(order.id)


@pytest.mark.parametrize(
    ("events", "decision", "reason", "left_out"),
    [
        ([event("RECEIVED"), event("EXPIRED", "SIGNAL_TOO_OLD: 61.0 s old")], None, None, ()),
        ([event("RECEIVED"), event("REJECTED", "A: b")], "REJECTED", "A: b", ()),
        (
            [event("RECEIVED"), event("APPROVED", "2 order(s)"), event("ACCOUNT_LEFT_OUT", "second: A: b")],
            "APPROVED",
            None,
            ("second: A: b",),
        ),
    ],
)
def test_risk_verdict_is_read_off_the_timeline(
    events: list[IntentEvent], decision: str | None, reason: str | None, left_out: tuple[str, ...]
) -> None:
    verdict = risk_verdict(events)
    if decision is None:
        assert verdict is None
    else:
        assert verdict is not None
        assert (verdict.decision, verdict.reason, verdict.left_out) == (decision, reason, left_out)


def held(*fills: Fill) -> HeldPosition:
    position = Position(account_id=ACCOUNT, exchange=Exchange.NSE, symbol="INFY", product_type=ProductType.MIS)
    for fill in fills:
        position = apply_fill(position, fill)
    return HeldPosition(position=position, updated_at=AT)


def test_position_view_splits_profit_at_the_price_given() -> None:
    order = uuid4()
    bought = held(make_fill(order, price="100"), make_fill(order, side=TransactionType.SELL, price="110"))
    flat = position_view(bought, Decimal(500))
    assert (flat.quantity, flat.realised_pnl, flat.unrealised_pnl, flat.pnl) == (
        0,
        Decimal(40),
        Decimal(0),
        Decimal(40),
    )
    long = position_view(held(make_fill(order, price="100")), Decimal("101.5"))
    assert (long.average_price, long.last_price) == (Decimal(100), Decimal("101.5"))
    assert (long.realised_pnl, long.unrealised_pnl, long.pnl, long.day_pnl) == (
        Decimal(0),
        Decimal(6),
        Decimal(6),
        Decimal(6),
    )


def test_position_view_without_any_price_has_no_unrealised_part() -> None:
    view = position_view(held(make_fill(uuid4())), None)
    assert (view.last_price, view.unrealised_pnl, view.pnl) == (Decimal(0), Decimal(0), Decimal(0))


def test_trade_view_names_order_and_strategy() -> None:
    fill = make_fill(uuid4(), price="1450.6000")
    strategy = uuid4()
    view = trade_view(Trade(fill=fill, intent_id=None, strategy_id=strategy))
    assert (view.order_id, view.strategy_id, str(view.price)) == (fill.order_id, strategy, "1450.6")
    assert view.filled_at - AT == timedelta(0)
