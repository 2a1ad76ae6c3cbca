"""What is done with an update of the bot, however it came in: pushed to the webhook or fetched by polling."""

import hashlib
from collections import OrderedDict
from datetime import timedelta

import structlog

from engine.actors.telegram_poller import NotTaken
from engine.domain.alert_pace import AlertPace
from engine.domain.delivery import Delivery
from engine.domain.directory import Source
from engine.domain.signal import Refusal, Signal
from engine.errors import ApiError, EngineError, Unavailable, UnavailableError
from engine.http import telegram_acks, telegram_approvals, telegram_control, telegram_edits
from engine.http.origin import UpdateOrigin
from engine.http.services import Services
from engine.http.source_bounds import checked, pace, record_refused
from engine.http.telegram_commands import answer, command_in
from engine.http.telegram_kill import is_kill, obey
from engine.http.telegram_links import is_link, link, linked_user
from engine.http.views.verdicts import NOT_TAKEN, good_items
from engine.http.webhook_auth import record_paced
from engine.signals import reply
from engine.signals.chat_command import ChatCommand, parse_command
from engine.signals.refusals import RefusalCode
from engine.signals.telegram import Update, parse_text

_log = structlog.get_logger(__name__)

_MOST_CLAIMED = 4096
_STRANGER = (
    "This bot speaks to people that are linked to a user of its engine. Sign in there, ask for a code "
    "(POST /api/v1/auth/telegram/link) and send it here: /link CODE"
)


async def take(origin: UpdateOrigin, update: Update | Refusal) -> None:
    """Act on an update and tell its chat; a signal in it is durable, or refused, when this returns.

    Raises NotTaken, for an origin that brings it again, when nothing can be taken in now; nothing else: what breaks
    here is logged and told.
    """
    try:
        await _take(origin, update)
    except NotTaken:
        raise
    except Exception:
        # Telegram would bring it again and again: once is enough to find the fault
        _log.exception("telegram.update_fault", update=getattr(update, "update_id", None))
        if isinstance(update, Update) and update.ignored_reason is None:
            services: Services = origin.services
            services.reply_telegram(update.chat_id, "Not done: the engine failed at this; its log says how")


async def _take(origin: UpdateOrigin, update: Update | Refusal) -> None:
    if isinstance(update, Refusal):
        _log.info("telegram.unreadable", code=update.code, message=update.message)
    elif update.press_id:
        if _claim(origin, update):
            await _take_press(origin, update)
    elif update.is_edit:
        await _take_edit(origin, update)
    elif update.ignored_reason is None:
        await _take_message(origin, update)


async def _take_press(origin: UpdateOrigin, update: Update) -> None:
    """Act on the press of a button under a question of this engine; anybody else's press does nothing."""
    services: Services = origin.services
    key = services.extras["approval_key"]
    text = telegram_acks.answer(services, update, key=key)
    if text is None:
        text = await telegram_approvals.answer(services, update, key=key)
    if text is None:
        _ignored(origin, update, "button press")
        return
    subject = f"chat:{update.chat_id}"
    content = {"text": text, "updateId": update.update_id, "senderId": update.sender_id}
    record_paced(origin, subject, "TELEGRAM_PRESS", subject=subject, content=content)
    services.extras["answer_press"](update.press_id, text)
    if update.message_id:
        services.extras["take_buttons_off"](update.chat_id, update.message_id)
    services.reply_telegram(update.chat_id, text)


async def _take_edit(origin: UpdateOrigin, update: Update) -> None:
    """Say that the first text of a changed message stands, while what it asked for can still be stopped."""
    services: Services = origin.services
    source = services.directory.source_by_chat(update.chat_id)
    if source is not None and source.enabled and source.hears(update.sender_id):
        text = await telegram_edits.answer(services, update)
        if text is not None:
            services.reply_telegram(update.chat_id, text)
    _ignored(origin, update, "edited message")


async def _take_message(origin: UpdateOrigin, update: Update) -> None:
    """Act on a message that a person typed, and tell the chat what became of it."""
    services: Services = origin.services
    source = services.directory.source_by_chat(update.chat_id)
    command = parse_command(update.text)
    if not _is_fresh(services, update):
        _ignored(origin, update, "stale message")
    elif command is not None and update.is_private and is_link(command):
        await _link(origin, update, command)
    elif command is not None and await _is_control(origin, update, command, source):
        return
    elif source is not None and is_kill(services, update):
        # also where the source itself is switched off
        if _claim(origin, update):
            services.reply_telegram(update.chat_id, obey(services, update))
    elif source is None or not source.enabled:
        _ignored(origin, update, "unknown chat" if source is None else "source switched off")
        _hint(origin, update)
    elif not source.hears(update.sender_id):
        _ignored(origin, update, "sender not allowed")
    elif (known := command_in(update.text)) is not None:
        if _claim(origin, update):
            _obey(origin, source, update, known)
    else:
        await _take_signals(origin, source, update)


async def _is_control(origin: UpdateOrigin, update: Update, command: ChatCommand, source: Source | None) -> bool:
    """Whether *command* was one of a linked user's, in the private chat with him; then it is done.

    The kill switch is heard in the chats of sources too: whoever sees there that it goes wrong has no time to look
    for another chat.
    """
    services: Services = origin.services
    user = linked_user(services, update.sender_id)
    is_here = update.is_private or (command.name == telegram_control.KILL and source is not None)
    if user is None or not is_here:
        return False
    if source is not None and not telegram_control.is_known(command):
        return False
    if _claim(origin, update):
        text = await telegram_control.obey(origin, user, update, command)
        content = {"command": command.name, "updateId": update.update_id, "userId": user.id}
        # what may have followed the command is a one-time code: only its name is kept
        record_paced(
            origin,
            f"telegram:{update.sender_id}:{command.name}",
            "TELEGRAM_COMMAND",
            subject=f"user:{user.id}",
            content=content,
        )
        services.reply_telegram(update.chat_id, text)
    return True


async def _link(origin: UpdateOrigin, update: Update, command: ChatCommand) -> None:
    services: Services = origin.services
    try:
        text = await link(services, update, command)
    except EngineError as failure:
        _log.warning("telegram.not_linked", error=str(failure))
        text = "Not linked: the store does not answer; ask for a new code and try again."
    if text is None:
        _ignored(origin, update, "wrong link code")
        _hint(origin, update)
        return
    services.reply_telegram(update.chat_id, text)


def _hint(origin: UpdateOrigin, update: Update) -> None:
    """Say to a stranger in a private chat, once in a while, what this bot is; to a group nothing."""
    services: Services = origin.services
    if not update.is_private or linked_user(services, update.sender_id) is not None:
        return
    pace: AlertPace = services.extras.setdefault("telegram_hints", AlertPace())
    if pace.let(f"chat:{update.chat_id}", "hint", services.clock.boottime_ns() / 1e9) is not None:
        services.reply_telegram(update.chat_id, _STRANGER)


async def _take_signals(origin: UpdateOrigin, source: Source, update: Update) -> None:
    services: Services = origin.services
    elements = parse_text(update.text)
    if all(isinstance(e, Refusal) and e.code == RefusalCode.NOT_A_SIGNAL for e in elements):
        return  # people talk in chats
    try:
        services.rate_limits.webhook(source.id)
        verdicts = await _execute(origin, source, update, elements)
        text = reply.describe_all(verdicts)
    except (UnavailableError, Unavailable) as failure:
        if origin.comes_again:
            raise NotTaken(str(failure)) from failure
        _log.warning("telegram.not_taken", update=update.update_id, error=str(failure))
        text = "Not accepted: the engine cannot take signals now; send it again"
    except ApiError as refusal:
        text = f"Not accepted: {refusal.message}"
    except EngineError as failure:
        _log.warning("telegram.not_taken", update=update.update_id, error=str(failure))
        text = "Not accepted: the engine cannot take signals now; send it again"
    services.reply_telegram(update.chat_id, text)


def _obey(origin: UpdateOrigin, source: Source, update: Update, command: str) -> None:
    """Answer a command in its chat; only that it came goes on record, for a link in the answer opens a login."""
    services: Services = origin.services
    try:
        services.rate_limits.webhook(source.id)
        text = answer(services, source.user_id, command, base=origin.base)
    except ApiError as refusal:
        text = f"Not done: {refusal.message}"
    content = {"command": command, "updateId": update.update_id, "senderId": update.sender_id}
    record_paced(origin, f"chat:{update.chat_id}", "TELEGRAM_COMMAND", subject=f"source:{source.id}", content=content)
    services.reply_telegram(update.chat_id, text)


async def _execute(
    origin: UpdateOrigin, source: Source, update: Update, elements: tuple[Signal | Refusal, ...]
) -> list[Refusal | reply.Outcome]:
    services: Services = origin.services
    told = f"{update.chat_id}\n{update.message_id}\n{update.text}"
    key, body_sha256 = f"update:{update.update_id}", hashlib.sha256(told.encode("utf-8", "surrogatepass")).digest()
    # one that comes again is answered as it was, whatever its source may ask for by now
    accepted = await services.ingest.earlier([source.id], key, body_sha256)
    if accepted is None:
        elements = checked(services, source, elements)
        refused = [element for element in elements if isinstance(element, Refusal)]
        if refused:
            record_refused(origin, source, refused)
    items = good_items(elements)
    outcomes: dict[int, reply.Outcome] = {}
    if items:
        if accepted is None:
            pace(services, source, len(items))
            accepted = await services.ingest.accept(
                Delivery(
                    source_id=source.id,
                    strategy_id=source.strategy_id,
                    user_id=source.user_id,
                    idempotency_key=key,
                    body_sha256=body_sha256,
                    received_at=services.clock.now(),
                    request_id=origin.request_id,
                    items=items,
                )
            )
        services.extras["source_watch"].signals_came(source, (), repeat=accepted.duplicate)
        telegram_edits.remember(services, update, [receipt.intent_id for receipt in accepted.receipts])
        signals = {item.position: item.signal for item in items}
        for receipt in accepted.receipts:
            if receipt.position in signals:
                outcomes[receipt.position] = reply.Outcome(
                    signal=signals[receipt.position],
                    status=receipt.status,
                    reason=receipt.reason,
                    intent_id=receipt.intent_id,
                    duplicate=accepted.duplicate,
                )
    return [
        element if isinstance(element, Refusal) else outcomes.get(position, NOT_TAKEN)
        for position, element in enumerate(elements)
    ]


def _claim(origin: UpdateOrigin, update: Update) -> bool:
    """Whether this update is the first of its number that acts; a signal is known by the ledger, for ever."""
    services: Services = origin.services
    claimed: OrderedDict[int, None] = services.extras.setdefault("telegram_claimed", OrderedDict())
    if update.update_id in claimed:
        return False
    claimed[update.update_id] = None
    while len(claimed) > _MOST_CLAIMED:
        claimed.popitem(last=False)
    return True


def _is_fresh(services: Services, update: Update) -> bool:
    signals = services.config.signals
    age = services.clock.now() - update.sent_at
    return -timedelta(seconds=signals.max_clock_skew_s) <= age <= timedelta(seconds=signals.max_age_s)


def _ignored(origin: UpdateOrigin, update: Update, why: str) -> None:
    subject = f"chat:{update.chat_id}"
    content = {"why": why, "updateId": update.update_id, "senderId": update.sender_id}
    record_paced(origin, subject, "TELEGRAM_IGNORED", subject=subject, content=content)
