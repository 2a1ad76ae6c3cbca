"""Strict JSON: what is read, and what is refused by name."""

import json
from decimal import Decimal

import pytest

from engine.domain.signal import Refusal
from engine.signals import json_guard
from engine.signals.refusals import RefusalCode as Code


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a": [1, 2.50, "x", true, null]}', {"a": [1, Decimal("2.50"), "x", True, None]}),
        (b" [] \r\n\t", []),
        (b"-0", 0),
        (b"1e2", Decimal("1e2")),
        (b"1e-30", Decimal("1e-30")),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        ('"é"'.encode(), "é"),
        (b'"[[[[[[[[[[[[\\"[[["', '[[[[[[[[[[[["[[['),
        (b'"\\"[[[[[[[[["', '"[[[[[[[[['),
        (b'"\\\\"', "\\"),
        (b'["\\\\", [[[[[[[]]]]]]]]', ["\\", [[[[[[[]]]]]]]]),
        (b"9" * 40, int("9" * 40)),
    ],
)
def test_read_valid_json_gives_exact_value(body, value):
    assert json_guard.read(body) == value


def test_read_float_is_decimal_with_its_digits():
    found = json_guard.read(b"0.10")
    assert isinstance(found, Decimal)
    assert str(found) == "0.10"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", Code.INVALID_JSON),
        (b"  ", Code.INVALID_JSON),
        (b"{} {}", Code.INVALID_JSON),
        (b"{}x", Code.INVALID_JSON),
        (b"{'a': 1}", Code.INVALID_JSON),
        (b'{"a": 1,}', Code.INVALID_JSON),
        (b"[1,]", Code.INVALID_JSON),
        (b"[1 // one\n]", Code.INVALID_JSON),
        (b"01", Code.INVALID_JSON),
        (b"+1", Code.INVALID_JSON),
        (b"1.", Code.INVALID_JSON),
        (b".5", Code.INVALID_JSON),
        (b"0x10", Code.INVALID_JSON),
        (b"True", Code.INVALID_JSON),
        (b'"a\nb"', Code.INVALID_JSON),
        (b'"a\x00b"', Code.INVALID_JSON),
        (b'"\\x41"', Code.INVALID_JSON),
        (b'"open', Code.INVALID_JSON),
        (b"]" * 20, Code.INVALID_JSON),
        ("٣".encode(), Code.INVALID_JSON),
        (b"\xef\xbb\xbf{}", Code.INVALID_JSON),
        ('{"a": 1}'.encode("utf-16"), Code.INVALID_ENCODING),
        (b"\xff", Code.INVALID_ENCODING),
        (b'"\xed\xa0\x80"', Code.INVALID_ENCODING),
        (b'"\xc0\xaf"', Code.INVALID_ENCODING),
        (b'{"a": 1, "a": 1}', Code.DUPLICATE_KEY),
        (b'{"a": 1, "\\u0061": 2}', Code.DUPLICATE_KEY),
        (b'[{"b": {"a": 1, "a": 2}}]', Code.DUPLICATE_KEY),
        (b"NaN", Code.NUMBER_OUT_OF_BOUNDS),
        (b'{"a": Infinity}', Code.NUMBER_OUT_OF_BOUNDS),
        (b"[-Infinity]", Code.NUMBER_OUT_OF_BOUNDS),
        (b"1e400", Code.NUMBER_OUT_OF_BOUNDS),
        (b"1e31", Code.NUMBER_OUT_OF_BOUNDS),
        (b"1E-31", Code.NUMBER_OUT_OF_BOUNDS),
        (b"1e99999999999999999999999", Code.NUMBER_OUT_OF_BOUNDS),
        (b"9" * 41, Code.NUMBER_OUT_OF_BOUNDS),
        (b"9" * 60_000, Code.NUMBER_OUT_OF_BOUNDS),
        (b"0." + b"1" * 39, Code.NUMBER_OUT_OF_BOUNDS),
        (b'"\\ud800"', Code.INVALID_STRING),
        (b'{"\\udc00": 1}', Code.INVALID_STRING),
        (b'[{"a": ["\\u0000"]}]', Code.INVALID_STRING),
        (b"[" * 9 + b"]" * 9, Code.TOO_DEEP),
        (b'{"a":' * 9, Code.TOO_DEEP),
        (b"[" * 65_536, Code.TOO_DEEP),
        (b"[[],[],[],[],[[[[[[[[]]]]]]]]]", Code.TOO_DEEP),
        (b'["\\\\", [[[[[[[[]]]]]]]]]', Code.TOO_DEEP),
        (b'{"a":[' * 10_000, Code.TOO_DEEP),
        (b" " * 65_537, Code.BODY_TOO_LARGE),
    ],
)
def test_read_bad_body_is_refused_by_name(body, code):
    refusal = json_guard.read(body)
    assert isinstance(refusal, Refusal)
    assert refusal.code == code
    assert 0 < len(refusal.message) < 200


def test_read_depth_8_is_the_last_accepted():
    assert json_guard.read(b"[" * 8 + b"]" * 8) == [[[[[[[[]]]]]]]]


@pytest.mark.parametrize(("keys", "accepted"), [(64, True), (65, False)])
def test_read_object_of_64_keys_is_the_last_accepted(keys, accepted):
    value = {f"k{number}": number for number in range(keys)}
    found = json_guard.read(json.dumps(value).encode())
    assert found == value if accepted else isinstance(found, Refusal) and found.code == Code.TOO_MANY_KEYS


def test_read_body_of_64_kib_is_the_last_accepted():
    body = b'"' + b"x" * 65_534 + b'"'
    assert json_guard.read(body) == "x" * 65_534


def test_read_duplicate_key_is_named():
    refusal = json_guard.read(b'{"quantity": 10, "quantity": 1000}')
    assert isinstance(refusal, Refusal)
    assert refusal.field == "quantity"


def test_read_invalid_json_says_where():
    refusal = json_guard.read(b'{\n"a": x}')
    assert isinstance(refusal, Refusal)
    assert "line 2, column 6" in refusal.message
