"""The state that limits are held against, and how much of every limit is used."""

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from engine.clock import trading_day
from engine.domain.breaker import Breaker, BreakerState
from engine.domain.day_figures import DayFigures
from engine.domain.enums import Exchange
from engine.domain.limits import RiskLimits
from engine.domain.risk_state import RiskState, Scope
from engine.http.endpoint import ApiStruct
from engine.http.views.numbers import tidy, tidy_or_none

Value = Callable[[Exchange, str, int], Decimal | None]
"""Returns what units of an instrument are worth in rupees, None without a price."""

_ZERO = Decimal(0)


class FiguresView(ApiStruct, frozen=True, kw_only=True):
    """What the scope made today, in rupees; ``net`` is realised and unrealised less ``charges``.

    ``peak`` is the day's highest ``net``, ``drawdown`` how far below it is now. ``trades`` are round trips that ended,
    ``losingStreak`` how many of the last in a row lost. ``staleSince`` is since when an open position has no price.
    """

    realised: Decimal
    unrealised: Decimal
    charges: Decimal
    net: Decimal
    peak: Decimal
    drawdown: Decimal
    trades: int
    losing_streak: int
    last_loss_at: datetime | None
    stale_since: datetime | None


class ExposureView(ApiStruct, frozen=True, kw_only=True):
    """Units that the scope holds or its live orders may make it hold; ``value`` in rupees, null without a price."""

    exchange: Exchange
    symbol: str
    units: int
    value: Decimal | None


class BreakerView(ApiStruct, frozen=True, kw_only=True):
    """The circuit breaker; ``until`` is when an open one is tried again, null for not by itself."""

    state: BreakerState
    failures: int
    until: datetime | None


class LimitUseView(ApiStruct, frozen=True, kw_only=True):
    """One limit and what of it is used: in the limit's own unit, and in percent; null where it has none."""

    name: str
    limit: Any
    used: Decimal | None
    used_pct: Decimal | None


class ScopeRiskView(ApiStruct, frozen=True, kw_only=True):
    """What the limits of one scope are held against: without ``accountId`` and ``strategyId`` the user as a whole.

    ``dayPnl`` is ``figures.net``; the day is the IST one. ``cooldownUntil`` is until when no position is opened
    after losses; ``breaker`` is null for the user as a whole.
    """

    account_id: UUID | None
    strategy_id: UUID | None
    capital: Decimal
    open_positions: int
    day_pnl: Decimal
    orders_in_minute: int
    orders_in_day: int
    messages_in_minute: int
    figures: FiguresView
    exposure: tuple[ExposureView, ...]
    breaker: BreakerView | None
    cooldown_until: datetime | None
    limits: tuple[LimitUseView, ...]


class RiskStateView(ApiStruct, frozen=True, kw_only=True):
    """The risk state of a user, of each of the user's accounts and of each strategy."""

    user_id: UUID
    at: datetime
    user: ScopeRiskView
    accounts: tuple[ScopeRiskView, ...]
    strategies: tuple[ScopeRiskView, ...]


def scope_view(
    state: RiskState,
    *,
    account_id: UUID | None = None,
    strategy_id: UUID | None = None,
    capital: Decimal,
    limits: RiskLimits | None,
    breaker: Breaker | None,
    value: Value,
    now: datetime,
) -> ScopeRiskView:
    """Return one scope as the API shows it; *limits* are its own, *capital* is rupees, *now* aware UTC."""
    key: Scope = account_id or strategy_id
    figures = state.figures(key)
    exposure = tuple(
        ExposureView(exchange=exchange, symbol=symbol, units=units, value=tidy_or_none(value(exchange, symbol, units)))
        for (exchange, symbol), units in sorted(state.exposures(key).items())
    )
    held = limits or RiskLimits()
    return ScopeRiskView(
        account_id=account_id,
        strategy_id=strategy_id,
        capital=tidy(capital),
        open_positions=state.open_positions(key),
        day_pnl=tidy(figures.net),
        orders_in_minute=state.orders_in_minute(now, key),
        orders_in_day=state.orders_in_day(trading_day(now), key),
        messages_in_minute=state.messages_in_minute(now, key),
        figures=_figures(figures),
        exposure=exposure,
        breaker=None
        if breaker is None
        else BreakerView(state=breaker.state, failures=breaker.failures, until=breaker.until),
        cooldown_until=_cooldown_until(figures, held, now),
        limits=_uses(state, key, held, figures, capital, exposure, breaker, now),
    )


def _figures(figures: DayFigures) -> FiguresView:
    return FiguresView(
        realised=tidy(figures.realised),
        unrealised=tidy(figures.unrealised),
        charges=tidy(figures.charges),
        net=tidy(figures.net),
        peak=tidy(figures.peak),
        drawdown=tidy(figures.drawdown),
        trades=figures.trades,
        losing_streak=figures.losing_streak,
        last_loss_at=figures.last_loss_at,
        stale_since=figures.stale_since,
    )


def _cooldown_until(figures: DayFigures, limits: RiskLimits, now: datetime) -> datetime | None:
    after, seconds = limits.cooldown_after_losses, limits.cooldown_s
    if after is None or seconds is None or figures.last_loss_at is None or figures.losing_streak < after:
        return None
    until = figures.last_loss_at + timedelta(seconds=seconds)
    return until if until > now else None


def _uses(
    state: RiskState,
    key: Scope,
    limits: RiskLimits,
    figures: DayFigures,
    capital: Decimal,
    exposure: tuple[ExposureView, ...],
    breaker: Breaker | None,
    now: datetime,
) -> tuple[LimitUseView, ...]:
    def of_capital(amount: Decimal) -> Decimal | None:
        return amount * 100 / capital if capital > 0 else None

    largest = max((each.value for each in exposure if each.value is not None), default=_ZERO)
    given = figures.drawdown * 100 / figures.peak if figures.peak > 0 else _ZERO
    used: dict[str, Decimal | int | None] = {
        "max_daily_loss_pct": of_capital(max(-figures.net, _ZERO)),
        "max_daily_loss_amount": max(-figures.net, _ZERO),
        "profit_target_amount": max(figures.net, _ZERO),
        "profit_lock_trigger_amount": figures.peak,
        "profit_lock_giveback_pct": given,
        "max_drawdown_amount": figures.drawdown,
        "max_drawdown_pct": of_capital(figures.drawdown),
        "max_position_pct": of_capital(largest),
        "max_open_positions": state.occupied_positions(key),
        "max_orders_per_minute": state.orders_in_minute(now, key),
        "max_orders_per_day": state.orders_in_day(trading_day(now), key),
        "max_messages_per_minute": state.messages_in_minute(now, key),
        "max_trades_per_day": figures.trades,
        "cooldown_after_losses": figures.losing_streak,
        "circuit_breaker_failures": None if breaker is None else breaker.failures,
    }
    found = []
    for field in msgspec.structs.fields(RiskLimits):
        limit = getattr(limits, field.name)
        if limit is None:
            continue
        now_used = used.get(field.name)
        amount = None if now_used is None else tidy(Decimal(now_used))
        is_number = isinstance(limit, int | Decimal) and not isinstance(limit, bool)
        pct = None
        if amount is not None and is_number and limit > 0:
            pct = tidy((amount * 100 / Decimal(limit)).quantize(Decimal("0.01")))
        shown = tidy(limit) if isinstance(limit, Decimal) else limit
        found.append(LimitUseView(name=field.encode_name, limit=shown, used=amount, used_pct=pct))
    return tuple(found)
