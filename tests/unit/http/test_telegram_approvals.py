"""Buttons in Telegram: bound to the intent, the answer and the chat."""

from uuid import UUID

import pytest

from engine.domain.signal import Refusal
from engine.http.telegram_approvals import button_data, read_press
from engine.signals.telegram import parse_update_value

KEY, INTENT, CHAT = b"k" * 32, UUID(int=2**100 + 7), -1001234567890


@pytest.mark.parametrize(("letter", "answer"), [("a", "approve"), ("r", "reject")])
def test_button_comes_back_as_what_was_asked(letter, answer):
    data = button_data(KEY, letter, INTENT, CHAT)
    assert len(data) <= 64
    press = read_press(KEY, data, CHAT)
    assert press is not None
    assert (press.answer, press.intent_id) == (answer, INTENT)


def test_button_of_another_chat_key_answer_or_intent_does_nothing():
    data = button_data(KEY, "r", INTENT, CHAT)
    assert read_press(KEY, data, CHAT + 1) is None
    assert read_press(b"x" * 32, data, CHAT) is None
    assert read_press(KEY, "a" + data[1:], CHAT) is None
    other = button_data(KEY, "r", UUID(int=5), CHAT)
    assert read_press(KEY, other[:23] + data[23:], CHAT) is None


@pytest.mark.parametrize("data", ["", "a", "approve", "a" + "!" * 44, "a" + "é" * 44, "x" * 45, "a" + "A" * 44])
def test_made_up_data_does_nothing(data):
    assert read_press(KEY, data, CHAT) is None


def update(**sender):
    return parse_update_value(
        {
            "update_id": 1,
            "callback_query": {
                "id": "77",
                "from": {"id": 5} | sender,
                "data": "d",
                "message": {"chat": {"id": CHAT}},
            },
        }
    )


def test_press_by_a_person_carries_its_data_and_is_no_message():
    found = update(is_bot=False)
    assert not isinstance(found, Refusal)
    assert (found.press_id, found.data, found.chat_id, found.sender_id) == ("77", "d", CHAT, 5)
    assert found.ignored_reason == "button press"


@pytest.mark.parametrize("sender", [{}, {"is_bot": True}, {"is_bot": "no"}])
def test_press_by_anything_but_a_person_carries_nothing(sender):
    found = update(**sender)
    assert not isinstance(found, Refusal)
    assert found.press_id == ""
