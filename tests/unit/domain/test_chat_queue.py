"""What waits to be said: Telegram's limits hold whatever is put in, and nothing grows without bound."""

from hypothesis import given
from hypothesis import strategies as st

from engine.domain.alert_pace import AlertPace
from engine.domain.chat_queue import KEEP_S, MOST_WAITING, ChatQueue, Note


def queue():
    return ChatQueue(lambda text: len(text) <= 100)


def note(chat, text, at=0.0, buttons=()):
    return Note(chat_id=chat, text=text, put_at=at, buttons=buttons)


def drained(held, now, until):
    sent = []
    while now <= until:
        found, wait = held.take(now)
        if found is not None:
            sent.append((now, found))
        elif wait == float("inf"):
            break
        else:
            now += max(wait, 1e-6)
    return sent


def most_in(times, span):
    return max((sum(t <= other < t + span for other in times) for t in times), default=0)


@given(st.lists(st.tuples(st.sampled_from([1, 2, -3, -4]), st.floats(0, 90)), max_size=150))
def test_limits_hold_for_any_load(puts):
    held, sent, now = queue(), [], 0.0
    for number, (chat, at) in enumerate(sorted(puts, key=lambda put: put[1])):
        sent += drained(held, now, at)
        now = at
        held.put(note(chat, "x" * 90 + str(number), at))
    sent += drained(held, now, now + 2000)
    times = [t for t, _ in sent]
    assert most_in(times, 0.999) <= 30
    for chat in (-3, -4):
        assert most_in([t for t, n in sent if n.chat_id == chat], 59.99) <= 20
    for chat in (1, 2):
        assert most_in([t for t, n in sent if n.chat_id == chat], 9.99) <= 13


def test_texts_that_wait_together_become_one_message_and_questions_do_not():
    held = queue()
    for text in ("one", "two", "two"):
        held.put(note(1, text))
    held.put(note(1, "ask", buttons=(("Approve", "x"),)))
    held.put(note(1, "after"))
    texts = [n.text for _, n in drained(held, 0.0, 10.0)]
    assert texts == ["one\n\ntwo", "ask", "after"]


def test_flood_of_one_chat_costs_that_chat_and_is_counted():
    held = queue()
    held.put(note(2, "mine"))
    for number in range(1000):
        held.put(note(1, "x" * 95 + f"{number}"))
    assert len(held) == MOST_WAITING
    assert held.dropped > 0
    assert "mine" in [n.text for _, n in drained(held, 0.0, 1.0)]


def test_held_chat_waits_as_long_as_telegram_asks_and_no_other_does():
    held = queue()
    held.put(note(1, "a"))
    held.put(note(2, "b"))
    held.hold(1, 30.0)
    assert [(round(t), n.text) for t, n in drained(held, 0.0, 100.0)] == [(0, "b"), (30, "a")]


def test_what_could_not_be_told_in_time_is_not_told_late():
    held = queue()
    held.put(note(1, "old", 0.0))
    assert held.take(KEEP_S + 1) == (None, float("inf"))
    assert held.dropped == 1


def test_alerts_are_told_once_and_never_flood():
    pace = AlertPace()
    assert pace.let("a", "x", 0) == 0
    assert pace.let("a", "x", 10) is None
    assert sum(pace.let("a", f"y{n}", 20) is not None for n in range(50)) == 4
    assert sum(pace.let(f"s{n}", "z", 30) is not None for n in range(50)) == 15
    assert pace.let("later", "z", 1000) == 35
    assert pace.let("a", "x", 1000) == 0


def test_steady_talk_in_a_group_stays_under_twenty_a_minute_and_in_a_chat_under_one_a_second():
    for chat, span, most in ((-3, 60.0, 20), (1, 10.0, 13)):
        held, times = queue(), []
        for tick in range(3000):
            now = tick / 5
            held.put(note(chat, "x" * 95 + str(tick), now))
            found, _ = held.take(now)
            if found is not None:
                times.append(now)
        assert most_in(times, span) <= most
        assert len(times) > 100
