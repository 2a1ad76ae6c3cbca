"""What is refused leaves its record, and a crowd of refusals does not fill the log: paced by whom and in all."""

from engine.domain.audit import AuditDraft
from engine.errors import ApiError, ForbiddenError, RateLimitError, UnauthorizedError
from engine.http.endpoint import ApiRequest
from engine.http.permissions import WITHOUT_BEARER
from engine.http.ports import CoreServices
from engine.http.refusal_pace import RefusalPace

_ACTIONS: tuple[tuple[type[ApiError], str], ...] = (
    (UnauthorizedError, "TOKEN_REFUSED"),
    (ForbiddenError, "ACCESS_DENIED"),
    (RateLimitError, "RATE_LIMITED"),
)


class RefusalLog:
    """Puts on record who was refused at an operation that needs a token, and who came too often (SEC-103)."""

    def __init__(self, services: CoreServices) -> None:
        self._services = services
        self._pace = RefusalPace()

    def note(self, request: ApiRequest, error: ApiError) -> None:
        """Record *error*, if it is a refusal of that kind and its caller has none on record of the last moments."""
        action = next((action for kind, action in _ACTIONS if isinstance(error, kind)), None)
        if action is None or request.endpoint.permission in WITHOUT_BEARER:
            return
        if request.principal is None and request.header("authorization") is None:
            return  # whoever has not signed in yet attacks nothing
        who = request.client_ip if request.principal is None else f"user:{request.principal.user_id}"
        kept_back = self._pace.let(f"{action} {who}", self._services.clock.boottime_ns() / 1e9)
        if kept_back is None:
            return
        self._services.ledger.record(
            AuditDraft(
                at=self._services.clock.now(),
                actor="system" if request.principal is None else who,
                action=action,
                subject=f"{request.method} {request.endpoint.template}",
                content={
                    "code": error.code,
                    "ip": request.client_ip,
                    "requestId": request.request_id,
                    **({"keptBackBefore": kept_back} if kept_back else {}),
                },
            )
        )
