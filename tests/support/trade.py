"""Makers of domain values with defaults, so that a test names only what it is about."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from engine.domain.enums import Exchange, OrderStatus, OrderType, ProductType, TransactionType
from engine.domain.fill import Fill
from engine.domain.limits import OrderRequest
from engine.domain.order import Order, OrderReport
from engine.domain.position import Position

ACCOUNT = UUID(int=1)
OTHER_ACCOUNT = UUID(int=2)
USER = UUID(int=3)
STRATEGY = UUID(int=4)
ORDER = UUID(int=5)

# 10:00 IST on a Wednesday
NOW = datetime(2026, 11, 18, 4, 30, tzinfo=UTC)
TODAY = date(2026, 11, 18)

BUY = TransactionType.BUY
SELL = TransactionType.SELL


def an_order(status: OrderStatus = OrderStatus.PENDING, **fields: Any) -> Order:
    """An order to buy 10 INFY at 100."""
    defaults: dict[str, Any] = {
        "id": ORDER,
        "account_id": ACCOUNT,
        "user_id": USER,
        "exchange": Exchange.NSE,
        "symbol": "INFY",
        "transaction_type": BUY,
        "quantity": 10,
        "order_type": OrderType.LIMIT,
        "product_type": ProductType.MIS,
        "price": Decimal(100),
        "tag": "T",
        "attempt": 1,
        "epoch": 1,
        "trading_day": TODAY,
        "deadline": NOW + timedelta(seconds=30),
        "created_at": NOW,
        "updated_at": NOW,
    }
    return Order(status=status, **(defaults | fields))


def a_report(status: OrderStatus, filled: int = 0, avg: str = "0", message: str | None = None) -> OrderReport:
    """A report of the broker's order 42."""
    return OrderReport(
        broker_order_id="42", status=status, filled_quantity=filled, average_price=Decimal(avg), status_message=message
    )


def a_fill(side: TransactionType, quantity: int, price: str, **fields: Any) -> Fill:
    """A trade of INFY."""
    defaults: dict[str, Any] = {
        "trade_id": "1",
        "order_id": ORDER,
        "account_id": ACCOUNT,
        "broker_order_id": "42",
        "exchange": Exchange.NSE,
        "symbol": "INFY",
        "product_type": ProductType.MIS,
        "filled_at": NOW,
    }
    return Fill(transaction_type=side, quantity=quantity, price=Decimal(price), **(defaults | fields))


def a_position(**fields: Any) -> Position:
    """A flat position in INFY."""
    defaults: dict[str, Any] = {
        "account_id": ACCOUNT,
        "exchange": Exchange.NSE,
        "symbol": "INFY",
        "product_type": ProductType.MIS,
    }
    return Position(**(defaults | fields))


def a_request(
    side: TransactionType = BUY, quantity: int = 10, price: str | None = "100", **fields: Any
) -> OrderRequest:
    """A request to trade INFY at 100."""
    defaults: dict[str, Any] = {
        "intent_id": UUID(int=6),
        "account_id": ACCOUNT,
        "strategy_id": STRATEGY,
        "exchange": Exchange.NSE,
        "symbol": "INFY",
        "product_type": ProductType.MIS,
        "reference_price": None if price is None else Decimal(price),
        "at": NOW,
    }
    return OrderRequest(transaction_type=side, quantity=quantity, **(defaults | fields))
