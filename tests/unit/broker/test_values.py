from datetime import UTC, datetime
from decimal import Decimal
from uuid import uuid4

import pytest

from engine.broker.base import BrokerTrade
from engine.domain.enums import Exchange, ProductType, TransactionType
from engine.errors import BrokerUnavailable

TRADE = {
    "trade_id": "1",
    "broker_order_id": "151220000000000",
    "exchange": "NSE",
    "symbol": "INFY",
    "product": "MIS",
    "transaction_type": "SELL",
    "quantity": 3,
    "price": Decimal("1450.05"),
    "filled_at": datetime(2026, 11, 20, 5, 0, tzinfo=UTC),
}


def test_trade_becomes_the_fill_of_its_order():
    order_id, account_id = uuid4(), uuid4()
    fill = BrokerTrade(**TRADE).as_fill(order_id=order_id, account_id=account_id)
    assert (fill.order_id, fill.account_id, fill.broker_order_id) == (order_id, account_id, "151220000000000")
    assert (fill.exchange, fill.product_type, fill.transaction_type) == (
        Exchange.NSE,
        ProductType.MIS,
        TransactionType.SELL,
    )
    assert (fill.quantity, fill.price, fill.synthetic) == (3, Decimal("1450.05"), False)


@pytest.mark.parametrize("field", ["exchange", "product", "transaction_type"])
def test_trade_of_a_foreign_kind_is_refused_naming_the_field(field):
    with pytest.raises(BrokerUnavailable, match=field):
        BrokerTrade(**TRADE | {field: "NOPE"}).as_fill(order_id=uuid4(), account_id=uuid4())
