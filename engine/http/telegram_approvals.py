"""Approval by a button in Telegram: what is asked, and who may answer.

A button is bound to one intent, one answer and the chat that it was sent to, by a MAC under a key of this engine
alone: data that somebody made up, or took to another chat, does nothing. Where ``[telegram] admin_user_ids`` names
people only those may answer, otherwise everybody in a chat of the intent's source, who may signal there as well.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable
from uuid import UUID

import msgspec

from engine.domain.directory import Directory, Source
from engine.domain.enums import IntentStatus
from engine.domain.intent import Intent
from engine.domain.money import plain
from engine.errors import ApiError
from engine.http.services import Services
from engine.signals.chat_text import outside
from engine.signals.telegram import Update

_WORDS = {"a": "approve", "r": "reject"}
_BUTTONS = (("Approve", "a"), ("Reject", "r"))
_MAC_BYTES = 16
_GONE = "It does not wait for anybody any more."


class Press(msgspec.Struct, frozen=True, kw_only=True):
    """A press of one of this engine's buttons: ``answer`` is approve or reject."""

    answer: str
    intent_id: UUID


def button_data(key: bytes, letter: str, intent_id: UUID, chat_id: int) -> str:
    """Return what a button carries, at most 64 ASCII characters (the Bot API's bound of callback_data)."""
    return f"{letter}{_text(intent_id.bytes)}{_text(_mac(key, letter, intent_id, chat_id))}"


def read_press(key: bytes, data: str, chat_id: int) -> Press | None:
    """Return the press that *data* from a chat is, None when this engine never sent that button there."""
    letter, body = data[:1], data[1:]
    if letter not in _WORDS or len(body) != 44 or not body.isascii():
        return None
    try:
        intent_id = UUID(bytes=base64.urlsafe_b64decode(body[:22] + "=="))
        mac = base64.urlsafe_b64decode(body[22:] + "==")
    except (ValueError, binascii.Error):
        return None
    if not hmac.compare_digest(mac, _mac(key, letter, intent_id, chat_id)):
        return None
    return Press(answer=_WORDS[letter], intent_id=intent_id)


def ask(
    intent: Intent,
    *,
    directory: Directory,
    admin_user_ids: tuple[int, ...],
    key: bytes,
    tell: Callable[[int, str, tuple[tuple[str, str], ...]], None],
) -> None:
    """Ask about a waiting intent in the chats of its source and of the people named in ``admin_user_ids``."""
    source = directory.sources.get(intent.source_id)
    strategy = directory.strategies.get(intent.strategy_id)
    # a person's chat with the bot has the person's own id
    chats = {*(source.telegram_chat_ids if source is not None else ()), *admin_user_ids}
    text = _question(intent, "a strategy" if strategy is None else strategy.name)
    for chat_id in sorted(chats):
        buttons = tuple((label, button_data(key, letter, intent.id, chat_id)) for label, letter in _BUTTONS)
        tell(chat_id, text, buttons)


async def answer(services: Services, update: Update, *, key: bytes) -> str | None:
    """Act on the press of a button; return what whoever pressed it is told, None when nothing is done with it."""
    press = read_press(key, update.data, update.chat_id)
    if press is None:
        return None
    actor = next((a for a in services.crew.risk_actors.values() if press.intent_id in a.approvals), None)
    waiting = None if actor is None else actor.approvals.find(press.intent_id)
    if actor is None or waiting is None:
        return _GONE
    source = services.directory.sources.get(waiting.source_id)
    if not _may_answer(update, source, services.config.telegram.admin_user_ids):
        return None
    by = f"telegram:{update.sender_id}"
    try:
        services.rate_limits.webhook(waiting.source_id)
        if press.answer == "approve":
            decided = await actor.approvals.approve(press.intent_id, by=by)
        else:
            decided = await actor.approvals.reject(press.intent_id, by=by, reason="in Telegram")
    except ApiError as refusal:
        return f"Not done: {refusal.message}"
    return _GONE if decided is None else describe(decided)


def describe(decided: Intent) -> str:
    """Return what became of an intent in one line."""
    signal = decided.signal
    what = f"{signal.transaction_type} {signal.quantity} {signal.symbol}"
    if decided.status is IntentStatus.EXECUTING:
        return f"Approved: {what}"
    return f"{decided.status}: {what}: {outside(decided.reason or '', 500)}"


def _may_answer(update: Update, source: Source | None, admin_user_ids: tuple[int, ...]) -> bool:
    if admin_user_ids:
        return update.sender_id in admin_user_ids
    if source is None or not source.enabled or update.chat_id not in source.telegram_chat_ids:
        return False
    return source.hears(update.sender_id)


def _question(intent: Intent, strategy: str) -> str:
    signal = intent.signal
    price = "" if signal.price is None else f" @ {plain(signal.price)}"
    size = f"{signal.quantity}" if signal.position_size is None else f"to a position of {signal.position_size}"
    until = "" if intent.expires_at is None else f"\nUntil {intent.expires_at:%H:%M:%S} UTC"
    seen = "" if intent.seen_price is None else f"\nLast price {plain(intent.seen_price)}"
    return (
        f"Approve? {signal.transaction_type} {size} {signal.symbol} {signal.exchange}{price} {signal.order_type} "
        f"{signal.product_type}\nStrategy {outside(strategy)}{seen}{until}\nIntent {intent.id}"
    )


def _mac(key: bytes, letter: str, intent_id: UUID, chat_id: int) -> bytes:
    told = f"{letter}\x00{intent_id}\x00{chat_id}".encode()
    return hmac.digest(key, told, hashlib.sha256)[:_MAC_BYTES]


def _text(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).decode().rstrip("=")
