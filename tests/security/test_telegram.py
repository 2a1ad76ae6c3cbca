"""Attacks through Telegram (SEC-046, SEC-047, SEC-048, SEC-104): a real engine in webhook mode, its bot on loopback."""

import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from engine.domain.signal import Refusal
from engine.signals.telegram import parse_text
from tests.support.bot_api import BOT_TOKEN, FakeBotApi
from tests.support.engine import EngineProcess
from tests.support.intruder import People, assert_refused
from tests.support.shared_engine import TELEGRAM_TOKEN

CHAT, SIGNALLER, ADMIN = -1004711, 7, 42
BUY = "BUY ITC NSE 1 MARKET MIS"

BOT = FakeBotApi()
ENVIRONMENT = {
    "ENGINE__TELEGRAM__BOT_TOKEN": BOT_TOKEN,
    "ENGINE__TELEGRAM__API_URL": BOT.url,
    "ENGINE__TELEGRAM__IP_RANGES": '["149.154.160.0/20", "127.0.0.0/8"]',
    "ENGINE__SERVER__PUBLIC_URL": "https://engine.example",
    "ENGINE__SERVER__TRUSTED_PROXIES": '["127.0.0.1"]',
}


@pytest.fixture(scope="module", autouse=True)
def bot() -> Iterator[FakeBotApi]:
    with BOT:
        yield BOT


@pytest.fixture(scope="module")
def source(engine: EngineProcess) -> dict[str, Any]:
    strategy = engine.get("/strategies")[0]
    body = {"type": "telegram", "strategyId": strategy["id"], "name": "t", "telegramChatIds": [CHAT]}
    made = engine.request("POST", "/sources", json=body | {"telegramUserIds": [SIGNALLER]})
    assert made.status_code == 201, made.text
    found: dict[str, Any] = made.json()["data"]
    return found


def call(engine: EngineProcess, update: Any, token: str | None = TELEGRAM_TOKEN, **headers: str) -> httpx.Response:
    given = headers | ({} if token is None else {"X-Telegram-Bot-Api-Secret-Token": token})
    return httpx.post(f"{engine.base_url}/api/v1/signals/telegram/webhook", json=update, headers=given, timeout=10)


def intents(engine: EngineProcess) -> int:
    return len(engine.get("/signals/intents", limit=200))


def signal(sender: int = SIGNALLER, chat: int = CHAT, text: str = BUY, **changes: Any) -> dict[str, Any]:
    return BOT.message(text, chat=chat, sender=sender, **changes)


def test_sec_046_wrong_token_strangers_forwards_and_edits_place_nothing(
    engine: EngineProcess, source: dict[str, Any]
) -> None:
    before = intents(engine)
    for token in (None, "", TELEGRAM_TOKEN[:-1], TELEGRAM_TOKEN + "x", TELEGRAM_TOKEN.swapcase()):
        assert_refused(call(engine, signal(), token), 401)
    in_address = f"{engine.base_url}/api/v1/signals/telegram/webhook?secret_token={TELEGRAM_TOKEN}"
    assert_refused(httpx.post(in_address, json=signal(), timeout=10), 401)
    edited = signal()
    ignored = [
        signal(sender=8),  # in the right chat, but not one of those who may signal
        signal(chat=-999),
        signal(forward_date=1, forward_origin={"type": "user"}),
        signal(via_bot={"id": 1, "is_bot": True}),
        signal(sender_chat={"id": CHAT, "type": "supergroup"}),
        signal(edit_date=int(time.time())),
        signal(date=int(time.time()) - 3600),
        {"update_id": edited["update_id"], "edited_message": edited["message"]},
        {"update_id": 1, "channel_post": signal()["message"]},
        {"update_id": 2, "edited_channel_post": signal()["message"]},
        {"update_id": 3, "business_message": signal()["message"]},
    ]
    ignored[3]["message"]["from"]["is_bot"] = True
    for update in ignored:
        assert call(engine, update).status_code == 200
    assert intents(engine) == before
    # the door is not simply shut
    assert call(engine, signal()).status_code == 200
    assert intents(engine) == before + 1


def test_sec_046_replay_is_answered_like_the_first_and_a_lower_number_is_not_lost(
    engine: EngineProcess, source: dict[str, Any]
) -> None:
    before = intents(engine)
    high, low = signal(update_id=900_001), signal(update_id=900_000)
    for update in (high, high, low, high, low):
        assert call(engine, update).status_code == 200
    assert intents(engine) == before + 2
    # the same number with other words is no second signal either
    assert call(engine, high | {"message": high["message"] | {"text": "BUY TCS NSE 1 MARKET MIS"}}).status_code == 200
    assert intents(engine) == before + 2


def test_sec_046_webhook_is_told_to_telegram_with_the_secret_outside_of_the_address(engine: EngineProcess) -> None:
    engine.wait_for("the webhook", lambda: BOT.webhook)
    assert BOT.webhook["url"] == "https://engine.example/api/v1/signals/telegram/webhook"
    assert BOT.webhook["secret_token"] == TELEGRAM_TOKEN
    assert TELEGRAM_TOKEN not in BOT.webhook["url"]


def test_sec_047_address_alone_lets_nobody_in(engine: EngineProcess, source: dict[str, Any]) -> None:
    before = intents(engine)
    telegrams = {"X-Forwarded-For": "149.154.167.197"}
    assert_refused(call(engine, signal(), None, **telegrams), 401)
    assert_refused(call(engine, signal(), "wrong", **telegrams), 401)
    assert assert_refused(call(engine, signal(), **{"X-Forwarded-For": "203.0.113.9"}), 403)["code"] == "IP_NOT_ALLOWED"
    assert intents(engine) == before
    assert call(engine, signal(), **telegrams).status_code == 200
    assert intents(engine) == before + 1


@pytest.mark.parametrize(
    "text",
    [
        "BUY RELIANCE NSE\nQty: 10\nQty: 1000\nType: MARKET\nProduct: MIS",
        "BUY RELIANCE NSE\nQty: 10\nqty : 10\nType: MARKET\nProduct: MIS",
        "BUY RELIANCE NSE 10 MARKET MIS\nQty: 1000",
        "BUY RELIANCE NSE 1e9 MARKET MIS",
        "BUY RELIANCE NSE 1_000 MARKET MIS",
        "BUY RELIANCE NSE 0x10 MARKET MIS",
        "BUY RELIANCE NSE +10 MARKET MIS",
        "BUY RELIANCE NSE -10 MARKET MIS",
        "BUY RELIANCE NSE \u221210 MARKET MIS",
        "BUY RELIANCE NSE \u0663 MARKET MIS",
        "BUY RELIANCE NSE \uff11\uff10 MARKET MIS",
        "BUY RELIANCE NSE 10 @ 1e3 LIMIT MIS",
        "BUY RELIANCE NSE 10 @ NaN LIMIT MIS",
        "BUY RELIANCE NSE 10 @ Infinity LIMIT MIS",
        "BUY RELIANCE\u202e NSE 10 MARKET MIS",
        "\u200fBUY RELIANCE NSE 10 MARKET MIS",
        "BUY REL\u200bIANCE NSE 10 MARKET MIS",
        "BUY RELIANCE NSE 10 MARKET MIS\x00",
        "\uff22\uff35\uff39 RELIANCE NSE 10 MARKET MIS",
        "BUY RELI\u0410NCE NSE 10 MARKET MIS",  # a Cyrillic A
        "BUY SELL RELIANCE NSE 10 MARKET MIS",
        "BUY RELIANCE NSE 10 100 MARKET MIS",
    ],
)
def test_sec_048_ambiguous_text_is_refused_and_never_guessed(text: str) -> None:
    found = parse_text(text)
    assert found
    assert all(isinstance(element, Refusal) for element in found)


def lines_run(text: str) -> int:
    """Return how many lines of Python the parser runs for *text*: work that no other load of the machine changes."""
    count = 0

    def trace(*_: Any) -> Any:
        nonlocal count
        count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        parse_text(text)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize(
    "unit",
    [
        "BUY ",
        "BUY A NSE\n",
        "BUY A NSE 1 MARKET MIS\n\n",
        "Qty: 1\n",
        ":",
        "@ ",
        "BUY " + "@",
        "NIFTY 24DEC 24500 CE ",
        "\u202e",
        "((((((((",
        "1.1.1.1.",
    ],
)
def test_sec_048_work_grows_no_faster_than_the_text(unit: str) -> None:
    head = "BUY A NSE "
    parse_text(head)
    small = lines_run(head + unit * (1000 // len(unit)))
    large = lines_run(head + unit * (4000 // len(unit)))
    assert large <= 6 * small + 2000, (small, large)


def test_sec_104_words_from_outside_are_text_in_every_chat(engine: EngineProcess, source: dict[str, Any]) -> None:
    hostile = "BUY <b>*X*</b>[a](https://evil.example)\u202e NSE 1 MARKET MIS\n@everyone /kill"
    before = len(BOT.said(CHAT))
    assert call(engine, signal(text=hostile)).status_code == 200
    engine.wait_for("the refusal", lambda: len(BOT.said(CHAT)) > before)
    for content in BOT.said():
        assert "parse_mode" not in content
        assert "entities" not in content
        assert content["link_preview_options"] == {"is_disabled": True}
        assert len(content["text"]) <= 4096
        assert "\u202e" not in content["text"]
        assert TELEGRAM_TOKEN not in content["text"]
        assert BOT_TOKEN not in content["text"]


def test_sec_104_alert_with_a_hostile_name_reaches_the_admin_as_one_line(engine: EngineProcess, people: People) -> None:
    boss, trader = people("boss", "ADMIN"), people("maker", "TRADER")
    code = boss.make("/auth/telegram/link")["command"]
    assert call(engine, BOT.message(code, chat=ADMIN)).status_code == 200
    engine.wait_for("the link", lambda: "Linked" in BOT.texts(ADMIN))
    reason = "x\nALERT everything\nis fine <a href='https://evil.example'>log in</a> token=abcdef123456"
    scope = f"user:{trader.id}"
    blocked = trader.request(
        "POST", "/risk/killswitch/enable", json={"scope": scope, "reason": reason, "mode": "BLOCK"}
    )
    assert blocked.status_code == 200, blocked.text
    engine.wait_for("the alert", lambda: "ALERT killswitch" in BOT.texts(ADMIN))
    text = next(content["text"] for content in BOT.said(ADMIN) if "ALERT killswitch" in content["text"])
    assert [line[:5] for line in text.splitlines()].count("ALERT") == 1
    assert "https://evil" not in text
    assert "abcdef123456" not in text


def test_linking_needs_a_sign_in_and_a_stranger_with_a_link_of_nobody_gets_nothing(engine: EngineProcess) -> None:
    address = f"{engine.base_url}/api/v1/auth/telegram/link"
    assert_refused(httpx.post(address, timeout=10), 401)
    before = intents(engine)
    for text in ("/kill", "/kill confirm", "/squareoff 1234", "/link AAAAAAAAAA", "/positions"):
        assert call(engine, BOT.message(text, chat=CHAT, sender=666)).status_code == 200
        assert call(engine, BOT.message(text, chat=666)).status_code == 200
    assert intents(engine) == before
    assert not any(
        scope["enabled"] for scope in engine.get("/risk/killswitch/status")["scopes"] if scope["scope"] == "global"
    )
    assert len(BOT.said(666)) <= 1
