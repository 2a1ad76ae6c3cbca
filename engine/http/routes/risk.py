"""/risk: limits and the state that they are held against."""

from decimal import Decimal
from uuid import UUID

import msgspec

from engine.actors.limit_scopes import Capitals, limits_for
from engine.domain.breaker import CLOSED, Breaker
from engine.domain.directory import Limits
from engine.domain.enums import Exchange
from engine.domain.limits import RiskLimits, loosened
from engine.domain.risk_inputs import USER
from engine.domain.risk_state import RiskState
from engine.errors import ConflictError, ForbiddenError, NotFoundError
from engine.http.authentication import require_fresh
from engine.http.endpoint import ApiRequest, Page, endpoint
from engine.http.four_eyes import ask_second_admin
from engine.http.json_body import invalid
from engine.http.paging import PageQuery
from engine.http.permissions import Permission
from engine.http.services import Services
from engine.http.stored_state import stored_state
from engine.http.views.limits import LimitsChange, LimitsView, NewLimits, changed, limits_view
from engine.http.views.listing import page_of
from engine.http.views.ownership import may_reach, reachable
from engine.http.views.refused import taken
from engine.http.views.risk_state import RiskStateView, ScopeRiskView, scope_view
from engine.ids import uuid7

_TAGS = ("risk",)

Place = tuple[UUID, UUID | None, UUID | None]


class LimitsQuery(PageQuery, frozen=True, kw_only=True):
    """Filters of the list."""

    user_id: UUID | None = None
    account_id: UUID | None = None
    strategy_id: UUID | None = None


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
        if may_reach(request.user, limits.user_id, limits.account_id)
        and query.user_id in (None, limits.user_id)
        and query.account_id in (None, limits.account_id)
        and query.strategy_id in (None, limits.strategy_id)
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
    """The caller's own limits, with ``accountId`` or ``strategyId`` those of one; a TRADER may only tighten."""
    services: Services = request.services
    body: NewLimits = request.body
    user_id = _user_of(request, body)
    place = (user_id, body.account_id, body.strategy_id)
    if place in services.directory.limits:
        raise ConflictError("these limits are set already: change them with PUT /risk/limits/{id}")
    # those of an account or a strategy come on top of the user's, so they begin without any
    before = RiskLimits()
    if place == (user_id, None, None):
        before = limits_for(services.directory, services.config.risk.limits(), user_id)[USER]
    after = changed(before, body, of_both=None not in place)
    _refuse_loosening(request, place, before, after)
    limits = Limits(id=uuid7(), user_id=user_id, account_id=body.account_id, limits=after, strategy_id=body.strategy_id)
    with taken("these limits are set already: change them with PUT /risk/limits/{id}"):
        await services.registrar.put_limits(limits, by=f"user:{request.user.user_id}", action="LIMITS_SET")
    _look_again(services, user_id)
    return limits_view(limits)


@endpoint(
    "PUT",
    "/risk/limits/{id}",
    permission=Permission.TRADE,
    summary="Change risk limits",
    body=LimitsChange,
    response=LimitsView,
    errors=(NotFoundError, ForbiddenError, ConflictError),
    tags=_TAGS,
)
async def change_limits(request: ApiRequest) -> LimitsView:
    """Replaces the limits that are sent and leaves the others; effective for the next order."""
    services: Services = request.services
    limits_id: UUID = request.path["id"]

    def find() -> Limits:
        found = next((limits for limits in services.directory.limits.values() if limits.id == limits_id), None)
        return reachable(request.user, found, "set of limits")

    async with services.registrar.changing(find().user_id):
        limits = find()
        after = changed(limits.limits, request.body, of_both=None not in limits.place)
        _refuse_loosening(request, limits.place, limits.limits, after)
        limits = msgspec.structs.replace(limits, limits=after)
        await services.registrar.put_limits(limits, by=f"user:{request.user.user_id}", action="LIMITS_CHANGED")
    _look_again(services, limits.user_id)
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
    """What a user, each account and each strategy made today, how far every limit is used, and the circuit breakers.

    A user of whom nothing has happened since the start is shown from what the store has.
    """
    services: Services = request.services
    query: StateQuery = request.query
    user_id = query.user_id or request.user.user_id
    if not may_reach(request.user, user_id) or services.users.get(user_id) is None:
        raise NotFoundError("there is no such user")
    actor = services.crew.risk_actors.get(user_id)
    state = await stored_state(services, user_id) if actor is None else actor.state
    directory = services.directory
    accounts = sorted(directory.accounts_of(user_id), key=lambda account: account.id)
    strategies = sorted((s for s in directory.strategies.values() if s.user_id == user_id), key=lambda each: each.id)
    return RiskStateView(
        user_id=user_id,
        at=services.clock.now(),
        user=_scope(services, state, user_id),
        accounts=tuple(_scope(services, state, user_id, account_id=account.id) for account in accounts),
        strategies=tuple(_scope(services, state, user_id, strategy_id=strategy.id) for strategy in strategies),
    )


def _look_again(services: Services, user_id: UUID) -> None:
    """Have the state held against limits that changed, so that one it is past acts now and not at the next price."""
    actor = services.crew.risk_actors.get(user_id)
    if actor is not None:
        actor.watch.changed(account.id for account in services.directory.accounts_of(user_id))


def _scope(
    services: Services,
    state: RiskState,
    user_id: UUID,
    *,
    account_id: UUID | None = None,
    strategy_id: UUID | None = None,
) -> ScopeRiskView:
    directory = services.directory
    capitals = Capitals(directory, user_id, strategy_id)
    breaker: Breaker | None = None
    if account_id is None and strategy_id is None:
        capital, limits = capitals.user, limits_for(directory, services.config.risk.limits(), user_id)[USER]
    else:
        scope = f"account:{account_id}" if account_id is not None else f"strategy:{strategy_id}"
        actor = services.crew.risk_actors.get(user_id)
        breaker = CLOSED if actor is None else actor.watch.breaker(scope)
        capital = directory.accounts[account_id].capital if account_id is not None else capitals.strategy
        held = directory.limits.get((user_id, account_id, strategy_id))
        limits = RiskLimits() if held is None else held.limits

    def value(exchange: Exchange, symbol: str, units: int) -> Decimal | None:
        price = state.last_price(exchange, symbol) or services.prices.get(f"{exchange}:{symbol}")
        instrument = services.master.book.get(exchange, symbol)
        return None if price is None else units * price * (Decimal(1) if instrument is None else instrument.multiplier)

    return scope_view(
        state,
        account_id=account_id,
        strategy_id=strategy_id,
        capital=capital,
        limits=limits,
        breaker=breaker,
        value=value,
        now=services.clock.now(),
    )


def _user_of(request: ApiRequest, body: NewLimits) -> UUID:
    services: Services = request.services
    caller = request.user
    user_id = body.user_id or caller.user_id
    if user_id != caller.user_id and (not caller.is_admin or services.users.get(user_id) is None):
        raise NotFoundError("there is no such user")
    owner: UUID | None = body.user_id
    if body.account_id is not None:
        account = reachable(caller, services.directory.accounts.get(body.account_id), "account")
        if owner not in (None, account.user_id):
            raise invalid({"accountId": "is not an account of userId"})
        owner = account.user_id
    if body.strategy_id is not None:
        strategy = reachable(caller, services.directory.strategies.get(body.strategy_id), "strategy")
        if owner not in (None, strategy.user_id):
            raise invalid({"strategyId": "is not a strategy of that user"})
        owner = strategy.user_id
    return user_id if owner is None else owner


def _refuse_loosening(request: ApiRequest, place: Place, before: RiskLimits, after: RiskLimits) -> None:
    looser = loosened(before, after)
    if looser and not request.user.is_admin:
        names = {field.name: field.encode_name for field in msgspec.structs.fields(RiskLimits)}
        listed = [names[name] for name in looser]
        raise ForbiddenError(
            f"only an administrator may loosen {', '.join(listed)}", code="LOOSENING", details={"limits": listed}
        )
    if looser:
        require_fresh(request.user, request.services.clock.now())
        ask_second_admin(request.services, request.user, f"limits:{place}", msgspec.json.encode((before, after)))
