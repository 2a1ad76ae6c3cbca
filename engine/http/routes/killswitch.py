"""/risk/killswitch: stopping a scope, which must always work, and letting it trade again, which must be meant."""

from typing import Annotated
from uuid import UUID

import msgspec

from engine.actors.rearming import Rearming
from engine.domain.enums import KillMode, Role
from engine.domain.killswitch import GLOBAL, KillRecord, parse_scope
from engine.domain.rearming import strategy_accounts
from engine.errors import (
    ApiError,
    ConflictError,
    EngineError,
    ForbiddenError,
    NotFoundError,
    UnavailableError,
)
from engine.http.authentication import require_fresh
from engine.http.endpoint import ApiBody, ApiRequest, Once, endpoint
from engine.http.four_eyes import ask_second_admin
from engine.http.json_body import invalid
from engine.http.permissions import Permission, Principal
from engine.http.ratelimit import RateClass
from engine.http.services import Services
from engine.http.views.kill import (
    Books,
    KillScopeView,
    KillStatusView,
    scope_view,
    status_view,
)
from engine.http.views.kill_certificates import with_sequence
from engine.http.views.ownership import may_reach

_TAGS = ("risk",)

Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
ScopeText = Annotated[str, msgspec.Meta(min_length=1, max_length=60)]


class EnableBody(ApiBody, frozen=True, kw_only=True):
    """``scope`` is global, user:ID, account:ID, strategy:ID or source:ID; from then on nothing of it is sent.

    ``mode`` says what is done beyond that: BLOCK nothing, CANCEL takes back what works at the broker, SQUARE_OFF
    closes the positions too. Without it ``squareOff`` chooses between SQUARE_OFF and BLOCK. A second switching may
    only widen the first. A source has no positions of its own: it is blocked, whatever the mode. The status says how
    far that is, what is not flat and why, and bears the certificate of the end.
    """

    scope: ScopeText
    reason: Reason
    square_off: bool = True
    mode: KillMode | None = None

    @property
    def wanted(self) -> KillMode:
        """The mode that is asked for."""
        return self.mode or (KillMode.SQUARE_OFF if self.square_off else KillMode.BLOCK)


class DisableBody(ApiBody, frozen=True, kw_only=True):
    """``force`` disables although something stands against it."""

    scope: ScopeText
    reason: Reason
    force: bool = False


@endpoint(
    "POST",
    "/risk/killswitch/enable",
    permission=Permission.KILL,
    summary="Enable the kill switch",
    once=Once.OWN,
    body=EnableBody,
    response=KillScopeView,
    errors=(NotFoundError, ForbiddenError),
    rate=RateClass.KILL_SWITCH,
    tags=_TAGS,
)
async def enable(request: ApiRequest) -> KillScopeView:
    """Blocks a scope from this instant on; an ADMIN any, a TRADER its own user, accounts, strategies and sources."""
    services: Services = request.services
    body: EnableBody = request.body
    scope, reason = _scope(body.scope), _reason(body.reason)
    _check_owner(services, request.user, scope)
    record = await services.guardian.block(
        scope,
        reason=reason,
        actor=f"user:{request.user.user_id}",
        mode=body.wanted,
    )
    return _view(services, scope, record)


@endpoint(
    "POST",
    "/risk/killswitch/disable",
    permission=Permission.ADMIN,
    summary="Disable the kill switch",
    once=Once.REPEATABLE,
    body=DisableBody,
    response=KillScopeView,
    errors=(NotFoundError, ForbiddenError, ConflictError, UnavailableError),
    rate=RateClass.KILL_SWITCH,
    tags=_TAGS,
)
async def disable(request: ApiRequest) -> KillScopeView:
    """Lets a scope trade again; narrower scopes that are on stay on.

    Needs an ADMIN who gave the password within the last 5 minutes, and every store. Unless forced it answers
    409, with everything that stands against it in ``details.obstacles``: orders that are UNKNOWN, exits that came
    too late, an unfinished flattening, an account that does not agree with its broker (one that was not compared
    within 30 s is compared now), a store that is away, a clock that cannot be trusted, a loss of the day before the
    next trading day; 409 TRIPPED_AGAIN for a trip that comes meanwhile. Asks for a second ADMIN where the
    configuration says so. What was refused meanwhile is not made up for.
    """
    services: Services = request.services
    body: DisableBody = request.body
    scope, reason = _scope(body.scope), _reason(body.reason)
    require_fresh(request.user, services.clock.now())
    _check_owner(services, request.user, scope)
    record = services.guardian.switches.records.get(scope)
    if record is None or not record.enabled:
        return _view(services, scope, record)
    if not body.force:
        await _refuse_while_unsettled(services, record)
        _refuse_tripped_meanwhile(record, services.guardian.switches.records[scope])
    # bound to this very switching: after another change of the scope the word of the first counts for nothing
    ask_second_admin(services, request.user, scope, (record.version, body.force))
    try:
        released = await services.guardian.release(scope, reason=reason, actor=f"user:{request.user.user_id}")
    except ApiError:
        raise
    except EngineError as error:
        raise UnavailableError(str(error), retry_after_s=2) from error
    return _view(services, scope, released)


@endpoint(
    "GET",
    "/risk/killswitch/status",
    permission=Permission.READ,
    summary="Show the kill switches",
    response=KillStatusView,
    rate=RateClass.KILL_SWITCH,
    tags=_TAGS,
)
async def status(request: ApiRequest) -> KillStatusView:
    """The global scope and every other that was ever switched, as far as it concerns the caller."""
    services: Services = request.services
    caller = request.user
    records = {
        scope: record
        for scope, record in services.guardian.switches.records.items()
        if scope == GLOBAL or caller.is_admin or _concerns(services, caller, scope)
    }
    books = [held for held in books_of(services) if may_reach(caller, held.user_id, held.account_id)]
    view = status_view(records, books, services.directory)
    return KillStatusView(scopes=tuple(told_scope(services, scope, records.get(scope.scope)) for scope in view.scopes))


def books_of(services: Services) -> list[Books]:
    """Return what every executor holds now."""
    return [
        Books(
            account_id=executor.account_id,
            user_id=executor.user_id,
            orders=tuple(executor.desk.orders.values()),
            positions=tuple(executor.desk.holdings.positions.values()),
            gtts=tuple(executor.gtts),
        )
        for executor in services.crew.executors.values()
    ]


def _scope(text: str) -> str:
    try:
        return parse_scope(text)
    except ValueError as error:
        raise invalid({"scope": str(error)}) from None


def _reason(text: str) -> str:
    if not text.strip():
        raise invalid({"reason": "must say why"})
    return text.strip()


def _owner(services: Services, scope: str) -> UUID | None:
    kind, _, number = scope.partition(":")
    if not number:
        return None
    record_id = UUID(number)
    match kind:
        case "user":
            return None if services.users.get(record_id) is None else record_id
        case "account":
            account = services.directory.accounts.get(record_id)
            return None if account is None else account.user_id
        case "source":
            source = services.directory.sources.get(record_id)
            return None if source is None else source.user_id
        case _:
            strategy = services.directory.strategies.get(record_id)
            return None if strategy is None else strategy.user_id


def _concerns(services: Services, caller: Principal, scope: str) -> bool:
    owner = _owner(services, scope)
    kind, _, number = scope.partition(":")
    return owner is not None and may_reach(caller, owner, UUID(number) if kind == "account" else None)


def _check_owner(services: Services, caller: Principal, scope: str) -> None:
    if scope == GLOBAL:
        if caller.role is not Role.ADMIN:
            raise ForbiddenError("the global kill switch is for administrators; use your own user, account or source")
        return
    if caller.is_admin and scope in services.guardian.switches.records:
        return  # what was switched can be switched again, its object deleted or not
    owner = _owner(services, scope)
    if owner is None or not may_reach(caller, owner):
        raise NotFoundError(f"there is no such {scope.partition(':')[0]}")


async def _refuse_while_unsettled(services: Services, record: KillRecord) -> None:
    rearming: Rearming = services.extras["rearming"]
    obstacles = await rearming.against(record)
    if obstacles:
        text = "; ".join(obstacle.text for obstacle in obstacles)
        raise ConflictError(
            f"{text}; mend it, or send force: true",
            code=obstacles[0].code,
            details={"obstacles": [{"code": o.code, "text": o.text} for o in obstacles]},
        )


def _refuse_tripped_meanwhile(before: KillRecord, now: KillRecord) -> None:
    """Refuse to undo a trip that came while accounts were compared: what was looked at is not what stands now."""
    if _trip(before) != _trip(now):
        raise ConflictError(
            f"the kill switch was switched again meanwhile: {now.reason}; look at that, then ask again",
            code="TRIPPED_AGAIN",
        )


def _trip(record: KillRecord) -> tuple[object, ...]:
    # how far its sequence has come is no other trip
    return record.enabled, record.since, record.reason, record.actor, record.mode, record.day


def _view(services: Services, scope: str, record: KillRecord | None) -> KillScopeView:
    view = scope_view(scope, record, books_of(services), strategy_accounts(scope, services.directory))
    return told_scope(services, view, record)


def told_scope(services: Services, view: KillScopeView, record: KillRecord | None) -> KillScopeView:
    """Return *view* with what the kill sequence of *record* knows: what is not flat and why, and the certificate."""
    sequence = services.extras.get("kill_sequence")
    if sequence is None or record is None:
        return view
    certificate = sequence.certificates.get(record.scope)
    return with_sequence(view, record, sequence.ends(record), certificate, delivery=sequence.delivery)
