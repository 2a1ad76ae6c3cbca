"""Kill switches over all their accounts, to the certificate; and intraday positions closed by the clock."""

from contextlib import asynccontextmanager
from datetime import datetime, time, timedelta
from typing import Any
from uuid import UUID

import pytest
import trio

from engine.actors.kill_sequence import KillSequence
from engine.actors.killswitch_file import KillFile
from engine.actors.killswitch_guardian import KillSwitchGuardian
from engine.actors.square_off_clock import SquareOffClock
from engine.clock import IST
from engine.domain.calendar import REGULAR
from engine.domain.enums import Exchange, KillMode, KillState, OrderStatus, ProductType
from engine.domain.kill_sequence import KillOutcome, verify
from engine.domain.order import Order
from engine.errors import BrokerUnavailable
from engine.security.kill_seal import KillSeal
from engine.store.flags import write_squared_off
from tests.support.desk import World, running
from tests.support.trade import ACCOUNT, STRATEGY

S = OrderStatus
KEY = b"k" * 32
SECOND = UUID(int=ACCOUNT.int + 1000)


@pytest.fixture
def clock(autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch) -> trio.testing.MockClock:
    async def at_once(function: Any, *args: Any, **_options: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return function(*args)

    # virtual time does not wait for a thread
    monkeypatch.setattr(trio.to_thread, "run_sync", at_once)
    return autojump_clock


class Kill:
    """A world with a guardian and what drives kill switches."""

    def __init__(self, folder: Any, **fields: Any) -> None:
        self.world = World(**fields)
        self.guardian = KillSwitchGuardian(
            switches=self.world.kill,
            file=KillFile(folder / "state" / "kill.wal"),
            ledger=self.world.ledger,
            clock=self.world.clock,
            on_change=self._changed,
            seal=KillSeal(KEY),
        )
        self.sequence = self._sequence()

    def _sequence(self) -> KillSequence:
        async def none() -> list[Any]:
            await trio.lowlevel.checkpoint()
            return []

        return KillSequence(
            guardian=self.guardian,
            crew=self.world.crew,
            directory=self.world.directory,
            ledger=self.world.ledger,
            clock=self.world.clock,
            key=KEY,
            delivery=False,
            load=none,
            alert=lambda subject, text: self.world.alerts.append((subject, text)),
        )

    def _changed(self) -> None:
        self.world.crew.wake()
        self.sequence.wake()

    @asynccontextmanager
    async def running(self) -> Any:
        async with running(self.world), trio.open_nursery() as nursery:
            nursery.start_soon(self._market)
            await nursery.start(self.guardian.run)
            await nursery.start(self.sequence.run)
            yield self
            nursery.cancel_scope.cancel()

    async def _market(self) -> None:
        """Whatever flattens is filled in a moment."""
        while True:
            await trio.sleep(0.05)
            for broker in self.world.brokers.values():
                ours = {order.tag for order in broker.left if order.is_square_off}
                for broker_id, row in list(broker.rows.items()):
                    if row.tag in ours and row.status is S.OPEN:
                        broker.fill(broker_id)

    async def hold(self, account: UUID = ACCOUNT) -> Order:
        order = self.world.submit(self.world.order(account_id=account))
        await self.world.until_status(order, S.OPEN)
        self.world.brokers[account].fill(self.world.row(order).broker_order_id)
        await self.world.until(lambda: self.world.held(account=account) == 10)
        return order

    def state(self, scope: str = "global") -> KillState:
        return self.world.kill.records[scope].state

    async def until(self, state: KillState, scope: str = "global", *, within_s: float = 400) -> None:
        await self.world.until(lambda: self.state(scope) is state, timeout_s=within_s)

    def kill(self, mode: KillMode = KillMode.SQUARE_OFF, scope: str = "global") -> None:
        self.guardian.block_nowait(scope, reason="test", actor="user:1", mode=mode)


async def test_all_accounts_are_flattened_and_a_dead_one_delays_none(clock: object, tmp_path: Any) -> None:
    kill = Kill(tmp_path, accounts=2)
    async with kill.running():
        await kill.hold()
        await kill.hold(SECOND)
        kill.world.brokers[SECOND].positions_down = BrokerUnavailable("scripted")
        kill.kill()
        began = trio.current_time()
        await kill.world.until(lambda: kill.world.held() == 0)
        assert trio.current_time() - began < 10
        await kill.until(KillState.FLAT_FAILED)
        assert kill.sequence.certificates["global"].outcome is KillOutcome.FLAT_FAILED
        assert any("FLAT_FAILED" in text and "A1" in text for _, text in kill.world.alerts)
        kill.world.brokers[SECOND].positions_down = None
        await kill.until(KillState.FLAT_VERIFIED)
        certificate = kill.sequence.certificates["global"]
        assert certificate.outcome is KillOutcome.FLAT_VERIFIED
        assert verify(KEY, certificate)
        assert kill.world.held(account=SECOND) == 0


async def test_blocking_alone_touches_nothing_and_widening_goes_on_from_there(clock: object, tmp_path: Any) -> None:
    kill = Kill(tmp_path)
    async with kill.running():
        await kill.hold()
        resting = kill.world.submit(kill.world.order("SBIN"))
        await kill.world.until_status(resting, S.OPEN)
        kill.kill(KillMode.BLOCK)
        await trio.sleep(30)
        assert (kill.state(), kill.world.status(resting)) == (KillState.BLOCKED, S.OPEN)
        kill.kill(KillMode.CANCEL)
        await kill.world.until(lambda: "global" in kill.sequence.certificates)
        assert kill.sequence.certificates["global"].outcome is KillOutcome.CANCELLED
        assert (kill.state(), kill.world.status(resting)) == (KillState.BLOCKED, S.CANCELLED)
        assert kill.world.held() == 10
        since = kill.world.kill.records["global"].since
        kill.kill(KillMode.SQUARE_OFF)
        await kill.until(KillState.FLAT_VERIFIED)
        assert kill.world.held() == 0
        kill.kill(KillMode.BLOCK)
        held = kill.world.kill.records["global"]
        assert (held.mode, held.since, held.state) == (KillMode.SQUARE_OFF, since, KillState.FLAT_VERIFIED)


async def test_release_on_the_way_stops_it(clock: object, tmp_path: Any) -> None:
    kill = Kill(tmp_path)
    async with kill.running():
        await kill.hold()
        kill.world.broker.positions_down = BrokerUnavailable("scripted")
        kill.kill()
        await kill.until(KillState.CANCELLING)
        await kill.guardian.release("global", reason="over", actor="user:1")
        kill.world.broker.positions_down = None
        await trio.sleep(60)
        assert kill.state() is KillState.ARMED
        assert kill.world.held() == 10


async def test_strategy_that_was_deleted_is_flattened_all_the_same(clock: object, tmp_path: Any) -> None:
    kill = Kill(tmp_path)
    async with kill.running():
        await kill.hold()
        kill.world.directory.remove(STRATEGY)
        scope = f"strategy:{STRATEGY}"
        kill.kill(scope=scope)
        await kill.until(KillState.FLAT_VERIFIED, scope)
        assert kill.world.held() == 0
        await kill.guardian.release(scope, reason="over", actor="user:1")
        await trio.sleep(2)
        assert not kill.world.executor.square_off.flattener.demands


@pytest.mark.parametrize("kind", ["account", "strategy"])
async def test_what_nobody_can_prove_flat_is_not_called_flat(clock: object, tmp_path: Any, kind: str) -> None:
    kill = Kill(tmp_path)
    async with kill.running():
        scope = f"{kind}:{UUID(int=4711)}"
        kill.kill(scope=scope)
        await trio.sleep(30)
        assert kill.state(scope) is KillState.BLOCKED
        assert scope not in kill.sequence.certificates


async def test_order_that_turns_up_late_is_ended_while_the_switch_is_on(clock: object, tmp_path: Any) -> None:
    kill = Kill(tmp_path)
    async with kill.running():
        kill.kill()
        await kill.until(KillState.FLAT_VERIFIED)
        late = kill.world.broker.by_hand("SBIN", 4)
        await kill.world.until(lambda: late in kill.world.broker.cancels, timeout_s=15)
        await trio.sleep(15)
        assert kill.state() is KillState.FLAT_VERIFIED


async def test_intraday_positions_are_closed_once_at_their_time(clock: object, tmp_path: Any) -> None:
    kill = Kill(tmp_path)
    world = kill.world
    due = datetime.combine(world.clock.now().astimezone(IST).date(), time(15, 20), IST)
    world.clock._start = due - timedelta(seconds=5)
    done: dict[str, list[str]] = {}

    def keeper() -> SquareOffClock:
        async def load() -> dict[str, list[str]]:
            await trio.lowlevel.checkpoint()
            return done

        return SquareOffClock(
            dict.fromkeys((Exchange.NSE,), time(15, 20)),
            crew=world.crew,
            directory=world.directory,
            calendar=REGULAR,
            ledger=world.ledger,
            clock=world.clock,
            load=load,
            alert=lambda subject, text: world.alerts.append((subject, text)),
            suspect=lambda: None,
        )

    async with kill.running(), trio.open_nursery() as nursery:
        await kill.hold()
        kept = world.submit(world.order("SBIN", product_type=ProductType.CNC))
        await world.until_status(kept, S.OPEN)
        await nursery.start(keeper().run)
        await world.until(lambda: world.held() == 0)
        await world.until(lambda: any(record.action == "SQUARE_OFF_DONE" for record in world.store.audit))
        assert world.status(kept) is S.OPEN
        (write,) = [write for write in world.store.writes if write.sql == write_squared_off({}, at=due).sql]
        done.update(write.args[1])
        again = world.submit(world.order())
        await world.until_status(again, S.OPEN)
        await nursery.start(keeper().run)
        await trio.sleep(60)
        assert world.status(again) is S.OPEN
        assert len([order for order in world.broker.left if order.is_square_off]) == 1
        nursery.cancel_scope.cancel()
