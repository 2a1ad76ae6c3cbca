"""What a source may ask for at most, whichever way its signals come in, and the record of what was refused."""

from collections.abc import Sequence

from engine.domain import source_checks
from engine.domain.audit import AuditDraft
from engine.domain.directory import Source
from engine.domain.signal import Refusal, Signal
from engine.http.origin import Origin
from engine.http.sender_gate import SignalPace
from engine.http.services import Services

_PACE = "signal_pace"


def checked(services: Services, source: Source, items: tuple[Signal | Refusal, ...]) -> tuple[Signal | Refusal, ...]:
    """Return *items* with what is more than their source may ask for refused (SEC-050)."""
    if source.checks == source_checks.NO_CHECKS:
        return items
    return tuple(item if isinstance(item, Refusal) else _judged(services, source, item) for item in items)


def _judged(services: Services, source: Source, signal: Signal) -> Signal | Refusal:
    last_price = services.prices.get(f"{signal.exchange}:{signal.symbol}")
    return source_checks.refusal(signal, source.checks, last_price) or signal


def pace(services: Services, source: Source, count: int) -> None:
    """Take *count* signals from what a source may send in a minute. Raises RateLimitError."""
    per_minute = source.checks.max_signals_per_minute
    if per_minute is not None:
        buckets: SignalPace = services.extras.setdefault(_PACE, SignalPace())
        buckets.take(source.id, count, per_minute, services.clock.boottime_ns() / 1e9)


def record_refused(request: Origin, source: Source, refusals: Sequence[Refusal]) -> None:
    """Put on record which signals of an authenticated source were refused, and why."""
    services: Services = request.services
    services.ledger.record(
        AuditDraft(
            at=services.clock.now(),
            actor=f"source:{source.id}",
            action="SIGNAL_REFUSED",
            subject=f"source:{source.id}",
            content={
                "requestId": request.request_id,
                "count": len(refusals),
                "refusals": [
                    {"code": refusal.code, "message": refusal.message, "field": refusal.field, "line": refusal.line}
                    for refusal in refusals[:10]
                ],
            },
        )
    )
