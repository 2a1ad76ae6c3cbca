"""Figures as the console shows them: Indian grouping, IST, and the cookie that pages are known by."""

import hashlib
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.console.formats import direction, duration, ist, milliseconds, rupees, units, utc
from engine.console.views.orders import changed_terms
from engine.console.views.sign_in import way_back
from engine.http.page_cookie import PageTokens, drop_cookie, page_authorization, read_cookie, write_cookie

MINUS = "\N{MINUS SIGN}"


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (0, "0.00"),
        (Decimal("999.995"), "1,000.00"),
        (Decimal("0.005"), "0.00"),
        (1000, "1,000.00"),
        (99999, "99,999.00"),
        (100000, "1,00,000.00"),
        (Decimal("1234567.89"), "12,34,567.89"),
        (Decimal("-123456789.1"), f"{MINUS}12,34,56,789.10"),
        (Decimal("-0.001"), "0.00"),
    ],
)
def test_rupees_are_grouped_as_in_india(amount: Decimal | int, shown: str) -> None:
    assert rupees(amount) == shown


def test_signs_and_nothing_are_shown() -> None:
    assert (rupees(5, signed=True), rupees(0, signed=True), rupees(None)) == ("+5.00", "0.00", "\N{EN DASH}")
    assert (units(1234567), units(Decimal("1.50")), units(-3)) == ("12,34,567", "1.50", f"{MINUS}3")
    assert [direction(each) for each in (1, -1, 0, None)] == ["up", "down", "level", "level"]


@given(st.decimals(min_value=-(10**15), max_value=10**15, places=2, allow_nan=False, allow_infinity=False))
def test_rupees_lose_no_digit(amount: Decimal) -> None:
    shown = rupees(amount)
    assert Decimal(shown.replace(",", "").replace(MINUS, "-")) == amount
    head, *rest = shown.partition(".")[0].lstrip(MINUS).split(",")
    assert 1 <= len(head) <= (2 if rest else 3)
    assert [len(each) for each in rest] == [2] * (len(rest) - 1) + [3] * bool(rest)


def test_times_are_of_india_with_utc_beside_them() -> None:
    assert ist("2026-11-23T03:45:00.123456Z", "%d %b %H:%M:%S.%f") == "23 Nov 09:15:00.123"
    assert ist(datetime(2026, 11, 23, 20, tzinfo=UTC), "%d %H:%M") == "24 01:30"
    assert utc("2026-11-23T09:15:00+05:30") == "2026-11-23 03:45:00.000 UTC"
    start = datetime(2026, 11, 23, tzinfo=UTC)
    shown = [milliseconds(start, start + timedelta(seconds=each)) for each in (0.0124, 1.234, 75, 7300)]
    assert shown == ["12 ms", "1.23 s", "1 min 15 s", "2 h 1 min"]
    assert (milliseconds(start, None), duration(None)) == ("\N{EN DASH}", "\N{EN DASH}")


def test_cookie_is_read_back_and_over_tls_by_its_own_name_alone() -> None:
    tokens = PageTokens("a.b.c", "refresh-token_1")
    for secure in (True, False):
        written = write_cookie(tokens, is_secure=secure, keep_s=60)
        assert "HttpOnly; SameSite=Strict" in written
        assert ("; Secure" in written) is written.startswith("__Host-") is secure
        pair = written.partition(";")[0]
        assert read_cookie(f"x=1; {pair}", is_secure=secure) == tokens
        assert read_cookie(pair, is_secure=not secure) is None
        assert read_cookie(f"{pair}; {pair}", is_secure=secure) is None
        assert page_authorization(pair.encode()) == "Bearer a.b.c"
        assert "Max-Age=0" in drop_cookie(is_secure=secure)
    for bad in (None, "", "engine_console=", "engine_console=nothing", "engine_console=a\r~b", "engine_console=a b~c"):
        assert read_cookie(bad, is_secure=False) is None


@pytest.mark.parametrize(
    "wanted",
    ["https://elsewhere.example", "//elsewhere.example", "/api/v1/x", "/console\\@x", "/consolee", "/console/\n", ""],
)
def test_sign_in_leads_to_no_other_place(wanted: str) -> None:
    assert way_back(wanted) == "/console"


def test_sign_in_leads_back_to_the_page_that_was_asked_for() -> None:
    assert way_back("/console/orders?symbol=INFY") == "/console/orders?symbol=INFY"


def test_change_of_an_order_sends_what_differs_and_names_what_is_wrong() -> None:
    before = {"quantity": 3, "price": Decimal("10.5"), "triggerPrice": None, "orderType": "LIMIT", "validity": "DAY"}
    same = {"quantity": "3", "price": "10.50", "triggerPrice": "", "orderType": "LIMIT", "validity": "DAY"}
    assert changed_terms(same, before) == ({}, {})
    assert changed_terms({**same, "price": "1,234.05"}, before) == ({"price": Decimal("1234.05")}, {})
    wrong = changed_terms({"quantity": "1.5", "price": "ten", "triggerPrice": "nan"}, before)[1]
    assert set(wrong) == {"quantity", "price", "triggerPrice"}


def test_vendored_files_are_those_that_are_on_record() -> None:
    folder = files("engine.console") / "static" / "vendor"
    rows = [line.split("|") for line in (folder / "VENDORED.md").read_text().splitlines() if line.startswith("| `")]
    assert len(rows) == 4
    for row in rows:
        content = (folder / row[1].strip(" `")).read_bytes()
        assert hashlib.sha256(content).hexdigest() == row[6].strip(" `")
