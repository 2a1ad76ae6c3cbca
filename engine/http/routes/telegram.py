"""/signals/telegram: the door for the bot's updates. Telegram repeats whatever is not answered 200."""

import hmac

from engine.errors import ForbiddenError, UnauthorizedError
from engine.http.doors import TELEGRAM
from engine.http.endpoint import ApiRequest, endpoint
from engine.http.origin import UpdateOrigin
from engine.http.permissions import Permission
from engine.http.routes.sources import base_url
from engine.http.routes.telegram_updates import take
from engine.http.services import Services
from engine.http.webhook_auth import is_from, record_refusal
from engine.signals.telegram import parse_update

_TAGS = ("signals",)


@endpoint(
    "POST",
    "/signals/telegram/webhook",
    permission=Permission.WEBHOOK,
    summary="Take an update of the Telegram bot",
    door=TELEGRAM,
    errors=(UnauthorizedError, ForbiddenError),
    raw_body=True,
    tags=_TAGS,
)
async def telegram_webhook(request: ApiRequest) -> dict[str, str]:
    """Needs X-Telegram-Bot-Api-Secret-Token; without a configured secret, or in another mode, the door stays closed.

    Always 200 once authenticated; the outcome of a signal is sent to its chat. A press of Approve or Reject under a
    question of this engine answers it. Edited, forwarded, bot and channel messages, presses of strangers, unknown
    chats and stale messages: nothing is done.
    """
    _authenticate(request)
    origin = UpdateOrigin(
        services=request.services,
        client_ip=request.client_ip,
        request_id=request.request_id,
        base=base_url(request),
    )
    await take(origin, parse_update(request.raw))
    return {}


def _authenticate(request: ApiRequest) -> None:
    services: Services = request.services
    configured = services.config.telegram.secret_token
    given = request.header("x-telegram-bot-api-secret-token") or ""
    expected = configured.reveal().encode()
    matches = hmac.compare_digest(given.encode(), expected)
    # an empty secret equals a missing header: not configured means closed
    if not expected or not matches or services.config.telegram.mode != "webhook":
        record_refusal(request, "BAD_SECRET_TOKEN", None)
        raise UnauthorizedError("X-Telegram-Bot-Api-Secret-Token is not the bot's", code="BAD_SECRET_TOKEN")
    ranges = services.config.telegram.ip_ranges
    # a second wall only: an address alone lets nobody in (SEC-047)
    if ranges and not is_from(request.client_ip, ranges):
        record_refusal(request, "IP_NOT_ALLOWED", None)
        raise ForbiddenError("the webhook may not be called from this address", code="IP_NOT_ALLOWED")
