"""Risk limits, the order they judge, and how several sets of limits become one."""

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from engine.domain.enums import Exchange, ProductType, Segment, TransactionType
from engine.domain.position import PositionKey


class TradingWindow(msgspec.Struct, frozen=True, kw_only=True):
    """Clock times in market.timezone between which entries are allowed, ``HH:MM``.

    The end is outside; a window that does not start before it ends allows nothing.
    """

    start: str
    end: str


class RiskLimits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """Limits of one user, or of one of the user's accounts or strategies; None means no limit (contract section 6).

    Amounts are rupees, percentages are of the scope's capital, seconds are wall-clock. The profit lock is armed
    once the day's net profit has been ``profit_lock_trigger_amount``, and acts when
    ``profit_lock_giveback_pct`` percent of the day's highest is lost again. ``cooldown_s`` is how long no position
    is opened after ``cooldown_after_losses`` losing trades in a row. ``allowed_segments`` are the broker's
    (``NSE``, ``NFO-OPT``, ``MCX-FUT``).
    """

    max_daily_loss_pct: Decimal | None = None
    max_daily_loss_amount: Decimal | None = None
    max_position_pct: Decimal | None = None
    max_open_positions: int | None = None
    max_order_value: Decimal | None = None
    max_order_quantity: int | None = None
    price_band_pct: Decimal | None = None
    max_orders_per_minute: int | None = None
    max_orders_per_day: int | None = None
    circuit_breaker_failures: int | None = None
    circuit_breaker_cooldown_s: int | None = None
    duplicate_window_s: int | None = None
    allowed_exchanges: tuple[Exchange, ...] | None = None
    allowed_products: tuple[ProductType, ...] | None = None
    trading_window: TradingWindow | None = None
    allowed_segments: tuple[Segment, ...] | None = None
    profit_target_amount: Decimal | None = None
    profit_lock_trigger_amount: Decimal | None = None
    profit_lock_giveback_pct: Decimal | None = None
    max_drawdown_amount: Decimal | None = None
    max_drawdown_pct: Decimal | None = None
    cooldown_after_losses: int | None = None
    cooldown_s: int | None = None
    max_trades_per_day: int | None = None
    max_messages_per_minute: int | None = None
    self_trade_guard: bool | None = None


OF_FIGURES = frozenset(
    {
        "max_daily_loss_pct",
        "max_daily_loss_amount",
        "profit_target_amount",
        "profit_lock_trigger_amount",
        "profit_lock_giveback_pct",
        "max_drawdown_amount",
        "max_drawdown_pct",
        "cooldown_after_losses",
        "cooldown_s",
        "max_trades_per_day",
    }
)
"""Limits that are held against the day's profit and loss, which is known of a user, an account or a strategy."""

_OF_ONE_SCOPE = OF_FIGURES | {"circuit_breaker_failures", "circuit_breaker_cooldown_s"}

PAIRS = (("profit_lock_trigger_amount", "profit_lock_giveback_pct"), ("cooldown_after_losses", "cooldown_s"))
"""Limits that mean something together only."""


class OrderRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel", gc=False):
    """What risk judges: one sized order for one account, not yet an order.

    ``reference_price`` is the limit price, or for MARKET the last known price, in rupees; None when
    there is none.
    """

    intent_id: UUID
    account_id: UUID
    strategy_id: UUID
    exchange: Exchange
    symbol: str
    product_type: ProductType
    transaction_type: TransactionType
    quantity: int
    reference_price: Decimal | None
    multiplier: Decimal = Decimal(1)
    at: datetime

    @property
    def key(self) -> PositionKey:
        """The position that the order would change."""
        return (self.account_id, self.exchange, self.symbol, self.product_type)


def narrow(*limits: RiskLimits) -> RiskLimits:
    """Return the limits that hold where all of *limits* hold: of every limit the tightest."""
    return RiskLimits(**{name: _tightest(name, limits) for name in RiskLimits.__struct_fields__})


def tightest(name: str, *limits: RiskLimits) -> Any:
    """Return what `narrow` would say of the one limit *name*: it is asked for at every event of an order."""
    return _tightest(name, limits)


def loosened(old: RiskLimits, new: RiskLimits) -> tuple[str, ...]:
    """Return the names of the limits that *new* sets looser than *old*; empty when it only tightens."""
    both = narrow(old, new)
    return tuple(name for name in RiskLimits.__struct_fields__ if _comparable(new, name) != _comparable(both, name))


def not_of_both(limits: RiskLimits) -> tuple[str, ...]:
    """Return the names of limits that are set and cannot be held against a strategy on one account."""
    return tuple(
        name for name in RiskLimits.__struct_fields__ if name in _OF_ONE_SCOPE and getattr(limits, name) is not None
    )


def _tightest(name: str, limits: tuple[RiskLimits, ...]) -> Any:
    values = [value for each in limits if (value := getattr(each, name)) is not None]
    if not values:
        return None
    return _TIGHTEN.get(name, min)(values)


def _intersection(values: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    return tuple(member for member in values[0] if all(member in other for other in values[1:]))


def _overlap(windows: list[TradingWindow]) -> TradingWindow:
    # HH:MM sorts as text.
    return TradingWindow(start=max(each.start for each in windows), end=min(each.end for each in windows))


_TIGHTEN: dict[str, Callable[[Any], Any]] = {
    "circuit_breaker_cooldown_s": max,
    "duplicate_window_s": max,
    "allowed_exchanges": _intersection,
    "allowed_products": _intersection,
    "trading_window": _overlap,
    "allowed_segments": _intersection,
    "cooldown_s": max,
    "self_trade_guard": any,
}


def _comparable(limits: RiskLimits, name: str) -> Any:
    value = getattr(limits, name)
    if isinstance(value, tuple):
        return frozenset(value)
    # a guard that is off is none
    return None if value is False else value
