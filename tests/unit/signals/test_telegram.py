"""Telegram updates: what is a message to read, and what is named and left alone."""

import json
from datetime import UTC, datetime

import pytest

from engine.domain.signal import Refusal
from engine.signals.refusals import RefusalCode as Code
from engine.signals.telegram import NEVER, Update, parse_update, parse_update_value

MESSAGE = {
    "message_id": 7,
    "from": {"id": 42, "is_bot": False, "first_name": "A"},
    "chat": {"id": -100123, "type": "group", "title": "T"},
    "date": 1_763_800_000,
    "text": "BUY INFY NSE 1 MARKET CNC",
}


def body(update_id=5, **parts) -> bytes:
    return json.dumps({"update_id": update_id, **parts}).encode()


def message(**changes) -> bytes:
    return body(message={name: value for name, value in {**MESSAGE, **changes}.items() if value is not None})


def update(raw: bytes) -> Update:
    found = parse_update(raw)
    assert isinstance(found, Update), found
    return found


def test_parse_update_text_message_gives_all_of_it():
    assert update(message()) == Update(
        update_id=5,
        chat_id=-100123,
        sender_id=42,
        message_id=7,
        sent_at=datetime(2025, 11, 22, 8, 26, 40, tzinfo=UTC),
        text="BUY INFY NSE 1 MARKET CNC",
    )


def test_parse_update_reply_is_an_ordinary_message():
    assert update(message(reply_to_message=MESSAGE)).ignored_reason is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"from": {"id": 42, "is_bot": True}}, "bot message"),
        ({"from": {"id": 42}}, "bot message"),
        ({"from": {"id": 42, "is_bot": "no"}}, "bot message"),
        ({"via_bot": {"id": 1, "is_bot": True}}, "bot message"),
        ({"from": None}, "message without a personal sender"),
        ({"sender_chat": {"id": -5}}, "message without a personal sender"),
        ({"chat": {"id": -5, "type": "channel"}}, "channel post"),
        ({"forward_origin": {"type": "user"}}, "forwarded message"),
        ({"forward_date": 1}, "forwarded message"),
        ({"forward_from": {"id": 1}}, "forwarded message"),
        ({"forward_sender_name": "x"}, "forwarded message"),
        ({"is_automatic_forward": True}, "forwarded message"),
        ({"edit_date": 1}, "edited message"),
        ({"text": None, "photo": []}, "message without text"),
        ({"text": None, "caption": "BUY INFY NSE 1 MARKET CNC"}, "message without text"),
        ({"text": ""}, "message without text"),
    ],
)
def test_parse_update_message_nobody_typed_is_ignored_by_name(changes, reason):
    found = update(message(**changes))
    assert found.ignored_reason == reason
    assert found.update_id == 5


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("channel_post", "channel post"),
        ("edited_channel_post", "edited channel post"),
        ("poll_answer", "poll answer"),
        ("business_message", "business message"),
    ],
)
def test_parse_update_of_another_kind_is_ignored_without_its_text(kind, reason):
    found = update(body(**{kind: MESSAGE}))
    assert found == Update(update_id=5, chat_id=-100123, sender_id=42, ignored_reason=reason)
    assert found.text == ""
    assert found.sent_at == NEVER


def test_parse_update_edit_is_ignored_without_its_text_and_says_of_which_message():
    found = update(body(edited_message=MESSAGE | {"edit_date": MESSAGE["date"] + 1}))
    assert (found.ignored_reason, found.text, found.is_edit) == ("edited message", "", True)
    assert (found.chat_id, found.sender_id, found.message_id) == (-100123, 42, MESSAGE["message_id"])


def test_parse_update_edit_of_what_was_ignored_or_is_none_stays_ignored():
    assert not update(body(edited_message=MESSAGE | {"forward_date": 1})).is_edit
    assert update(body(edited_message={"chat": "x"})).ignored_reason == "edited message"


def test_parse_update_button_press_is_ignored_with_its_ids():
    found = update(
        body(callback_query={"id": "x", "from": {"id": 9, "is_bot": False}, "message": MESSAGE, "data": "ok"})
    )
    assert (found.ignored_reason, found.sender_id, found.chat_id) == ("button press", 9, -100123)


@pytest.mark.parametrize("part", [None, 5, [], {}, {"message": 5}, {"chat": {"id": True}}, {"from": {"id": 2**70}}])
def test_parse_update_of_another_kind_in_any_shape_is_ignored(part):
    found = update(body(callback_query=part))
    assert (found.ignored_reason, found.sender_id, found.chat_id) == ("button press", 0, 0)


def test_parse_update_with_nothing_in_it_is_ignored():
    assert update(body()).ignored_reason == "empty update"


@pytest.mark.parametrize(
    "raw",
    [
        b"[]",
        b"5",
        b"{}",
        body(update_id="5"),
        body(update_id=True),
        body(update_id=-1),
        body(update_id=2**63),
        body(message=5),
        body(message={}),
        message(chat=5),
        message(chat={"id": 1.5}),
        message(date="now"),
        message(date=-1),
        message(date=253_402_300_800),
        message(message_id=None),
        message(text=5),
        message(**{"from": 5}),
    ],
)
def test_parse_update_malformed_is_refused_naming_the_field(raw):
    refused = parse_update(raw)
    assert isinstance(refused, Refusal)
    assert refused.code == Code.INVALID_UPDATE
    assert refused.field


def test_parse_update_unreadable_json_is_refused():
    refused = parse_update(b'{"update_id": 1, "update_id": 2}')
    assert isinstance(refused, Refusal)
    assert refused.code == Code.DUPLICATE_KEY


def test_parse_update_value_reads_a_decoded_update():
    assert parse_update_value({"update_id": 5, "message": MESSAGE}) == update(message())
