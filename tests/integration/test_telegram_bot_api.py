"""The actors that speak to Telegram, against a Bot API on loopback that misbehaves."""

import random
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

import pytest
import trio

from engine.actors import telegram_poller
from engine.actors.errands import Errands
from engine.actors.telegram_alerts import TelegramAlerts
from engine.actors.telegram_poller import NotTaken, TelegramPoller
from engine.actors.telegram_replies import TelegramReplies
from engine.actors.telegram_webhook import TelegramWebhook
from engine.clock import SystemClock
from engine.config import Config, ServerConfig, TelegramConfig
from engine.doctor.telegram import telegram
from engine.domain.alert_book import AlertRecord
from engine.domain.alert_notice import Notice
from engine.domain.alert_rules import Severity
from engine.errors import EngineError, MailboxFull
from engine.secret import Secret
from engine.signals.telegram import parse_update
from engine.store.telegram import PollOffset
from tests.support.bot_api import BOT_TOKEN, FakeBotApi

TOKEN = Secret(BOT_TOKEN)
HOOK = "https://e.example/api/v1/signals/telegram/webhook"


@pytest.fixture
def bot():
    with FakeBotApi() as api:
        yield api


class Rig:
    def __init__(self, bot, token=TOKEN, kept=None):
        self.texts, self.kept, self.alerts, self.fails = [], [], [], {}
        self.leads, self._kept = True, kept
        self.poller = TelegramPoller(
            bot.url,
            token,
            handle=self.handle,
            leads=lambda: self.leads,
            load=self.load,
            keep=lambda entry: self.kept.append(entry.writes[0].args[:2]),
            alert=lambda subject, text: self.alerts.append(text),
            clock=SystemClock(),
            rng=random.Random(1),
        )

    async def load(self):
        return self._kept

    async def handle(self, raw):
        text = parse_update(raw).text
        error = self.fails.get(text, [])
        if error:
            raise error.pop(0)
        self.texts.append(text)


async def until(look, within_s=10):
    with trio.fail_after(within_s):
        while not look():
            await trio.sleep(0.01)


@asynccontextmanager
async def running(*actors):
    async with trio.open_nursery() as nursery:
        for actor in actors:
            await nursery.start(actor.run)
        yield
        nursery.cancel_scope.cancel()


async def test_update_that_is_not_taken_comes_again_and_what_follows_is_not_lost(bot):
    rig = Rig(bot)
    rig.fails["two"] = [NotTaken("the journal is away"), NotTaken("still")]
    updates = [bot.message(text) for text in ("one", "two", "three")]
    bot.push(*updates)
    async with running(rig.poller):
        await until(lambda: len(rig.texts) == 3 and not bot.pending)
    assert rig.texts == ["one", "two", "three"]
    first = updates[0]["update_id"]
    # never past what was not handled
    assert [args[1] for args in rig.kept] == [first + 1, first + 3]
    assert rig.kept[0][0] == BOT_TOKEN.partition(":")[0]


async def test_kill_switch_goes_before_what_stands_in_line_and_once(bot):
    rig = Rig(bot)
    rig.fails["slow"] = [NotTaken("x")]
    bot.push(bot.message("slow"), bot.message("next"), bot.message("/kill"))
    async with running(rig.poller):
        await until(lambda: len(rig.texts) == 3 and not bot.pending)
    assert rig.texts == ["/kill", "slow", "next"]


async def test_update_that_breaks_the_engine_is_passed_over_and_alerted(bot):
    rig = Rig(bot)
    rig.fails["poison"] = [ValueError("x")]
    bot.push(bot.message("poison"), bot.message("after"))
    async with running(rig.poller):
        await until(lambda: rig.texts == ["after"] and not bot.pending)
    assert "could not be handled" in rig.alerts[0]


async def test_standby_does_not_ask_and_lost_lease_handles_nothing(bot):
    rig = Rig(bot)
    rig.leads = False
    bot.push(bot.message("one"))
    async with running(rig.poller):
        await trio.sleep(0.3)
        assert bot.calls == []
        rig.leads = True
        await until(lambda: rig.texts == ["one"])
        bot.hang.clear()
        await until(lambda: len(bot.called("getUpdates")) > 1)
        rig.leads = False
        bot.push(bot.message("another engine's"))
        bot.hang.set()
        await trio.sleep(0.3)
    assert rig.texts == ["one"]
    assert len(bot.pending) == 1


async def test_wrong_token_is_told_and_not_hammered(bot):
    rig = Rig(bot, token=Secret("1:wrong"))
    async with running(rig.poller):
        await until(lambda: rig.alerts)
        await trio.sleep(0.5)
    assert len(bot.calls) == 1
    assert "bot_token" in rig.alerts[0]
    assert "wrong" not in str(rig.alerts)


async def test_second_poller_is_told_and_backed_off_from(bot):
    told = {"description": "Conflict: terminated by other getUpdates request"}
    bot.faults["getUpdates"] = [(409, told)] * 50
    rig = Rig(bot)
    async with running(rig.poller):
        await trio.sleep(1.5)
    assert "another program polls" in rig.alerts[0]
    assert bot.called("deleteWebhook") == []
    assert len(bot.calls) < 5


async def test_too_many_requests_are_waited_out(bot):
    bot.faults["getUpdates"] = [(429, {"parameters": {"retry_after": 1}})]
    bot.push(bot.message("one"))
    rig = Rig(bot)
    began = trio.current_time()
    async with running(rig.poller):
        await until(lambda: rig.texts)
    assert trio.current_time() - began >= 1


async def test_offset_is_taken_up_unless_telegram_may_have_numbered_anew(bot):
    now = SystemClock().now()
    bot.push(bot.message("handled"), bot.message("new"))
    number = bot.pending[1]["update_id"]
    rig = Rig(bot, kept=PollOffset(next_update_id=number, updated_at=now))
    async with running(rig.poller):
        await until(lambda: rig.texts == ["new"])
    bot.push(bot.message("low", update_id=5))
    rig = Rig(bot, kept=PollOffset(next_update_id=number, updated_at=now - timedelta(days=7)))
    async with running(rig.poller):
        await until(lambda: "low" in rig.texts)


async def test_handling_without_end_is_given_up(bot, monkeypatch):
    monkeypatch.setattr(telegram_poller, "_HANDLE_S", 0.02)
    rig = Rig(bot)
    handled = rig.handle

    async def hangs(raw):
        if parse_update(raw).text == "hangs":
            await trio.sleep_forever()
        await handled(raw)

    monkeypatch.setattr(rig.poller, "_handle", hangs)
    monkeypatch.setattr(rig.poller, "_soon", rig.poller._soon.__class__(initial=0.01, max=0.01))
    bot.push(bot.message("hangs"), bot.message("after"))
    async with running(rig.poller):
        await until(lambda: rig.texts == ["after"])
    assert "given up" in rig.alerts[0]


async def test_replies_wait_out_an_outage_and_a_429_and_lose_nothing(bot):
    replies = TelegramReplies(bot.url, TOKEN, rng=random.Random(1))
    bot.faults["sendMessage"] = [(502, {}), (429, {"parameters": {"retry_after": 1}})]
    async with running(replies):
        replies.tell(7, "one\u202e <b>")
        await until(lambda: len(bot.said()) == 3)
    assert [content["text"] for content in bot.said()] == ["one <b>"] * 3
    assert bot.said()[-1]["link_preview_options"] == {"is_disabled": True}


async def test_chat_that_blocked_the_bot_is_not_tried_again(bot):
    replies = TelegramReplies(bot.url, TOKEN)
    bot.faults["sendMessage"] = [(403, {"description": "bot was blocked by the user"})]
    async with running(replies):
        replies.tell(7, "one")
        await until(lambda: len(bot.said()) == 1)
        replies.tell(8, "two")
        await until(lambda: len(bot.said()) == 2)
    assert [content["chat_id"] for content in bot.said()] == [7, 8]


async def test_webhook_is_set_with_its_secret_and_not_in_the_address(bot):
    secret = Secret("s" * 43)
    hook = TelegramWebhook(bot.url, TOKEN, secret, address="https://e.example/hook", alert=lambda *_: None)
    bot.faults["setWebhook"] = [(500, {})]
    async with running(hook):
        await until(lambda: bot.webhook)
    assert bot.webhook["url"] == "https://e.example/hook"
    assert bot.webhook["secret_token"] == secret.reveal()
    assert set(bot.webhook["allowed_updates"]) == {"message", "callback_query", "edited_message"}
    assert bot.webhook["drop_pending_updates"] is False


async def test_errand_that_fails_or_hangs_holds_up_no_other():
    done, errands = [], Errands(within_s=0.05)

    async def fails():
        raise ValueError("x")

    async def works():
        done.append(1)

    async with running(errands):
        for errand in (fails, trio.sleep_forever, works):
            errands.send(errand)
        await until(lambda: done)
    for _ in range(errands.mailbox.capacity):
        errands.send(works)
    with pytest.raises(MailboxFull):
        errands.send(works)


async def test_sec_104_alerts_carry_no_secret_no_markup_and_come_at_a_pace():
    told = []
    alerts = TelegramAlerts(
        tell=lambda chat, text, _buttons: told.append((chat, text)),
        people=lambda: [1, 2],
        clock=SystemClock(),
        ack_data=lambda _alert, _chat: "k",
    )

    def alert(text):
        record = AlertRecord(
            id=UUID(int=1),
            code="ALERT",
            subject="source:x",
            text=text,
            severity=Severity.WARNING,
            first_at=SystemClock().now(),
            last_at=SystemClock().now(),
        )
        alerts.tell(Notice(record=record))

    alert("name <b>[click](https://evil.example)</b>\n\u202eALERT fake token=abc123 password: hunter2")
    assert [chat for chat, _ in told] == [1, 2]
    text = told[0][1]
    assert text.count("\n") == 1  # what was made up to look like an alert of its own stands on the same line
    assert "abc123" not in text
    assert "hunter2" not in text
    assert "://" not in text
    assert "\u202e" not in text
    for number in range(100):
        alert(f"again {number}")
    assert len(told) <= 10


@pytest.mark.parametrize(
    ("changes", "at_telegram", "said", "mend"),
    [
        ({"mode": "polling"}, "", "@desk_bot, by polling", None),
        ({"mode": "off"}, "", "off, as configured", None),
        ({"bot_token": Secret("")}, "", "off", None),
        ({"mode": "polling", "bot_token": Secret("1:wrong")}, "", None, "@BotFather"),
        ({}, "", None, "Telegram calls nobody"),
        ({}, HOOK, f"by a webhook to {HOOK}", None),
        ({"secret_token": Secret("")}, "", None, "set telegram.secret_token"),
    ],
)
async def test_doctor_says_how_the_bot_is_reached(bot, changes, at_telegram, said, mend):
    bot.webhook = {"url": at_telegram} if at_telegram else {}
    settings = {"bot_token": TOKEN, "api_url": bot.url, "secret_token": Secret("s" * 43)} | changes
    config = Config(telegram=TelegramConfig(**settings), server=ServerConfig(public_url="https://e.example"))
    if mend is None:
        assert said in await telegram(config)
    else:
        with pytest.raises(EngineError, match=mend) as refused:
            await telegram(config)
        assert "wrong" not in str(refused.value)
