"""Which person of Telegram is which user of the engine, in memory: a command is answered without asking the store."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

import msgspec


class TelegramLink(msgspec.Struct, frozen=True, kw_only=True):
    """A person of Telegram who is a user; ``telegram_user_id`` is the id of the private chat with the bot as well."""

    telegram_user_id: int
    user_id: UUID
    linked_at: datetime


class TelegramLinks:
    """Links by person and by user: one each way. Changed only after the ledger has committed the change."""

    def __init__(self, links: Iterable[TelegramLink] = ()) -> None:
        self._by_person: dict[int, TelegramLink] = {}
        self._by_user: dict[UUID, TelegramLink] = {}
        for link in links:
            self.put(link)

    def put(self, link: TelegramLink) -> None:
        """Take a link; an earlier one of the person, or of the user, is no more."""
        self.cut(link.user_id)
        held = self._by_person.get(link.telegram_user_id)
        if held is not None:
            self.cut(held.user_id)
        self._by_person[link.telegram_user_id] = link
        self._by_user[link.user_id] = link

    def cut(self, user_id: UUID) -> None:
        """Forget the link of a user."""
        held = self._by_user.pop(user_id, None)
        if held is not None:
            del self._by_person[held.telegram_user_id]

    def of_person(self, telegram_user_id: int) -> TelegramLink | None:
        """Return the link of a person of Telegram."""
        return self._by_person.get(telegram_user_id)

    def of_user(self, user_id: UUID) -> TelegramLink | None:
        """Return the link of a user."""
        return self._by_user.get(user_id)

    def all(self) -> list[TelegramLink]:
        """Return every link."""
        return list(self._by_user.values())
