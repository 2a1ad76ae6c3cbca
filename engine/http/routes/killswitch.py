"""/risk/killswitch: stopping a scope, which must always work, and letting it trade again, which must be meant."""

from datetime import timedelta
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
from engine.http.endpoint import ApiBody, ApiRequest, endpoint
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
_STEP_UP = timedelta(minutes=5)
_SECOND_WITHIN = timedelta(minutes=10)
_FIRST_ADMINS = "killswitch_first_admins"

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
    permission=Permission.TRADE,
    summary="Enable the kill switch",
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
    next trading day. Asks for a second ADMIN where the configuration says so. What was refused meanwhile is not
    made up for.
    """
    services: Services = request.services
    body: DisableBody = request.body
    scope, reason = _scope(body.scope), _reason(body.reason)
    if services.clock.now() - request.user.signed_in_at > _STEP_UP:
        raise ForbiddenError("sign in again: this needs a sign-in of the last 5 minutes", code="STEP_UP_REQUIRED")
    _check_owner(services, request.user, scope)
    record = services.guardian.switches.records.get(scope)
    if record is None or not record.enabled:
        return _view(services, scope, record)
    if not body.force:
        await _refuse_while_unsettled(services, record)
    _ask_second_admin(services, request.user, scope, force=body.force)
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
        if scope == GLOBAL or caller.is_admin or _owner(services, scope) == caller.user_id
    }
    books = [held for held in books_of(services) if may_reach(caller, held.user_id)]
    view = status_view(records, books, services.directory)
    return KillStatusView(scopes=tuple(_told(services, scope, records.get(scope.scope)) for scope in view.scopes))


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


def _ask_second_admin(services: Services, caller: Principal, scope: str, *, force: bool) -> None:
    if not services.config.security.two_admins:
        return
    now = services.clock.now()
    asked = services.extras.setdefault(_FIRST_ADMINS, {})
    held = services.guardian.switches.records[scope]
    # bound to this very switching: after another change of the scope it counts for nothing
    key = (scope, held.version, force)
    first = asked.get(key)
    if first is not None and first[0] != caller.user_id and now - first[1] <= _SECOND_WITHIN:
        asked.clear()
        return
    asked[key] = (caller.user_id, now)
    raise ConflictError("a second administrator must ask for the same within 10 minutes", code="SECOND_ADMIN_REQUIRED")


def _view(services: Services, scope: str, record: KillRecord | None) -> KillScopeView:
    view = scope_view(scope, record, books_of(services), strategy_accounts(scope, services.directory))
    return _told(services, view, record)


def _told(services: Services, view: KillScopeView, record: KillRecord | None) -> KillScopeView:
    sequence = services.extras.get("kill_sequence")
    if sequence is None or record is None:
        return view
    certificate = sequence.certificates.get(record.scope)
    return with_sequence(view, record, sequence.ends(record), certificate, delivery=sequence.delivery)
