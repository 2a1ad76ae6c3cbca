"""Risk limits in and out."""

from decimal import Decimal
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from engine.domain.directory import Limits
from engine.domain.enums import Exchange
from engine.domain.limits import RiskLimits, TradingWindow
from engine.errors import ValidationError
from engine.http.errors import encode
from engine.http.json_body import decode_body
from engine.http.views.limits import LimitsChange, NewLimits, changed, limits_view

OLD = RiskLimits(max_order_value=Decimal(1000), max_orders_per_day=5)


def change(body: bytes) -> RiskLimits:
    return changed(OLD, decode_body(body, LimitsChange))


def test_limit_left_out_stays_and_null_means_no_limit() -> None:
    after = change(b'{"maxOrderValue": null, "maxOpenPositions": 3}')
    assert (after.max_order_value, after.max_open_positions, after.max_orders_per_day) == (None, 3, 5)


def test_lists_and_window_become_values_of_the_domain() -> None:
    after = change(b'{"allowedExchanges": ["NSE", "NSE"], "tradingWindow": {"start": "09:15", "end": "15:20"}}')
    assert after.allowed_exchanges == (Exchange.NSE,)
    assert after.trading_window == TradingWindow(start="09:15", end="15:20")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"maxOrderValue": -1}', "maxOrderValue"),
        (b'{"maxOrderValue": 1.00001}', "maxOrderValue"),
        (b'{"maxOrderValue": "NaN"}', "maxOrderValue"),
        (b'{"maxOrderValue": 1e20}', "maxOrderValue"),
        (b'{"maxOrdersPerDay": -1}', "maxOrdersPerDay"),
        (b'{"circuitBreakerFailures": 0}', "circuitBreakerFailures"),
        (b'{"tradingWindow": {"start": "9:15", "end": "15:20"}}', "tradingWindow"),
        (b'{"tradingWindow": {"start": "15:20", "end": "09:15"}}', "tradingWindow"),
        (b'{"allowedExchanges": ["NYSE"]}', "allowedExchanges.[0]"),
        (b'{"maxOrdrValue": 1}', "maxOrdrValue"),
    ],
)
def test_wrong_limit_is_refused_by_name(body: bytes, field: str) -> None:
    with pytest.raises(ValidationError) as refused:
        change(body)
    assert list(refused.value.details["fields"]) == [field]


def test_new_limits_name_user_and_account() -> None:
    account = uuid4()
    body = decode_body(f'{{"accountId": "{account}", "maxOpenPositions": 1}}'.encode(), NewLimits)
    assert (body.account_id, body.user_id, body.max_open_positions) == (account, None, 1)


def test_limits_view_spells_every_limit_of_the_contract() -> None:
    view = limits_view(
        Limits(
            id=uuid4(),
            user_id=uuid4(),
            account_id=None,
            limits=msgspec.structs.replace(OLD, trading_window=TradingWindow(start="09:15", end="15:20")),
        )
    )
    shown: dict[str, Any] = msgspec.json.decode(encode(view))
    names = {field.encode_name for field in msgspec.structs.fields(RiskLimits)}
    assert set(shown) == names | {"id", "userId", "accountId", "strategyId"}
    assert shown["maxOrderValue"] == 1000
    assert shown["tradingWindow"] == {"start": "09:15", "end": "15:20"}
