"""/strategies: what signals are for, and the accounts that they trade."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET

from engine.domain.directory import Strategy, Target
from engine.errors import ConflictError, ForbiddenError, NotFoundError
from engine.http.endpoint import ApiRequest, Page, endpoint
from engine.http.json_body import invalid
from engine.http.paging import PageQuery
from engine.http.permissions import Permission
from engine.http.services import Services
from engine.http.views.listing import page_of
from engine.http.views.ownership import may_end_limits, may_reach, reachable
from engine.http.views.refused import taken
from engine.http.views.resources import (
    Deleted,
    NewStrategy,
    StrategyChange,
    StrategyView,
    TargetBody,
    defaults,
    strategy_view,
    symbols,
)
from engine.http.views.strategy_rules import named_twice, settings, target_of
from engine.ids import uuid7

_TAGS = ("strategies",)
MAX_ACCOUNTS = 1_000
"""The most accounts of a strategy: a body of 64 KiB has room for them."""
_TAKEN = "a strategy of this name exists already"


@endpoint(
    "GET",
    "/strategies",
    permission=Permission.READ,
    summary="List strategies",
    query=PageQuery,
    list_of=StrategyView,
    tags=_TAGS,
)
async def list_strategies(request: ApiRequest) -> Page[StrategyView]:
    """Strategies of the caller, newest first; an ADMIN sees those of everybody."""
    services: Services = request.services
    found = [s for s in services.directory.strategies.values() if may_reach(request.user, s.user_id)]
    return page_of(found, request.query.window()).map(strategy_view)


@endpoint(
    "POST",
    "/strategies",
    permission=Permission.TRADE,
    summary="Add a strategy",
    body=NewStrategy,
    response=StrategyView,
    status=201,
    errors=(NotFoundError, ConflictError),
    tags=_TAGS,
)
async def add_strategy(request: ApiRequest) -> StrategyView:
    """Each of ``accounts`` must be the caller's and gets an order for every signal, sized by ``sizing``."""
    services: Services = request.services
    body: NewStrategy = request.body
    owner = request.user.user_id
    strategy = Strategy(
        id=uuid7(),
        user_id=owner,
        name=_name(body.name),
        enabled=body.enabled,
        approval=body.approval,
        allowed_symbols=symbols(body.allowed_symbols),
        defaults=defaults(body.defaults),
        targets=_targets(services, owner, body.accounts),
        **settings(body),
    )
    with taken(_TAKEN):
        await services.registrar.put_strategy(strategy, by=f"user:{owner}", action="STRATEGY_CREATED")
    return strategy_view(strategy)


@endpoint(
    "GET",
    "/strategies/{id}",
    permission=Permission.READ,
    summary="Show a strategy",
    response=StrategyView,
    errors=(NotFoundError,),
    tags=_TAGS,
)
async def show_strategy(request: ApiRequest) -> StrategyView:
    """One strategy with its accounts."""
    return strategy_view(_find(request))


@endpoint(
    "PATCH",
    "/strategies/{id}",
    permission=Permission.TRADE,
    summary="Change a strategy",
    body=StrategyChange,
    response=StrategyView,
    errors=(NotFoundError, ConflictError),
    tags=_TAGS,
)
async def change_strategy(request: ApiRequest) -> StrategyView:
    """Changes what is sent and leaves the rest; effective for the next signal."""
    services: Services = request.services
    body: StrategyChange = request.body
    async with services.registrar.changing(_find(request).user_id):
        strategy = _changed(services, _find(request), body)
        with taken(_TAKEN):
            await services.registrar.put_strategy(
                strategy, by=f"user:{request.user.user_id}", action="STRATEGY_CHANGED"
            )
    return strategy_view(strategy)


@endpoint(
    "DELETE",
    "/strategies/{id}",
    permission=Permission.TRADE,
    summary="Delete a strategy",
    response=Deleted,
    errors=(NotFoundError, ForbiddenError),
    tags=_TAGS,
)
async def delete_strategy(request: ApiRequest) -> Deleted:
    """Its sources go with it, their keys stop working; orders on their way go on, history stays.

    Where limits are set for it, it takes an ADMIN: they would end with it.
    """
    services: Services = request.services
    async with services.registrar.changing(_find(request).user_id):
        strategy = _find(request)
        may_end_limits(request.user, services.directory, strategy_id=strategy.id)
        await services.registrar.remove_strategy(strategy.id, by=f"user:{request.user.user_id}")
    return Deleted()


def _find(request: ApiRequest) -> Strategy:
    services: Services = request.services
    strategy_id: UUID = request.path["id"]
    return reachable(request.user, services.directory.strategies.get(strategy_id), "strategy")


def _changed(services: Services, strategy: Strategy, body: StrategyChange) -> Strategy:
    changes: dict[str, Any] = {}
    if body.name is not UNSET:
        changes["name"] = _name(body.name)
    if body.enabled is not UNSET:
        changes["enabled"] = body.enabled
    if body.approval is not UNSET:
        changes["approval"] = body.approval
    if body.allowed_symbols is not UNSET:
        changes["allowed_symbols"] = symbols(body.allowed_symbols)
    if body.defaults is not UNSET:
        changes["defaults"] = defaults(body.defaults)
    if body.accounts is not UNSET:
        changes["targets"] = _targets(services, strategy.user_id, body.accounts)
    return msgspec.structs.replace(strategy, **changes, **settings(body))


def _name(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise invalid({"name": "must be 1 to 100 printable characters"})
    return text.strip()


def _targets(services: Services, owner: UUID, bodies: Sequence[TargetBody]) -> tuple[Target, ...]:
    if len(bodies) > MAX_ACCOUNTS:
        raise invalid({"accounts": f"may have at most {MAX_ACCOUNTS} members"})
    faults = named_twice(bodies)
    targets: dict[UUID, Target] = {}
    for place, body in enumerate(bodies):
        account = services.directory.accounts.get(body.account_id)
        if account is None or account.user_id != owner:
            raise NotFoundError(f"there is no such account: accounts[{place}].accountId")
        targets[body.account_id] = target_of(body, place, faults)
    if faults:
        raise invalid(faults)
    return tuple(targets.values())
