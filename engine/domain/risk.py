"""The verdict on an order, from the state as it stands: all rules, all reasons (contract section 6).

What the rules say is in `engine.domain.risk_rules`, what they look at in `engine.domain.risk_inputs`.
"""

from datetime import datetime, tzinfo
from decimal import Decimal
from uuid import UUID

from engine.clock import IST
from engine.domain.denial import Denial
from engine.domain.enums import TransactionType
from engine.domain.limits import OrderRequest, RiskLimits, TradingWindow, loosened, narrow
from engine.domain.position import PositionKey
from engine.domain.risk_inputs import ACCOUNT, USER, ScopeCapital, ScopeInputs, inputs_of
from engine.domain.risk_rules import breaches, evaluate, reduces
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
    """Return every reason of one set of limits against *request*; empty means approved, and it is reserved at once.

    *scope_account* is whose orders, positions and losses the limits are about: one account, or None for
    all of the user's; *capital* is that scope's, in rupees. *timezone* is that of the trading window.
    """
    return _check(request, None, state, limits, capital, now.astimezone(timezone), scope_account)


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
    return _check(request, increase, state, limits, capital, now.astimezone(timezone), scope_account)


def _check(
    request: OrderRequest,
    increase: int | None,
    state: RiskState,
    limits: RiskLimits,
    capital: Decimal | None,
    at: datetime,
    scope: Scope,
) -> tuple[Denial, ...]:
    name = USER if scope is None else ACCOUNT
    inputs = inputs_of(request, state, (ScopeCapital(name, scope, capital),), at=at, increase=increase)
    return tuple(rule.denial for rule in evaluate(inputs, {name: limits}) if not rule.ok)


def is_reducing(request: OrderRequest, state: RiskState) -> bool:
    """Return whether the order can only make its position smaller, whatever else fills.

    Only what has filled is there to be reduced, and live orders of the same side have first claim on it.
    """
    position = state.position(request.key)
    held = 0 if position is None else position.quantity
    claimed = state.reserved_quantity(request.key, request.transaction_type)
    return reduces(held, request.transaction_type, request.quantity, claimed=claimed)


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
    state: RiskState, limits: RiskLimits, capital: Decimal | None, *, account_id: UUID | None = None
) -> Denial | None:
    """Return the first limit that the state itself of a user, account or strategy is past, or None.

    This is what trips a kill switch; a refused order does not. Without *capital* percentages are left out.
    """
    figures = state.figures(account_id)
    scope = ScopeInputs(scope=USER, capital=capital, net=figures.net, peak=figures.peak)
    found = breaches(scope, limits, open_positions=state.open_positions(account_id))
    return found[0] if found else None
