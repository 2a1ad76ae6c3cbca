"""The rules of one set of limits on a state, and the limit that a state is past: for tests by example."""

from datetime import datetime, tzinfo
from decimal import Decimal
from uuid import UUID

from engine.clock import IST
from engine.domain.denial import Denial
from engine.domain.limits import OrderRequest, RiskLimits
from engine.domain.risk_inputs import ACCOUNT, USER, ScopeCapital, ScopeInputs, inputs_of
from engine.domain.risk_rules import breaches, evaluate
from engine.domain.risk_state import RiskState, Scope


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
    """Return every reason of *limits*, those of one account or of all of the user's (None), against *request*."""
    name = USER if scope_account is None else ACCOUNT
    scopes = (ScopeCapital(name, scope_account, capital),)
    inputs = inputs_of(request, state, scopes, at=now.astimezone(timezone))
    return tuple(rule.denial for rule in evaluate(inputs, {name: limits}) if not rule.ok)


def breached(
    state: RiskState, limits: RiskLimits, capital: Decimal | None, *, account_id: UUID | None = None
) -> Denial | None:
    """Return the first limit that the state itself is past, or None."""
    figures = state.figures(account_id)
    scope = ScopeInputs(scope=USER, capital=capital, net=figures.net, peak=figures.peak)
    found = breaches(scope, limits, open_positions=state.open_positions(account_id))
    return found[0] if found else None
