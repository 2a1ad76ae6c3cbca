"""One signal to three paper accounts, and approval by hand, over HTTP and in Telegram."""

import itertools
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.engine import EngineProcess, limit_order, market_order
from tests.support.intruder import People
from tests.support.servers import TestServers
from tests.support.shared_engine import TELEGRAM_TOKEN, paper_engine
from tests.support.telegram_stub import TelegramStub

CHAT, STRANGE = -100777, -100888
_numbers = itertools.count(1)


class Desk:
    """An engine with three paper accounts, and its chat."""

    def __init__(self, engine: EngineProcess, telegram: TelegramStub) -> None:
        self.engine = engine
        self.telegram = telegram
        self.accounts = [
            self.post("/accounts", {"label": f"A{n}", "broker": "paper", "capital": 1_000_000})["id"] for n in range(3)
        ]

    def post(self, path: str, body: Any = None, *, status: int | None = None) -> Any:
        answer = self.engine.request("POST", path, json=body)
        assert answer.status_code == status if status else answer.status_code in (200, 201), answer.text
        return answer.json()["data"] if answer.status_code < 300 else answer.json()["error"]

    def strategy(self, **settings: Any) -> tuple[Any, tuple[str, str]]:
        """Make a strategy on the three accounts with a sheets source; return it and the source's keys."""
        number = next(_numbers)
        accounts = [
            {"accountId": account, "sizing": {"mode": "multiplier", "value": n + 1}}
            for n, account in enumerate(self.accounts)
        ]
        made = self.post("/strategies", {"name": f"s{number}", "accounts": accounts} | settings)
        source = self.post("/sources", {"type": "sheets", "strategyId": made["id"], "name": f"x{number}"})
        return made, (source["apiKey"], source["secret"])

    def send(self, source: tuple[str, str], body: Any) -> Any:
        # the same words within one second would be a repetition of the first
        answer = self.engine.signal(body, source=source, key=f"signal-{next(_numbers)}")
        assert answer.status_code == 202, answer.text
        return answer.json()["data"]["intentId"]

    def intent(self, intent_id: str, *statuses: str) -> Any:
        """Return the intent once it is in one of *statuses* (any)."""

        def look() -> Any:
            shown = self.engine.get(f"/signals/intents/{intent_id}")
            return shown if not statuses or shown["status"] in statuses else None

        return self.engine.wait_for(f"an intent in {statuses}", look)

    def press(self, data: str, *, chat: int = CHAT, **sender: Any) -> None:
        answer = httpx.post(
            f"{self.engine.base_url}/api/v1/signals/telegram/webhook",
            json={
                "update_id": next(_numbers),
                "callback_query": {
                    "id": "55",
                    "from": {"id": 7, "is_bot": False} | sender,
                    "message": {"message_id": 3, "chat": {"id": chat, "type": "group"}},
                    "data": data,
                },
            },
            headers={"X-Telegram-Bot-Api-Secret-Token": TELEGRAM_TOKEN},
            timeout=10,
        )
        assert answer.status_code == 200

    def say(self, text: str) -> None:
        httpx.post(
            f"{self.engine.base_url}/api/v1/signals/telegram/webhook",
            json={
                "update_id": next(_numbers),
                "message": {
                    "message_id": 1,
                    "date": int(time.time()),
                    "chat": {"id": CHAT, "type": "group"},
                    "from": {"id": 7, "is_bot": False},
                    "text": text,
                },
            },
            headers={"X-Telegram-Bot-Api-Secret-Token": TELEGRAM_TOKEN},
            timeout=10,
        ).raise_for_status()


@pytest.fixture(scope="module")
def desk(servers: TestServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with TelegramStub() as telegram:
        environment = {
            "ENGINE__TELEGRAM__API_URL": telegram.url,
            "ENGINE__TELEGRAM__BOT_TOKEN": "8123456789:AAF_xyzxyzxyzxyzxyzxyzxyzxyzxyz",
        }
        folder = tmp_path_factory.mktemp("group_signals")
        for engine in paper_engine(servers, folder, "group_signals", **environment):
            yield Desk(engine, telegram)


def test_signal_goes_to_three_accounts_and_the_group_says_how(desk: Desk) -> None:
    _, source = desk.strategy()
    shown = desk.intent(desk.send(source, market_order(quantity=2)), "EXECUTED")
    group = shown["group"]
    assert [(a["label"], a["status"], a["quantity"], a["filled"]) for a in group["accounts"]] == [
        ("A0", "filled", 2, 2),
        ("A1", "filled", 4, 4),
        ("A2", "filled", 6, 6),
    ]
    assert (group["quantity"], group["filled"], group["policy"]) == (12, 12, "leave")
    assert all(0 < a["sentMs"] <= a["filledMs"] and a["averagePrice"] > 0 for a in group["accounts"])
    assert min(a["behindMs"] for a in group["accounts"]) == 0
    assert group["counts"]["filled"] == 3


def test_position_is_reached_on_every_account_and_then_there_is_nothing_to_do(desk: Desk) -> None:
    _, source = desk.strategy()
    body = {k: v for k, v in market_order("INFY").items() if k not in ("quantity", "transactionType")}
    shown = desk.intent(desk.send(source, body | {"positionSize": 5}), "EXECUTED")
    assert shown["positionSize"] == 5
    assert [a["filled"] for a in shown["group"]["accounts"]] == [5, 10, 15]
    again = desk.intent(desk.send(source, body | {"positionSize": 5}), "REJECTED")
    assert again["reason"].startswith("NOTHING_TO_DO")
    assert [a["status"] for a in again["group"]["accounts"]] == ["refused"] * 3
    flat = desk.intent(desk.send(source, body | {"positionSize": 0}), "EXECUTED")
    assert [o["transactionType"] for o in flat["orders"]] == ["SELL"] * 3
    held = desk.engine.get("/executions/positions", symbol="INFY")
    assert {p["quantity"] for p in held} == {0}


def test_caps_and_settings_are_kept_and_caps_are_told(desk: Desk) -> None:
    made, source = desk.strategy(
        groupPolicy="retry",
        groupDeadlineS=45,
        approvalTtlS=120,
        approvalPriceMovePct=2.5,
        entryWindow={"start": "00:00", "end": "23:59"},
        squareOffAt="15:10",
    )
    shown = desk.engine.get(f"/strategies/{made['id']}")
    kept = {"groupPolicy": "retry", "groupDeadlineS": 45, "approvalTtlS": 120, "approvalPriceMovePct": 2.5}
    assert {name: shown[name] for name in kept} == kept
    assert (shown["entryWindow"], shown["squareOffAt"]) == ({"start": "00:00", "end": "23:59"}, "15:10")
    account = {"accountId": desk.accounts[0], "sizing": {"mode": "fixed", "value": 10}, "maxQuantity": 3}
    # after its own square-off a strategy opens nothing more that day
    changed = {"accounts": [account], "squareOffAt": None}
    desk.engine.request("PATCH", f"/strategies/{made['id']}", json=changed).raise_for_status()
    intent = desk.intent(desk.send(source, market_order(quantity=1)), "EXECUTED")
    assert [o["quantity"] for o in intent["orders"]] == [3]
    notes = [e["detail"] for e in intent["timeline"] if e["event"] == "ACCOUNT_NOTE"]
    assert notes == ["A0: CAPPED: 3 instead of 10 units, by maxQuantity 3"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"accounts": [{"sizing": {"mode": "risk_pct", "value": 101}}]}, "accounts[0].sizing.value"),
        ({"accounts": [{"sizing": {"mode": "lots", "value": 1.5}}]}, "accounts[0].sizing.value"),
        ({"accounts": [{"sizing": {"mode": "fixed", "value": 1}, "maxQuantity": 0}]}, "accounts[0].maxQuantity"),
        ({"accounts": [{"sizing": {"mode": "fixed", "value": 1}, "maxValue": 0}]}, "accounts[0].maxValue"),
        ({"approvalTtlS": 0}, "approvalTtlS"),
        ({"approvalTtlS": 86401}, "approvalTtlS"),
        ({"groupDeadlineS": 601}, "groupDeadlineS"),
        ({"approvalPriceMovePct": 0}, "approvalPriceMovePct"),
        ({"entryWindow": {"start": "15:00", "end": "09:15"}}, "entryWindow"),
        ({"entryWindow": {"start": "9:15", "end": "15:00"}}, "entryWindow"),
        ({"squareOffAt": "25:00"}, "squareOffAt"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(desk: Desk, change: dict[str, Any], field: str) -> None:
    for account in change.get("accounts", ()):
        account["accountId"] = desk.accounts[0]
    error = desk.post("/strategies", {"name": f"bad{next(_numbers)}"} | change, status=422)
    assert list(error["details"]["fields"]) == [field]


def test_entries_outside_the_window_are_refused_and_exits_are_not(desk: Desk) -> None:
    made, source = desk.strategy()
    desk.intent(desk.send(source, market_order("ITC", 1)), "EXECUTED")
    # a window that no clock is in: it ended a minute after it began, long ago or to come
    start, end = ("03:00", "03:01") if time.gmtime().tm_hour != 21 else ("12:00", "12:01")
    desk.engine.request(
        "PATCH", f"/strategies/{made['id']}", json={"entryWindow": {"start": start, "end": end}}
    ).raise_for_status()
    refused = desk.intent(desk.send(source, market_order("ITC", 2)), "REJECTED")
    shown = refused["group"]["accounts"]
    assert shown
    assert all(account["status"] == "refused" and account["reasons"] for account in shown)
    assert refused["reason"].startswith("ENTRY_WINDOW")
    desk.intent(desk.send(source, market_order("ITC", 1, transactionType="SELL")), "EXECUTED")


def test_manual_intent_waits_and_is_executed_once_when_approved(desk: Desk) -> None:
    _, source = desk.strategy(approval="manual")
    intent_id = desk.send(source, market_order(quantity=1))
    shown = desk.intent(intent_id, "PENDING_APPROVAL")
    assert shown["orders"] == []
    assert shown["expiresAt"] > shown["receivedAt"]
    assert shown["seenPrice"] > 0
    approved = desk.post(f"/signals/intents/{intent_id}/approve", status=200)
    assert approved["status"] in ("EXECUTING", "EXECUTED")
    again = desk.post(f"/signals/intents/{intent_id}/approve", status=200)
    assert len(again["orders"]) == 3
    assert desk.post(f"/signals/intents/{intent_id}/reject", status=409)["code"] == "NOT_PENDING"
    done = desk.intent(intent_id, "EXECUTED")
    assert [e["event"] for e in done["timeline"]] == [
        "RECEIVED",
        "PENDING_APPROVAL",
        "APPROVED",
        "EXECUTING",
        "EXECUTED",
    ]
    granted = desk.engine.get("/audit", subject=f"intent:{intent_id}")
    assert any(r["action"] == "APPROVAL_GRANTED" and r["actor"].startswith("user:") for r in granted)


def test_manual_intent_can_be_rejected_or_cancelled_and_stays_so(desk: Desk) -> None:
    _, source = desk.strategy(approval="manual")
    rejected, cancelled = desk.send(source, market_order()), desk.send(source, limit_order())
    found = desk.post(f"/signals/intents/{rejected}/reject", {"reason": "not today"}, status=200)
    assert (found["status"], found["reason"]) == ("REJECTED", "REJECTED_BY_HAND: not today")
    found = desk.post(f"/signals/intents/{cancelled}/cancel", status=200)
    assert (found["status"], found["orders"]) == ("CANCELLED", [])
    for intent_id in (rejected, cancelled):
        assert desk.post(f"/signals/intents/{intent_id}/approve", status=409)["code"] == "NOT_PENDING"


def test_cancel_takes_back_what_works_on_every_account(desk: Desk) -> None:
    _, source = desk.strategy()
    intent_id = desk.send(source, limit_order("HDFCBANK", price=1500))
    desk.engine.wait_for(
        "three open orders", lambda: [o["status"] for o in desk.intent(intent_id)["orders"]] == ["OPEN"] * 3
    )
    desk.post(f"/signals/intents/{intent_id}/cancel", status=200)
    shown = desk.intent(intent_id, "CANCELLED")
    assert {o["status"] for o in shown["orders"]} == {"CANCELLED"}
    assert shown["group"]["counts"]["failed"] == 3
    assert desk.post(f"/signals/intents/{intent_id}/cancel", status=409)["code"] == "INTENT_FINISHED"


def test_kill_switch_rejects_what_waits(desk: Desk) -> None:
    made, source = desk.strategy(approval="manual")
    intent_id = desk.send(source, market_order())
    desk.intent(intent_id, "PENDING_APPROVAL")
    scope = f"strategy:{made['id']}"
    desk.post("/risk/killswitch/enable", {"scope": scope, "reason": "test", "squareOff": False})
    desk.post("/risk/killswitch/disable", {"scope": scope, "reason": "test", "force": True})
    assert desk.intent(intent_id, "REJECTED")["reason"].startswith("KILL_SWITCH")
    assert desk.post(f"/signals/intents/{intent_id}/approve", status=409)["code"] == "NOT_PENDING"


def test_only_the_owner_or_an_admin_approves(desk: Desk) -> None:
    _, source = desk.strategy(approval="manual")
    intent_id = desk.send(source, market_order())
    people = People(desk.engine)
    try:
        for role, status in (("TRADER", 404), ("VIEWER", 403)):
            person = people(role.lower(), role)
            for verb in ("approve", "reject", "cancel"):
                answer = person.request("POST", f"/signals/intents/{intent_id}/{verb}")
                assert answer.status_code == status, answer.text
    finally:
        people.close()
    assert desk.intent(intent_id)["status"] == "PENDING_APPROVAL"


def test_buttons_in_telegram_answer_and_strangers_do_nothing(desk: Desk) -> None:
    made, _ = desk.strategy(approval="manual")
    desk.post("/sources", {"type": "telegram", "strategyId": made["id"], "name": "t", "telegramChatIds": [CHAT]})

    def asked(text: str) -> tuple[str, dict[str, str]]:
        before = len(desk.telegram.said)
        desk.say(text)

        def question() -> Any:
            return next((m for m in desk.telegram.said[before:] if "reply_markup" in m), None)

        found = desk.engine.wait_for("the question", question)
        (row,) = found["reply_markup"]["inline_keyboard"]
        assert found["chat_id"] == CHAT
        return found["text"].rpartition(" ")[2], {button["text"]: button["callback_data"] for button in row}

    intent_id, buttons = asked("BUY SBIN NSE 1 MARKET MIS")
    desk.press(buttons["Approve"], chat=STRANGE)
    desk.press(buttons["Approve"], is_bot=True)
    desk.press("a" + buttons["Reject"][1:])
    assert desk.intent(intent_id)["status"] == "PENDING_APPROVAL"
    desk.press(buttons["Approve"])
    desk.press(buttons["Approve"])
    desk.press(buttons["Reject"])
    assert len(desk.intent(intent_id, "EXECUTED")["orders"]) == 3
    granted = desk.engine.get("/audit", subject=f"intent:{intent_id}")
    assert any(r["action"] == "APPROVAL_GRANTED" and r["actor"] == "telegram:7" for r in granted)

    intent_id, buttons = asked("SELL SBIN NSE\nPosition: -2\nType: MARKET\nProduct: MIS")
    desk.press(buttons["Reject"])
    assert desk.intent(intent_id, "REJECTED")["reason"].startswith("REJECTED_BY_HAND")


def test_what_waits_survives_a_kill_of_the_engine(desk: Desk) -> None:
    _, source = desk.strategy(approval="manual")
    intent_id = desk.send(source, market_order())
    desk.intent(intent_id, "PENDING_APPROVAL")
    desk.engine.kill()
    desk.engine.start()

    def approve() -> Any:
        answer = desk.engine.request("POST", f"/signals/intents/{intent_id}/approve")
        # right after a start the books are being read
        return answer if answer.status_code != 503 else None

    assert desk.engine.wait_for("an answer", approve).status_code == 200
    assert len(desk.intent(intent_id, "EXECUTED")["orders"]) == 3
