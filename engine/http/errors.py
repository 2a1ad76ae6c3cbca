"""Every failure in one form: the error envelope of the contract's section 3."""

import logging
from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any

import msgspec

from engine.errors import (
    ApiError,
    AskTimeout,
    BrokerUnavailable,
    Fenced,
    InternalServerError,
    JournalUnavailable,
    MailboxFull,
    StoreUnavailable,
    Unavailable,
    UnavailableError,
)

logger = logging.getLogger("engine.http")
RETRY_AFTER_S = 2

_UNAVAILABLE: tuple[tuple[type[Exception], str], ...] = (
    (StoreUnavailable, "the database cannot be reached now"),
    (JournalUnavailable, "the journal cannot be reached now"),
    (BrokerUnavailable, "the broker cannot be reached now"),
    (Fenced, "this engine is on standby"),
    (MailboxFull, "too much is waiting already"),
    (AskTimeout, "the answer took too long"),
    (Unavailable, "this cannot be done now"),
)


class ErrorDetail(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What went wrong: text for people, ``code`` for programs, ``details.fields`` for a wrong field."""

    message: str
    code: str
    status_code: int
    timestamp: str
    details: Mapping[str, Any]


class ErrorEnvelope(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The body of every answer that is not a success."""

    success: bool
    error: ErrorDetail


class BareErrorEnvelope(ErrorEnvelope, frozen=True, kw_only=True):
    """The same for programs that know another form: they read ``status``, always "error", and ``message``."""

    status: str
    message: str


def to_api_error(error: BaseException, *, request_id: str) -> ApiError:
    """Return the HTTP face of *error*; what has none is logged and becomes a generic 500."""
    if isinstance(error, ApiError):
        if error.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR and error.status_code != 503:
            logger.error("request %s failed: %s", request_id, error.code, exc_info=error)
        return error
    for kind, text in _UNAVAILABLE:
        if isinstance(error, kind):
            logger.warning("request %s: %s (%s)", request_id, text, error)
            return UnavailableError(f"{text}; try again", retry_after_s=RETRY_AFTER_S)
    logger.error("request %s failed", request_id, exc_info=error)
    return InternalServerError(f"internal error; the log has it under request {request_id}")


def error_body(error: ApiError, now: datetime, *, bare: bool = False) -> bytes:
    """Return the envelope of *error* as JSON; *bare* adds what programs of another form read."""
    return envelope(error.status_code, error.code, error.message, now, error.details, bare=bare)


def error_headers(error: ApiError) -> dict[str, str]:
    """Return the headers that an error brings along."""
    headers = {}
    if error.status_code in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
        headers["Retry-After"] = str(error.retry_after_s or RETRY_AFTER_S)
    if error.status_code == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return headers


def envelope(
    status: int,
    code: str,
    message: str,
    now: datetime,
    details: Mapping[str, Any] | None = None,
    *,
    bare: bool = False,
) -> bytes:
    """Return an error envelope as JSON; the timestamp has milliseconds."""
    stamp = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    detail = ErrorDetail(message=message, code=code, status_code=status, timestamp=stamp, details=details or {})
    if bare:
        return encode(BareErrorEnvelope(success=False, error=detail, status="error", message=message))
    return encode(ErrorEnvelope(success=False, error=detail))


_encoder = msgspec.json.Encoder(decimal_format="number")


def encode(value: Any) -> bytes:
    """Encode as the API does: decimals as JSON numbers, times in ISO 8601."""
    return _encoder.encode(value)
