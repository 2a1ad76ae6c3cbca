"""/risk: limits and the state that they are held against."""

from decimal import Decimal
from uuid import UUID

import msgspec

from engine.actors.limit_scopes import limits_for
from engine.clock import trading_day
from engine.domain.directory import Limits
from engine.domain.limits import RiskLimits, loosened
from engine.domain.risk_state import RiskState
from engine.errors import ConflictError, ForbiddenError, NotFoundError
from engine.http.endpoint import ApiRequest, Page, endpoint
from engine.http.json_body import invalid
from engine.http.paging import PageQuery
from engine.http.permissions import Permission
from engine.http.services import Services
from engine.http.views.limits import (
    LimitsChange,
    LimitsView,
    NewLimits,
    RiskStateView,
    ScopeRiskView,
    changed,
    limits_view,
)
from engine.http.views.listing import page_of
from engine.http.views.numbers import tidy
from engine.http.views.ownership import may_reach, reachable
from engine.http.views.refused import taken
from engine.ids import uuid7
from engine.store import history

_TAGS = ("risk",)


class LimitsQuery(PageQuery, frozen=True, kw_only=True):
    """Filters of the list."""

    user_id: UUID | None = None
    account_id: UUID | None = None


class StateQuery(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """``userId`` is for an ADMIN; without it the caller's own state."""

    user_id: UUID | None = None


@endpoint(
    "GET",
    "/risk/limits",
    permission=Permission.READ,
    summary="List risk limits",
    query=LimitsQuery,
    list_of=LimitsView,
    tags=_TAGS,
)
async def list_limits(request: ApiRequest) -> Page[LimitsView]:
    """Limits that were set; a user without any has the engine's defaults."""
    services: Services = request.services
    query: LimitsQuery = request.query
    found = [
        limits
        for limits in services.directory.limits.values()
        if may_reach(request.user, limits.user_id)
        and query.user_id in (None, limits.user_id)
        and query.account_id in (None, limits.account_id)
    ]
    return page_of(found, query.window()).map(limits_view)


@endpoint(
    "POST",
    "/risk/limits",
    permission=Permission.TRADE,
    summary="Set risk limits",
    body=NewLimits,
    response=LimitsView,
    status=201,
    errors=(NotFoundError, ConflictError),
    tags=_TAGS,
)
async def set_limits(request: ApiRequest) -> LimitsView:
    """The caller's own limits, with ``accountId`` those of an account; a TRADER may only tighten."""
    services: Services = request.services
    body: NewLimits = request.body
    user_id = _user_of(request, body)
    if (user_id, body.account_id) in services.directory.limits:
        raise ConflictError("these limits are set already: change them with PUT /risk/limits/{id}")
    user_limits, _ = limits_for(services.directory, services.config.risk.limits(), user_id, UUID(int=0))
    # an account's limits come on top of the user's, so they begin without any
    before = user_limits if body.account_id is None else RiskLimits()
    after = changed(before, body)
    _refuse_loosening(request, before, after)
    limits = Limits(id=uuid7(), user_id=user_id, account_id=body.account_id, limits=after)
    with taken("these limits are set already: change them with PUT /risk/limits/{id}"):
        await services.registrar.put_limits(limits, by=f"user:{request.user.user_id}", action="LIMITS_SET")
    return limits_view(limits)


@endpoint(
    "PUT",
    "/risk/limits/{id}",
    permission=Permission.TRADE,
    summary="Change risk limits",
    body=LimitsChange,
    response=LimitsView,
    errors=(NotFoundError, ForbiddenError),
    tags=_TAGS,
)
async def change_limits(request: ApiRequest) -> LimitsView:
    """Replaces the limits that are sent and leaves the others; effective for the next order."""
    services: Services = request.services
    limits_id: UUID = request.path["id"]
    found = next((limits for limits in services.directory.limits.values() if limits.id == limits_id), None)
    limits = reachable(request.user, found, "set of limits")
    after = changed(limits.limits, request.body)
    _refuse_loosening(request, limits.limits, after)
    limits = msgspec.structs.replace(limits, limits=after)
    await services.registrar.put_limits(limits, by=f"user:{request.user.user_id}", action="LIMITS_CHANGED")
    return limits_view(limits)


@endpoint(
    "GET",
    "/risk/state",
    permission=Permission.READ,
    summary="Show the risk state",
    query=StateQuery,
    response=RiskStateView,
    errors=(NotFoundError,),
    tags=_TAGS,
)
async def risk_state(request: ApiRequest) -> RiskStateView:
    """Open positions, the day's profit and loss and order counts of a user and each account."""
    services: Services = request.services
    query: StateQuery = request.query
    user_id = query.user_id or request.user.user_id
    if not may_reach(request.user, user_id) or services.users.get(user_id) is None:
        raise NotFoundError("there is no such user")
    actor = services.crew.risk_actors.get(user_id)
    state = await _stored_state(services, user_id) if actor is None else actor.state
    accounts = sorted(services.directory.accounts_of(user_id), key=lambda account: account.id)
    return RiskStateView(
        user_id=user_id,
        at=services.clock.now(),
        user=_scope(services, state, None, sum((a.capital for a in accounts), Decimal(0))),
        accounts=tuple(_scope(services, state, a.id, a.capital) for a in accounts),
    )


async def _stored_state(services: Services, user_id: UUID) -> RiskState:
    today = trading_day(services.clock.now())
    found = await services.database.run(lambda connection: history.user(connection, user_id, today))
    state = RiskState(today)
    for position in found["positions"]:
        state.set_position(position)
    for account, at in found["orders_today"]:
        state.count_order(account, at)
    return state


def _scope(services: Services, state: RiskState, account_id: UUID | None, capital: Decimal) -> ScopeRiskView:
    now = services.clock.now()
    return ScopeRiskView(
        account_id=account_id,
        capital=tidy(capital),
        open_positions=state.open_positions(account_id),
        day_pnl=tidy(state.day_pnl(account_id)),
        orders_in_minute=state.orders_in_minute(now, account_id),
        orders_in_day=state.orders_in_day(trading_day(now), account_id),
    )


def _user_of(request: ApiRequest, body: NewLimits) -> UUID:
    services: Services = request.services
    caller = request.user
    user_id = body.user_id or caller.user_id
    if user_id != caller.user_id and (not caller.is_admin or services.users.get(user_id) is None):
        raise NotFoundError("there is no such user")
    if body.account_id is None:
        return user_id
    account = reachable(caller, services.directory.accounts.get(body.account_id), "account")
    if body.user_id is not None and account.user_id != body.user_id:
        raise invalid({"accountId": "is not an account of userId"})
    return account.user_id


def _refuse_loosening(request: ApiRequest, before: RiskLimits, after: RiskLimits) -> None:
    looser = loosened(before, after)
    if looser and not request.user.is_admin:
        names = {field.name: field.encode_name for field in msgspec.structs.fields(RiskLimits)}
        listed = [names[name] for name in looser]
        raise ForbiddenError(
            f"only an administrator may loosen {', '.join(listed)}", code="LOOSENING", details={"limits": listed}
        )
