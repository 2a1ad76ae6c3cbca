"""Texts for chats: nothing hidden, bounded as Telegram counts."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from engine.signals.chat_command import ChatCommand, parse_command
from engine.signals.chat_text import MAX_UNITS, clean, outside, units

HIDDEN = "\u202e\u200f\u2066\u200b\x00\x1b\x07\ufeff\ue000\ud800\u2028"


def test_hidden_characters_are_taken_out_and_lines_stay():
    assert clean(f"a{HIDDEN}b\nc\td\r\ne") == "a b\nc d\ne"
    assert outside(f"one\nApproved: {HIDDEN}all\n") == "one Approved: all"


def test_address_in_somebody_elses_words_is_no_link():
    assert "://" not in outside("log in at https://kite.example/login")


def test_markup_stays_what_was_written():
    assert clean("<b>*a* [x](y)</b> &amp; `c`") == "<b>*a* [x](y)</b> &amp; `c`"


@given(st.text(max_size=5000))
def test_clean_text_is_bounded_encodable_and_stays_so(text):
    shown = clean(text)
    assert units(shown) <= MAX_UNITS
    assert len(shown.encode("utf-16-le")) // 2 == units(shown)
    assert not {unicodedata.category(c) for c in shown if c != "\n"} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert clean(shown) == shown
    assert "\n" not in outside(text)


def test_wide_characters_count_twice():
    assert units(clean("\U0001f600" * 3000)) <= MAX_UNITS
    assert clean("x" * 4096) == "x" * 4096
    assert clean("x" * 4097).endswith("…")


def test_command_is_name_and_words():
    assert parse_command("/Kill@desk_bot confirm lost control") == ChatCommand(
        name="kill", words=("confirm", "lost", "control")
    )
    for text in (
        "kill",
        " /kill",
        "/",
        "/kill\nconfirm",
        "/k\u0131ll",
        "//kill",
        "/kill@",
        "/" + "k" * 33,
        "/k" + " x" * 200,
    ):
        assert parse_command(text) is None, text


def test_direction_marks_do_not_make_another_command():
    assert parse_command("/squareoff\u202e 1234\u200b") == ChatCommand(name="squareoff", words=("1234",))


@given(st.text(max_size=300) | st.text("/kil@_ 12\n\u200f", max_size=40).map("/".__add__))
def test_command_never_raises_and_its_name_is_plain(text):
    found = parse_command(text)
    if found is not None:
        assert found.name.isascii()
        assert found.name == found.name.lower()
        assert 1 <= len(found.name) <= 32
        assert all(word and word.isprintable() and " " not in word for word in found.words)
        assert parse_command(" ".join([f"/{found.name}", *found.words])) == found
