"""Who sends a signed webhook: key, signature, freshness, address, pace, in that order.

An unknown key, a source that is switched off and a wrong signature take the same steps and get the
same answer, so that nobody can find out which keys exist (SEC-044). Refusals are put on record at a
bounded pace, so that a flood of them cannot fill the ledger.
"""

import hashlib
import secrets
from collections import OrderedDict
from functools import lru_cache
from typing import Any

from engine.domain.audit import AuditDraft
from engine.domain.directory import Source
from engine.domain.enums import SourceType
from engine.errors import ForbiddenError, UnauthorizedError
from engine.http.client_ip import Network, is_in, parse_address, parse_networks
from engine.http.endpoint import ApiRequest
from engine.http.services import Services
from engine.security.signatures import SignatureFault, verify

JSON_DOORS = frozenset({SourceType.SHEETS, SourceType.WEBHOOK})
_DUMMY_SECRET = secrets.token_bytes(32)
_PACE = "refusal_pace"
_QUIET_S = 10.0
_RECORDS_IN_QUIET = 50
_MAX_KEYS = 2_000

_TEXTS = {
    SignatureFault.MISSING_SIGNATURE: "X-Signature is missing: send the HMAC-SHA256 of the body in lower-case hex",
    SignatureFault.BAD_SIGNATURE: "X-API-Key and X-Signature do not belong to this body",
    SignatureFault.TIMESTAMP_REQUIRED: "X-Timestamp is missing: send the Unix seconds, signed with the body",
    SignatureFault.TIMESTAMP_MALFORMED: "X-Timestamp must be Unix seconds in plain digits",
    SignatureFault.TIMESTAMP_STALE: "X-Timestamp is too far from now: check the sender's clock",
}


class RefusalPace:
    """Lets one refusal of each key through in 10 s, and 50 of all keys together; counts the others."""

    def __init__(self) -> None:
        self._last: OrderedDict[str, float] = OrderedDict()
        self._began = float("-inf")
        self._in_window = 0
        self._kept_back = 0

    def let(self, key: str, now_s: float) -> int | None:
        """Return how many refusals were kept back since the last one let through; None to keep this one back."""
        if now_s - self._began >= _QUIET_S:
            self._began, self._in_window = now_s, 0
        last = self._last.get(key)
        if self._in_window >= _RECORDS_IN_QUIET or (last is not None and now_s - last < _QUIET_S):
            self._kept_back += 1
            return None
        self._last.pop(key, None)
        self._last[key] = now_s
        if len(self._last) > _MAX_KEYS:
            self._last.popitem(last=False)
        self._in_window += 1
        kept_back, self._kept_back = self._kept_back, 0
        return kept_back


def authenticate_source(request: ApiRequest, raw: bytes) -> Source:
    """Return the source that signed *raw*.

    Raises UnauthorizedError with the code of what is wrong, ForbiddenError for an address that the
    source does not allow, RateLimitError.
    """
    services: Services = request.services
    api_key = request.header("x-api-key") or ""
    source = services.directory.source_by_key_hash(hashlib.sha256(api_key.encode()).digest())
    usable = source is not None and source.enabled and source.type in JSON_DOORS and bool(source.secret)
    secret = source.secret.reveal().encode() if source and source.secret and usable else _DUMMY_SECRET
    fault = verify(
        secret,
        raw,
        request.header("x-signature"),
        request.header("x-timestamp"),
        now=services.clock.now(),
        max_skew_s=services.config.signals.max_clock_skew_s,
        require_timestamp=source.require_timestamp if source is not None and usable else True,
    )
    if fault is None and not usable:
        fault = SignatureFault.BAD_SIGNATURE
    if fault is not None or source is None:
        code = fault or SignatureFault.BAD_SIGNATURE
        record_refusal(request, code.value, source)
        raise UnauthorizedError(_TEXTS[code], code=code.value)
    if not is_allowed_from(source, request.client_ip):
        record_refusal(request, "IP_NOT_ALLOWED", source)
        raise ForbiddenError("this source may not send from this address", code="IP_NOT_ALLOWED")
    services.rate_limits.webhook(source.id)
    return source


def is_allowed_from(source: Source, client_ip: str) -> bool:
    """Tell whether *source* may send from *client_ip*; without a list from anywhere."""
    if not source.ip_allowlist:
        return True
    address = parse_address(client_ip)
    return address is not None and is_in(address, _networks(source.ip_allowlist))


@lru_cache(maxsize=1024)
def _networks(entries: tuple[str, ...]) -> tuple[Network, ...]:
    return parse_networks(entries, key="ipAllowlist")


def record_refusal(request: ApiRequest, code: str, source: Source | None) -> None:
    """Put a refused webhook on record, unless many were lately."""
    known = None if source is None else f"source:{source.id}"
    content = {"code": code, "path": request.endpoint.path}
    record_paced(
        request, known or request.client_ip, "WEBHOOK_REFUSED", subject=known or "source:unknown", content=content
    )


def record_paced(request: ApiRequest, key: str, action: str, *, subject: str, content: dict[str, Any]) -> None:
    """Put something that strangers can cause at will on record: once in 10 s for each *key*, counting the rest."""
    services: Services = request.services
    pace: RefusalPace = services.extras.setdefault(_PACE, RefusalPace())
    kept_back = pace.let(key, services.clock.boottime_ns() / 1e9)
    if kept_back is None:
        return
    services.ledger.record(
        AuditDraft(
            at=services.clock.now(),
            actor="system",
            action=action,
            subject=subject,
            content={
                **content,
                "ip": request.client_ip,
                "requestId": request.request_id,
                **({"keptBackBefore": kept_back} if kept_back else {}),
            },
        )
    )
