"""Forms of the console: what was typed becomes what the API takes, and what differs is all that is sent."""

from decimal import Decimal
from typing import Any

import pytest

from engine.console.forms import SEEN, Field, differing, drawn, given, is_stale, mark, read
from engine.console.templating import environment
from engine.console.views.limits import FIELDS, drawn_groups, set_of
from engine.console.views.own import drawing
from engine.console.views.system import checks_of
from engine.domain.limits import RiskLimits
from engine.security import totp

KINDS = (
    Field("name", "Name", required=True),
    Field("capital", "Capital", "amount"),
    Field("checks.most", "Most", "whole"),
    Field("on", "On", "flag"),
    Field("guard", "Guard", "either"),
    Field("exchanges", "Exchanges", "many", choices=("NSE", "BSE")),
    Field("mode", "Mode", "choice", choices=(("3600", "an hour"), ("0", "not at all"))),
    Field("symbols", "Symbols", "words"),
    Field("chats", "Chats", "numbers"),
    Field("window", "Window", "hours"),
    Field("password", "Password", "secret"),
)
TYPED = {
    "name": " main ",
    "capital": "10,00,000.50",
    "checks.most": "5",
    "on": "yes",
    "guard": "no",
    "exchanges.NSE": "yes",
    "mode": "0",
    "symbols": "INFY, SBIN\nM&M,",
    "chats": "-100, 7",
    "window.start": "09:15",
    "window.end": "15:20",
    "password": " with blanks ",
}
READ = {
    "name": "main",
    "capital": Decimal("1000000.50"),
    "checks": {"most": 5},
    "on": True,
    "guard": False,
    "exchanges": ["NSE"],
    "mode": "0",
    "symbols": ["INFY", "SBIN", "M&M"],
    "chats": [-100, 7],
    "window": {"start": "09:15", "end": "15:20"},
    "password": " with blanks ",
}


def test_everything_typed_is_read_as_the_api_takes_it() -> None:
    assert read(KINDS, TYPED) == (READ, {})


def test_empty_fields_are_nothing_and_leave_a_new_thing_its_defaults() -> None:
    found, wrong = read(KINDS[1:], {})
    assert (given(found), wrong) == ({"on": False}, {})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("capital", text) for text in ("x", "NaN", "1e999")),
        *(("checks.most", text) for text in ("1.5", "\u0663")),
        ("mode", "25:99"),
        ("chats", "7, x"),
        ("window.start", ""),
    ],
)
def test_what_cannot_be_read_is_named(name: str, text: str) -> None:
    _, wrong = read(KINDS, TYPED | {name: text})
    assert list(wrong) == [name.removesuffix(".start")]


def test_only_what_differs_is_sent_and_an_emptied_field_is_null() -> None:
    before = READ | {"checks": {"most": 5, "other": None}, "symbols": ["M&M", "SBIN", "INFY"]}
    found, _ = read(KINDS, TYPED | {"capital": "", "checks.most": "6"})
    assert differing(found, before) == {"capital": None, "checks": {"most": 6}}
    assert differing(read(KINDS, TYPED)[0], before) == {}


def test_form_that_was_drawn_before_somebody_elses_change_is_stale() -> None:
    seen = {SEEN: mark(KINDS, READ)}
    assert not is_stale(KINDS, READ | {"other": 1}, TYPED | seen)
    assert not is_stale(KINDS, READ, TYPED)
    for change in (
        {"capital": Decimal(1)},
        {"checks": {"most": 4}},
        {"exchanges": None},
        {"on": False},
        {"window": None},
    ):
        assert is_stale(KINDS, READ | change, TYPED | seen), change


def test_form_comes_back_as_typed_but_for_its_secrets() -> None:
    html = environment().get_template("form_macros.html").module
    shown = str(html.fields(drawn(KINDS, {}, TYPED, {"capital": "too <much>"}), "k-"))  # type: ignore[attr-defined]
    for piece in (
        'value="10,00,000.50"',
        "too &lt;much&gt;",
        'name="exchanges.NSE" value="yes" checked',
        'value="09:15"',
    ):
        assert piece in shown
    assert "with blanks" not in shown


def test_every_limit_has_a_field() -> None:
    assert {field.name for field in FIELDS} == set(RiskLimits.__struct_encode_fields__)
    held: dict[str, Any] = dict.fromkeys(RiskLimits.__struct_encode_fields__) | {
        "maxOrderValue": Decimal(250000),
        "tradingWindow": {"start": "09:15", "end": "15:20"},
        "allowedExchanges": ["NSE"],
        "selfTradeGuard": True,
    }
    assert [text for _, text in set_of(held)] == ["2,50,000.00", "09:15 to 15:20", "yes", "NSE"]
    # a form that is saved as it was drawn changes nothing
    form = {}
    for _, fields in drawn_groups(held):
        for each in fields:
            name = each["field"].name
            form |= {key: "yes" for _, _, key, ticked in each.get("ticks", ()) if ticked}
            form |= {f"{name}.{end}": each[end] for end in ("start", "end") if each.get(end)}
            form |= {name: each["value"]} if each.get("value") else {}
    assert differing(read(FIELDS, form)[0], held) == {}


def test_qr_code_is_drawn_from_the_address_and_nothing_else_is() -> None:
    made = drawing(totp.enrolment(totp.new_seed(), "a@b.example").qr_code)
    assert made is not None
    assert made["path"].startswith("M")
    assert drawing("data:image/svg+xml,<svg onload='alert(1)'></svg>") is None


def test_checks_of_either_form_are_listed_worst_first() -> None:
    plain = checks_of(
        {"checks": {"database": {"ok": True, "detail": "reachable"}, "clock": {"ok": False, "detail": "x"}}}
    )
    assert [(each["code"], each["state"]) for each in plain] == [("clock", "fail"), ("database", "ok")]
    one = {"code": "TOKEN", "scope": "account", "name": "main", "state": "warn", "found": "old", "mend": "log in"}
    (told,) = checks_of({"checks": [one]})
    assert (told["about"], told["tone"], told["mend"]) == ("Account main", "warn", "log in")
