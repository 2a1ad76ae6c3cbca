"""What the console's forms ask for, and how it orders what it shows."""

from decimal import Decimal
from typing import Any

import pytest

from engine.console.asked import amount, whole, window
from engine.console.formats import seen, short
from engine.console.views.audit import checkpoints
from engine.console.views.intents import story
from engine.console.views.positions import by_owner, sums
from engine.console.views.send_signal import signal_of


def test_days_of_a_filter_are_of_india_and_both_inclusive() -> None:
    assert window({"from": "2026-11-23", "to": "2026-11-23", "symbol": "INFY"}) == {
        "from": "2026-11-23T00:00:00+05:30",
        "to": "2026-11-24T00:00:00+05:30",
        "symbol": "INFY",
    }
    assert window({"from": "", "to": "9999-12-31"}) == {"from": "", "to": "9999-12-31"}


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "1e3", "٣", "1234567890"])
def test_what_is_no_whole_number_is_not_read_as_one(text: str) -> None:
    assert whole(text) is None
    assert whole("1,50,000") == 150_000


@pytest.mark.parametrize("text", ["", "x", "nan", "inf", "1.2.3"])
def test_what_is_no_amount_is_not_read_as_one(text: str) -> None:
    assert amount(text) is None
    assert amount("1,500.05") == Decimal("1500.05")


def test_form_becomes_a_signal_without_what_is_empty() -> None:
    form = {
        "strategyId": "s",
        "symbol": " infy ",
        "exchange": "NSE",
        "quantity": "3",
        "price": "1,500.05",
        "target": "",
    }
    body, wrong = signal_of(form)
    assert body == {
        "strategyId": "s",
        "symbol": "INFY",
        "exchange": "NSE",
        "quantity": 3,
        "price": Decimal("1500.05"),
    }
    assert wrong == {}
    assert signal_of({"quantity": "three", "price": "x"})[1].keys() == {"strategyId", "symbol", "quantity", "price"}


def test_story_is_in_the_order_of_time_and_keeps_cause_before_effect() -> None:
    order: dict[str, Any] = {
        "id": "o",
        "accountId": "a",
        "events": [
            {
                "at": "2026-11-23T04:00:00.5Z",
                "toStatus": "COMPLETE",
                "detail": "",
                "anomaly": False,
                "filledQuantity": 3,
            }
        ],
        "fills": [{"filledAt": "2026-11-23T04:00:00Z", "tradeId": "7", "quantity": 3, "price": Decimal(1)}],
    }
    timeline = [
        {"at": "2026-11-23T04:00:00Z", "event": "RECEIVED", "detail": ""},
        {"at": "2026-11-23T04:00:00.5Z", "event": "EXECUTED", "detail": ""},
    ]
    found = story({"timeline": timeline, "orders": [order]}, {"a": "main"})
    assert [each["what"] for each in found] == ["RECEIVED", "FILL", "EXECUTED", "COMPLETE"]
    assert [each["who"] for each in found] == [None, "main", None, "main"]


def test_books_stand_under_their_owners_with_their_sums_and_the_hand_comes_last() -> None:
    def book(owner: str | None, units: int, pnl: int) -> dict[str, Any]:
        money = dict.fromkeys(("dayPnl", "realisedPnl", "unrealisedPnl"), Decimal(0))
        return {
            "strategyId": owner,
            "accountId": "a",
            "symbol": "X",
            "exchange": "NSE",
            "productType": "MIS",
            "quantity": units,
            "pnl": Decimal(pnl),
            **money,
        }

    held = {**book(None, 2, 0), "strategyId": None}
    found = by_owner([book(None, 0, -5), book("s", 0, 1), book("s", 2, 3)], {"s": "momentum"}, [held])
    assert [(each["name"], each["sum"]["pnl"], each["open"]) for each in found] == [
        ("momentum", 4, True),
        ("By hand", -5, False),
    ]
    assert [(each["quantity"], each["closable"]) for each in found[0]["books"]] == [(2, True), (0, False)]
    assert by_owner([book("s", 2, 3)], {}, [{**held, "quantity": 0}])[0]["open"] is False, "closed by hand already"
    assert sums([])["pnl"] == 0


def test_checkpoints_are_the_newest_claims_of_the_record() -> None:
    claim = {"series": "s", "number": 4, "digest": "d", "place": "p", "publicKey": "k"}
    records = [
        {"seq": seq, "at": "t", "action": "AUDIT_CHECKPOINTS", "data": data}
        for seq, data in ((3, {"checkpoints": claim}), (9, {"checkpoints": claim}), (5, {}), (6, None))
    ]
    assert [each["seq"] for each in checkpoints(records)] == [9, 3]


def test_what_a_rule_saw_is_words_and_grouped_numbers() -> None:
    assert [seen(each) for each in (None, True, 150_000, Decimal("2.50"), ["A", 1], "open")] == [
        "–",  # noqa: RUF001 -- the dash of the console
        "yes",
        "1,50,000",
        "2.50",
        "A, 1",
        "open",
    ]
    assert short("order:0198f2c0-0000-7000-8000-000012345678") == "order …12345678"
    assert short("audit") == "audit"
