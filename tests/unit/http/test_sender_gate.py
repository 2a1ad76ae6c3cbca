"""One signed message under many keys, and a source that sends faster than it is meant to."""

from uuid import uuid4

import pytest

from engine.errors import ConflictError, RateLimitError
from engine.http.sender_gate import SAME_MOMENT_S, SignalPace, SignedMessages

SOURCE = uuid4()


def test_message_that_came_to_nothing_may_come_again_under_another_key():
    messages = SignedMessages(keep_s=600)
    assert messages.take(SOURCE, b"m", "a", 0.0, strict=True)
    messages.give_back(SOURCE, b"m", "a")
    assert messages.take(SOURCE, b"m", "b", 500.0, strict=True)
    messages.give_back(SOURCE, b"m", "unknown")
    with pytest.raises(ConflictError):
        messages.take(SOURCE, b"m", "a", 500.0, strict=True)


def test_same_body_twice_in_one_second_is_two_signals_unless_the_source_is_strict():
    messages = SignedMessages(keep_s=600)
    for key in ("a", "b", "c"):
        assert messages.take(SOURCE, b"m", key, 1.0, strict=False)
    with pytest.raises(ConflictError):
        messages.take(SOURCE, b"m", "d", 1.0 + SAME_MOMENT_S + 0.1, strict=False)
    assert not messages.take(SOURCE, b"m", "b", 300.0, strict=False)


def test_pace_counts_signals_and_refills_evenly():
    pace = SignalPace()
    pace.take(SOURCE, 60, 60, 0.0)
    with pytest.raises(RateLimitError) as refused:
        pace.take(SOURCE, 10, 60, 1.0)
    assert refused.value.retry_after_s is not None
    assert 9 <= refused.value.retry_after_s <= 11
    pace.take(uuid4(), 60, 60, 1.0)
    pace.take(SOURCE, 10, 60, 11.0)


def test_pace_that_is_loosened_holds_at_once():
    pace = SignalPace()
    pace.take(SOURCE, 1, 1, 0.0)
    with pytest.raises(RateLimitError):
        pace.take(SOURCE, 1, 1, 0.5)
    pace.take(SOURCE, 1, 6000, 0.6)
