"""Linking a person of Telegram to a user: the code that a signed-in user asked for, typed to the bot by the person."""

from typing import Any
from uuid import UUID

from engine.actors.ledger_entry import LedgerEntry
from engine.domain.audit import AuditDraft
from engine.domain.telegram_links import TelegramLink, TelegramLinks
from engine.http.services import Services
from engine.security.link_codes import LinkCodes
from engine.security.sessions import UserRecord
from engine.signals.chat_command import ChatCommand
from engine.signals.chat_text import outside
from engine.signals.telegram import Update
from engine.store.telegram import delete_link, write_link

_LINK_WORDS = frozenset({"link", "start"})


def links_of(services: Services) -> TelegramLinks:
    """Return who is linked."""
    found: TelegramLinks = services.extras.setdefault("telegram_links", TelegramLinks())
    return found


def codes_of(services: Services) -> LinkCodes:
    """Return the codes that are out."""
    found: LinkCodes = services.extras.setdefault("link_codes", LinkCodes())
    return found


def linked_user(services: Services, telegram_user_id: int) -> UserRecord | None:
    """Return the user that a person of Telegram is; None for a stranger, and for a user that was disabled."""
    link = links_of(services).of_person(telegram_user_id)
    user = None if link is None else services.users.get(link.user_id)
    return None if user is None or user.disabled else user


def is_link(command: ChatCommand) -> bool:
    """Whether *command* brings a code: /link CODE, or /start CODE as a link to the bot sends it."""
    return command.name in _LINK_WORDS and len(command.words) == 1


async def link(services: Services, update: Update, command: ChatCommand) -> str | None:
    """Take the code that a person sent; return what he is told, None for a wrong one.

    Raises what `AuditWriter.write` raises.
    """
    now = services.clock.now()
    user_id = codes_of(services).take(command.words[0], tried_by=update.sender_id, now=now)
    user = None if user_id is None else services.users.get(user_id)
    if user is None or user.disabled:
        return None
    made = TelegramLink(telegram_user_id=update.sender_id, user_id=user.id, linked_at=now)
    before = links_of(services).of_user(user.id)
    await services.ledger.write(
        LedgerEntry(
            writes=write_link(made),
            audit=(_draft(services, f"telegram:{update.sender_id}", "TELEGRAM_LINKED", user.id, update.sender_id),),
            on_commit=lambda: links_of(services).put(made),
        )
    )
    if before is not None and before.telegram_user_id != update.sender_id:
        services.reply_telegram(
            before.telegram_user_id, "This chat is not linked any more: another one took its place."
        )
    return f"Linked to {outside(user.email)} ({user.role}). /help lists what you can ask."


async def cut(services: Services, user_id: UUID, *, by: UUID) -> bool:
    """Cut the link of a user; False when there is none. Raises what `AuditWriter.write` raises."""
    codes_of(services).forget(user_id)
    held = links_of(services).of_user(user_id)
    if held is None:
        return False
    await services.ledger.write(
        LedgerEntry(
            writes=(delete_link(user_id),),
            audit=(_draft(services, f"user:{by}", "TELEGRAM_UNLINKED", user_id, held.telegram_user_id),),
            on_commit=lambda: links_of(services).cut(user_id),
        )
    )
    services.reply_telegram(held.telegram_user_id, "This chat is not linked any more.")
    return True


def _draft(services: Services, actor: str, action: str, user_id: UUID, telegram_user_id: int) -> AuditDraft:
    content: dict[str, Any] = {"telegramUserId": telegram_user_id}
    return AuditDraft(at=services.clock.now(), actor=actor, action=action, subject=f"user:{user_id}", content=content)
