"""/signals/tradingview: alerts of TradingView, which can neither sign nor set a header."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from uuid import UUID

import msgspec

from engine.domain.directory import Source
from engine.domain.enums import SourceType
from engine.errors import UnauthorizedError
from engine.http.doors import TRADINGVIEW
from engine.http.endpoint import ApiRequest, endpoint
from engine.http.permissions import Permission
from engine.http.routes.signals import WEBHOOK_ERRORS
from engine.http.services import Services
from engine.http.signal_intake import take_in
from engine.http.views.verdicts import VerdictView
from engine.http.webhook_auth import admit, holds_secret, record_refusal
from engine.signals import tradingview

DOOR = frozenset({SourceType.TRADINGVIEW})
REPEAT_S = 45
"""Within so many seconds the same alert without a ``timenow`` is the same delivery. TradingView sends an alert that was
answered by an error up to three times again, 5 s apart, and waits 3 s for each answer; a strategy's bar is a minute at
the least, but what is sent at the end of two bars does not come just as far apart."""
_TEXTS = {
    "BAD_SECRET": "the secret does not belong to this source",
    "MISSING_SECRET": "send the source's secret: use its webhookUrl, a JSON key secret or a line Secret:",
}
_MAX_ALERTS = 10_000
_ALERTS = "tradingview_alerts"


class AlertQuery(msgspec.Struct, frozen=True, kw_only=True):
    """``secret`` is that of the source, as its webhookUrl carries it."""

    secret: str | None = None


class RecentAlerts:
    """In which second an alert that does not say its time came first, for `REPEAT_S` seconds."""

    def __init__(self) -> None:
        self._first: OrderedDict[tuple[UUID, bytes], int] = OrderedDict()

    def first_at(self, source_id: UUID, body: bytes, now_s: int, is_known: Callable[[int], bool]) -> int:
        """Return when the alert whose *body* has this hash came first, now if that is forgotten (Unix seconds).

        *is_known* tells whether a life before this one took it in as one of that second.
        """
        place = (source_id, body)
        first = self._first.get(place)
        if first is None or not 0 <= now_s - first < REPEAT_S:
            self._first.pop(place, None)
            first = next((at for at in range(now_s, now_s - REPEAT_S, -1) if is_known(at)), now_s)
            self._first[place] = first
        if len(self._first) > _MAX_ALERTS:
            self._first.popitem(last=False)
        return first


@endpoint(
    "POST",
    "/signals/tradingview/{sourceId}",
    permission=Permission.WEBHOOK,
    summary="Send an alert from TradingView",
    query=AlertQuery,
    door=TRADINGVIEW,
    response=VerdictView | list[VerdictView],
    status=202,
    errors=WEBHOOK_ERRORS,
    raw_body=True,
    tags=("signals",),
)
async def tradingview_alert(request: ApiRequest) -> VerdictView | list[VerdictView]:
    """Takes the message of an alert, as text or JSON; its content type does not matter.

    The secret comes with the address (``webhookUrl``), or in the body as ``secret`` or a line ``Secret:``. With
    ``timenow`` an alert is refused when it is too old, and told from a later one with the same words; without, the same
    words within 45 s are a repeat.
    """
    query: AlertQuery = request.query
    services: Services = request.services
    source = services.directory.sources.get(request.path["sourceId"])
    if query.secret is not None and not holds_secret(request, source, query.secret, DOOR):
        admit(request, source, "BAD_SECRET", _TEXTS["BAD_SECRET"])
    alert = tradingview.parse(request.raw)
    source = _authenticate(request, source, [s for s in (query.secret, alert.secret) if s is not None])
    now = services.clock.now()
    skew_s = services.config.signals.max_clock_skew_s
    if alert.fired_at is not None and abs((now - alert.fired_at).total_seconds()) > skew_s:
        record_refusal(request, "TIMESTAMP_STALE", source)
        raise UnauthorizedError(
            f"timenow is more than {skew_s} s from now: the alert is too old", code="TIMESTAMP_STALE"
        )
    body = hashlib.sha256(request.raw).digest()
    key = f"alert:{body.hex()}"
    if alert.fired_at is None:
        recent: RecentAlerts = services.extras.setdefault(_ALERTS, RecentAlerts())
        # named by the second of the first, which is found again after a crash
        stem = key
        first_at = recent.first_at(
            source.id, body, int(now.timestamp()), lambda at: services.ingest.holds(source.id, f"{stem}:{at}")
        )
        key = f"{stem}:{first_at}"
    return await take_in(request, source, alert.content, key=key)


def _authenticate(request: ApiRequest, source: Source | None, secrets: list[str]) -> Source:
    """Let *source* in. Raises UnauthorizedError unless every secret given, at least one, is its own."""
    good = [holds_secret(request, source, secret, DOOR) for secret in secrets or [""]]
    if secrets and all(good):
        return admit(request, source, None, None)
    code = "BAD_SECRET" if secrets else "MISSING_SECRET"
    return admit(request, source, code, _TEXTS[code])
