"""Telegram updates: who said what in which chat, and whether it may be a signal at all.

Source: Telegram Bot API, Update and Message (https://core.telegram.org/bots/api#update). Only a new
text message that a person typed is read; what is edited, forwarded, posted by a channel or a bot, or
pressed, is named in ``ignored_reason`` and does nothing (contract section 8). Whether chat and sender
may signal is for the caller to decide.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from engine.domain.signal import Refusal
from engine.signals import json_guard
from engine.signals.json_guard import JsonValue
from engine.signals.refusals import RefusalCode, Refused, quote
from engine.signals.text import parse_text

__all__ = ["NEVER", "Update", "parse_text", "parse_update", "parse_update_value"]

NEVER = datetime.fromtimestamp(0, UTC)
"""Stands in for the time of an update that states none: older than any signal may be."""

_MAX_ID = 2**63 - 1
_PRESS_CHARS = 64  # the Bot API's bound of callback_data
# The last second that datetime can hold.
_MAX_TIME = 253_402_300_799

_KINDS: Mapping[str, str] = {
    "edited_message": "edited message",
    "channel_post": "channel post",
    "edited_channel_post": "edited channel post",
    "callback_query": "button press",
}
_FORWARDED = (
    "forward_origin",
    "forward_date",
    "forward_from",
    "forward_from_chat",
    "forward_sender_name",
    "is_automatic_forward",
)


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """One update of the bot.

    ``sent_at`` is aware UTC, from the message's own date. ``ignored_reason`` says why nothing may be done
    with it, None for a text to be parsed; on an ignored update the ids are 0, the text empty and the time
    `NEVER` where Telegram stated none. A press of a button by a person carries ``press_id``, to be answered under,
    and the button's ``data``; it is no message, and stays ignored as one. So does a text that somebody changed
    (``is_edit``): the first one stands. ``is_private`` is a person's own chat with the bot.
    """

    update_id: int
    chat_id: int = 0
    sender_id: int = 0
    message_id: int = 0
    sent_at: datetime = NEVER
    text: str = ""
    ignored_reason: str | None = None
    press_id: str = ""
    data: str = ""
    is_edit: bool = False
    is_private: bool = False


def parse_update(body: bytes) -> Update | Refusal:
    """Read the body of a webhook call; never raises."""
    value = json_guard.read(body)
    return value if isinstance(value, Refusal) else parse_update_value(value)


def parse_update_value(value: JsonValue) -> Update | Refusal:
    """Read one decoded update, such as polling gives in a list; never raises."""
    try:
        if not isinstance(value, dict):
            raise _invalid("update", "must be a JSON object")
        return _update(value)
    except Refused as refused:
        return refused.refusal


def _update(value: dict[str, JsonValue]) -> Update:
    update_id = _integer(value, "update_id", 0)
    if "message" not in value:
        kind = next((key for key in value if key != "update_id"), "empty update")
        edit = _edit(update_id, value) if kind == "edited_message" else None
        if edit is not None:
            return edit
        return _ignored_kind(update_id, value.get(kind), _KINDS.get(kind, quote(kind, 40).replace("_", " ")))
    return _message(update_id, _mapping(value, "message"))


def _edit(update_id: int, value: dict[str, JsonValue]) -> Update | None:
    try:
        found = _message(update_id, _mapping(value, "edited_message"))
    except Refused:
        return None
    # whoever may not write may not change either: why it is ignored stays
    is_edit = found.ignored_reason in (None, _KINDS["edited_message"])
    # without its text: nothing can come to trade it
    return msgspec.structs.replace(
        found, text="", is_edit=is_edit, ignored_reason=found.ignored_reason or _KINDS["edited_message"]
    )


def _message(update_id: int, message: dict[str, JsonValue]) -> Update:
    chat = _mapping(message, "chat")
    return Update(
        update_id=update_id,
        chat_id=_integer(chat, "id", -_MAX_ID),
        sender_id=_integer(_mapping(message, "from"), "id", 0) if "from" in message else 0,
        message_id=_integer(message, "message_id", 0),
        sent_at=datetime.fromtimestamp(_integer(message, "date", 0, _MAX_TIME), UTC),
        text=_text(message),
        ignored_reason=_ignored_reason(message, chat),
        is_private=chat.get("type") == "private",
    )


def _ignored_kind(update_id: int, part: JsonValue, reason: str) -> Update:
    # The ids are kept where they can be read, for the audit log and to answer a button press.
    sender = part.get("from") if isinstance(part, dict) else None
    holder = part.get("message", part) if isinstance(part, dict) else None
    chat = holder.get("chat") if isinstance(holder, dict) else None
    ignored = Update(
        update_id=update_id, chat_id=_id_or_zero(chat), sender_id=_id_or_zero(sender), ignored_reason=reason
    )
    if reason == _KINDS["callback_query"] and isinstance(part, dict) and isinstance(sender, dict):
        press_id, data = part.get("id"), part.get("data")
        # not merely true: anything but a clear "not a bot" is treated as one
        if isinstance(press_id, str) and isinstance(data, str) and sender.get("is_bot") is False:
            return msgspec.structs.replace(
                ignored,
                press_id=press_id[:_PRESS_CHARS],
                data=data[:_PRESS_CHARS],
                message_id=_id_or_zero(holder, "message_id"),
            )
    return ignored


def _ignored_reason(message: dict[str, JsonValue], chat: dict[str, JsonValue]) -> str | None:
    sender = message.get("from")
    if chat.get("type") == "channel":
        return "channel post"
    if any(key in message for key in _FORWARDED):
        return "forwarded message"
    # In the name of a chat: an anonymous admin or a linked channel, so nobody knows who.
    if "sender_chat" in message or not isinstance(sender, dict):
        return "message without a personal sender"
    # Not merely true: anything but a clear "not a bot" is treated as one.
    if sender.get("is_bot") is not False or "via_bot" in message:
        return "bot message"
    if "edit_date" in message:
        return "edited message"
    if not _text(message):
        return "message without text"
    return None


def _text(message: dict[str, JsonValue]) -> str:
    text = message.get("text", "")
    if not isinstance(text, str):
        raise _invalid("text", "must be a string")
    return text


def _mapping(parent: dict[str, JsonValue], name: str) -> dict[str, JsonValue]:
    value = parent.get(name)
    if not isinstance(value, dict):
        raise _invalid(name, "must be an object")
    return value


def _integer(parent: dict[str, JsonValue], name: str, least: int, most: int = _MAX_ID) -> int:
    value = parent.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise _invalid(name, f"must be an integer from {least} to {most}")
    return value


def _id_or_zero(holder: JsonValue, name: str = "id") -> int:
    found = holder.get(name) if isinstance(holder, dict) else None
    return found if isinstance(found, int) and not isinstance(found, bool) and abs(found) <= _MAX_ID else 0


def _invalid(name: str, rule: str) -> Refused:
    return Refused(RefusalCode.INVALID_UPDATE, f"{name} {rule}: send a Telegram Update", field=name)
