"""Links of Telegram and how far polling has come, in the store."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from engine.domain.directory import Source
from engine.domain.telegram_links import TelegramLink
from engine.store.ledger import Write


class PollOffset(msgspec.Struct, frozen=True, kw_only=True):
    """The first update of a bot that was not handled, and when the last one was (aware UTC)."""

    next_update_id: int
    updated_at: datetime


async def links(connection: Any) -> list[TelegramLink]:
    """Return every link."""
    rows = await connection.fetch("SELECT telegram_user_id, user_id, linked_at FROM telegram_links")
    return [TelegramLink(**dict(row)) for row in rows]


async def offset(connection: Any, bot_id: str) -> PollOffset | None:
    """Return how far the polling of a bot has come; None when it was never polled."""
    row = await connection.fetchrow("SELECT next_update_id, updated_at FROM telegram_offsets WHERE bot_id = $1", bot_id)
    return None if row is None else PollOffset(**dict(row))


def write_link(link: TelegramLink) -> tuple[Write, ...]:
    """Return the statements that link a person and a user; earlier links of either go."""
    return (
        Write(
            sql="DELETE FROM telegram_links WHERE telegram_user_id = $1 OR user_id = $2",
            args=(link.telegram_user_id, link.user_id),
        ),
        Write(
            sql="INSERT INTO telegram_links (telegram_user_id, user_id, linked_at) VALUES ($1, $2, $3)",
            args=(link.telegram_user_id, link.user_id, link.linked_at),
        ),
    )


def delete_link(user_id: UUID) -> Write:
    """Return the statement that cuts the link of a user."""
    return Write(sql="DELETE FROM telegram_links WHERE user_id = $1", args=(user_id,))


def write_offset(bot_id: str, next_update_id: int, *, at: datetime) -> Write:
    """Return the statement that keeps how far polling has come; it may be repeated."""
    return Write(
        sql="INSERT INTO telegram_offsets (bot_id, next_update_id, updated_at) VALUES ($1, $2, $3)"
        " ON CONFLICT (bot_id) DO UPDATE SET next_update_id = excluded.next_update_id,"
        " updated_at = excluded.updated_at",
        args=(bot_id, next_update_id, at),
    )


def write_senders(source: Source) -> Write:
    """Return the statement that keeps who may signal in the chats of *source*; it follows that of the source."""
    return Write(
        sql="UPDATE signal_sources SET telegram_user_ids = $2 WHERE id = $1",
        args=(source.id, sorted(source.telegram_user_ids) or None),
    )
