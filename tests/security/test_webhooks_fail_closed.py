"""A check of a webhook that fails denies: each door with one of its checks broken takes nothing in (SEC-101)."""

import hashlib
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import httpx
import msgspec
import pytest

from engine.actors.ingest import Accepted
from engine.actors.intake import Receipt
from engine.config import Config, TelegramConfig
from engine.domain.delivery import Delivery
from engine.domain.directory import Directory, Source
from engine.domain.enums import IntentStatus, SourceType
from engine.http.endpoint import Registry
from engine.http.routes import signals, source_watch, telegram, tradingview
from engine.observability.stages import NO_STAGES
from engine.secret import Secret
from engine.security import standard_webhooks
from tests.support.api import ApiServices, RunningApi, running_api
from tests.support.engine import market_order, signed

REGISTRY = Registry.of(signals, source_watch, tradingview, telegram)
BOT_SECRET = "telegram-secret-token-0123456789abcdefghij"
ORDER = msgspec.json.encode(market_order())
HERE = ("127.0.0.0/8",)
KEY, SECRET = "src_0123456789abcdef", "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"


class Doors(ApiServices):
    """Sources of each kind, and what was taken in from them."""

    def __init__(self) -> None:
        bot = TelegramConfig(secret_token=Secret(BOT_SECRET), mode="webhook", ip_ranges=HERE)
        super().__init__(config=Config(telegram=bot))
        self.taken: list[Any] = []
        self.directory = Directory()
        self.ingest = self.master = self
        self.stages = NO_STAGES
        self.extras: dict[str, Any] = {"source_watch": self}
        self.prices: dict[str, Any] = {}
        self.program = self.add(SourceType.WEBHOOK, KEY)
        self.alerts = self.add(SourceType.TRADINGVIEW, None)

    def add(self, kind: SourceType, key: str | None) -> Source:
        source = Source(
            id=uuid4(),
            user_id=uuid4(),
            strategy_id=uuid4(),
            type=kind,
            name="a source",
            api_key_hash=None if key is None else hashlib.sha256(key.encode()).digest(),
            secret=Secret(SECRET),
            ip_allowlist=HERE,
        )
        self.directory.put_source(source)
        return source

    def holds(self, _source_id: UUID, _key: str) -> bool:
        return False

    async def earlier(self, *_: Any) -> None:
        return None

    async def accept(self, delivery: Delivery) -> Accepted:
        self.taken.append(delivery)
        receipts = (Receipt(intent_id=uuid4(), status=IntentStatus.RECEIVED, position=0),)
        return Accepted(receipts, duplicate=False)

    def signals_came(self, *_: Any, **__: Any) -> None: ...

    def beat(self, *_: Any) -> None:
        self.taken.append("a sign of life")

    # what each door is shown

    def headers(self, raw: bytes) -> dict[str, str]:
        return signed(raw, KEY, SECRET, at=int(self.clock.now().timestamp()))

    def standard(self, raw: bytes) -> dict[str, str]:
        at = str(int(self.clock.now().timestamp()))
        signature = standard_webhooks.sign(standard_webhooks.key_bytes(SECRET), "msg_1", at, raw)
        headers = {"webhook-id": "msg_1", "webhook-timestamp": at, "webhook-signature": signature}
        return headers | {"Content-Type": "application/json"}


async def by_sheet(api: RunningApi) -> httpx.Response:
    return await api.client.post("/api/v1/signals/sheets/webhook", content=ORDER, headers=api.services.headers(ORDER))


async def by_program(api: RunningApi) -> httpx.Response:
    url = f"/api/v1/signals/webhook/{api.services.program.id}"
    return await api.client.post(url, content=ORDER, headers=api.services.headers(ORDER))


async def by_standard(api: RunningApi) -> httpx.Response:
    url = f"/api/v1/signals/webhook/{api.services.program.id}"
    return await api.client.post(url, content=ORDER, headers=api.services.standard(ORDER))


async def by_alert(api: RunningApi) -> httpx.Response:
    url = f"/api/v1/signals/tradingview/{api.services.alerts.id}"
    return await api.client.post(url, content=ORDER, params={"secret": SECRET})


async def by_bot(api: RunningApi) -> httpx.Response:
    headers = {"X-Telegram-Bot-Api-Secret-Token": BOT_SECRET, "Content-Type": "application/json"}
    return await api.client.post("/api/v1/signals/telegram/webhook", json={"update_id": 1}, headers=headers)


Door = Callable[[RunningApi], Any]
SIGNED: tuple[Door, ...] = (by_sheet, by_program, by_standard)
ALL: tuple[Door, ...] = (*SIGNED, by_alert, by_bot)
_ROUTES = "engine.http.routes"
CHECKS: tuple[tuple[str, tuple[Door, ...]], ...] = (
    ("engine.http.webhook_auth.verify", (by_sheet, by_program)),
    ("engine.security.standard_webhooks.verify", (by_standard,)),
    ("engine.http.webhook_auth.is_usable", (*SIGNED, by_alert)),
    ("engine.http.webhook_auth.is_allowed_from", (*SIGNED, by_alert)),
    ("engine.http.webhook_auth.is_in", ALL),
    ("engine.domain.directory.Directory.source_by_key_hash", (by_sheet, by_program)),
    ("engine.http.ratelimit.RateLimits.webhook", (*SIGNED, by_alert)),
    (f"{_ROUTES}.signals.check_content_type", SIGNED),
    (f"{_ROUTES}.signals.delivery_key", (by_sheet, by_program)),
    (f"{_ROUTES}.tradingview.holds_secret", (by_alert,)),
    ("engine.signals.tradingview.parse", (by_alert,)),
    (f"{_ROUTES}.telegram.is_from", (by_bot,)),
    ("engine.http.signal_intake.checked", (*SIGNED, by_alert)),
    ("engine.http.signal_intake.pace", (*SIGNED, by_alert)),
    ("engine.http.sender_gate.SignedMessages.take", (by_sheet, by_program)),
)


def fail(*_: Any, **__: Any) -> Any:
    raise RuntimeError("injected /srv/engine/secret.py")


@pytest.fixture
def doors(monkeypatch: pytest.MonkeyPatch) -> Doors:
    services = Doors()

    async def take(*_: Any) -> None:
        services.taken.append("an update")

    monkeypatch.setattr(telegram, "take", take)
    return services


async def test_without_a_fault_each_door_takes_it_in(doors: Doors) -> None:
    async with running_api(doors, REGISTRY) as api:
        for count, door in enumerate(ALL, start=1):
            answer = await door(api)
            assert answer.status_code < 300, f"{door.__name__}: {answer.text}"
            assert len(doors.taken) == count


async def test_sec_101_check_of_a_webhook_that_raises_takes_nothing_in(
    doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_api(doors, REGISTRY) as api:
        for check, through in CHECKS:
            with monkeypatch.context() as broken:
                broken.setattr(check, fail)
                for door in through:
                    answer = await door(api)
                    assert answer.status_code == 500, f"{door.__name__} without {check}: {answer.text}"
                    assert "injected" not in answer.text
        assert doors.taken == []


async def test_sec_101_bots_secret_that_cannot_be_compared_opens_nothing(
    doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_api(doors, REGISTRY) as api:
        monkeypatch.setattr("hmac.compare_digest", fail)
        for door in (by_sheet, by_standard, by_alert, by_bot):
            assert (await door(api)).status_code == 500
        assert doors.taken == []


async def test_sec_101_refusal_that_cannot_be_put_on_record_is_one_all_the_same(
    doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_api(doors, REGISTRY) as api:
        monkeypatch.setattr(doors.ledger, "record", fail)
        bad = doors.headers(ORDER) | {"X-Signature": "0" * 64}
        for path in ("sheets/webhook", f"webhook/{doors.program.id}", "sheets/ledger", f"heartbeat/{doors.program.id}"):
            answer = await api.client.post(f"/api/v1/signals/{path}", content=ORDER, headers=bad)
            assert answer.status_code in (401, 500), path
        wrong = await api.client.post(f"/api/v1/signals/tradingview/{doors.alerts.id}", content=ORDER)
        assert wrong.status_code in (401, 500)
        assert doors.taken == []
