"""Rows back into values."""

from typing import Any

from engine.domain.enums import (
    Exchange,
    IntentStatus,
    OrderStatus,
    OrderType,
    ProductType,
    TransactionType,
    Validity,
    Variety,
)
from engine.domain.fill import Fill
from engine.domain.intent import Intent
from engine.domain.options import OrderRole, decode_options
from engine.domain.order import Order, OrderOrigin
from engine.domain.position import Position
from engine.domain.signal import Signal

MADE_SINCE = "created_at >= {}::date - 15"
"""A condition on orders of a trading day, whose parameter goes into the braces: made earlier they are of no such day.

An order stands in the book of the day that it is made on or of the next session, some days of rest later. Without it
the orders of a user's day are found by looking through all that the user ever had.
"""


def order(row: Any) -> Order:
    """Return the order of a row of ``orders``."""
    return Order(
        id=row["id"],
        intent_id=row["intent_id"],
        account_id=row["account_id"],
        user_id=row["user_id"],
        strategy_id=row["strategy_id"],
        exchange=Exchange(row["exchange"]),
        symbol=row["symbol"],
        transaction_type=TransactionType(row["transaction_type"]),
        quantity=row["quantity"],
        order_type=OrderType(row["order_type"]),
        product_type=ProductType(row["product_type"]),
        price=row["price"],
        trigger_price=row["trigger_price"],
        market_protection=row["market_protection"],
        validity=Validity(row["validity"]),
        variety=Variety(row["variety"]),
        status=OrderStatus(row["status"]),
        status_message=row["status_message"],
        broker_order_id=row["broker_order_id"],
        tag=row["tag"],
        attempt=row["attempt"],
        epoch=row["epoch"],
        trading_day=row["trading_day"],
        filled_quantity=row["filled_quantity"],
        average_price=row["average_price"],
        deadline=row["deadline"],
        submitting_at=row["submitting_at"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        origin=OrderOrigin(row["origin"]),
        role=OrderRole(row["role"]),
        parent_id=row["parent_id"],
        stop_loss=row["stop_loss"],
        target=row["target"],
        options=decode_options(row["options"]),
        modifications=row["modifications"],
        # the intent's own, where the query brings it
        source_id=row.get("source_id"),
    )


def intent(row: Any) -> Intent:
    """Return the intent of a row of ``trade_intents``."""
    return Intent(
        id=row["id"],
        source_id=row["source_id"],
        strategy_id=row["strategy_id"],
        user_id=row["user_id"],
        signal=Signal(
            symbol=row["symbol"],
            exchange=Exchange(row["exchange"]),
            transaction_type=TransactionType(row["transaction_type"]),
            quantity=row["quantity"],
            price=row["price"],
            trigger_price=row["trigger_price"],
            order_type=OrderType(row["order_type"]),
            product_type=ProductType(row["product_type"]),
            validity=Validity(row["validity"]),
            variety=Variety(row["variety"]),
            stop_loss=row["stop_loss"],
            target=row["target"],
            account=row["account_label"],
            options=decode_options(row["options"]),
            position_size=row["position_size"],
        ),
        status=IntentStatus(row["status"]),
        reason=row["reason"],
        received_at=row["received_at"],
        updated_at=row["updated_at"],
        idempotency_key=row["idempotency_key"],
        body_sha256=row["body_sha256"],
        position=row["position"],
        request_id=row["request_id"],
        written_symbol=row["written_symbol"],
        seen_price=row["seen_price"],
        expires_at=row["expires_at"],
        approved_at=row["approved_at"],
    )


def fill(row: Any) -> Fill:
    """Return the fill of a row of ``fills``."""
    return Fill(
        trade_id=row["trade_id"],
        order_id=row["order_id"],
        account_id=row["account_id"],
        broker_order_id=row["broker_order_id"],
        exchange=Exchange(row["exchange"]),
        symbol=row["symbol"],
        product_type=ProductType(row["product_type"]),
        transaction_type=TransactionType(row["transaction_type"]),
        quantity=row["quantity"],
        price=row["price"],
        filled_at=row["filled_at"],
        synthetic=row["synthetic"],
    )


def position(row: Any) -> Position:
    """Return the position of a row of ``positions``."""
    return Position(
        account_id=row["account_id"],
        exchange=Exchange(row["exchange"]),
        symbol=row["symbol"],
        product_type=ProductType(row["product_type"]),
        quantity=row["quantity"],
        overnight_quantity=row["overnight_quantity"],
        buy_quantity=row["buy_quantity"],
        buy_value=row["buy_value"],
        sell_quantity=row["sell_quantity"],
        sell_value=row["sell_value"],
        day_buy_quantity=row["day_buy_quantity"],
        day_buy_value=row["day_buy_value"],
        day_sell_quantity=row["day_sell_quantity"],
        day_sell_value=row["day_sell_value"],
        close_price=row["close_price"],
        last_price=row["last_price"],
        multiplier=row["multiplier"],
    )
