"""Telegram by polling and as a control: a real engine in kite mode, a real exchange, and a Bot API on loopback.

What was placed is read off the exchange's own record, which no life of the engine can touch.
"""

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.bot_api import BOT_TOKEN, FakeBotApi
from tests.support.engine import EngineProcess, market_order
from tests.support.exchange_process import ExchangeProcess
from tests.support.intruder import People, Person
from tests.support.kite_mode import OPEN_LIMITS, kite_environment
from tests.support.servers import TestServers
from tests.support.shared_engine import TELEGRAM_TOKEN

DATABASE = "telegram_polling"
CHAT, TRADER_CHAT, VIEWER_CHAT, ADMIN_CHAT, STRANGER = -1004711, 501, 502, 503, 599
BUY = "BUY {} NSE 1 MARKET MIS"


class Desk:
    """An engine that polls, its exchange, its bot, and people."""

    def __init__(self, engine: EngineProcess, exchange: ExchangeProcess, bot: FakeBotApi) -> None:
        self.engine, self.exchange, self.bot = engine, exchange, bot
        self.people = People(engine)
        self.account = self.trader.make(
            "/accounts",
            label="main",
            broker="kite",
            apiKey=exchange.api_key,
            apiSecret=exchange.api_secret,
            accessToken=exchange.login(),
            capital=10**9,
        )
        target = {"accountId": self.account["id"], "sizing": {"mode": "multiplier", "value": 1}}
        self.strategy = self.trader.make("/strategies", name="s", accounts=[target])
        self.manual = self.trader.make("/strategies", name="m", accounts=[target], approval="manual")
        sheet = self.trader.make("/sources", type="sheets", strategyId=self.strategy["id"], name="sheet")
        self.sheet = (sheet["apiKey"], sheet["secret"])
        self.source = self.trader.make(
            "/sources", type="telegram", strategyId=self.strategy["id"], name="t", telegramChatIds=[CHAT]
        )

    @property
    def trader(self) -> Person:
        return self.people("trader", "TRADER")

    def placed(self, symbol: str) -> int:
        """Return how many orders of *symbol* the exchange was asked to place."""
        return sum(order.params.get("tradingsymbol") == symbol for order in self.exchange.places())

    def until(self, what: str, look: Any) -> Any:
        return self.engine.wait_for(what, look)

    def confirmed(self, update: dict[str, Any]) -> bool:
        """Whether the engine has asked for what comes after *update*."""
        number = update["update_id"]
        return all(waiting["update_id"] != number for waiting in self.bot.pending)

    def say(self, *texts: str, chat: int, sender: int | None = None, answers: bool = True) -> str:
        """Let a person write; return what the bot says to the chat, soon after all of it was handled."""
        before = len(self.bot.said(chat))
        updates = [self.bot.message(text, chat=chat, sender=sender) for text in texts]
        self.bot.push(*updates)
        self.until("the updates' handling", lambda: all(map(self.confirmed, updates)))
        if answers:
            self.until("an answer", lambda: len(self.bot.said(chat)) > before)
        else:
            time.sleep(0.2)
        return "\n".join(content["text"] for content in self.bot.said(chat)[before:])

    def link(self, person: Any, chat: int) -> str:
        code = person.make("/auth/telegram/link")["command"]
        return self.say(code, chat=chat)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, servers: TestServers) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp(DATABASE)
    redis_url = f"{servers.redis_url}?db=12"
    servers.flush(redis_url)
    with ExchangeProcess(folder / "exchange") as exchange, FakeBotApi() as bot:
        # somebody had a webhook before
        bot.webhook = {"url": "https://before.example/hook"}
        environment = (
            kite_environment(exchange.base_url)
            | OPEN_LIMITS
            | {
                "ENGINE__DATABASE__URL": servers.create_database(DATABASE),
                "ENGINE__REDIS__URL": redis_url,
                "ENGINE__TELEGRAM__API_URL": bot.url,
                "ENGINE__TELEGRAM__BOT_TOKEN": BOT_TOKEN,
                "ENGINE__TELEGRAM__SECRET_TOKEN": TELEGRAM_TOKEN,
                "ENGINE__TELEGRAM__MODE": "polling",
                "ENGINE__LIMITS__LOGIN_PER_MINUTE": "1000",
            }
        )
        with EngineProcess(folder / "engine", **environment) as engine:
            held = Desk(engine, exchange, bot)
            yield held
            held.people.close()
    servers.drop_database(DATABASE)


def test_polling_takes_a_webhook_away_and_asks_for_few_kinds_of_updates(desk: Desk) -> None:
    desk.until("polling", lambda: len(desk.bot.called("getUpdates")) > 1 and not desk.bot.webhook)
    assert desk.bot.called("deleteWebhook") == [{"drop_pending_updates": False}]
    asked = desk.bot.called("getUpdates")[-1]
    assert set(asked["allowed_updates"]) == {"message", "callback_query", "edited_message"}
    assert 0 < asked["timeout"] <= 50


def test_signal_from_a_chat_is_placed_once_however_often_it_comes(desk: Desk) -> None:
    update = desk.bot.message(BUY.format("ITC"), chat=CHAT, sender=7)
    desk.bot.push(update)
    desk.until("the order", lambda: desk.placed("ITC") == 1)
    desk.until("the confirmation", lambda: desk.confirmed(update))
    # not confirmed after all: Telegram brings it again
    later = desk.bot.message("good morning", chat=CHAT, sender=7)
    desk.bot.push(update, later)
    desk.until("the confirmation", lambda: desk.confirmed(later))
    desk.until("the same answer", lambda: "already received" in desk.bot.texts(CHAT))
    assert desk.placed("ITC") == 1


def test_hanging_telegram_holds_up_no_signal_of_another_source(desk: Desk) -> None:
    desk.bot.hang.clear()
    try:
        answer = desk.engine.signal(market_order("NTPC"), source=desk.sheet)
        assert answer.status_code == 202, answer.text
        desk.until("the order", lambda: desk.placed("NTPC") == 1)
    finally:
        desk.bot.hang.set()


def test_link_code_works_once_in_a_private_chat_and_only_for_its_user(desk: Desk) -> None:
    viewer = desk.people("viewer", "VIEWER")
    code = viewer.make("/auth/telegram/link")["command"]
    assert desk.say(code, chat=CHAT, sender=VIEWER_CHAT, answers=False) == ""  # a group is no place for it
    assert viewer.request("GET", "/auth/telegram/link").json()["data"]["link"] is None
    assert "Linked to viewer@desk.example" in desk.say(code, chat=VIEWER_CHAT)
    held = viewer.request("GET", "/auth/telegram/link").json()["data"]["link"]
    assert held["telegramUserId"] == VIEWER_CHAT
    assert "Linked" not in desk.say(code, chat=STRANGER, answers=False)
    assert "Linked to trader@desk.example" in desk.link(desk.trader, TRADER_CHAT)


def test_stranger_gets_one_hint_and_a_viewer_only_looks(desk: Desk) -> None:
    texts = desk.say("/positions", "/kill", "/kill confirm", chat=STRANGER, answers=False)
    assert "ITC" not in texts
    assert desk.bot.texts(STRANGER).count("linked to a user") == 1
    commands = ("/positions", "/kill", "/kill confirm", "/cancelall", "/squareoff", "/login", "/unkill", "/approve")
    desk.say(*commands, chat=VIEWER_CHAT)
    desk.until("a positions answer", lambda: "No open position" in desk.bot.texts(VIEWER_CHAT))  # of its own
    assert "may look only" in desk.bot.texts(VIEWER_CHAT)
    assert "Write" not in desk.bot.texts(VIEWER_CHAT)
    desk.until("a word on the unknown", lambda: "no such command" in desk.bot.texts(VIEWER_CHAT))
    assert desk.engine.get("/risk/killswitch/status")["scopes"][0]["enabled"] is False


def test_linked_trader_sees_what_is_its_own(desk: Desk) -> None:
    assert "+1 ITC NSE MIS" in desk.say("/positions", chat=TRADER_CHAT)
    desk.say("/status", "/pnl", "/orders", "/intents", chat=TRADER_CHAT)
    for wanted in (
        r"main \(kite\): ACTIVE",
        "No kill switch is on",
        r"main: -?[0-9.]+ \(realised",
        "COMPLETE BUY 1 ITC NSE",
        "EXECUTED: BUY 1",
    ):
        desk.until(wanted, lambda wanted=wanted: re.search(wanted, desk.bot.texts(TRADER_CHAT)))
    assert all(content["link_preview_options"] == {"is_disabled": True} for content in desk.bot.said())
    assert not any("parse_mode" in content for content in desk.bot.said())


def test_kill_nine_before_the_confirmation_places_nothing_twice_and_loses_nothing(desk: Desk) -> None:
    first = desk.bot.message(BUY.format("WIPRO"), chat=CHAT, sender=7)
    desk.bot.push(first)
    desk.until("the order", lambda: desk.placed("WIPRO") == 1)
    desk.engine.kill()
    # as if the engine had died before it could confirm, with another signal sent meanwhile
    second = desk.bot.message(BUY.format("TCS"), chat=CHAT, sender=7)
    desk.bot.pending = [first, second]
    desk.engine.start()
    desk.people.sign_in_again()
    desk.until("the second order", lambda: desk.placed("TCS") == 1)
    desk.until("the confirmation", lambda: desk.confirmed(second))
    assert (desk.placed("WIPRO"), desk.placed("TCS")) == (1, 1)
    assert "/squareoff" in desk.say("/help", chat=TRADER_CHAT)  # links are known again


def test_squareoff_needs_the_code_of_its_own_question(desk: Desk) -> None:
    asked = desk.say("/squareoff ITC", chat=TRADER_CHAT)
    code = asked.rpartition(" ")[2]
    assert re.fullmatch(r"[0-9]{4}", code)
    wrong = "1000" if code != "1000" else "1001"
    assert "not the code" in desk.say(f"/squareoff {wrong}", chat=TRADER_CHAT)
    # a wrong answer has spent the question
    assert "not the code" in desk.say(f"/squareoff {code}", chat=TRADER_CHAT)
    assert desk.placed("ITC") == 1
    code = desk.say("/squareoff itc", chat=TRADER_CHAT).rpartition(" ")[2]
    desk.say(f"/squareoff {code}", chat=TRADER_CHAT)
    desk.until("the end", lambda: "Squared off: 1 positions, 0 not closed" in desk.bot.texts(TRADER_CHAT))
    assert desk.placed("ITC") == 2
    held = desk.say("/positions", chat=TRADER_CHAT)
    assert "ITC" not in held
    assert "WIPRO" in held


def test_edit_of_what_waits_is_told_and_trades_nothing(desk: Desk) -> None:
    changed = desk.trader.request("PATCH", f"/sources/{desk.source['id']}", json={"strategyId": desk.manual["id"]})
    assert changed.status_code == 200, changed.text
    update = desk.bot.message("BUY SBIN NSE 1 MARKET MIS", chat=CHAT, sender=7)
    desk.bot.push(update)
    desk.until("the question", lambda: "Approve? BUY 1 SBIN" in desk.bot.texts(CHAT))
    message = update["message"] | {"text": "BUY SBIN NSE 1000 MARKET MIS", "edit_date": int(time.time())}
    desk.bot.push({"update_id": update["update_id"] + 1_000, "edited_message": message})
    desk.until("the word", lambda: "the first text stands" in desk.bot.texts(CHAT))
    assert "PENDING_APPROVAL: BUY 1 SBIN NSE" in desk.bot.texts(CHAT)
    (question,) = [content for content in desk.bot.said(CHAT) if "reply_markup" in content]
    reject = question["reply_markup"]["inline_keyboard"][0][1]["callback_data"]
    desk.bot.push(desk.bot.press(reject, chat=CHAT, sender=7) | {"update_id": update["update_id"] + 1_001})
    desk.until("the buttons going", lambda: desk.bot.called("editMessageReplyMarkup"))
    assert desk.placed("SBIN") == 0


def test_links_are_cut_by_an_admin_and_the_chat_is_silent_then(desk: Desk) -> None:
    listed = desk.engine.get("/auth/telegram/links")
    assert {link["telegramUserId"] for link in listed} == {TRADER_CHAT, VIEWER_CHAT}
    assert desk.trader.request("GET", "/auth/telegram/links").status_code == 403
    viewer = desk.people("viewer", "VIEWER")
    assert desk.trader.request("DELETE", f"/auth/telegram/links/{viewer.id}").status_code == 403
    assert desk.engine.request("DELETE", f"/auth/telegram/links/{viewer.id}").status_code == 200
    desk.until("the last word", lambda: "not linked any more" in desk.bot.texts(VIEWER_CHAT))
    assert "No open position" not in desk.say("/positions", chat=VIEWER_CHAT, answers=False)
    assert viewer.request("DELETE", "/auth/telegram/link").status_code == 404


# last, for it closes the door


def test_kill_by_a_linked_trader_flattens_its_own_and_tells_the_admins(desk: Desk) -> None:
    admin = desk.people("boss", "ADMIN")
    assert "Linked to boss@desk.example (ADMIN)" in desk.link(admin, ADMIN_CHAT)
    assert "Write: /kill confirm" in desk.say("/kill", chat=TRADER_CHAT)
    assert desk.say("/kill confirm lost control", chat=TRADER_CHAT).startswith("user:")
    desk.until("the alert", lambda: "ALERT killswitch:user:" in desk.bot.texts(ADMIN_CHAT))
    assert "lost control" in desk.bot.texts(ADMIN_CHAT)
    desk.until("being flat", lambda: "flat, by user:" in desk.say("/killstatus", chat=TRADER_CHAT))
    status = {s["scope"]: s for s in desk.engine.get("/risk/killswitch/status")["scopes"]}
    assert status[f"user:{desk.trader.id}"]["enabled"]
    assert not status["global"]["enabled"]
