"""Typed confirmations and link codes: bound, short-lived, once."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from engine.http.telegram_confirm import WITHIN, Confirmations
from engine.security.link_codes import TTL, LinkCodes

NOW = datetime(2026, 11, 23, 5, tzinfo=UTC)
KEY = (7, 42, "squareoff")


def asked(**changes):
    held = Confirmations()
    code = held.ask(KEY, ("ITC",), message_id=10, now=NOW, within=WITHIN, **changes)
    return held, code


def test_code_confirms_once():
    held, code = asked()
    assert held.take(KEY, code, message_id=11, now=NOW) == ("ITC",)
    assert held.take(KEY, code, message_id=12, now=NOW) is None


@pytest.mark.parametrize(
    ("key", "message_id", "after"),
    [
        ((8, 42, "squareoff"), 11, 0),
        ((7, 43, "squareoff"), 11, 0),
        ((7, 42, "cancelall"), 11, 0),
        (KEY, 10, 0),
        (KEY, 9, 0),
        (KEY, 11, 61),
    ],
)
def test_code_is_bound_to_chat_person_command_message_and_time(key, message_id, after):
    held, code = asked()
    assert held.take(key, code, message_id=message_id, now=NOW + timedelta(seconds=after)) is None


def test_wrong_code_spends_the_question_and_a_new_question_the_old():
    held, code = asked()
    assert held.take(KEY, "x", message_id=11, now=NOW) is None
    assert held.take(KEY, code, message_id=12, now=NOW) is None
    held, code = asked(code="1111")
    held.ask(KEY, (), message_id=11, now=NOW, within=WITHIN, code="2222")
    assert held.take(KEY, "1111", message_id=12, now=NOW) is None


def test_link_code_is_good_once_and_for_ten_minutes():
    codes, user = LinkCodes(), uuid4()
    first, until = codes.issue(user, now=NOW)
    second, _ = codes.issue(user, now=NOW)
    assert until == NOW + TTL
    assert codes.take(first, tried_by=1, now=NOW) is None  # the newer ended it
    assert codes.take(second.lower(), tried_by=2, now=NOW) == user
    assert codes.take(second, tried_by=2, now=NOW) is None
    late, _ = codes.issue(user, now=NOW)
    assert codes.take(late, tried_by=3, now=NOW + TTL) is None


def test_guessing_of_link_codes_ends_after_a_few_tries_an_hour():
    codes, user = LinkCodes(), uuid4()
    for _ in range(5):
        assert codes.take("WRONG", tried_by=1, now=NOW) is None
    code, _ = codes.issue(user, now=NOW)
    assert codes.take(code, tried_by=1, now=NOW) is None
    assert codes.take(code, tried_by=2, now=NOW) == user
    for person in range(100, 300):
        codes.take("WRONG", tried_by=person, now=NOW)
    code, _ = codes.issue(user, now=NOW + timedelta(minutes=59))
    assert codes.take(code, tried_by=999, now=NOW + timedelta(minutes=59)) is None
    assert codes.take(code, tried_by=999, now=NOW + timedelta(minutes=61)) == user
