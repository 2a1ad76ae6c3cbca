"""What a source may ask for: every bound refuses above and lets through at it."""

from decimal import Decimal

import msgspec
import pytest

from engine.domain.enums import Exchange, OrderType, ProductType, TransactionType
from engine.domain.signal import Refusal, Signal
from engine.domain.source_checks import NO_CHECKS, SourceChecks, refusal

MARKET = Signal(
    symbol="SBIN",
    exchange=Exchange.NSE,
    transaction_type=TransactionType.BUY,
    quantity=100,
    order_type=OrderType.MARKET,
    product_type=ProductType.MIS,
)


def limit(price: str, quantity: int = 100) -> Signal:
    return msgspec.structs.replace(MARKET, order_type=OrderType.LIMIT, price=Decimal(price), quantity=quantity)


@pytest.mark.parametrize(
    ("signal", "checks", "last", "code"),
    [
        (MARKET, {"max_order_quantity": 100}, None, None),
        (MARKET, {"max_order_quantity": 99}, None, "MAX_ORDER_QUANTITY"),
        (
            msgspec.structs.replace(MARKET, quantity=1, position_size=-100),
            {"max_order_quantity": 99},
            None,
            "MAX_ORDER_QUANTITY",
        ),
        (msgspec.structs.replace(MARKET, quantity=1, position_size=0), {"max_order_quantity": 1}, None, None),
        (limit("105"), {"price_band_pct": Decimal(5)}, "100", None),
        (limit("105.01"), {"price_band_pct": Decimal(5)}, "100", "PRICE_BAND_PCT"),
        (limit("94.99"), {"price_band_pct": Decimal(5)}, "100", "PRICE_BAND_PCT"),
        (limit("5000"), {"price_band_pct": Decimal(5)}, None, None),
        (MARKET, {"price_band_pct": Decimal(5)}, "100", None),
    ],
)
def test_bound_refuses_above_it_only(signal, checks, last, code):
    found = refusal(signal, SourceChecks(**checks), None if last is None else Decimal(last))
    assert (None if found is None else found.code) == code
    if isinstance(found, Refusal):
        assert found.message.startswith(f"{code}: ")


def test_source_without_checks_refuses_nothing():
    assert refusal(msgspec.structs.replace(MARKET, quantity=999_999_999), NO_CHECKS, Decimal(1)) is None


def test_checks_come_back_exactly_from_the_store():
    checks = SourceChecks(max_order_quantity=7, price_band_pct=Decimal("5.0500"), max_signals_per_minute=3)
    kept = msgspec.to_builtins(checks, builtin_types=())
    assert kept["price_band_pct"] == "5.0500"
    assert msgspec.convert(kept, SourceChecks, strict=False) == checks
    assert msgspec.to_builtins(NO_CHECKS) == {}
