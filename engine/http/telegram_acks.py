"""Acknowledging an alert by a button in Telegram: what the button carries, and who may press it.

Bound to one alert and the chat that it was sent to by a MAC under a key of this engine alone, as buttons of approvals
are. Only an ADMIN who is linked, or is named in ``[telegram] admin_user_ids``, may.
"""

import base64
import binascii
import hashlib
import hmac
from uuid import UUID

from engine.domain.enums import Role
from engine.http.routes.alerts import record_acknowledged
from engine.http.services import Services
from engine.http.telegram_links import linked_user
from engine.signals.chat_text import outside
from engine.signals.telegram import Update

_LETTER = "k"
_MAC_BYTES = 16


def ack_data(key: bytes, alert_id: UUID, chat_id: int) -> str:
    """Return what the button of an alert carries, at most 64 ASCII characters."""
    return f"{_LETTER}{_text(alert_id.bytes)}{_text(_mac(key, alert_id, chat_id))}"


def read_ack(key: bytes, data: str, chat_id: int) -> UUID | None:
    """Return the alert that a press in a chat acknowledges, None when this engine never sent that button there."""
    body = data[1:]
    if data[:1] != _LETTER or len(body) != 44 or not body.isascii():
        return None
    try:
        alert_id = UUID(bytes=base64.urlsafe_b64decode(body[:22] + "=="))
        mac = base64.urlsafe_b64decode(body[22:] + "==")
    except (ValueError, binascii.Error):
        return None
    return alert_id if hmac.compare_digest(mac, _mac(key, alert_id, chat_id)) else None


def answer(services: Services, update: Update, *, key: bytes) -> str | None:
    """Act on the press of a button; return what whoever pressed it is told, None when nothing is done with it."""
    alert_id = read_ack(key, update.data, update.chat_id)
    if alert_id is None or not _may_answer(services, update):
        return None
    by = f"telegram:{update.sender_id}"
    held = services.extras["alerts"].book.get(alert_id)
    if held is None:
        return "That alert is not in the list any more."
    if held.acked_at is None:
        services.extras["alerts"].acknowledge(alert_id, by=by)
        record_acknowledged(services, alert_id, by=by)
    return f"Acknowledged: {outside(held.code)} {outside(held.subject)}"


def _may_answer(services: Services, update: Update) -> bool:
    if update.sender_id in services.config.telegram.admin_user_ids:
        return True
    user = linked_user(services, update.sender_id)
    return user is not None and user.role is Role.ADMIN


def _mac(key: bytes, alert_id: UUID, chat_id: int) -> bytes:
    return hmac.digest(key, f"{_LETTER}\x00{alert_id}\x00{chat_id}".encode(), hashlib.sha256)[:_MAC_BYTES]


def _text(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).decode().rstrip("=")
