"""Logging in and out: redirect, one-time token, checksum, the session's end."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from engine.exchange.config import ExchangeError
from engine.exchange.errors import KiteRefusal
from engine.exchange.hours import session_end

KEY, SECRET, USER = "key", "secret", "AB1234"


def redirected(driver: Any, params: str = "") -> dict[str, str]:
    return dict(parse_qsl(urlsplit(driver.exchange.login_redirect(KEY, params, driver.now)).query))


def form(token: str, secret: str = SECRET) -> dict[str, str]:
    checksum = sha256(f"{KEY}{token}{secret}".encode()).hexdigest()
    return {"api_key": KEY, "request_token": token, "checksum": checksum}


def test_login_redirect_keeps_the_apps_query_and_adds_kites_and_the_callers(driver: Any) -> None:
    query = redirected(driver, "state=a%20b&n=1")
    assert {name: query[name] for name in ("x", "action", "status", "state", "n")} == {
        "x": "1",
        "action": "login",
        "status": "success",
        "state": "a b",
        "n": "1",
    }
    assert query["request_token"]


def test_login_of_an_unknown_key_is_refused(driver: Any) -> None:
    with pytest.raises(KiteRefusal, match="Invalid `api_key`"):
        driver.exchange.login_redirect("nobody", "", driver.now)


def test_request_token_works_once(driver: Any) -> None:
    token = redirected(driver)["request_token"]
    driver.exchange.open_session(form(token), driver.now)
    with pytest.raises(KiteRefusal) as caught:
        driver.exchange.open_session(form(token), driver.now)
    assert (caught.value.status, caught.value.error_type) == (403, "TokenException")


def test_request_token_expires(driver: Any) -> None:
    token = redirected(driver)["request_token"]
    with pytest.raises(KiteRefusal, match="Token is invalid or has expired"):
        driver.exchange.open_session(form(token), driver.now + timedelta(minutes=6))


def test_request_token_with_a_wrong_checksum_is_refused_and_stays_good(driver: Any) -> None:
    token = redirected(driver)["request_token"]
    with pytest.raises(KiteRefusal, match="Invalid `checksum`"):
        driver.exchange.open_session(form(token, "other"), driver.now)
    assert driver.exchange.open_session(form(token), driver.now)["user_id"] == USER


@pytest.mark.parametrize("field", ["api_key", "request_token", "checksum"])
def test_session_without_a_field_names_it(driver: Any, field: str) -> None:
    with pytest.raises(KiteRefusal, match=f"Missing or empty field `{field}`"):
        driver.exchange.open_session({**form("t"), field: ""}, driver.now)


def test_new_session_ends_the_one_before(driver: Any) -> None:
    old = driver.header
    new = driver.log_in()
    assert driver.exchange.authenticate(new, driver.now).user_id == USER
    with pytest.raises(KiteRefusal, match="Incorrect `api_key` or `access_token`"):
        driver.exchange.authenticate(old, driver.now)


@pytest.mark.parametrize(
    "header", ["", "token", "token key", "token key:", "token :", "Bearer key:token1", "token é:é"]
)
def test_authenticate_refuses_what_is_no_session(driver: Any, header: str) -> None:
    with pytest.raises(KiteRefusal) as caught:
        driver.exchange.authenticate(header, driver.now)
    assert (caught.value.status, caught.value.error_type) == (403, "TokenException")
    assert caught.value.message == "Incorrect `api_key` or `access_token`."


def test_session_ends_at_six_in_the_morning(driver: Any) -> None:
    five_to_six = datetime(2026, 11, 24, 0, 29, tzinfo=UTC)
    assert driver.exchange.authenticate(driver.header, five_to_six)
    with pytest.raises(KiteRefusal):
        driver.exchange.authenticate(driver.header, five_to_six + timedelta(minutes=1))


def test_session_opened_before_six_ends_the_same_morning() -> None:
    opened = datetime(2026, 11, 23, 23, 0, tzinfo=UTC)
    assert session_end(opened) == datetime(2026, 11, 24, 0, 30, tzinfo=UTC)


def test_session_does_not_end_with_expiry_switched_off(make_driver: Any) -> None:
    driver = make_driver(token_expiry=False)
    assert driver.exchange.authenticate(driver.header, driver.now + timedelta(days=30))


def test_session_closed_is_over(driver: Any) -> None:
    driver.exchange.close_session(KEY, driver.header.partition(":")[2], driver.now)
    assert driver.refusal().status == 403


def test_account_added_again_changes_nothing_and_another_capital_is_taken(driver: Any) -> None:
    driver.save()
    driver.exchange.add_account(KEY, SECRET, USER, Decimal(1_000_000), "http://127.0.0.1/back?x=1", now=driver.now)
    assert driver.exchange.take_events() == []
    driver.exchange.add_account(KEY, SECRET, USER, Decimal(5), now=driver.now)
    assert driver.exchange.margins(driver.account, "equity", driver.now)["net"] == 5


@pytest.mark.parametrize(("key", "user"), [(KEY, "OTHER1"), ("other", USER)])
def test_account_of_a_taken_key_or_user_is_refused(driver: Any, key: str, user: str) -> None:
    with pytest.raises(ExchangeError, match="already goes with"):
        driver.exchange.add_account(key, SECRET, user, Decimal(1), now=driver.now)


def test_orders_of_another_account_are_not_found(driver: Any) -> None:
    order_id = driver.place(price="1400.00")
    driver.exchange.add_account("key2", "secret2", "ZZ9999", Decimal(1), now=driver.now)
    other = driver.exchange.state.accounts["ZZ9999"]
    assert driver.exchange.orders(other, driver.now) == b"[]"
    with pytest.raises(KiteRefusal, match="Couldn't find"):
        driver.exchange.order_history(other, order_id, driver.now)
