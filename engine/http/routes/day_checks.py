"""/system/readiness: what could break the day, and an administrator's word that it may begin all the same."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import msgspec
import trio

from engine.actors.morning_report import MorningReport
from engine.domain.calendar import next_open
from engine.domain.day_checks import Check, State, worst
from engine.domain.enums import Exchange
from engine.domain.readiness_gate import GateMode
from engine.errors import ConflictError, UnavailableError
from engine.http.endpoint import ApiBody, ApiRequest, ApiStruct, endpoint
from engine.http.permissions import Permission
from engine.http.services import Services

_TAGS = ("system",)
_EXAMINE_S = 28.0
Reason = Annotated[str, msgspec.Meta(min_length=3, max_length=500, examples=["checked by hand"])]


class DayCheckView(ApiStruct, frozen=True, kw_only=True):
    """One check: ``scope`` is engine, account or source; ``id`` and ``name`` are of the account or source."""

    code: str
    scope: str
    id: UUID | None
    name: str
    state: str
    found: str
    mend: str
    checked_at: datetime


class OverrideView(ApiStruct, frozen=True, kw_only=True):
    """Who let entries through in spite of failed checks, when and why."""

    by: str
    at: datetime
    reason: str


class GateView(ApiStruct, frozen=True, kw_only=True):
    """The morning's gate: ``held`` is why every entry is refused now, null when none is; ``accounts`` those of which
    entries are, each with why."""

    mode: GateMode
    held: str | None
    accounts: dict[UUID, str]
    override: OverrideView | None


class DayReadinessView(ApiStruct, frozen=True, kw_only=True):
    """``state`` is the worst of all checks: ok, warn or fail; ``opensAt`` when NSE opens next."""

    state: str
    checked_at: datetime
    opens_at: datetime | None
    gate: GateView
    checks: tuple[DayCheckView, ...]


class OverrideBody(ApiBody, frozen=True, kw_only=True):
    """Why the day may begin in spite of failed checks."""

    reason: Reason


@endpoint(
    "GET",
    "/system/readiness",
    permission=Permission.ADMIN,
    summary="What could break the day",
    response=DayReadinessView,
    errors=(UnavailableError,),
    tags=_TAGS,
)
async def day_readiness(request: ApiRequest) -> DayReadinessView:
    """Makes every check of `engine doctor` now, each account's at its broker; each that failed says its mend."""
    services: Services = request.services
    with trio.move_on_after(_EXAMINE_S):
        checks: tuple[Check, ...] = await services.extras["doctor"].examine()
        return _view(services, checks)
    raise UnavailableError("the checks take too long; try again", retry_after_s=5)


@endpoint(
    "POST",
    "/system/readiness/override",
    permission=Permission.ADMIN,
    summary="Let entries through in spite of failed checks",
    body=OverrideBody,
    response=GateView,
    errors=(ConflictError, UnavailableError),
    tags=_TAGS,
)
async def override_readiness(request: ApiRequest) -> GateView:
    """Until the next morning's report. Goes on the audit log and is an alert; 409 while nothing is held back."""
    services: Services = request.services
    body: OverrideBody = request.body
    await _morning(services).override(
        by=f"user:{request.user.user_id}",
        reason=body.reason,
        content={"requestId": request.request_id, "ip": request.client_ip},
    )
    return _gate(services)


def _morning(services: Services) -> MorningReport:
    morning: MorningReport = services.extras["morning"]
    return morning


def _gate(services: Services) -> GateView:
    morning = _morning(services)
    by_account = {account_id: morning.held(account_id) for account_id in services.directory.accounts}
    made = morning.gate.override if morning.mode == "block" and morning.held() is None else None
    return GateView(
        mode=morning.mode,
        held=morning.held(),
        accounts={account_id: why for account_id, why in by_account.items() if why is not None},
        override=None if made is None else OverrideView(by=made.by, at=made.at, reason=made.reason),
    )


def _view(services: Services, checks: tuple[Check, ...]) -> DayReadinessView:
    now = services.clock.now()
    opens = next_open(Exchange.NSE, now, services.extras["calendar"])
    return DayReadinessView(
        state=worst(checks).value,
        checked_at=min((each.checked_at for each in checks), default=now),
        opens_at=None if opens is None else opens.astimezone(UTC),
        gate=_gate(services),
        checks=tuple(
            DayCheckView(
                code=each.code,
                scope=each.scope.value,
                id=each.subject,
                name=each.name,
                state=State(each.state).value,
                found=each.found,
                mend=each.mend,
                checked_at=each.checked_at,
            )
            for each in checks
        ),
    )
