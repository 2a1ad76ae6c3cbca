"""403 told apart, on writes and on reads, and what each means for the account."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.broker.base import BrokerAuthError, BrokerNotPermitted, RefusalCode, Refused
from engine.broker.kite.denied import address_in, judge
from engine.broker.kite.errors import classify
from engine.broker.kite.reads import checked
from engine.broker.standing import blocked_reason, login_reason
from engine.errors import BrokerUnavailable

IP = (
    "IP (203.0.113.9) is not allowed to place orders for this app. Update allowed IPs on the Kite developer console. "
    "Learn more - https://support.zerodha.com/category/trading-and-markets/general-kite/kite-api/articles/static-ip"
)
NO_IP = "No IPs configured for this app. Add allowed IPs on the Kite developer console."
TOKEN = "Incorrect `api_key` or `access_token`."
NO_PERMISSION = "Insufficient permission for that call."
NOT_ENABLED = "The user is not enabled for the app."
CASES = [
    ("TokenException", TOKEN, RefusalCode.TOKEN_DEAD),
    ("PermissionException", IP, RefusalCode.STATIC_IP),
    ("InputException", IP, RefusalCode.STATIC_IP),
    ("PermissionException", NO_IP, RefusalCode.STATIC_IP),
    ("PermissionException", NO_PERMISSION, RefusalCode.PERMISSION),
    ("PermissionException", NOT_ENABLED, RefusalCode.NOT_ENABLED),
    ("TokenException", NOT_ENABLED, RefusalCode.NOT_ENABLED),
    ("UserException", "Your account is blocked.", RefusalCode.USER),
    ("TwoFAException", "Two factor authentication is needed.", RefusalCode.TWO_FA),
]


def body(message: object, error_type: object) -> bytes:
    return json.dumps({"status": "error", "message": message, "data": None, "error_type": error_type}).encode()


@pytest.mark.parametrize(("error_type", "message", "code"), CASES)
def test_order_that_is_denied_is_refused_by_cause_and_touches_what_it_must(error_type, message, code) -> None:
    outcome = classify(status=403, content_type="application/json", body=body(message, error_type), bytes_written=300)
    assert isinstance(outcome, Refused)
    assert outcome.code is code
    dead = code in (RefusalCode.TOKEN_DEAD, RefusalCode.NOT_ENABLED, RefusalCode.TWO_FA)
    assert (outcome.auth_blocked, outcome.orders_blocked) == (dead, not dead)


@pytest.mark.parametrize(("error_type", "message", "code"), CASES)
def test_read_that_is_denied_ends_the_session_only_where_the_session_is_meant(error_type, message, code) -> None:
    with pytest.raises(BrokerUnavailable) as caught:
        checked("/orders", 403, body(message, error_type))
    if code in (RefusalCode.STATIC_IP, RefusalCode.PERMISSION):
        assert type(caught.value) is BrokerNotPermitted
    else:
        assert type(caught.value) is BrokerAuthError
        assert caught.value.code is code


def test_address_is_told_on_whatever_status_it_comes() -> None:
    outcome = classify(status=400, content_type="application/json", body=body(IP, "InputException"), bytes_written=1)
    assert isinstance(outcome, Refused)
    assert (outcome.code, outcome.orders_blocked) == (RefusalCode.STATIC_IP, True)


@pytest.mark.parametrize(
    ("message", "address"),
    [(IP, "203.0.113.9"), (IP.replace("203.0.113.9", "2001:db8::9"), "2001:db8::9"), (NO_IP, None)],
)
def test_reason_names_the_address_and_the_mend(message, address) -> None:
    assert address_in(message) == address
    refused = Refused(code=RefusalCode.STATIC_IP, message=message, status=403)
    reason = blocked_reason(refused)
    assert reason.startswith("STATIC_IP: ")
    assert "developer console" in reason
    assert "unblock" in reason
    assert address is None or address in reason.partition("The broker said")[0]
    assert ("IPv6" in reason) is (address is not None and ":" in address)


@pytest.mark.parametrize(
    ("code", "start"),
    [
        (RefusalCode.TOKEN_DEAD, "AUTH_BLOCKED: TOKEN_DEAD: log in again"),
        (RefusalCode.NOT_ENABLED, "AUTH_BLOCKED: NOT_ENABLED: enable this Zerodha user"),
        (RefusalCode.OTHER, "AUTH_BLOCKED: TOKEN_DEAD: "),
    ],
)
def test_reason_of_a_login_begins_with_its_code(code, start) -> None:
    assert login_reason(code, "said").startswith(start)


def test_reason_that_is_the_engines_own_quotes_nobody() -> None:
    assert "The broker said" not in login_reason(RefusalCode.NO_LOGIN, "account a: nobody has logged in")


@given(error_type=st.text(max_size=30), message=st.text(max_size=200))
def test_any_denial_has_a_cause_and_only_the_session_ones_end_it(error_type, message) -> None:
    code = judge(error_type, message)
    if code is RefusalCode.TOKEN_DEAD:
        assert error_type == "TokenException"


@given(
    status=st.integers(400, 599),
    octets=st.one_of(
        st.binary(max_size=200),
        st.builds(body, st.one_of(st.none(), st.text(max_size=50), st.integers()), st.one_of(st.none(), st.text())),
    ),
)
def test_read_never_raises_anything_else(status, octets) -> None:
    with pytest.raises(BrokerUnavailable):
        checked("/orders", status, octets)
