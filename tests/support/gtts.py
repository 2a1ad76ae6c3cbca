"""Triggers (GTT) with defaults, so that a test names only what it is about."""

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from engine.domain.enums import Exchange, ProductType, TransactionType
from engine.domain.gtt import BrokerGtt, BrokerGttOrder, Gtt, GttStatus
from tests.support.trade import ACCOUNT, NOW, ORDER, USER

GTT = UUID(int=81)


def a_gtt(status: GttStatus = GttStatus.SUBMITTING, **fields: Any) -> Gtt:
    """A trigger to sell 10 INFY at a stop of 1400 or a target of 1500, made at 1450."""
    defaults: dict[str, Any] = {
        "id": GTT,
        "entry_id": ORDER,
        "account_id": ACCOUNT,
        "user_id": USER,
        "exchange": Exchange.NSE,
        "symbol": "INFY",
        "transaction_type": TransactionType.SELL,
        "product_type": ProductType.CNC,
        "quantity": 10,
        "last_price": Decimal("1450.00"),
        "unit": 1,
        "unit_quantity": 10,
        "attempt": 1,
        "submitting_at": NOW,
        "created_at": NOW,
        "updated_at": NOW,
        "stop_trigger": Decimal("1400.00"),
        "stop_price": Decimal("1393.00"),
        "target_trigger": Decimal("1500.00"),
        "target_price": Decimal("1500.00"),
    }
    return Gtt(status=status, **(defaults | fields))


def as_shown(gtt: Gtt, trigger_id: str = "101", status: str = "active", **fields: Any) -> BrokerGtt:
    """The row of the broker's list that *gtt* would have, made a second after it was written ahead."""
    defaults: dict[str, Any] = {
        "kind": gtt.kind,
        "exchange": gtt.exchange.value,
        "symbol": gtt.symbol,
        "trigger_values": tuple(leg.trigger for leg in gtt.legs),
        "last_price": gtt.last_price,
        "orders": tuple(
            BrokerGttOrder(
                transaction_type=gtt.transaction_type.value,
                quantity=gtt.quantity,
                price=leg.price,
                product=gtt.product_type.value,
                order_type="LIMIT",
            )
            for leg in gtt.legs
        ),
        "created_at": gtt.submitting_at + timedelta(seconds=1),
    }
    return BrokerGtt(trigger_id=trigger_id, status=status, **(defaults | fields))
