"""Who sends a signed webhook: key, signature, freshness, address, pace, in that order.

An unknown key, a source that is switched off and a wrong signature take the same steps and get the
same answer, so that nobody can find out which keys exist (SEC-044). Refusals are put on record at a
bounded pace, so that a flood of them cannot fill the ledger.
"""

import hashlib
import hmac
import secrets
from functools import lru_cache
from typing import Any

from engine.domain.audit import AuditDraft
from engine.domain.directory import Source
from engine.domain.enums import SourceType
from engine.errors import ForbiddenError, UnauthorizedError
from engine.http.address_presets import with_presets
from engine.http.client_ip import Network, is_in, parse_address, parse_networks
from engine.http.endpoint import ApiRequest
from engine.http.origin import Origin
from engine.http.refusal_pace import RefusalPace
from engine.http.services import Services
from engine.runtime.crashpoint import crashpoint
from engine.security import standard_webhooks
from engine.security.signatures import SignatureFault, verify

JSON_DOORS = frozenset({SourceType.SHEETS, SourceType.WEBHOOK})
_DUMMY_SECRET = secrets.token_bytes(32)
_PACE = "refusal_pace"

_TEXTS = {
    SignatureFault.MISSING_SIGNATURE: "X-Signature is missing: send the HMAC-SHA256 of the body in lower-case hex",
    SignatureFault.BAD_SIGNATURE: "X-API-Key and X-Signature do not belong to this body",
    SignatureFault.TIMESTAMP_REQUIRED: "X-Timestamp is missing: send the Unix seconds, signed with the body",
    SignatureFault.TIMESTAMP_MALFORMED: "X-Timestamp must be Unix seconds in plain digits",
    SignatureFault.TIMESTAMP_STALE: "X-Timestamp is too far from now: check the sender's clock",
}
_STANDARD_TEXTS = {
    SignatureFault.MISSING_SIGNATURE: "webhook-id or webhook-signature is missing: send both, as Standard Webhooks do",
    SignatureFault.BAD_SIGNATURE: "no webhook-signature fits this source, id, timestamp and body",
    SignatureFault.TIMESTAMP_REQUIRED: "webhook-timestamp is missing: send the Unix seconds, signed with the body",
    SignatureFault.TIMESTAMP_MALFORMED: "webhook-timestamp must be Unix seconds in plain digits",
    SignatureFault.TIMESTAMP_STALE: "webhook-timestamp is too far from now: check the sender's clock",
    SignatureFault.ID_MALFORMED: "webhook-id must be 1 to 128 letters, digits, - or _",
}


def authenticate_source(request: ApiRequest, raw: bytes) -> Source:
    """Return the source that signed *raw*, known by its X-API-Key.

    Raises UnauthorizedError with the code of what is wrong, ForbiddenError for an address that the
    source does not allow, RateLimitError.
    """
    services: Services = request.services
    now = services.clock.now()
    digest = hashlib.sha256((request.header("x-api-key") or "").encode()).digest()
    source = services.directory.source_by_key_hash(digest)
    usable = is_usable(source, JSON_DOORS)
    secret = None if source is None or not usable else source.secret_of_key(digest, now)
    fault = verify(
        _DUMMY_SECRET if secret is None else secret.reveal().encode(),
        raw,
        request.header("x-signature"),
        request.header("x-timestamp"),
        now=now,
        max_skew_s=services.config.signals.max_clock_skew_s,
        require_timestamp=source.require_timestamp if source is not None and usable else True,
    )
    if fault is None and secret is None:
        fault = SignatureFault.BAD_SIGNATURE
    return admit(request, source, None if fault is None else fault.value, fault and _TEXTS[fault])


def authenticate_standard(request: ApiRequest, raw: bytes) -> Source:
    """Return the source in the path, which signed *raw* in the form of Standard Webhooks.

    While a rotation's grace lasts both secrets are tried. Raises as `authenticate_source` does.
    """
    services: Services = request.services
    now = services.clock.now()
    source = services.directory.sources.get(request.path["sourceId"])
    usable = is_usable(source, JSON_DOORS)
    believed = source.secrets(now) if source is not None and usable else ()
    fault = standard_webhooks.verify(
        [standard_webhooks.key_bytes(secret.reveal()) for secret in believed] or [_DUMMY_SECRET],
        raw,
        message_id=request.header("webhook-id"),
        timestamp=request.header("webhook-timestamp"),
        signatures=request.header("webhook-signature"),
        now=now,
        max_skew_s=services.config.signals.max_clock_skew_s,
    )
    if fault is None and not believed:
        fault = SignatureFault.BAD_SIGNATURE
    return admit(request, source, None if fault is None else fault.value, fault and _STANDARD_TEXTS[fault])


def is_usable(source: Source | None, doors: frozenset[SourceType]) -> bool:
    """Tell whether *source* may send through one of *doors* at all."""
    return source is not None and source.enabled and source.type in doors and bool(source.secret)


def holds_secret(request: ApiRequest, source: Source | None, given: str, doors: frozenset[SourceType]) -> bool:
    """Tell whether *given* is a secret of *source*, in time that tells nothing about it or about the source."""
    services: Services = request.services
    usable = is_usable(source, doors)
    held = source.secrets(services.clock.now()) if source is not None and usable else ()
    believed = [secret.reveal().encode() for secret in held] or [_DUMMY_SECRET]
    claimed = hashlib.sha256(given.encode("utf-8", "surrogatepass")).digest()
    # hashes are of one length, whatever was given
    matches = [hmac.compare_digest(hashlib.sha256(secret).digest(), claimed) for secret in believed]
    return usable and any(matches)


def admit(request: ApiRequest, source: Source | None, code: str | None, text: str | None) -> Source:
    """Let an authenticated source in, by its address and pace; *code* and *text* say what is wrong with it.

    Raises UnauthorizedError, ForbiddenError, RateLimitError.
    """
    services: Services = request.services
    if code is not None or source is None:
        found = code or SignatureFault.BAD_SIGNATURE.value
        record_refusal(request, found, source)
        raise UnauthorizedError(text or _TEXTS[SignatureFault.BAD_SIGNATURE], code=found)
    if not is_allowed_from(source, request.client_ip):
        record_refusal(request, "IP_NOT_ALLOWED", source)
        raise ForbiddenError("this source may not send from this address", code="IP_NOT_ALLOWED")
    services.rate_limits.webhook(source.id)
    crashpoint("S1.authenticated")
    return source


def is_allowed_from(source: Source, client_ip: str) -> bool:
    """Tell whether *source* may send from *client_ip*; without a list from anywhere."""
    return not source.ip_allowlist or is_from(client_ip, source.ip_allowlist)


def is_from(client_ip: str, entries: tuple[str, ...]) -> bool:
    """Tell whether *client_ip* lies in one of *entries*, addresses and networks."""
    address = parse_address(client_ip)
    return address is not None and is_in(address, _networks(entries))


@lru_cache(maxsize=1024)
def _networks(entries: tuple[str, ...]) -> tuple[Network, ...]:
    return parse_networks(with_presets(entries), key="ipAllowlist")


def record_refusal(request: ApiRequest, code: str, source: Source | None) -> None:
    """Put a refused webhook on record, unless many were lately."""
    known = None if source is None else f"source:{source.id}"
    content = {"code": code, "path": request.endpoint.path}
    record_paced(
        request, known or request.client_ip, "WEBHOOK_REFUSED", subject=known or "source:unknown", content=content
    )


def record_paced(request: Origin, key: str, action: str, *, subject: str, content: dict[str, Any]) -> None:
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
