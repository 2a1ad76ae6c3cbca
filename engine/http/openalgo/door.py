"""What every OpenAlgo endpoint does first: read the body, find out whose key is in it, and count the call.

The key stands in the body and nowhere else. It is taken out before anything looks at the rest, and the bytes are let
go, so that no log, audit record or journal entry can have it.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from engine.domain.signal import Refusal
from engine.errors import (
    BadRequestError,
    ConflictError,
    ForbiddenError,
    KillSwitchError,
    NotFoundError,
    OrderExecutionError,
    PayloadTooLargeError,
    RateLimitError,
    UnauthorizedError,
    UnavailableError,
)
from engine.http.authentication import authenticate_api_token
from engine.http.doors import IDEMPOTENCY_KEY, Door
from engine.http.endpoint import ApiRequest, Endpoint, Handler, endpoint
from engine.http.permissions import Permission, Principal, require, require_enrolled
from engine.http.ratelimit import RateClass
from engine.http.services import Services
from engine.http.walls import seen_by
from engine.signals import json_guard
from engine.signals.json_guard import JsonValue
from engine.signals.refusals import RefusalCode

TAGS = ("openalgo",)

Fields = dict[str, JsonValue]

_MAX_KEY = 256
_READ_ERRORS = (BadRequestError, ForbiddenError, NotFoundError, ConflictError, RateLimitError, UnavailableError)
_TRADE_ERRORS = (*_READ_ERRORS, KillSwitchError, OrderExecutionError)


def openalgo(path: str, *, needs: Permission, summary: str, body: Any, response: Any) -> Callable[[Handler], Endpoint]:
    """Declare an OpenAlgo endpoint of which the caller's API token must hold *needs*; see `endpoint`."""
    is_trade = needs is Permission.TRADE
    return endpoint(
        "POST",
        path,
        permission=Permission.WEBHOOK,
        summary=summary,
        response=response,
        raw_body=True,
        bare=True,
        door=Door(
            schemes=(),  # the key is in the body
            headers=(IDEMPOTENCY_KEY,) if is_trade else (),
            accepts=(("application/json", body),),
        ),
        errors=_TRADE_ERRORS if is_trade else _READ_ERRORS,
        tags=TAGS,
    )


def enter(request: ApiRequest, needs: Permission, *, rate: RateClass = RateClass.API) -> Fields:
    """Return the fields of the body without the key, with ``request.user`` set to whose key it is.

    JSON whatever the content type says: Amibroker, Excel and TradingView send text/plain or none. Raises
    BadRequestError, PayloadTooLargeError, ForbiddenError (as OpenAlgo answers a wrong key), RateLimitError.
    """
    services: Services = request.services
    fields = json_guard.read(request.raw)
    request.raw = b""
    if isinstance(fields, Refusal):
        if fields.code == RefusalCode.BODY_TOO_LARGE:
            raise PayloadTooLargeError(fields.message)
        raise BadRequestError(f"the body cannot be read: {fields.message}", code=fields.code)
    if not isinstance(fields, dict):
        raise BadRequestError("the body must be a JSON object with an apikey")
    key = fields.pop("apikey", None)
    principal = _caller(request, key)
    require(needs, principal)
    require_enrolled(needs, principal, services.config.security.require_mfa)
    request.principal = principal
    request.services = seen_by(services, principal)
    # each key has buckets of its own, and what takes orders or positions off the market does not wait for the others
    services.rate_limits.charge(rate, principal.session_id)
    return fields


def _caller(request: ApiRequest, key: JsonValue) -> Principal:
    services: Services = request.services
    if not isinstance(key, str) or not key or len(key) > _MAX_KEY:
        raise ForbiddenError(
            "Invalid openalgo apikey: send an API token of this engine as apikey", code="INVALID_APIKEY"
        )
    try:
        return authenticate_api_token(services, key, now=services.clock.now(), client_ip=request.client_ip)
    except UnauthorizedError:
        raise ForbiddenError(
            "Invalid openalgo apikey: it is not a token of this engine, or not valid any more", code="INVALID_APIKEY"
        ) from None


def check_loaded(services: Services) -> None:
    """Raise UnavailableError until there is an instrument master to find names in."""
    if services.master.loaded_at is None:
        raise UnavailableError(
            "the instrument master has not been loaded yet: it needs a logged-in account", retry_after_s=5
        )


def refused(found: Refusal) -> BadRequestError:
    """Return the error for a field that cannot be used, as OpenAlgo answers it: 400."""
    details = {"fields": {found.field: found.message}} if found.field else {}
    return BadRequestError(found.message, code=found.code, details=details)


def only(fields: Fields, *known: str) -> None:
    """Raise BadRequestError for a field that is not among *known*: a slip must not be taken for an order."""
    unknown = next((name for name in fields if name not in known), None)
    if unknown is not None:
        raise refused(
            Refusal(code="UNKNOWN_FIELD", message=f"{unknown[:40]!r} is not known here: drop it", field=unknown[:40])
        )


class OpenAlgoStruct(msgspec.Struct, frozen=True, kw_only=True):
    """Base of OpenAlgo's shapes: keys as they are written here."""
