from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.observability.redaction import MAX_TEXT, escape_controls, is_secret_key, redact, redact_text
from engine.secret import Secret


@pytest.mark.parametrize(
    "key",
    [
        "secret", "api_secret", "apiSecret", "X-Api-Key", "API_KEY", "password", "password_hash", "newPassword",
        "token", "access_token", "refreshToken", "enctoken", "request-token", "authorization", "Authorization",
        "signature", "X-Signature", "cookie", "Set-Cookie", "totp", "otp", "checksum", "database_dsn",
    ],
)  # fmt: skip
def test_key_of_a_secret_is_recognised(key):
    assert is_secret_key(key)


@pytest.mark.parametrize(
    "key", ["instrument_token", "instrumentToken", "symbol", "intent_id", "option", "capital", "author"]
)
def test_key_of_no_secret_is_left(key):
    assert not is_secret_key(key)


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("GET /session?api_key=k1&request_token=hunter2 failed", "hunter2"),
        ("bad body {'api_secret': 'hunter2'}", "hunter2"),
        ('bad body {"password": "hunter2"}', "hunter2"),
        ("Authorization: token apikey1:hunter2", "hunter2"),
        ("authorization=Basic hunter2", "hunter2"),
        ("sent Bearer aaa.bbb.hunter2 and got 403", "hunter2"),
        ("https://api.telegram.org/bot123456:AAhunter2hunter2hunter2x/getMe", "hunter2"),
        ("cannot connect to postgresql://engine:hunter2@db:5432/x", "hunter2"),
        ("kite_access_token=hunter2", "hunter2"),
        ("x-signature: hunter2", "hunter2"),
    ],
)
def test_credential_in_free_text_is_starred(text, secret):
    cleaned = redact_text(text)
    assert secret not in cleaned
    assert "***" in cleaned


@pytest.mark.parametrize(
    "text",
    ["instrument_token=738561", "token expired", "order 5 at 12:30:01 filled", "https://kite.zerodha.com/x", "a@b.in"],
)
def test_text_without_credential_is_left(text):
    assert redact_text(text) == text


def test_long_text_is_cut():
    assert len(redact_text("x" * (MAX_TEXT * 3))) < MAX_TEXT + 50


def test_very_long_word_is_redacted_in_linear_time():
    assert redact_text("token" * 100_000)


class Login(msgspec.Struct):
    user: str
    password: str
    at: Decimal


def test_nested_values_are_redacted_and_flattened():
    event = {
        "login": Login(user="u", password="hunter2", at=Decimal("1.50")),
        "headers": [{"Cookie": "hunter2", "Accept": "x"}],
        "key": Secret("hunter2"),
        "raw": b"hunter2",
        5: ("a", None, True),
        "api_key": None,
    }
    assert redact(event) == {
        "login": {"user": "u", "password": "***", "at": "1.50"},
        "headers": [{"Cookie": "***", "Accept": "x"}],
        "key": "***",
        "raw": "<7 bytes>",
        "5": ["a", None, True],
        "api_key": None,
    }


def test_endless_nesting_ends():
    loop: dict[str, object] = {}
    loop["self"] = loop
    assert "…" in str(redact(loop))


def test_redacting_leaves_the_original_alone():
    event = {"inner": {"password": "hunter2"}}
    redact(event)
    assert event == {"inner": {"password": "hunter2"}}


def test_control_characters_are_escaped():
    assert escape_controls("a\x1b[31m\nb\u202ec\x9b") == "a\\u001b[31m\\u000ab\\u202ec\\u009b"


@given(st.text())
def test_escaped_text_has_no_control_characters(text):
    escaped = escape_controls(text)
    assert not any(ord(character) < 32 or 0x7F <= ord(character) < 0xA0 for character in escaped)
    assert len(escaped.splitlines()) <= 1
