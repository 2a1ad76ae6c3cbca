"""Bodies and queries: read strictly, refused with field and mend (SEC-033, SEC-049, SEC-068)."""

from decimal import Decimal
from typing import Annotated

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import BadRequestError, UnsupportedMediaTypeError, ValidationError
from engine.http.endpoint import ApiBody
from engine.http.json_body import check_content_type, decode_body


class Leg(ApiBody, frozen=True, kw_only=True):
    symbol: str


class Order(ApiBody, frozen=True, kw_only=True):
    symbol: str
    quantity: Annotated[int, msgspec.Meta(ge=1)]
    limit_price: Decimal | None = None
    legs: list[Leg] = []


def fields(raw: bytes) -> dict[str, str]:
    with pytest.raises(ValidationError) as caught:
        decode_body(raw, Order)
    return dict(caught.value.details["fields"])


def test_body_keeps_decimals_exact() -> None:
    order = decode_body(b'{"symbol":"INFY","quantity":1,"limitPrice":2450.50}', Order)
    assert order.limit_price == Decimal("2450.50")
    assert str(order.limit_price) == "2450.50"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"not json",
        b'{"symbol":"INFY"} {}',
        b'{"quantity":1,"quantity":1000,"symbol":"A"}',
        b'{"symbol":"A","quantity":NaN}',
        b'{"symbol":"A","quantity":-Infinity}',
        b'{"symbol":"A","quantity":1e400}',
        b'{"symbol":"A","quantity":' + b"9" * 60 + b"}",
        b"\xff\xfe",
        b'\xef\xbb\xbf{"symbol":"A","quantity":1}',
        '{"symbol":"A","quantity":1}'.encode("utf-16"),
        b"[" * 100_000,
        b'{"a":' * 2000 + b"1" + b"}" * 2000,
        b"{'symbol':'A'}",
        b'{"symbol":"\\ud800","quantity":1}',
    ],
    ids=lambda raw: repr(raw[:40]),
)
def test_body_that_is_not_strict_json_is_a_bad_request(raw: bytes) -> None:
    with pytest.raises(BadRequestError):
        decode_body(raw, Order)


def test_body_with_several_faults_names_each_field() -> None:
    found = fields(b'{"quantity":"10","userId":"x","limitPrice":[]}')
    assert set(found) == {"symbol", "quantity", "userId", "limitPrice"}
    assert found["symbol"] == "is required"
    assert found["userId"] == "is not known here"
    assert "int" in found["quantity"]


def test_body_with_a_fault_inside_names_the_path() -> None:
    found = fields(b'{"symbol":"A","quantity":1,"legs":[{"symbol":"B"},{"symbol":2}]}')
    (name,) = found
    assert name.startswith("legs")


def test_body_below_a_bound_names_the_field() -> None:
    assert list(fields(b'{"symbol":"A","quantity":0}')) == ["quantity"]


@pytest.mark.parametrize("raw", [b"[]", b"1", b'"x"', b"null"])
def test_body_of_another_shape_is_named_as_such(raw: bytes) -> None:
    assert list(fields(raw)) == ["body"]


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_body_of_any_bytes_raises_nothing_unexpected(raw: bytes) -> None:
    try:
        decode_body(raw, Order)
    except (BadRequestError, ValidationError):
        pass


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**10), 10**10) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    )
)
def test_body_of_any_json_raises_nothing_unexpected(document: object) -> None:
    try:
        decode_body(msgspec.json.encode(document), Order)
    except (BadRequestError, ValidationError):
        pass


@pytest.mark.parametrize(
    "value", ["application/json", "application/json; charset=utf-8", "Application/JSON;charset=UTF-8"]
)
def test_content_type_of_json_is_taken(value: str) -> None:
    check_content_type(value)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=utf-16",
        "application/jsonx",
    ],
)
def test_content_type_of_anything_else_is_refused(value: str | None) -> None:
    with pytest.raises(UnsupportedMediaTypeError):
        check_content_type(value)
