"""Channels of alerts against servers on loopback, and what their outages do: nothing but wait and be counted."""

import base64
import json
import ssl
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

import pytest
import trio

from engine.actors.alert_desk import AlertDesk
from engine.actors.alert_sender import AlertSender
from engine.actors.heartbeat import Heartbeat
from engine.clock import SystemClock
from engine.config import Config
from engine.config.alert_sections import AlertsConfig, EmailConfig, HeartbeatConfig
from engine.domain.alert_book import AlertRecord
from engine.domain.alert_notice import Message, Notice
from engine.domain.alert_rules import AlertRules, Severity
from engine.domain.stream_event import Alert
from engine.egress import Target, allowed_targets
from engine.errors import ConfigError, StoreUnavailable
from engine.notify.channel import ChannelFailed
from engine.notify.email import EmailChannel
from engine.notify.push import AppriseChannel, NtfyChannel
from engine.notify.webhook import WebhookChannel
from engine.secret import Secret
from engine.security.standard_webhooks import verify
from tests.support.certificates import self_signed
from tests.support.sinks import HttpSink, MailSink

CLOCK = SystemClock()
MESSAGE = Message(title="[CRITICAL] PARKED: order:1", body="look by hand: ₹ 5", severity=Severity.CRITICAL)
KEY = b"a signing key of thirty-two bytes"
WHSEC = Secret("whsec_" + base64.b64encode(KEY).decode())


@pytest.fixture
def sink():
    with HttpSink() as running:
        yield running


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return str(self_signed(tmp_path_factory.mktemp("mail"), "localhost"))


def mail_config(port):
    return EmailConfig(
        host="localhost",
        port=port,
        user="engine",
        password=Secret("mail-password"),
        sender="engine@desk.example",
        to=("asha@desk.example", "ravi@desk.example"),
    )


async def test_mail_goes_out_over_starttls_signed_in_and_whole(certificate):
    tls = ssl.create_default_context(cafile=certificate)
    with MailSink(certificate) as mail:
        channel = EmailChannel(mail_config(mail.port), clock=CLOCK, tls=tls)
        assert await channel.send(MESSAGE) == "accepted"
        (text,) = mail.mails
        assert "Subject: [CRITICAL] PARKED: order:1" in text
        assert "To: asha@desk.example, ravi@desk.example" in text
        assert len(mail.logins) == 1
        mail.refuses = "RCPT"
        with pytest.raises(ChannelFailed, match="refused every recipient") as refused:
            await channel.send(MESSAGE)
        assert refused.value.is_final
        # a certificate that nobody vouches for: not one word goes out, no password either
        with pytest.raises(ChannelFailed, match="cannot be reached"):
            await EmailChannel(mail_config(mail.port), clock=CLOCK).send(MESSAGE)
        assert (len(mail.mails), len(mail.logins)) == (1, 2)
    with pytest.raises(ChannelFailed, match="cannot be reached") as away:
        await channel.send(MESSAGE)
    assert "mail-password" not in str(away.value)


async def test_webhook_is_signed_and_a_repeat_bears_the_same_id(sink):
    channel = WebhookChannel(Secret(f"{sink.url}/hook?key=hidden"), WHSEC, clock=CLOCK)
    assert await channel.send(MESSAGE) == "200 ok"
    await channel.send(MESSAGE)
    (method, path, headers, body), (_, _, again, _) = sink.calls
    assert (method, path) == ("POST", "/hook?key=hidden")
    fault = verify(
        [KEY],
        body,
        message_id=headers["webhook-id"],
        timestamp=headers["webhook-timestamp"],
        signatures=headers["webhook-signature"],
        now=CLOCK.now(),
        max_skew_s=60,
    )
    assert fault is None
    assert headers["webhook-id"] == again["webhook-id"]
    assert json.loads(body)["data"]["severity"] == "critical"


async def test_ntfy_and_apprise_get_their_own_form(sink):
    await NtfyChannel(Secret(f"{sink.url}/my-topic"), Secret("tk_x")).send(MESSAGE)
    await AppriseChannel(Secret(f"{sink.url}/notify/desk")).send(MESSAGE)
    (_, at_ntfy, headers, published), (_, at_apprise, _, notified) = sink.calls
    assert (at_ntfy, headers["authorization"]) == ("/", "Bearer tk_x")
    assert json.loads(published)["topic"] == "my-topic"
    assert json.loads(published)["priority"] == 5
    assert at_apprise == "/notify/desk"
    assert json.loads(notified)["type"] == "failure"
    with pytest.raises(ConfigError, match="must end in the topic"):
        NtfyChannel(Secret("https://ntfy.sh/"), Secret(""))


async def test_redirect_is_not_followed_and_no_error_names_the_address(sink):
    with HttpSink() as elsewhere:
        sink.status, sink.headers = 302, {"Location": f"{elsewhere.url}/caught"}
        with pytest.raises(ChannelFailed, match="answered 302"):
            await AppriseChannel(Secret(f"{sink.url}/notify/hidden")).send(MESSAGE)
        assert elsewhere.calls == []
        closed = elsewhere.url
    with pytest.raises(ChannelFailed) as away:
        await AppriseChannel(Secret(f"{closed}/notify/hidden")).send(MESSAGE)
    assert "hidden" not in str(away.value)


def test_every_address_of_alerts_is_on_the_list_of_what_may_be_connected_to():
    alerts = AlertsConfig(
        email=mail_config(587), heartbeat=HeartbeatConfig(url=Secret("https://hc.example/ping/hidden"))
    )
    targets = allowed_targets(Config(alerts=alerts))
    assert {Target(host="localhost", port=587), Target(host="hc.example", port=443)} <= targets


class Channel:
    name = "email"

    def __init__(self, *outcomes):
        self.sent, self.outcomes = [], list(outcomes)

    async def send(self, message):
        outcome = self.outcomes.pop(0) if self.outcomes else "ok"
        if isinstance(outcome, Exception):
            raise outcome
        self.sent.append(message)
        return outcome


def notice(number=1):
    at = CLOCK.now()
    return Notice(
        record=AlertRecord(
            id=UUID(int=number), code="PARKED", subject=f"order:{number}", text="PARKED: x",
            severity=Severity.CRITICAL, first_at=at, last_at=at,
        )
    )  # fmt: skip


@asynccontextmanager
async def running(actor):
    async with trio.open_nursery() as nursery:
        await nursery.start(actor.run)
        yield
        nursery.cancel_scope.cancel()


async def test_outage_keeps_alerts_then_tells_them_in_one_message(autojump_clock):
    channel = Channel(ChannelFailed("away"), ChannelFailed("away"))
    sender = AlertSender(channel)
    async with running(sender):
        for number in range(1, 4):
            sender.tell(notice(number))
        await trio.sleep(120)
        assert [len(message.alert_ids) for message in channel.sent] == [3]
        channel.outcomes = [ChannelFailed("no such mailbox", is_final=True)]
        sender.tell(notice(9))
        await trio.sleep(60)
    assert (len(channel.sent), sender.lost) == (1, 1)


async def test_flood_into_an_outage_is_bounded_and_counted(autojump_clock):
    sender = AlertSender(Channel(*[ChannelFailed("away")] * 1000))
    async with running(sender):
        for number in range(1, 1001):
            sender.tell(notice(number))
        await trio.sleep(30)
    assert sender.mailbox.dropped + sender.lost == 1000 - 256


class Store:
    def __init__(self):
        self.away, self.kept = True, {}

    async def load(self):
        raise StoreUnavailable("away")

    async def save(self, changed, gone):
        if self.away:
            raise StoreUnavailable("away")
        self.kept |= {record.id: record for record in changed}


def nobodys(subject, text, at):
    return Alert(at=at, subject=subject, text=text)


async def test_desk_tells_and_lists_while_the_store_is_away_and_stores_later(autojump_clock):
    told, store = [], Store()
    desk = AlertDesk(AlertRules(), clock=CLOCK, describe=nobodys, retention=timedelta(days=1))

    def fails(_notice):
        raise ValueError("a channel's fault")

    desk.use_channels({"broken": fails, "telegram": told.append})
    await desk.use_store(store)
    desk.take("order:1", "PARKED: token=hunter2hunter2\nALERT made up")
    async with running(desk):
        await trio.sleep(2)
        (record,) = desk.book.newest_first()
        assert record.text == "PARKED: token=*** ALERT made up"
        assert [each.record.id for each in told] == [record.id]
        assert store.kept == {}
        store.away = False
        await trio.sleep(20)
        assert set(store.kept) == {record.id}
        desk.acknowledge(record.id, by="user:1")
        await trio.sleep(2)
    assert store.kept[record.id].acked_by == "user:1"


async def test_heartbeat_comes_while_trading_is_healthy_and_its_failure_is_told_once(sink):
    why, alerts = [None], []
    beat = Heartbeat(
        Secret(f"{sink.url}/ping/hidden"),
        method="GET",
        every_s=60,
        unwell=lambda: why[0],
        alert=lambda subject, text: alerts.append(text.partition(":")[0]),
    )
    await beat.beat()
    why[0] = "the lease is not held"
    await beat.beat()
    assert [call[:2] for call in sink.calls] == [("GET", "/ping/hidden")]
    why[0], sink.status = None, 500
    for _ in range(5):
        await beat.beat()
    sink.status = 200
    await beat.beat()
    assert alerts == ["HEARTBEAT_FAILED", "HEARTBEAT_BACK"]
