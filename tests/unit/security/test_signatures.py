"""Webhook signatures: the attack list of SEC-038 to SEC-042, and trap T17."""

import hashlib
import hmac
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.security.signatures import SignatureFault, sign, verify

SECRET = b"0123456789abcdef0123456789abcdef"
BODY = b'{"symbol":"INFY","quantity":1}'
NOW = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)
STAMP = str(int(NOW.timestamp()))


def judge(
    signature: str | None, timestamp: str | None, *, body: bytes = BODY, secret: bytes = SECRET, **changes: Any
) -> SignatureFault | None:
    values = {"now": NOW, "max_skew_s": 300, "require_timestamp": True, **changes}
    return verify(secret, body, signature, timestamp, **values)


def test_sign_body_is_plain_hmac_sha256_in_lower_case_hex() -> None:
    assert sign(SECRET, BODY) == hmac.new(SECRET, BODY, hashlib.sha256).hexdigest()
    assert sign(SECRET, BODY, STAMP) == hmac.new(SECRET, STAMP.encode() + b"." + BODY, hashlib.sha256).hexdigest()


def test_verify_signed_timestamp_and_body_accepts() -> None:
    assert judge(sign(SECRET, BODY, STAMP), STAMP) is None


def test_verify_plain_form_depends_on_the_source() -> None:
    signature = sign(SECRET, BODY)
    assert judge(signature, None) is SignatureFault.TIMESTAMP_REQUIRED
    assert judge(signature, None, require_timestamp=False) is None


@pytest.mark.parametrize("offset", [-300, 0, 300])
def test_verify_at_the_edge_of_the_window_accepts(offset: int) -> None:
    stamp = str(int(STAMP) + offset)
    assert judge(sign(SECRET, BODY, stamp), stamp) is None


@pytest.mark.parametrize("offset", [-301, 301, -86400, 86400])
def test_verify_outside_the_window_is_stale_even_where_no_timestamp_is_required(offset: int) -> None:
    stamp = str(int(STAMP) + offset)
    assert judge(sign(SECRET, BODY, stamp), stamp, require_timestamp=False) is SignatureFault.TIMESTAMP_STALE


@pytest.mark.parametrize("signature", [None, ""])
def test_verify_missing_signature_is_named(signature: str | None) -> None:
    assert judge(signature, STAMP) is SignatureFault.MISSING_SIGNATURE


GOOD = sign(SECRET, BODY, STAMP)


@pytest.mark.parametrize(
    "signature",
    [
        GOOD.upper(),
        "sha256=" + GOOD,
        GOOD[:-1],
        GOOD[:2],
        GOOD + "0",
        GOOD + "\n",
        " " + GOOD,
        GOOD[:-1] + "\u0663",
        "0" * 64,
        "g" * 64,
        GOOD + ", " + GOOD,
        "é" * 64,
    ],
)
def test_verify_other_forms_of_a_signature_are_refused(signature: str) -> None:
    assert judge(signature, STAMP) is SignatureFault.BAD_SIGNATURE


@pytest.mark.parametrize(
    "body", [BODY + b" ", BODY.replace(b":", b": "), b'{"quantity":1,"symbol":"INFY"}', b"", BODY[:-1]]
)
def test_verify_changed_body_is_refused(body: bytes) -> None:
    assert judge(GOOD, STAMP, body=body) is SignatureFault.BAD_SIGNATURE


@pytest.mark.parametrize(
    "stamp",
    [
        "",
        " ",
        "1.5",
        "-5",
        "+5",
        "0",
        "007",
        "1e9",
        "0x10",
        "\uff11\uff12",
        "\u0663",
        STAMP + " ",
        STAMP + ".0",
        STAMP + "\n",
    ],
)
def test_verify_timestamp_that_is_not_plain_digits_is_malformed(stamp: str) -> None:
    assert judge(sign(SECRET, BODY, stamp), stamp) is SignatureFault.TIMESTAMP_MALFORMED


def test_verify_timestamp_in_milliseconds_is_refused() -> None:
    stamp = STAMP + "000"
    assert judge(sign(SECRET, BODY, stamp), stamp) is SignatureFault.TIMESTAMP_MALFORMED


def test_verify_timestamp_added_dropped_or_changed_is_refused() -> None:
    assert judge(sign(SECRET, BODY), STAMP) is SignatureFault.BAD_SIGNATURE
    assert judge(GOOD, None, require_timestamp=False) is SignatureFault.BAD_SIGNATURE
    assert judge(GOOD, str(int(STAMP) + 1)) is SignatureFault.BAD_SIGNATURE


def test_verify_bytes_moved_between_timestamp_and_body_are_refused() -> None:
    body = b"1." + BODY
    assert judge(sign(SECRET, body, STAMP), f"{STAMP}.1", body=BODY) is SignatureFault.TIMESTAMP_MALFORMED


@pytest.mark.parametrize("signature", [None, "", hmac.new(b"", BODY, hashlib.sha256).hexdigest(), "0" * 64])
@pytest.mark.parametrize("stamp", [None, STAMP])
def test_verify_empty_secret_never_accepts(signature: str | None, stamp: str | None) -> None:
    assert judge(signature, stamp, secret=b"", require_timestamp=False) is not None


def test_verify_empty_secret_with_its_own_signature_never_accepts() -> None:
    assert judge(sign(b"", BODY, STAMP), STAMP, secret=b"") is SignatureFault.BAD_SIGNATURE


@given(st.binary(max_size=200), st.binary(min_size=1, max_size=64), st.integers(0, 10**11))
def test_verify_accepts_exactly_what_was_signed(body: bytes, secret: bytes, at: int) -> None:
    stamp, now = str(at + 1), datetime.fromtimestamp(at + 1, UTC)
    signature = sign(secret, body, stamp)
    assert judge(signature, stamp, body=body, secret=secret, now=now) is None
    assert judge(signature, stamp, body=body + b"x", secret=secret, now=now) is SignatureFault.BAD_SIGNATURE
