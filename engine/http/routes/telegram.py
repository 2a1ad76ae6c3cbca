"""/signals/telegram: the door for the bot's updates. Telegram repeats whatever is not answered 200."""

import hashlib
import hmac
from datetime import timedelta

import structlog

from engine.domain.delivery import Delivery
from engine.domain.directory import Source
from engine.domain.signal import Refusal, Signal
from engine.errors import ApiError, EngineError, UnauthorizedError
from engine.http import telegram_approvals
from engine.http.endpoint import ApiRequest, endpoint
from engine.http.permissions import Permission
from engine.http.routes.signals import record_refused
from engine.http.routes.sources import base_url
from engine.http.routes.webhook_auth import record_paced, record_refusal
from engine.http.services import Services
from engine.http.telegram_commands import answer, command_in
from engine.http.telegram_kill import is_kill, obey
from engine.http.views.verdicts import good_items
from engine.signals import reply
from engine.signals.refusals import RefusalCode
from engine.signals.telegram import Update, parse_text, parse_update

_log = structlog.get_logger(__name__)
_TAGS = ("signals",)


@endpoint(
    "POST",
    "/signals/telegram/webhook",
    permission=Permission.WEBHOOK,
    summary="Take an update of the Telegram bot",
    errors=(UnauthorizedError,),
    raw_body=True,
    tags=_TAGS,
)
async def telegram_webhook(request: ApiRequest) -> dict[str, str]:
    """Needs X-Telegram-Bot-Api-Secret-Token; without a configured secret the door stays closed.

    Always 200 once authenticated; the outcome of a signal is sent to its chat. A press of Approve or Reject under a
    question of this engine answers it. Edited, forwarded, bot and channel messages, presses of strangers, unknown
    chats and stale messages: nothing is done.
    """
    _authenticate(request)
    update = parse_update(request.raw)
    if isinstance(update, Refusal):
        _log.info("telegram.unreadable", code=update.code, message=update.message)
    elif update.press_id:
        await _take_press(request, update)
    elif update.ignored_reason is None:
        await take_update(request, update)
    return {}


async def _take_press(request: ApiRequest, update: Update) -> None:
    """Act on the press of a button under a question of this engine; anybody else's press does nothing."""
    services: Services = request.services
    text = await telegram_approvals.answer(services, update, key=services.extras["approval_key"])
    if text is None:
        _ignored(request, update, "button press")
        return
    subject = f"chat:{update.chat_id}"
    content = {"text": text, "updateId": update.update_id, "senderId": update.sender_id}
    record_paced(request, subject, "TELEGRAM_PRESS", subject=subject, content=content)
    services.extras["answer_press"](update.press_id, text)
    services.reply_telegram(update.chat_id, text)


def _authenticate(request: ApiRequest) -> None:
    services: Services = request.services
    configured = services.config.telegram.secret_token
    given = request.header("x-telegram-bot-api-secret-token") or ""
    expected = configured.reveal().encode()
    matches = hmac.compare_digest(given.encode(), expected)
    # an empty secret equals a missing header: not configured means closed
    if not expected or not matches:
        record_refusal(request, "BAD_SECRET_TOKEN", None)
        raise UnauthorizedError("X-Telegram-Bot-Api-Secret-Token is not the bot's", code="BAD_SECRET_TOKEN")


async def take_update(request: ApiRequest, update: Update) -> None:
    """Act on a message that a person typed, and tell the chat what became of it."""
    services: Services = request.services
    source = services.directory.source_by_chat(update.chat_id)
    if source is not None and _is_fresh(services, update) and is_kill(services, update):
        # also where the source itself is switched off
        services.reply_telegram(update.chat_id, obey(services, update))
        return
    if source is None or not source.enabled:
        _ignored(request, update, "unknown chat" if source is None else "source switched off")
        return
    if not _is_fresh(services, update):
        _ignored(request, update, "stale message")
        return
    command = command_in(update.text)
    if command is not None:
        _obey(request, source, update, command)
        return
    elements = parse_text(update.text)
    if all(isinstance(e, Refusal) and e.code == RefusalCode.NOT_A_SIGNAL for e in elements):
        return  # people talk in chats
    try:
        services.rate_limits.webhook(source.id)
        verdicts = await _execute(request, source, update, elements)
        text = reply.describe_all(verdicts)
    except ApiError as refusal:
        text = f"Not accepted: {refusal.message}"
    except EngineError as failure:
        _log.warning("telegram.not_taken", update=update.update_id, error=str(failure))
        text = "Not accepted: the engine cannot take signals now; send it again"
    services.reply_telegram(update.chat_id, text)


def _obey(request: ApiRequest, source: Source, update: Update, command: str) -> None:
    """Answer a command in its chat; only that it came goes on record, for a link in the answer opens a login."""
    services: Services = request.services
    try:
        services.rate_limits.webhook(source.id)
        text = answer(services, source, command, base=base_url(request))
    except ApiError as refusal:
        text = f"Not done: {refusal.message}"
    content = {"command": command, "updateId": update.update_id, "senderId": update.sender_id}
    record_paced(request, f"chat:{update.chat_id}", "TELEGRAM_COMMAND", subject=f"source:{source.id}", content=content)
    services.reply_telegram(update.chat_id, text)


async def _execute(
    request: ApiRequest, source: Source, update: Update, elements: tuple[Signal | Refusal, ...]
) -> list[Refusal | reply.Outcome]:
    services: Services = request.services
    refused = [element for element in elements if isinstance(element, Refusal)]
    if refused:
        record_refused(request, source, refused)
    items = good_items(elements)
    outcomes: dict[int, reply.Outcome] = {}
    if items:
        told = f"{update.chat_id}\n{update.message_id}\n{update.text}"
        accepted = await services.ingest.accept(
            Delivery(
                source_id=source.id,
                strategy_id=source.strategy_id,
                user_id=source.user_id,
                idempotency_key=f"update:{update.update_id}",
                body_sha256=hashlib.sha256(told.encode("utf-8", "surrogatepass")).digest(),
                received_at=services.clock.now(),
                request_id=request.request_id,
                items=items,
            )
        )
        signals = {item.position: item.signal for item in items}
        for receipt in accepted.receipts:
            outcomes[receipt.position] = reply.Outcome(
                signal=signals[receipt.position],
                status=receipt.status,
                reason=receipt.reason,
                intent_id=receipt.intent_id,
                duplicate=accepted.duplicate,
            )
    return [
        element if isinstance(element, Refusal) else outcomes[position] for position, element in enumerate(elements)
    ]


def _is_fresh(services: Services, update: Update) -> bool:
    signals = services.config.signals
    age = services.clock.now() - update.sent_at
    return -timedelta(seconds=signals.max_clock_skew_s) <= age <= timedelta(seconds=signals.max_age_s)


def _ignored(request: ApiRequest, update: Update, why: str) -> None:
    subject = f"chat:{update.chat_id}"
    content = {"why": why, "updateId": update.update_id, "senderId": update.sender_id}
    record_paced(request, subject, "TELEGRAM_IGNORED", subject=subject, content=content)
