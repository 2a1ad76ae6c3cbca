"""Flattening one account without an engine: what is called flat is."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
import trio

from engine.actors.flatten_file import FlattenFile
from engine.actors.lone_flatten import LoneFlatten, LoneHands
from engine.domain.enums import OrderStatus
from engine.domain.gtt import GttStatus
from engine.security.creds_file import Credentials
from tests.support.desk import TrioClock
from tests.support.memory_broker import MemoryBroker
from tests.support.memory_store import MemoryStore
from tests.support.trade import ACCOUNT, USER

ACCESS = Credentials(account_id=ACCOUNT, user_id=USER, label="A", broker="paper", root_url="", api_key="k")


class Fires(MemoryBroker):
    """Has one trigger, which fires before it is ended, when all else is flat already."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.asked = self.fired = False

    async def gtts(self) -> Any:
        await trio.sleep(3.5)
        if not self.asked:
            return [msgspec.defstruct("Row", ["trigger_id", "status"])("101", GttStatus.ACTIVE)]
        if not self.fired:
            self.fired = True
            self.fill(self.by_hand("SBIN", 4, "SELL"))
        return []

    async def cancel_gtt(self, _trigger_id: str) -> Any:
        self.asked = True
        await trio.lowlevel.checkpoint()


async def _fill(broker: MemoryBroker) -> None:
    while True:
        await trio.sleep(0.05)
        for broker_id, row in list(broker.rows.items()):
            if row.status is OrderStatus.OPEN:
                broker.fill(broker_id)


async def test_account_is_looked_at_again_once_its_triggers_are_gone(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    async def at_once(function: Any, *args: Any, **_options: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return function(*args)

    monkeypatch.setattr(trio.to_thread, "run_sync", at_once)
    clock = TrioClock(datetime(2026, 3, 2, 5, tzinfo=UTC))
    broker = Fires(MemoryStore())
    broker.now = clock.now
    hands = LoneHands(broker, ACCESS, file=FlattenFile(tmp_path / "flatten.wal"), clock=clock, earlier=())
    work = LoneFlatten(hands, ACCESS, clock=clock, tag=lambda each: f"T{each.hex[:8]}", is_open=lambda *_: True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_fill, broker)
        result = await work.run()
        nursery.cancel_scope.cancel()
    assert result.flat, result
    assert (result.account_id, broker.fired) == (UUID(int=ACCOUNT.int), True)
    (row,) = [row for row in (await broker.positions()).net if row.symbol == "SBIN"]
    assert row.quantity == 0
