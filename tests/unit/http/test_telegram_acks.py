"""The button that acknowledges an alert: bound to the alert and the chat, and to people who administer."""

from datetime import timedelta
from types import SimpleNamespace
from uuid import UUID

import pytest

from engine.actors.alert_desk import AlertDesk
from engine.clock import SystemClock
from engine.config import Config, TelegramConfig
from engine.domain.alert_rules import AlertRules
from engine.domain.enums import Role
from engine.domain.stream_event import Alert
from engine.domain.telegram_links import TelegramLink, TelegramLinks
from engine.http.telegram_acks import ack_data, answer, read_ack
from engine.http.telegram_approvals import read_press

KEY, ALERT, CHAT = b"k" * 32, UUID(int=2**100 + 7), 5
ADMIN, TRADER = UUID(int=1), UUID(int=2)


def test_button_is_good_for_its_alert_in_its_chat_alone():
    data = ack_data(KEY, ALERT, CHAT)
    assert len(data) <= 64
    assert read_ack(KEY, data, CHAT) == ALERT
    assert read_ack(KEY, data, CHAT + 1) is None
    assert read_ack(b"x" * 32, data, CHAT) is None
    assert read_ack(KEY, ack_data(KEY, UUID(int=5), CHAT)[:23] + data[23:], CHAT) is None
    assert read_press(KEY, data, CHAT) is None


@pytest.mark.parametrize("data", ["", "k", "k" + "!" * 44, "k" + "é" * 44, "k" + "A" * 44])
def test_made_up_data_does_nothing(data):
    assert read_ack(KEY, data, CHAT) is None


def stand(sender_id, *, named=()):
    desk = AlertDesk(
        AlertRules(),
        clock=SystemClock(),
        describe=lambda subject, text, at: Alert(at=at, subject=subject, text=text),
        retention=timedelta(days=1),
    )
    desk.take("order:1", "PARKED: look by hand")
    (record,) = desk.book.newest_first()
    now, recorded = SystemClock().now(), []
    links = TelegramLinks(
        TelegramLink(telegram_user_id=number, user_id=user, linked_at=now) for number, user in ((5, ADMIN), (6, TRADER))
    )
    users = {
        ADMIN: SimpleNamespace(role=Role.ADMIN, disabled=False),
        TRADER: SimpleNamespace(role=Role.TRADER, disabled=False),
    }
    services = SimpleNamespace(
        clock=SystemClock(),
        config=Config(telegram=TelegramConfig(admin_user_ids=named)),
        extras={"alerts": desk, "telegram_links": links},
        users=users,
        ledger=SimpleNamespace(record=recorded.append),
    )
    update = SimpleNamespace(sender_id=sender_id, chat_id=CHAT, data=ack_data(KEY, record.id, CHAT))
    return services, update, record.id, recorded


@pytest.mark.parametrize(("sender", "named", "may"), [(5, (), True), (9, (9,), True), (6, (), False), (9, (), False)])
def test_only_who_administers_may_press_and_it_is_on_record_once(sender, named, may):
    services, update, alert_id, recorded = stand(sender, named=named)
    said = [answer(services, update, key=KEY) for _ in range(2)]
    assert (said[0] is not None, said[0]) == (may, said[1])
    acked = services.extras["alerts"].book.get(alert_id)
    assert acked.acked_by == (f"telegram:{sender}" if may else None)
    assert [draft.action for draft in recorded] == (["ALERT_ACKNOWLEDGED"] if may else [])
