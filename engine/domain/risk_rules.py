"""The rules of risk: pure functions of `RiskInputs` and limits, each with the numbers it saw (contract section 6).

Reducing orders pass the limits on positions, results, trades and hours: being able to get out is what those are
for. They do not pass what keeps an order sane: size, price band, circuit limits, rates. What cannot be judged
because a figure is missing is denied (SEC-101).
"""

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec

from engine.domain.calendar import parse_hhmm
from engine.domain.denial import Denial
from engine.domain.denial_codes import Code
from engine.domain.enums import KillMode, TransactionType
from engine.domain.limits import RiskLimits
from engine.domain.money import percent_of, plain, rupees
from engine.domain.risk_inputs import RiskInputs, ScopeInputs


class RuleResult(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What one rule said: of which scope, against which limit, what it saw; ``text`` only where it denied.

    ``limit`` and ``seen`` are numbers, amounts as text (rupees, or percent where the code says so), or words.
    """

    code: str
    scope: str
    limit: Any
    seen: Any
    ok: bool
    text: str = ""

    @property
    def denial(self) -> Denial:
        """The reason that it is."""
        return Denial(code=self.code, text=self.text)


def evaluate(inputs: RiskInputs, limits: Mapping[str, RiskLimits]) -> list[RuleResult]:
    """Return what every rule that is set says; the order is approved when all are ok.

    *limits* are by the name of the scope; a scope without any is not judged.
    """
    found: list[RuleResult] = []
    reducing = is_reducing(inputs)
    _exchange_bounds(inputs, found)
    if inputs.probing is not None and not reducing and inputs.increase != 0:
        text = "half open after the cool-down: one order is being tried first"
        found.append(RuleResult(Code.CIRCUIT_BREAKER_FAILURES, inputs.probing, None, "half open", False, text))
    for scope in inputs.scopes:
        of = limits.get(scope.scope)
        if of is None:
            continue
        _permissions(inputs, scope, of, found)
        _size(inputs, scope, of, found)
        if inputs.increase is None:
            _rates(inputs, scope, of, found)
        if not reducing and inputs.increase != 0:
            _exposure(inputs, scope, of, found)
    return found


def is_reducing(inputs: RiskInputs) -> bool:
    """Return whether the order can only make its position smaller, whatever else fills.

    Only what has filled is there to be reduced: an order of unknown outcome counts as unfilled here. Live orders of
    the same side have first claim on it.
    """
    request = inputs.request
    quantity = request.quantity if inputs.increase is None else inputs.increase
    return reduces(inputs.held, request.transaction_type, quantity, claimed=inputs.claimed)


def reduces(held: int, side: TransactionType, quantity: int, *, claimed: int = 0) -> bool:
    """Return whether an order can only make a position of *held* units smaller, *claimed* of which others close."""
    return held * side.sign < 0 and quantity <= abs(held) - claimed


def _exchange_bounds(inputs: RiskInputs, found: list[RuleResult]) -> None:
    price = inputs.request.reference_price
    if not price:
        return
    for code, low, high, what in (
        (Code.CIRCUIT_LIMIT, inputs.lowest, inputs.highest, "the circuit limits"),
        (Code.LPP_RANGE, inputs.lpp_lowest, inputs.lpp_highest, "the limit price protection"),
    ):
        if low is None and high is None:
            continue
        ok = (low is None or price >= low) and (high is None or price <= high)
        span = _span(low, high)
        text = "" if ok else f"{rupees(price)} is outside {what}, {span}"
        found.append(RuleResult(code, "order", span, price, ok, text))


def _span(low: Decimal | None, high: Decimal | None) -> str:
    if low is not None and high is not None:
        return f"{rupees(low)} to {rupees(high)}"
    return f"at least {rupees(low)}" if low is not None else f"at most {rupees(high or Decimal(0))}"


def _permissions(inputs: RiskInputs, scope: ScopeInputs, limits: RiskLimits, found: list[RuleResult]) -> None:
    request = inputs.request
    for code, allowed, asked in (
        (Code.ALLOWED_EXCHANGES, limits.allowed_exchanges, request.exchange),
        (Code.ALLOWED_PRODUCTS, limits.allowed_products, request.product_type),
        (Code.ALLOWED_SEGMENTS, limits.allowed_segments, inputs.segment),
    ):
        if allowed is None:
            continue
        ok = asked in allowed
        listed = ", ".join(allowed) or "none"
        text = "" if ok else f"{asked or 'an unknown segment'} is not among the allowed: {listed}"
        found.append(RuleResult(code, scope.scope, listed, asked, ok, text))


def _size(inputs: RiskInputs, scope: ScopeInputs, limits: RiskLimits, found: list[RuleResult]) -> None:
    request, name = inputs.request, scope.scope
    quantity, price = request.quantity, request.reference_price
    if quantity < 1:
        text = f"{quantity} is not a quantity of units to trade"
        found.append(RuleResult(Code.QUANTITY_REQUIRED, name, 1, quantity, False, text))
    if limits.max_order_quantity is not None:
        found.append(_most(Code.MAX_ORDER_QUANTITY, name, limits.max_order_quantity, quantity))
    # 0 is how the instrument master spells "no price"; it must not make an order look free
    if price is None or price <= 0:
        if limits.max_order_value is not None or limits.max_position_pct is not None:
            text = f"no price of {request.exchange}:{request.symbol} is known"
            found.append(RuleResult(Code.PRICE_UNAVAILABLE, name, None, None, False, text))
        return
    if limits.max_order_value is not None:
        notional = price * quantity * request.multiplier
        found.append(_most(Code.MAX_ORDER_VALUE, name, limits.max_order_value, notional))
    if limits.price_band_pct is not None:
        last = inputs.last_price
        if not last:
            text = f"no last price of {request.exchange}:{request.symbol} is known"
            found.append(RuleResult(Code.PRICE_UNAVAILABLE, name, None, None, False, text))
            return
        ok = abs(price - last) <= percent_of(last, limits.price_band_pct)
        away = percent(abs(price - last), last)
        text = ""
        if not ok:
            allowed = plain(limits.price_band_pct)
            text = f"{rupees(price)} is {rupees(away)}% from {rupees(last)}, allowed {allowed}%"
        found.append(RuleResult(Code.PRICE_BAND_PCT, name, limits.price_band_pct, away, ok, text))


def _rates(inputs: RiskInputs, scope: ScopeInputs, limits: RiskLimits, found: list[RuleResult]) -> None:
    name = scope.scope
    if limits.max_orders_per_minute is not None:
        count = scope.orders_in_minute + inputs.orders
        found.append(_most(Code.MAX_ORDERS_PER_MINUTE, name, limits.max_orders_per_minute, count))
    if limits.max_orders_per_day is not None:
        count = scope.orders_in_day + inputs.orders
        found.append(_most(Code.MAX_ORDERS_PER_DAY, name, limits.max_orders_per_day, count))
    window = limits.duplicate_window_s
    if window is not None:
        age: float | None = None
        # slices of one intent are alike and no repetition
        if inputs.repeated_at is not None and inputs.repeated_by != inputs.request.intent_id:
            age = (inputs.at - inputs.repeated_at).total_seconds()
        ok = age is None or age >= window
        seen = None if age is None else f"{max(age, 0):.0f} s"
        text = "" if ok else f"the same order was placed {seen} ago, within {window} s"
        found.append(RuleResult(Code.DUPLICATE_WINDOW_S, name, window, seen, ok, text))


def _exposure(inputs: RiskInputs, scope: ScopeInputs, limits: RiskLimits, found: list[RuleResult]) -> None:
    name, local = scope.scope, inputs.at
    window = limits.trading_window
    if window is not None:
        ok = parse_hhmm(window.start) <= local.time() < parse_hhmm(window.end)
        span = f"{window.start} to {window.end}"
        text = "" if ok else f"{local:%H:%M} is not within {span}"
        found.append(RuleResult(Code.TRADING_WINDOW, name, span, f"{local:%H:%M}", ok, text))
    if limits.max_messages_per_minute is not None:
        count = scope.messages_in_minute
        found.append(_most(Code.MAX_MESSAGES_PER_MINUTE, name, limits.max_messages_per_minute, count))
    if limits.self_trade_guard:
        ok = inputs.opposed_by is None
        who = inputs.opposed_by if inputs.opposed_by == "by hand" else f"of strategy {inputs.opposed_by}"
        text = "" if ok else f"a live order {who} stands on the other side of {inputs.request.symbol} in this account"
        found.append(RuleResult(Code.SELF_TRADE_GUARD, name, True, inputs.opposed_by, ok, text))
    if limits.max_open_positions is not None:
        count = scope.occupied + scope.opens
        ok = not scope.opens or count <= limits.max_open_positions
        text = "" if ok else f"{count} exceeds {limits.max_open_positions}"
        found.append(RuleResult(Code.MAX_OPEN_POSITIONS, name, limits.max_open_positions, count, ok, text))
    _capital(inputs, scope, limits, found)
    found += results(scope, limits)
    if limits.max_trades_per_day is not None:
        found.append(_most(Code.MAX_TRADES_PER_DAY, name, limits.max_trades_per_day, scope.trades + 1))
    if limits.cooldown_after_losses is not None and limits.cooldown_s is not None:
        found.append(_cooldown(inputs, scope, limits.cooldown_after_losses, limits.cooldown_s))


def _capital(inputs: RiskInputs, scope: ScopeInputs, limits: RiskLimits, found: list[RuleResult]) -> None:
    capital, price = scope.capital, inputs.request.reference_price
    pct = limits.max_position_pct
    if capital is None or capital <= 0:
        if pct is not None or limits.max_daily_loss_pct is not None or limits.max_drawdown_pct is not None:
            text = "a limit in percent needs the account's capital; set its field capital"
            found.append(RuleResult(Code.CAPITAL_UNKNOWN, scope.scope, None, capital, False, text))
        return
    if pct is not None and price:
        notional, most = scope.units * price * inputs.request.multiplier, percent_of(capital, pct)
        ok = notional <= most
        text = "" if ok else f"{rupees(notional)} exceeds {rupees(most)}, {plain(pct)}% of {rupees(capital)}"
        found.append(RuleResult(Code.MAX_POSITION_PCT, scope.scope, most, notional, ok, text))


def _cooldown(inputs: RiskInputs, scope: ScopeInputs, after: int, seconds: int) -> RuleResult:
    ok, text = True, ""
    if after and scope.losing_streak >= after and scope.last_loss_at is not None:
        left = (scope.last_loss_at + timedelta(seconds=seconds) - inputs.at).total_seconds()
        ok = left <= 0
        if not ok:
            text = f"{scope.losing_streak} losing trades in a row; no entries for another {left:.0f} s"
    return RuleResult(Code.COOLDOWN_AFTER_LOSSES, scope.scope, after, scope.losing_streak, ok, text)


def results(scope: ScopeInputs, limits: RiskLimits) -> list[RuleResult]:
    """Return what the rules about the day's net result say; those that deny are what trips a kill switch."""
    found: list[RuleResult] = []
    name, net, peak, capital = scope.scope, scope.net, scope.peak, scope.capital
    loss, fall = -net, peak - net
    most = limits.max_daily_loss_amount
    if most is not None:
        ok = loss < most
        text = "" if ok else f"a loss of {rupees(loss)} today reaches {rupees(most)}"
        found.append(RuleResult(Code.MAX_DAILY_LOSS_AMOUNT, name, most, loss, ok, text))
    pct = limits.max_daily_loss_pct
    if pct is not None and capital is not None and capital > 0:
        ok, share = loss < percent_of(capital, pct), percent(loss, capital)
        text = (
            ""
            if ok
            else f"a loss of {rupees(loss)} today is {rupees(share)}% of {rupees(capital)}, allowed {plain(pct)}%"
        )
        found.append(RuleResult(Code.MAX_DAILY_LOSS_PCT, name, pct, share, ok, text))
    most = limits.max_drawdown_amount
    if most is not None:
        ok = fall < most
        text = (
            ""
            if ok
            else f"{rupees(net)} is {rupees(fall)} below the day's highest {rupees(peak)}, allowed {rupees(most)}"
        )
        found.append(RuleResult(Code.MAX_DRAWDOWN_AMOUNT, name, most, fall, ok, text))
    pct = limits.max_drawdown_pct
    if pct is not None and capital is not None and capital > 0:
        ok, share = fall < percent_of(capital, pct), percent(fall, capital)
        text = (
            ""
            if ok
            else f"a fall of {rupees(fall)} today is {rupees(share)}% of {rupees(capital)}, allowed {plain(pct)}%"
        )
        found.append(RuleResult(Code.MAX_DRAWDOWN_PCT, name, pct, share, ok, text))
    target = limits.profit_target_amount
    if target is not None:
        ok = net < target
        text = "" if ok else f"a profit of {rupees(net)} today reaches {rupees(target)}"
        found.append(RuleResult(Code.PROFIT_TARGET_AMOUNT, name, target, net, ok, text))
    trigger, giveback = limits.profit_lock_trigger_amount, limits.profit_lock_giveback_pct
    if trigger is not None and giveback is not None:
        ok = peak <= 0 or peak < trigger or fall < percent_of(peak, giveback)
        gone = percent(fall, peak) if peak > 0 else Decimal(0)
        text = (
            ""
            if ok
            else f"{rupees(net)} is {rupees(gone)}% below the day's highest {rupees(peak)}, allowed {plain(giveback)}%"
        )
        found.append(RuleResult(Code.PROFIT_LOCK_GIVEBACK_PCT, name, giveback, gone, ok, text))
    return found


TRIP_MODES: Mapping[str, KillMode] = {
    Code.MAX_DAILY_LOSS_AMOUNT: KillMode.SQUARE_OFF,
    Code.MAX_DAILY_LOSS_PCT: KillMode.SQUARE_OFF,
    Code.MAX_DRAWDOWN_AMOUNT: KillMode.SQUARE_OFF,
    Code.MAX_DRAWDOWN_PCT: KillMode.SQUARE_OFF,
    Code.PROFIT_TARGET_AMOUNT: KillMode.SQUARE_OFF,
    Code.PROFIT_LOCK_GIVEBACK_PCT: KillMode.SQUARE_OFF,
    Code.MAX_OPEN_POSITIONS: KillMode.BLOCK,
    Code.CIRCUIT_BREAKER_FAILURES: KillMode.BLOCK,
}
"""What the kill switch does that a limit trips by itself (reliability.md 5.3)."""


def breaches(scope: ScopeInputs, limits: RiskLimits, *, open_positions: int) -> tuple[Denial, ...]:
    """Return the limits that the state itself is past; a flat day is past none.

    *open_positions* are those that are not flat: what is only on its way trips nothing.
    """
    found: list[Denial] = []
    if scope.net or scope.peak:
        for rule in results(scope, limits):
            fell = rule.code in (Code.PROFIT_TARGET_AMOUNT, Code.PROFIT_LOCK_GIVEBACK_PCT) or rule.seen > 0
            if not rule.ok and fell:
                found.append(rule.denial)
    most = limits.max_open_positions
    if most is not None and open_positions > most:
        found.append(Denial(code=Code.MAX_OPEN_POSITIONS, text=f"{open_positions} exceeds {most}"))
    return tuple(found)


def percent(part: Decimal, whole: Decimal) -> Decimal:
    """Return *part* in percent of *whole*, to two decimals."""
    return (part * 100 / whole).quantize(Decimal("0.01"))


def _most(code: Code, scope: str, limit: int | Decimal, asked: int | Decimal) -> RuleResult:
    ok = asked <= limit
    text = ""
    if not ok:
        text = f"{asked} exceeds {limit}"
        if isinstance(asked, Decimal) and isinstance(limit, Decimal):
            text = f"{rupees(asked)} exceeds {rupees(limit)}"
    return RuleResult(code, scope, limit, asked, ok, text)
