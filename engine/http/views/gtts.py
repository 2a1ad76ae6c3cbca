"""Triggers (GTT) as the API shows them."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from engine.domain.enums import Exchange, ProductType, TransactionType
from engine.domain.gtt import Gtt, GttStatus
from engine.domain.options import OrderRole
from engine.http.endpoint import ApiStruct
from engine.http.views.numbers import tidy_or_none


class GttView(ApiStruct, frozen=True, kw_only=True):
    """The exit of what ``entryId`` filled, kept by the broker until its price is met; prices are rupees.

    At ``stopTrigger`` or ``targetTrigger`` the broker places a LIMIT order of ``quantity`` units at the price beside
    it; the side that an entry does not ask for is null. ``firedRole`` and ``brokerOrderId`` are the side that fired
    and the order that the broker placed then, which stands among the orders with ``parentId`` the entry.
    """

    id: UUID
    entry_id: UUID
    account_id: UUID
    user_id: UUID
    strategy_id: UUID | None
    symbol: str
    exchange: Exchange
    transaction_type: TransactionType
    product_type: ProductType
    quantity: int
    stop_trigger: Decimal | None
    stop_price: Decimal | None
    target_trigger: Decimal | None
    target_price: Decimal | None
    status: GttStatus
    status_message: str | None
    trigger_id: str | None
    fired_role: OrderRole | None
    broker_order_id: str | None
    expires_at: datetime | None
    created_at: datetime
    updated_at: datetime


def gtt_view(gtt: Gtt) -> GttView:
    """Return a trigger as the API shows it."""
    return GttView(
        id=gtt.id,
        entry_id=gtt.entry_id,
        account_id=gtt.account_id,
        user_id=gtt.user_id,
        strategy_id=gtt.strategy_id,
        symbol=gtt.symbol,
        exchange=gtt.exchange,
        transaction_type=gtt.transaction_type,
        product_type=gtt.product_type,
        quantity=gtt.quantity,
        stop_trigger=tidy_or_none(gtt.stop_trigger),
        stop_price=tidy_or_none(gtt.stop_price),
        target_trigger=tidy_or_none(gtt.target_trigger),
        target_price=tidy_or_none(gtt.target_price),
        status=gtt.status,
        status_message=gtt.status_message,
        trigger_id=gtt.trigger_id,
        fired_role=gtt.fired_role,
        broker_order_id=gtt.broker_order_id,
        expires_at=gtt.expires_at,
        created_at=gtt.created_at,
        updated_at=gtt.updated_at,
    )
