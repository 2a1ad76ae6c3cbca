"""Rows back into values."""

from enum import StrEnum
from typing import Any, TypeVar

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

_Word = TypeVar("_Word", bound=StrEnum)


def _words(kind: type[_Word]) -> dict[str, _Word]:
    """Return the members of *kind* by the words of the store: asking the class takes ten times as long.

    A start reads tens of thousands of orders and intents, with a dozen such words each.
    """
    return {word.value: word for word in kind}


_EXCHANGES = _words(Exchange)
_INTENT_STATUSES = _words(IntentStatus)
ORDER_STATUSES = _words(OrderStatus)
"""The states of an order by the words of the store."""
_ORDER_TYPES = _words(OrderType)
_PRODUCTS = _words(ProductType)
_SIDES = _words(TransactionType)
_VALIDITIES = _words(Validity)
_VARIETIES = _words(Variety)
_ORIGINS = _words(OrderOrigin)
_ROLES = _words(OrderRole)


def order(row: Any) -> Order:
    """Return the order of a row of ``orders``."""
    return Order(
        id=row["id"],
        intent_id=row["intent_id"],
        account_id=row["account_id"],
        user_id=row["user_id"],
        strategy_id=row["strategy_id"],
        exchange=_EXCHANGES[row["exchange"]],
        symbol=row["symbol"],
        transaction_type=_SIDES[row["transaction_type"]],
        quantity=row["quantity"],
        order_type=_ORDER_TYPES[row["order_type"]],
        product_type=_PRODUCTS[row["product_type"]],
        price=row["price"],
        trigger_price=row["trigger_price"],
        market_protection=row["market_protection"],
        validity=_VALIDITIES[row["validity"]],
        variety=_VARIETIES[row["variety"]],
        status=ORDER_STATUSES[row["status"]],
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
        origin=_ORIGINS[row["origin"]],
        role=_ROLES[row["role"]],
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
            exchange=_EXCHANGES[row["exchange"]],
            transaction_type=_SIDES[row["transaction_type"]],
            quantity=row["quantity"],
            price=row["price"],
            trigger_price=row["trigger_price"],
            order_type=_ORDER_TYPES[row["order_type"]],
            product_type=_PRODUCTS[row["product_type"]],
            validity=_VALIDITIES[row["validity"]],
            variety=_VARIETIES[row["variety"]],
            stop_loss=row["stop_loss"],
            target=row["target"],
            account=row["account_label"],
            options=decode_options(row["options"]),
            position_size=row["position_size"],
        ),
        status=_INTENT_STATUSES[row["status"]],
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
        exchange=_EXCHANGES[row["exchange"]],
        symbol=row["symbol"],
        product_type=_PRODUCTS[row["product_type"]],
        transaction_type=_SIDES[row["transaction_type"]],
        quantity=row["quantity"],
        price=row["price"],
        filled_at=row["filled_at"],
        synthetic=row["synthetic"],
    )


def position(row: Any) -> Position:
    """Return the position of a row of ``positions``."""
    return Position(
        account_id=row["account_id"],
        exchange=_EXCHANGES[row["exchange"]],
        symbol=row["symbol"],
        product_type=_PRODUCTS[row["product_type"]],
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
