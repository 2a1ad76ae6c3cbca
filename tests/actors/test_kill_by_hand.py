"""The operator's file, and the keeper of what trips by itself, over real actors."""

import os
from typing import Any
from uuid import UUID

import msgspec
import pytest
import trio

from engine.actors.kill_by_hand import KillFileWatch, read_wish
from engine.actors.kill_triggers import TriggerKeeper
from engine.broker.base import Unknown
from engine.domain.audit import GENESIS, AuditDraft, seal
from engine.domain.enums import KillMode, OrderStatus
from engine.domain.kill_triggers import Reaction, Trigger, TriggerSettings
from engine.domain.killswitch import KillSwitches
from engine.errors import BrokerUnavailable
from tests.support.desk import World, running
from tests.support.memory_broker import answer
from tests.support.trade import ACCOUNT, NOW

A_SCOPE = f"account:{UUID(int=9)}"


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        ("", ("global", KillMode.SQUARE_OFF, "the file kill.now")),
        ("lost control\n", ("global", KillMode.SQUARE_OFF, "lost control")),
        (f"{A_SCOPE} block too\n fast", (A_SCOPE, KillMode.BLOCK, "too fast")),
        ("CANCEL", ("global", KillMode.CANCEL, "the file kill.now")),
        ("account:nonsense", ("global", KillMode.SQUARE_OFF, "account:nonsense")),
    ],
)
def test_whatever_the_file_says_something_stops(text, wish):
    assert read_wish(text) == wish


class Trips:
    def __init__(self):
        self.made = []

    def __call__(self, scope, reason, actor, mode):
        self.made.append((scope, reason, mode))


def test_file_counts_once_and_is_put_aside(tmp_path):
    trips = Trips()
    watch = KillFileWatch(tmp_path, trips)
    watch.look()
    (tmp_path / "kill.now").write_text("stop")
    watch.look()
    watch.look()
    assert trips.made == [("global", "stop", KillMode.SQUARE_OFF)]
    assert [path.name for path in tmp_path.iterdir()] == ["kill.now.done"]
    (tmp_path / "kill.now").write_text("again")
    watch.look()
    assert len(trips.made) == 2


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/dev/zero", path), os.mkdir])
def test_file_that_cannot_be_read_stops_everything_at_once(tmp_path, make):
    trips = Trips()
    make(tmp_path / "kill.now")
    KillFileWatch(tmp_path, trips).look()
    assert [scope for scope, _, _ in trips.made] == ["global"]


def test_file_that_cannot_be_put_aside_counts_once(tmp_path, monkeypatch):
    trips = Trips()
    watch = KillFileWatch(tmp_path, trips)
    (tmp_path / "kill.now").write_text("stop")
    (tmp_path / "kill.now.done").mkdir()
    (tmp_path / "kill.now.done" / "x").touch()
    for _ in range(3):
        watch.look()
    assert len(trips.made) == 1


class Guardian:
    def __init__(self):
        self.switches = KillSwitches()
        self.blocks = []

    def block_nowait(self, scope, *, reason, actor, mode):
        self.blocks.append((scope, reason.partition(":")[0], mode))


def keeper(world: World, guardian: Any, **fields: Any) -> TriggerKeeper:
    records: list[Any] = fields.get("records", [])

    async def audit_after(seq: int) -> Any:
        return records[-1:] if seq < 0 else [record for record in records if record.seq > seq]

    async def parked() -> Any:
        return []

    settings = TriggerSettings(
        reactions=dict.fromkeys(Trigger, Reaction.CANCEL), unknown_orders=0, unknown_orders_s=5.0
    )
    return TriggerKeeper(
        settings,
        guardian=guardian,
        clock=world.clock,
        executors=lambda: list(world.crew.executors.values()),
        is_open=lambda _executor: True,
        suspect=lambda: world.suspect,
        leads=lambda: True,
        parked=parked,
        audit_after=audit_after,
        alert=lambda subject, text: world.alerts.append((subject, text)),
    )


async def test_orders_that_stay_unknown_trip_their_account(autojump_clock: Any, nursery: Any) -> None:
    world, guardian = World(), Guardian()
    async with running(world):
        await nursery.start(keeper(world, guardian).run)
        world.broker.answers = [answer(Unknown(reason="no answer"))]
        order = world.submit(world.order())
        await world.until_status(order, OrderStatus.UNKNOWN)
        assert guardian.blocks == []
        await trio.sleep(10)
        assert guardian.blocks == [(f"account:{ACCOUNT}", "UNKNOWN_ORDERS", KillMode.CANCEL)]
        nursery.cancel_scope.cancel()


async def test_broker_that_cannot_be_read_trips_an_account_that_holds_something(
    autojump_clock: Any, nursery: Any
) -> None:
    world, guardian = World(), Guardian()
    async with running(world):
        order = world.submit(world.order())
        await world.until_status(order, OrderStatus.OPEN)
        world.broker.fill(world.row(order).broker_order_id or "")
        await world.until(lambda: world.held() == 10)
        await nursery.start(keeper(world, guardian).run)
        await trio.sleep(30)
        assert guardian.blocks == []
        world.broker.book_down = BrokerUnavailable("no route")
        await trio.sleep(40)
        assert guardian.blocks == [(f"account:{ACCOUNT}", "BROKER_UNREACHABLE", KillMode.CANCEL)]
        nursery.cancel_scope.cancel()


async def test_record_changed_behind_the_last_proof_breaks_the_chain(autojump_clock: Any, nursery: Any) -> None:
    world, guardian = World(), Guardian()
    records, prev = [], GENESIS
    for seq in range(1, 6):
        record = seal(prev, seq, AuditDraft(at=NOW, actor="a", action="X", subject="s", content={"n": seq}))
        records.append(record)
        prev = record.hash
    shown = records[:3]
    await nursery.start(keeper(world, guardian, records=shown).run)
    await trio.sleep(40)
    shown.append(records[3])
    await trio.sleep(60)
    assert guardian.blocks == []
    shown.append(msgspec.structs.replace(records[4], content='{"n":6}'))
    await trio.sleep(31)
    assert guardian.blocks == [("global", "AUDIT_CHAIN", KillMode.CANCEL)]
    assert "record 5" in world.alerts[0][1]
    nursery.cancel_scope.cancel()
