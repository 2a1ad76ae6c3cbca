"""``/kill`` in Telegram: only configured people, only with the second message."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from engine.domain.enums import KillMode
from engine.http.telegram_kill import is_kill, obey
from engine.signals.telegram import Update

ADMIN = 42


class Stand:
    def __init__(self):
        self.now = datetime(2026, 11, 23, 5, tzinfo=UTC)
        self.blocks = []
        self.services = SimpleNamespace(
            config=SimpleNamespace(telegram=SimpleNamespace(admin_user_ids=(ADMIN,))),
            clock=SimpleNamespace(now=lambda: self.now),
            guardian=SimpleNamespace(block_nowait=self._block),
            extras={},
        )

    def _block(self, scope, *, reason, actor, mode):
        self.blocks.append((scope, reason, actor, mode))

    def say(self, text, sender=ADMIN, chat=7):
        update = Update(update_id=1, chat_id=chat, sender_id=sender, text=text)
        return obey(self.services, update) if is_kill(self.services, update) else None


@pytest.fixture
def stand():
    return Stand()


def test_second_message_blocks_everything(stand):
    assert "/kill confirm" in stand.say("/kill@engine_bot")
    assert stand.blocks == []
    assert "blocked" in stand.say("/kill confirm lost control")
    assert stand.blocks == [("global", "lost control", f"telegram:{ADMIN}", KillMode.SQUARE_OFF)]
    assert "first" in stand.say("/kill confirm")
    assert len(stand.blocks) == 1


@pytest.mark.parametrize(("sender", "text"), [(41, "/kill"), (0, "/kill"), (ADMIN, "/killer"), (ADMIN, "kill")])
def test_anybody_else_and_anything_else_is_not_heard(stand, sender, text):
    assert stand.say(text, sender=sender) is None
    stand.say("/kill")
    assert stand.say("/kill confirm", sender=41) is None
    assert stand.blocks == []


def test_confirmation_counts_in_its_own_chat_and_time_only(stand):
    stand.say("/kill")
    stand.say("/kill confirm", chat=8)
    stand.now += timedelta(minutes=3)
    stand.say("/kill confirm")
    assert stand.blocks == []
