"""The verdict on an order: pure functions of request, state, limits and now (contract section 6).

A verdict holds every reason, not the first. Reducing orders pass the limits on positions and losses:
being able to get out is what those limits are for. What cannot be judged because a figure is missing
is denied (SEC-101).
"""

from collections.abc import Iterator
from datetime import datetime, tzinfo
from decimal import Decimal

import msgspec

from engine.clock import IST, trading_day
from engine.domain.calendar import parse_hhmm
from engine.domain.denial import Denial
from engine.domain.enums import TransactionType
from engine.domain.limits import OrderRequest, RiskLimits, TradingWindow, loosened, narrow
from engine.domain.money import percent_of, plain, rupees
from engine.domain.position import PositionKey
from engine.domain.risk_state import RiskState, Scope

__all__ = [
    "Denial",
    "OrderRequest",
    "RiskLimits",
    "RiskState",
    "TradingWindow",
    "breached",
    "check",
    "check_change",
    "is_reducing",
    "loosened",
    "may_be_exit",
    "narrow",
    "reduces",
]


def check(
    request: OrderRequest,
    state: RiskState,
    limits: RiskLimits,
    *,
    capital: Decimal | None,
    now: datetime,
    scope_account: Scope,
    timezone: tzinfo = IST,
) -> tuple[Denial, ...]:
    """Return every reason against *request*; empty means approved, and the caller reserves it at once.

    *scope_account* is whose orders, positions and losses the limits are about: one account, or None for
    all of the user's; *capital* is that scope's, in rupees. *timezone* is that of the trading window.
    Codes are the limits' names, PRICE_UNAVAILABLE, CAPITAL_UNKNOWN and QUANTITY_REQUIRED.
    """
    denials = [
        *_permissions(request, limits),
        *_size(request, state, limits),
        *_rates(request, state, limits, now, scope_account),
    ]
    if not is_reducing(request, state):
        denials += _exposure(request, state, limits, capital, now.astimezone(timezone), scope_account)
    return tuple(denials)


def check_change(
    request: OrderRequest,
    increase: int,
    state: RiskState,
    limits: RiskLimits,
    *,
    capital: Decimal | None,
    now: datetime,
    scope_account: Scope,
    timezone: tzinfo = IST,
) -> tuple[Denial, ...]:
    """Return every reason against changing an approved order into *request*, *increase* units larger (0: not).

    It is no new order: the rates do not count it, and what it held before is reserved already.
    """
    denials = [*_permissions(request, limits), *_size(request, state, limits)]
    more = msgspec.structs.replace(request, quantity=increase)
    if increase > 0 and not is_reducing(more, state):
        denials += _exposure(more, state, limits, capital, now.astimezone(timezone), scope_account)
    return tuple(denials)


def is_reducing(request: OrderRequest, state: RiskState) -> bool:
    """Return whether the order can only make its position smaller, whatever else fills.

    Only what has filled is there to be reduced, and live orders of the same side have first claim on it.
    """
    position = state.position(request.key)
    held = 0 if position is None else position.quantity
    claimed = state.reserved_quantity(request.key, request.transaction_type)
    return reduces(held, request.transaction_type, request.quantity, claimed=claimed)


def reduces(held: int, side: TransactionType, quantity: int, *, claimed: int = 0) -> bool:
    """Return whether an order can only make a position of *held* units smaller, *claimed* of which others close."""
    return held * side.sign < 0 and quantity <= abs(held) - claimed


def may_be_exit(state: RiskState, key: PositionKey, side: TransactionType, quantity: int) -> bool:
    """Return whether an order would only reduce what is held, or what orders under way may come to hold.

    Generous, for deciding whether a person must hear of an order that will not be sent: an order whose
    outcome is not known counts as filled, and what other exits claim is left to them and to this one.
    """
    position = state.position(key)
    held = 0 if position is None else position.quantity
    coming = state.reserved_quantity(key, side.opposite) * side.opposite.sign
    return reduces(held, side, quantity) or reduces(held + coming, side, quantity)


def breached(
    state: RiskState, limits: RiskLimits, capital: Decimal | None, *, account_id: Scope = None
) -> Denial | None:
    """Return the daily-loss or position-count limit that the state itself is past, or None.

    This is what trips a kill switch; a refused order does not. Without *capital* the percentage is left out.
    """
    loss = -state.day_pnl(account_id)
    if loss > 0:
        denial = next(_losses(loss, limits, capital), None)
        if denial is not None:
            return denial
    count = state.open_positions(account_id)
    if limits.max_open_positions is not None and count > limits.max_open_positions:
        return _over("MAX_OPEN_POSITIONS", count, limits.max_open_positions)
    return None


def _permissions(request: OrderRequest, limits: RiskLimits) -> Iterator[Denial]:
    if limits.allowed_exchanges is not None and request.exchange not in limits.allowed_exchanges:
        allowed = ", ".join(limits.allowed_exchanges) or "none"
        yield Denial(code="ALLOWED_EXCHANGES", text=f"{request.exchange} is not among the allowed: {allowed}")
    if limits.allowed_products is not None and request.product_type not in limits.allowed_products:
        allowed = ", ".join(limits.allowed_products) or "none"
        yield Denial(code="ALLOWED_PRODUCTS", text=f"{request.product_type} is not among the allowed: {allowed}")


def _size(request: OrderRequest, state: RiskState, limits: RiskLimits) -> Iterator[Denial]:
    if request.quantity < 1:
        yield Denial(code="QUANTITY_REQUIRED", text=f"{request.quantity} is not a quantity of units to trade")
    if limits.max_order_quantity is not None and request.quantity > limits.max_order_quantity:
        yield _over("MAX_ORDER_QUANTITY", request.quantity, limits.max_order_quantity)
    price = request.reference_price
    # 0 is how the instrument master spells "no price"; it must not make an order look free.
    if price is None or price <= 0:
        if limits.max_order_value is not None or limits.max_position_pct is not None:
            yield Denial(code="PRICE_UNAVAILABLE", text=f"no price of {request.exchange}:{request.symbol} is known")
        return
    if limits.max_order_value is not None:
        notional = price * request.quantity * request.multiplier
        if notional > limits.max_order_value:
            yield _over("MAX_ORDER_VALUE", notional, limits.max_order_value)
    if limits.price_band_pct is not None:
        last = state.last_price(request.exchange, request.symbol)
        if not last:
            yield Denial(
                code="PRICE_UNAVAILABLE", text=f"no last price of {request.exchange}:{request.symbol} is known"
            )
        elif abs(price - last) > percent_of(last, limits.price_band_pct):
            away = rupees(_percent(abs(price - last), last))
            text = f"{rupees(price)} is {away}% from {rupees(last)}, allowed {plain(limits.price_band_pct)}%"
            yield Denial(code="PRICE_BAND_PCT", text=text)


def _rates(
    request: OrderRequest, state: RiskState, limits: RiskLimits, now: datetime, scope: Scope
) -> Iterator[Denial]:
    if limits.max_orders_per_minute is not None:
        count = state.orders_in_minute(now, scope) + 1
        if count > limits.max_orders_per_minute:
            yield _over("MAX_ORDERS_PER_MINUTE", count, limits.max_orders_per_minute)
    if limits.max_orders_per_day is not None:
        count = state.orders_in_day(trading_day(now), scope) + 1
        if count > limits.max_orders_per_day:
            yield _over("MAX_ORDERS_PER_DAY", count, limits.max_orders_per_day)
    if limits.duplicate_window_s is not None:
        last = state.last_like(request)
        # Slices of one intent are alike and no repetition.
        if last is not None and last[1] != request.intent_id:
            age = (now - last[0]).total_seconds()
            if age < limits.duplicate_window_s:
                text = f"the same order was placed {max(age, 0):.0f} s ago, within {limits.duplicate_window_s} s"
                yield Denial(code="DUPLICATE_WINDOW_S", text=text)


def _exposure(
    request: OrderRequest,
    state: RiskState,
    limits: RiskLimits,
    capital: Decimal | None,
    local: datetime,
    scope: Scope,
) -> Iterator[Denial]:
    window = limits.trading_window
    if window is not None and not parse_hhmm(window.start) <= local.time() < parse_hhmm(window.end):
        yield Denial(code="TRADING_WINDOW", text=f"{local:%H:%M} is not within {window.start} to {window.end}")
    if limits.max_open_positions is not None and not state.is_occupied(request.key):
        count = state.occupied_positions(scope) + 1
        if count > limits.max_open_positions:
            yield _over("MAX_OPEN_POSITIONS", count, limits.max_open_positions)
    unknown = capital is None or capital <= 0
    if unknown and (limits.max_position_pct is not None or limits.max_daily_loss_pct is not None):
        yield Denial(
            code="CAPITAL_UNKNOWN",
            text="a limit in percent needs the account's capital; set its field capital",
        )
    price = request.reference_price
    if limits.max_position_pct is not None and capital is not None and capital > 0 and price:
        notional = state.exposure_after(request, scope) * price * request.multiplier
        if notional > percent_of(capital, limits.max_position_pct):
            asked, limit = rupees(notional), rupees(percent_of(capital, limits.max_position_pct))
            text = f"{asked} exceeds {limit}, {plain(limits.max_position_pct)}% of {rupees(capital)}"
            yield Denial(code="MAX_POSITION_PCT", text=text)
    yield from _losses(-state.day_pnl(scope), limits, capital)


def _losses(loss: Decimal, limits: RiskLimits, capital: Decimal | None) -> Iterator[Denial]:
    if limits.max_daily_loss_amount is not None and loss >= limits.max_daily_loss_amount:
        text = f"a loss of {rupees(loss)} today reaches {rupees(limits.max_daily_loss_amount)}"
        yield Denial(code="MAX_DAILY_LOSS_AMOUNT", text=text)
    if limits.max_daily_loss_pct is None or capital is None or capital <= 0:
        return
    if loss >= percent_of(capital, limits.max_daily_loss_pct):
        share, allowed = rupees(_percent(loss, capital)), plain(limits.max_daily_loss_pct)
        text = f"a loss of {rupees(loss)} today is {share}% of {rupees(capital)}, allowed {allowed}%"
        yield Denial(code="MAX_DAILY_LOSS_PCT", text=text)


def _percent(part: Decimal, whole: Decimal) -> Decimal:
    return (part * 100 / whole).quantize(Decimal("0.01"))


def _over(code: str, asked: int | Decimal, limit: int | Decimal) -> Denial:
    if isinstance(asked, Decimal) and isinstance(limit, Decimal):
        return Denial(code=code, text=f"{rupees(asked)} exceeds {rupees(limit)}")
    return Denial(code=code, text=f"{asked} exceeds {limit}")
