"""Orders for tests of the broker boundary: committed rows, ready to be sent."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

from engine.domain.enums import Exchange, OrderStatus, OrderType, ProductType, TransactionType
from engine.domain.order import Order

NOW = datetime(2026, 11, 20, 5, 0, tzinfo=UTC)


def unique_tag() -> str:
    """A tag that no other order of the run has."""
    return "T" + uuid4().hex[:18].upper()


def committed_order(**changes: Any) -> Order:
    """A BUY LIMIT of one INFY share in SUBMITTING, with *changes*."""
    fields: dict[str, Any] = {
        "id": uuid4(),
        "account_id": uuid4(),
        "user_id": uuid4(),
        "exchange": Exchange.NSE,
        "symbol": "INFY",
        "transaction_type": TransactionType.BUY,
        "quantity": 1,
        "order_type": OrderType.LIMIT,
        "product_type": ProductType.MIS,
        "status": OrderStatus.SUBMITTING,
        "tag": unique_tag(),
        "attempt": 1,
        "epoch": 1,
        "trading_day": date(2026, 11, 20),
        "deadline": NOW + timedelta(seconds=60),
        "created_at": NOW,
        "updated_at": NOW,
        "price": Decimal("1400.00"),
        "submitting_at": NOW,
    }
    fields.update(changes)
    if fields["order_type"] in (OrderType.MARKET, OrderType.SL_M) and "price" not in changes:
        fields["price"] = None
    return Order(**fields)
