"""Every error the engine raises on purpose.

`EngineError` is the root. Errors with an HTTP face say their status and code here, in one place
(contract section 3); everything else becomes a generic 500 at the HTTP edge. A refusal by risk or a
parser is a value, not one of these.
"""

from collections.abc import Mapping
from typing import Any


class EngineError(Exception):
    """Something went wrong that the engine has a word for."""


class ConfigError(EngineError):
    """The configuration cannot be used; the message names file, key and what was expected."""


class StartupError(EngineError):
    """The engine cannot start or go on; the message is one line that names the mend."""


class Unavailable(EngineError):
    """A store, the journal or the broker cannot be reached now; trying later may help."""


class StoreUnavailable(Unavailable):
    """PostgreSQL cannot be reached, or did not answer in time."""


class JournalUnavailable(Unavailable):
    """The journal (Valkey) cannot make an entry durable now."""


class BrokerUnavailable(Unavailable):
    """A read from the broker failed or could not be understood."""


class OutcomeUnknown(EngineError):
    """A write was sent and its outcome is not known."""


class Fenced(EngineError):
    """Another engine holds the lease: this one must not write or send any more."""


class MailboxFull(EngineError):
    """A bounded mailbox has no room and its policy is to refuse."""


class AskTimeout(EngineError):
    """An actor did not answer within the deadline."""


class ApiError(EngineError):
    """An error with an HTTP face; subclasses fix the type, the instance gives code and message."""

    status_code = 500
    default_code = "INTERNAL_ERROR"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        details: Mapping[str, Any] | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.details = dict(details or {})
        self.retry_after_s = retry_after_s


class BadRequestError(ApiError):
    """400: the request cannot be read."""

    status_code = 400
    default_code = "BAD_REQUEST"


class UnauthorizedError(ApiError):
    """401: who asks is not known."""

    status_code = 401
    default_code = "UNAUTHORIZED"


class ForbiddenError(ApiError):
    """403: who asks may not."""

    status_code = 403
    default_code = "FORBIDDEN"


class RiskViolationError(ForbiddenError):
    """403: a risk rule forbids it."""

    default_code = "RISK_VIOLATION"


class NotFoundError(ApiError):
    """404: no such thing, or not the caller's."""

    status_code = 404
    default_code = "NOT_FOUND"


class MethodNotAllowedError(ApiError):
    """405: the path is known, the method is not."""

    status_code = 405
    default_code = "METHOD_NOT_ALLOWED"


class ConflictError(ApiError):
    """409: it clashes with what is there."""

    status_code = 409
    default_code = "CONFLICT"


class PayloadTooLargeError(ApiError):
    """413: the body is over the limit."""

    status_code = 413
    default_code = "PAYLOAD_TOO_LARGE"


class UnsupportedMediaTypeError(ApiError):
    """415: the content type is not one this path reads."""

    status_code = 415
    default_code = "UNSUPPORTED_MEDIA_TYPE"


class ValidationError(ApiError):
    """422: readable, but a field is wrong; ``details.fields`` maps field to mend."""

    status_code = 422
    default_code = "VALIDATION_ERROR"


class RateLimitError(ApiError):
    """429: too often; carries Retry-After."""

    status_code = 429
    default_code = "RATE_LIMITED"


class InternalServerError(ApiError):
    """500: our fault; says nothing of the inside."""


class OrderExecutionError(ApiError):
    """500: the broker did not do what was asked."""

    default_code = "ORDER_EXECUTION_FAILED"


class UnavailableError(ApiError):
    """503: cannot be done now; carries Retry-After."""

    status_code = 503
    default_code = "UNAVAILABLE"


class KillSwitchError(ApiError):
    """503: a kill switch covers it."""

    status_code = 503
    default_code = "KILL_SWITCH"
