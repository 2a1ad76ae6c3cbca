"""Risk limits in and out: every limit of the contract's section 6 by its name, null for no limit."""

import re
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from engine.domain.directory import Limits
from engine.domain.enums import Exchange, ProductType, Segment
from engine.domain.limits import PAIRS, RiskLimits, TradingWindow, not_of_both
from engine.http.endpoint import ApiBody, ApiStruct
from engine.http.json_body import invalid
from engine.http.views.numbers import amount_fault

_CLOCK_TIME = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]", re.ASCII)
_MOST = 1_000_000_000


class WindowView(ApiBody, frozen=True, kw_only=True):
    """Clock times in market.timezone, HH:MM; the end is outside."""

    start: str
    end: str


class LimitsChange(ApiBody, frozen=True, kw_only=True):
    """The limits to set; one that is left out stays as it is, null means no limit.

    Percentages are of the capital (of the day's highest profit for ``profitLockGivebackPct``), amounts rupees,
    ``…S`` seconds. ``profitLock…`` and ``cooldown…`` are set two at a time.
    """

    max_daily_loss_pct: Decimal | UnsetType | None = UNSET
    max_daily_loss_amount: Decimal | UnsetType | None = UNSET
    max_position_pct: Decimal | UnsetType | None = UNSET
    max_open_positions: int | UnsetType | None = UNSET
    max_order_value: Decimal | UnsetType | None = UNSET
    max_order_quantity: int | UnsetType | None = UNSET
    price_band_pct: Decimal | UnsetType | None = UNSET
    max_orders_per_minute: int | UnsetType | None = UNSET
    max_orders_per_day: int | UnsetType | None = UNSET
    circuit_breaker_failures: int | UnsetType | None = UNSET
    circuit_breaker_cooldown_s: int | UnsetType | None = UNSET
    duplicate_window_s: int | UnsetType | None = UNSET
    allowed_exchanges: list[Exchange] | UnsetType | None = UNSET
    allowed_products: list[ProductType] | UnsetType | None = UNSET
    trading_window: WindowView | UnsetType | None = UNSET
    allowed_segments: list[Segment] | UnsetType | None = UNSET
    profit_target_amount: Decimal | UnsetType | None = UNSET
    profit_lock_trigger_amount: Decimal | UnsetType | None = UNSET
    profit_lock_giveback_pct: Decimal | UnsetType | None = UNSET
    max_drawdown_amount: Decimal | UnsetType | None = UNSET
    max_drawdown_pct: Decimal | UnsetType | None = UNSET
    cooldown_after_losses: int | UnsetType | None = UNSET
    cooldown_s: int | UnsetType | None = UNSET
    max_trades_per_day: int | UnsetType | None = UNSET
    max_messages_per_minute: int | UnsetType | None = UNSET
    self_trade_guard: bool | UnsetType | None = UNSET


class NewLimits(LimitsChange, frozen=True, kw_only=True):
    """New limits: the caller's own, with ``accountId`` that account's, with ``strategyId`` that strategy's.

    With both they are of the strategy on that account; an ADMIN names another user with ``userId``. What is left out
    is the engine's default for a user, and no limit for an account or a strategy, which only narrow.
    """

    account_id: UUID | None = None
    strategy_id: UUID | None = None
    user_id: UUID | None = None


class LimitsView(ApiStruct, frozen=True, kw_only=True):
    """Limits as they stand; ``accountId`` null means all accounts of the user, ``strategyId`` null all strategies."""

    id: UUID
    user_id: UUID
    account_id: UUID | None
    strategy_id: UUID | None
    max_daily_loss_pct: Decimal | None
    max_daily_loss_amount: Decimal | None
    max_position_pct: Decimal | None
    max_open_positions: int | None
    max_order_value: Decimal | None
    max_order_quantity: int | None
    price_band_pct: Decimal | None
    max_orders_per_minute: int | None
    max_orders_per_day: int | None
    circuit_breaker_failures: int | None
    circuit_breaker_cooldown_s: int | None
    duplicate_window_s: int | None
    allowed_exchanges: tuple[Exchange, ...] | None
    allowed_products: tuple[ProductType, ...] | None
    trading_window: WindowView | None
    allowed_segments: tuple[Segment, ...] | None
    profit_target_amount: Decimal | None
    profit_lock_trigger_amount: Decimal | None
    profit_lock_giveback_pct: Decimal | None
    max_drawdown_amount: Decimal | None
    max_drawdown_pct: Decimal | None
    cooldown_after_losses: int | None
    cooldown_s: int | None
    max_trades_per_day: int | None
    max_messages_per_minute: int | None
    self_trade_guard: bool | None


def limits_view(limits: Limits) -> LimitsView:
    """Return limits as the API shows them."""
    values = msgspec.structs.asdict(limits.limits)
    window = limits.limits.trading_window
    values["trading_window"] = None if window is None else WindowView(start=window.start, end=window.end)
    return LimitsView(
        id=limits.id,
        user_id=limits.user_id,
        account_id=limits.account_id,
        strategy_id=limits.strategy_id,
        **values,
    )


def changed(old: RiskLimits, change: LimitsChange, *, of_both: bool = False) -> RiskLimits:
    """Return *old* with everything that *change* sets. Raises ValidationError that names the fields.

    *of_both* says that they are of a strategy on one account, of which there is no day's result.
    """
    values: dict[str, Any] = {}
    faults: dict[str, str] = {}
    names = {field.name: field.encode_name for field in msgspec.structs.fields(LimitsChange)}
    for name in RiskLimits.__struct_fields__:
        value = getattr(change, name)
        if value is UNSET:
            continue
        if value is not None:
            fault = _fault(name, value)
            if fault is not None:
                faults[names[name]] = fault
        values[name] = value
    if faults:
        raise invalid(faults)
    after = msgspec.structs.replace(old, **_plain(values))
    for first, second in PAIRS:
        if (getattr(after, first) is None) != (getattr(after, second) is None):
            missing = first if getattr(after, first) is None else second
            faults[names[missing]] = f"goes with {names[second if missing == first else first]}: set both, or none"
    if of_both:
        text = "cannot be held against a strategy on one account: set it for the strategy or for the account"
        faults |= {names[name]: text for name in not_of_both(after)}
    if faults:
        raise invalid(faults)
    return after


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    ready: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, list):
            ready[name] = tuple(dict.fromkeys(value))
        elif isinstance(value, WindowView):
            ready[name] = TradingWindow(start=value.start, end=value.end)
        else:
            ready[name] = value
    return ready


def _fault(name: str, value: Any) -> str | None:
    if isinstance(value, Decimal):
        return amount_fault(value)
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        least = 1 if name.startswith(("circuit_breaker", "cooldown")) else 0
        return None if least <= value <= _MOST else f"must be from {least} to {_MOST}"
    if isinstance(value, WindowView):
        return _window_fault(value)
    return None


def _window_fault(window: WindowView) -> str | None:
    if not (_CLOCK_TIME.fullmatch(window.start) and _CLOCK_TIME.fullmatch(window.end)):
        return "start and end must be clock times such as 09:15"
    return None if window.start < window.end else "start must be before end"
