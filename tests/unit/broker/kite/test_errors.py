import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from engine.broker.kite.errors import REFUSALS, Failure, classify, is_ambiguous
from engine.broker.outcome import Accepted, NotSent, RefusalCode, Refused, Unknown

JSON = "application/json"
INSUFFICIENT = (
    "Insufficient funds. Required margin is 95417.84 but available margin is 74251.80. "
    "Check the orderbook for open orders."
)
STATIC_IP = (
    "IP (203.0.113.9) is not allowed to place orders for this app. Update allowed IPs on the Kite developer console. "
    "Learn more - https://support.zerodha.com/category/static-ip"
)
ERROR_TYPES = [
    "InputException",
    "MarginException",
    "HoldingException",
    "OrderException",
    "TokenException",
    "PermissionException",
    "UserException",
    "TwoFAException",
    "NetworkException",
    "DataException",
    "GeneralException",
]


def error(message: object, error_type: object, *, payload: object = None) -> bytes:
    return json.dumps({"status": "error", "message": message, "data": payload, "error_type": error_type}).encode()


def judge(status: int, body: bytes, content_type: str = JSON, *, change: bool = False):
    return classify(status=status, content_type=content_type, body=body, bytes_written=400, change=change)


@pytest.mark.parametrize(
    "body",
    [
        b'{"status":"success","data":{"order_id":"151220000000000"}}',
        b'{"status":"success","data":{"order_id":"1914227164488687616"}}',
        b'{"data": {"order_id": "1914227164488687616", "children": [{"order_id":"1"}]}, "status": "success"}',
        b'{"status":"success","data":{"order_id":1914227164488687616}}',
        b'{"status":"success","data":[{"error":{"code":400}},{"order_id":"1914227164488687616"}]}',
    ],
)
def test_answer_200_with_order_id_is_accepted(body):
    outcome = judge(200, body)
    assert isinstance(outcome, Accepted)
    assert outcome.broker_order_id in ("151220000000000", "1914227164488687616")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"null",
        b"<html>ok</html>",
        b'{"status":"success","data":null}',
        b'{"status":"success","data":{}}',
        b'{"status":"success","data":{"order_id":null}}',
        b'{"status":"success","data":{"order_id":true}}',
        b'{"status":"success","data":{"order_id":"12"}}',
        b'{"status":"success","data":{"order_id":"1512200000000001512200000000000"}}',
        b'{"status":"success","data":{"order_id":"15122000000000a"}}',
        b'{"status":"success","data":{"order_id":1.5e14}}',
        b'{"status":"success","data":[]}',
        b'{"status":"error","data":{"order_id":"151220000000000"}}',
        b'{"data":{"order_id":"151220000000000"}}',
        b'{"status":"success","data":{"order_id":"151220000000000"}',
        b"[" * 100_000,
        b'{"status":"success","data":{"order_id":"\xff"}}',
    ],
)
def test_answer_200_without_usable_order_id_is_unknown(body):
    assert isinstance(judge(200, body), Unknown)


@pytest.mark.parametrize(
    ("status", "error_type", "message", "code"),
    [
        (400, "MarginException", INSUFFICIENT, RefusalCode.FUNDS),
        (400, "MarginException", "", RefusalCode.FUNDS),
        (400, "HoldingException", "Insufficient stock holding. Check the orderbook.", RefusalCode.HOLDINGS),
        (400, "InputException", "Market orders without market protection are not allowed via API. Please set market "
         "protection or use a Limit order.", RefusalCode.MARKET_PROTECTION),
        (400, "InputException", "Tick size for this script is 0.10. Kindly enter price in the multiple of tick size "
         "for this script", RefusalCode.TICK_SIZE),
        (400, "InputException", "The order quantity 1000 (40 lots) is higher than the maximum quantity of 900 "
         "(36 lots) allowed by the exchanges.", RefusalCode.FREEZE_QUANTITY),
        (400, "InputException", "Your order price is lower than the current lower circuit limit of 70.65. Place an "
         "order within the daily range.", RefusalCode.PRICE_RANGE),
        (400, "InputException", "MIS (intraday) are blocked as the markets are not open for trading today. Try placing "
         "an AMO order.", RefusalCode.MARKET_CLOSED),
        (400, "InputException", "Order cannot be modified as it is being processed. Try later.",
         RefusalCode.ORDER_BUSY),
        (400, "InputException", "Missing or empty field `product`", RefusalCode.OTHER),
        (428, "HoldingException", "10 quantity needs authorisation at depository.", RefusalCode.HOLDINGS),
        (403, "TokenException", "Incorrect `api_key` or `access_token`.", RefusalCode.TOKEN_DEAD),
        (403, "PermissionException", "Insufficient permission for that call.", RefusalCode.PERMISSION),
        (403, "PermissionException", STATIC_IP, RefusalCode.STATIC_IP),
        (403, "PermissionException", "No IPs configured for this app. Add them.", RefusalCode.STATIC_IP),
        (400, "InputException", "Something else", RefusalCode.OTHER),
        (429, "NetworkException", "Too many requests", RefusalCode.RATE_LIMITED),
        (429, "NetworkException", "Maximum allowed order requests exceeded.", RefusalCode.ORDER_CAP),
    ],
)  # fmt: skip
def test_refusal_is_told_by_its_cause(status, error_type, message, code):
    outcome = judge(status, error(message, error_type))
    assert isinstance(outcome, Refused)
    assert (outcome.code, outcome.status, outcome.error_type, outcome.message) == (code, status, error_type, message)


def test_refusal_403_blocks_the_session_only_for_a_dead_token():
    dead = judge(403, error("Incorrect `api_key` or `access_token`.", "TokenException"))
    address = judge(403, error(STATIC_IP, "PermissionException"))
    assert (dead.auth_blocked, dead.orders_blocked) == (True, False)
    assert (address.auth_blocked, address.orders_blocked) == (False, True)


def test_refusal_429_needs_a_json_body():
    assert judge(429, error("Too many requests", "NetworkException")).rate_limited
    assert isinstance(judge(429, b"<html>Too many requests</html>", "text/html"), Unknown)
    assert isinstance(judge(429, b""), Unknown)


@pytest.mark.parametrize(
    ("status", "body", "content_type"),
    [
        (400, error("Order request timed out. Please check the order book and confirm before placing again.",
                    "InputException"), JSON),
        (400, error("Order request timed out. Please check the order book and confirm before placing again.",
                    "OrderException"), JSON),
        (400, error("Order status unknown", "InputException"), JSON),
        (400, error("Please check the orderbook.", "InputException"), JSON),
        (400, error("Insufficient funds. The request timed out.", "MarginException"), JSON),
        (429, error("Gateway time-out", "NetworkException"), JSON),
        (400, error("Order placement failed", "OrderException"), JSON),
        (400, error("x", None), JSON),
        (400, error("x", ["InputException"]), JSON),
        (400, error({"a": 1}, "InputException"), JSON),
        (400, error("x", "InputException", payload={"order_id": "151220000000000"}), JSON),
        (400, b'{"message":"x","error_type":"InputException"}', JSON),
        (400, error("x", "InputException"), "text/html"),
        (500, error("Something", "GeneralException"), JSON),
        (502, b"<html>Bad gateway</html>", "text/html"),
        (503, error("down", "NetworkException"), JSON),
        (504, b"", ""),
        (408, error("x", "InputException"), JSON),
        (201, b'{"status":"success","data":{"order_id":"151220000000000"}}', JSON),
        (302, b"", ""),
        (404, error("Route not found", "GeneralException"), JSON),
    ],
)  # fmt: skip
def test_answer_that_proves_nothing_is_unknown(status, body, content_type):
    assert isinstance(judge(status, body, content_type), Unknown)


@pytest.mark.parametrize(
    ("status", "error_type", "message", "code"),
    [
        (500, "GeneralException", "Couldn't find that `order_id`.", RefusalCode.ORDER_NOT_FOUND),
        (400, "OrderException", "The order for ID (1877600770887540736) does not exist.", RefusalCode.ORDER_NOT_FOUND),
        (429, "NetworkException", "Maximum allowed order modifications exceeded.", RefusalCode.MODIFICATION_CAP),
        (400, "InputException", "Order cannot be cancelled as it is being processed. Try later.",
         RefusalCode.ORDER_BUSY),
    ],
)  # fmt: skip
def test_change_of_an_order_is_refused_by_texts_that_prove_nothing_of_a_placement(status, error_type, message, code):
    outcome = judge(status, error(message, error_type), change=True)
    assert isinstance(outcome, Refused)
    assert outcome.code is code
    assert not outcome.rate_limited
    if status == 500:
        assert isinstance(judge(status, error(message, error_type)), Unknown)


@pytest.mark.parametrize("failure", list(Failure))
def test_failure_without_a_byte_is_not_sent(failure):
    outcome = classify(status=None, bytes_written=0, failure=failure, detail="why")
    assert outcome == NotSent(reason="why", gated=failure is Failure.GATED)


@pytest.mark.parametrize("failure", [failure for failure in Failure if failure is not Failure.GATED])
def test_failure_after_one_byte_is_unknown(failure):
    assert isinstance(classify(status=None, bytes_written=1, failure=failure), Unknown)


@given(
    status=st.one_of(
        st.sampled_from([200, 400, 403, 404, 405, 408, 428, 429, 500, 502, 503, 504]), st.integers(100, 599)
    ),
    error_type=st.one_of(st.sampled_from(ERROR_TYPES), st.none(), st.text(max_size=12)),
    message=st.one_of(st.sampled_from(["Too many requests", INSUFFICIENT, STATIC_IP, "bad"]), st.text(max_size=40)),
)
def test_error_outside_the_table_is_always_unknown(status, error_type, message):
    assume(status != 429)
    outcome = judge(status, error(message, error_type))
    if (status, error_type) in REFUSALS and not is_ambiguous(message):
        assert isinstance(outcome, Refused)
    else:
        assert isinstance(outcome, Unknown)


@given(status=st.integers(100, 599), body=st.binary(max_size=200), change=st.booleans())
def test_arbitrary_bytes_never_prove_anything(status, body, change):
    assume(b"order_id" not in body and b"status" not in body)
    assert isinstance(judge(status, body, change=change), Unknown)


@given(
    st.integers(100, 599),
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["status", "data", "order_id", "message", "error_type"]), inner, max_size=5
            )
        ),
    ),
)
def test_arbitrary_json_never_raises_and_accepts_only_with_an_order_id(status, value):
    outcome = judge(status, json.dumps(value).encode())
    if isinstance(outcome, Accepted):
        assert status == 200
        assert value["status"] == "success"
        assert outcome.broker_order_id.isdigit()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"\x00\xff{]"),
        (502, b"\x00bad gateway"),
        (400, b'{"status":"error","message":"Invalid \\u0000.","error_type":"InputException"}'),
    ],
)
def test_words_of_an_answer_hold_nothing_that_a_store_refuses(status, body):
    outcome = judge(status, body)
    text = outcome.message if isinstance(outcome, Refused) else outcome.reason
    assert "\x00" not in text
    assert "\\u0000" in text


def test_refusals_are_this_table_and_no_other():
    """Every status with every error type that the broker has, in plain words: the allow-table, nothing else."""
    types = [*ERROR_TYPES, "", "Exception", "orderexception", "InputException "]
    refused = {
        (status, kind)
        for status in range(100, 600)
        for kind in types
        if isinstance(judge(status, error("no", kind)), Refused)
    }
    assert refused == {*REFUSALS, *((429, kind) for kind in types)}
    assert {kind for status, kind in REFUSALS if status == 400} == {
        "InputException",
        "MarginException",
        "HoldingException",
    }
    assert {status for status, _ in REFUSALS} == {400, 403, 428}


@given(
    status=st.integers(100, 599),
    error_type=st.sampled_from(ERROR_TYPES),
    before=st.text(max_size=20),
    words=st.sampled_from(
        [
            "timed out",
            "timeout",
            "time out",
            "Time-out",
            "TIMED OUT",
            "confirm",
            "Please confirm before placing again",
            "check the order book",
            "Check the orderbook",
            "check order book",
        ]
    ),
    after=st.text(max_size=20),
)
def test_words_of_doubt_make_any_answer_to_a_placement_unknown(status, error_type, before, words, after):
    assume(not before.strip().lower().startswith("insufficient"))
    assert isinstance(judge(status, error(f"{before}{words}{after}", error_type)), Unknown)
