"""/alerts: what a person must look at, and that somebody has."""

from uuid import UUID

import structlog

from engine.actors.alert_desk import AlertDesk
from engine.domain.alert_book import AlertRecord
from engine.domain.alert_rules import Severity
from engine.domain.audit import AuditDraft
from engine.errors import MailboxFull, NotFoundError
from engine.http.endpoint import ApiRequest, Once, Page, endpoint
from engine.http.paging import PageQuery, PageWindow
from engine.http.permissions import Permission, Principal
from engine.http.services import Services
from engine.http.views.alerts import AlertListView, AlertStatus, alert_view, status_of

_log = structlog.get_logger(__name__)

_TAGS = ("alerts",)


class AlertQuery(PageQuery, frozen=True, kw_only=True):
    """Filters of the list; ``from`` and ``to`` speak of when an alert was raised first."""

    status: AlertStatus | None = None
    severity: Severity | None = None
    code: str | None = None


@endpoint(
    "GET",
    "/alerts",
    permission=Permission.READ,
    summary="List alerts",
    query=AlertQuery,
    list_of=AlertListView,
    tags=_TAGS,
)
async def list_alerts(request: ApiRequest) -> Page[AlertListView]:
    """The newest 2,000 alerts at most, newest first, from memory: also while the store is away.

    A caller sees those of its own objects, an ADMIN those of the engine too.
    """
    query: AlertQuery = request.query
    window = query.window()
    found = [
        record
        for record in _desk(request).book.newest_first()
        if _may_see(request.user, record)
        and _is_within(record, window)
        and query.status in (None, status_of(record))
        and query.severity in (None, record.severity)
        and query.code in (None, record.code)
    ]
    page = Page.cut(found[: window.limit + 1], window, key=lambda record: (record.first_at, record.id))
    return page.map(alert_view)


@endpoint(
    "POST",
    "/alerts/{id}/ack",
    permission=Permission.TRADE,
    summary="Acknowledge an alert",
    response=AlertListView,
    errors=(NotFoundError,),
    once=Once.REPEATABLE,
    tags=_TAGS,
)
async def acknowledge_alert(request: ApiRequest) -> AlertListView:
    """Says that the caller has seen it: it is not told again while it goes on. The first acknowledgement counts."""
    desk, alert_id = _desk(request), request.path["id"]
    held = desk.book.get(alert_id)
    if held is None or not _may_see(request.user, held):
        raise NotFoundError("there is no such alert")
    by = f"user:{request.user.user_id}"
    record = desk.acknowledge(alert_id, by=by) or held
    if held.acked_at is None:
        record_acknowledged(request.services, alert_id, by=by)
    return alert_view(record)


def record_acknowledged(services: Services, alert_id: UUID, *, by: str) -> None:
    """Put an acknowledgement on record; a ledger without room does not undo it."""
    draft = AuditDraft(at=services.clock.now(), actor=by, action="ALERT_ACKNOWLEDGED", subject=f"alert:{alert_id}")
    try:
        services.ledger.record(draft)
    except MailboxFull as error:
        _log.error("alerts.ack_not_recorded", alert=str(alert_id), error=str(error))


def _may_see(caller: Principal, record: AlertRecord) -> bool:
    return (
        caller.is_admin
        or (record.user_id is not None and record.user_id in {caller.user_id, *caller.granted_users})
        or (record.account_id is not None and record.account_id in caller.granted_accounts)
    )


def _is_within(record: AlertRecord, window: PageWindow) -> bool:
    after = window.after()
    return (
        (window.start is None or record.first_at >= window.start)
        and (window.end is None or record.first_at < window.end)
        and (after is None or (record.first_at, record.id) < after)
    )


def _desk(request: ApiRequest) -> AlertDesk:
    desk: AlertDesk = request.services.extras["alerts"]
    return desk
