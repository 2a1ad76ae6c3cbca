"""What Kite's postback proves, and what not."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.broker.kite.postback import parse_postback
from engine.errors import BrokerUnavailable

ORDER, AT, SECRET = "220303000308932", "2022-03-03 09:24:25", "the secret of the app"


def made(secret: str = SECRET, **changes: object) -> bytes:
    checksum = hashlib.sha256(f"{ORDER}{AT}{secret}".encode()).hexdigest()
    return json.dumps(
        {"order_id": ORDER, "order_timestamp": AT, "checksum": checksum, "status": "COMPLETE", **changes}
    ).encode()


def test_checksum_of_the_secret_is_believed_and_no_other() -> None:
    postback = parse_postback(made())
    assert postback.is_signed_with(SECRET)
    assert not postback.is_signed_with(SECRET + "x")
    assert not parse_postback(made(order_id="220303000308933")).is_signed_with(SECRET)
    assert not parse_postback(made(order_timestamp="2022-03-03 09:24:26")).is_signed_with(SECRET)


def test_secret_that_is_not_configured_believes_nothing() -> None:
    assert not parse_postback(made("")).is_signed_with("")


@pytest.mark.parametrize("change", [str.upper, lambda c: c[:-1], lambda c: c + "0", lambda c: " " + c, lambda _: "é"])
def test_checksum_in_another_form_is_not_believed(change) -> None:
    checksum = json.loads(made())["checksum"]
    assert not parse_postback(made(checksum=change(checksum))).is_signed_with(SECRET)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b'{"order_id":"1"}',
        made(order_id=220303000308932),
        made(order_id=""),
        made(order_id=ORDER + AT[:1], order_timestamp=AT[1:]),
        made(order_id=ORDER[:-1], order_timestamp=ORDER[-1] + AT),
        made(order_id="\u0661" * 15),
        made(checksum=None),
        made(user_id=7),
        made()[:-1],
        b"[" * 10_000,
    ],
)
def test_what_is_no_postback_is_one_typed_error(body: bytes) -> None:
    with pytest.raises(BrokerUnavailable):
        parse_postback(body)


@given(st.one_of(st.binary(max_size=200), st.text(max_size=50).map(lambda text: made(checksum=text))))
def test_arbitrary_bytes_are_never_believed_and_never_another_error(body: bytes) -> None:
    try:
        postback = parse_postback(body)
    except BrokerUnavailable:
        return
    assert not postback.is_signed_with(SECRET)
