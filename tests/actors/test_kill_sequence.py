"""Kill switches over all their accounts, to the certificate; and intraday positions closed by the clock."""

from contextlib import asynccontextmanager
from datetime import datetime, time, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
import trio

from engine.actors.kill_sequence import KillSequence
from engine.actors.killswitch_file import KillFile
from engine.actors.killswitch_guardian import KillSwitchGuardian
from engine.actors.square_off_clock import SquareOffClock
from engine.clock import IST, trading_day
from engine.domain.calendar import REGULAR
from engine.domain.enums import Exchange, KillMode, KillState, OrderStatus, ProductType
from engine.domain.kill_sequence import KillOutcome, verify
from engine.domain.order import Order
from engine.domain.square_off_times import dues_of
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


def square_off_clock(kill: Kill, times: dict[Exchange, time], done: dict[str, list[str]]) -> SquareOffClock:
    world = kill.world

    async def load() -> dict[str, list[str]]:
        await trio.lowlevel.checkpoint()
        return done

    return SquareOffClock(
        times,
        crew=world.crew,
        directory=world.directory,
        calendar=REGULAR,
        ledger=world.ledger,
        clock=world.clock,
        load=load,
        alert=lambda subject, text: world.alerts.append((subject, text)),
        suspect=lambda: None,
    )


def set_clock(world: World, hhmm: str) -> None:
    """Have the world begin at *hhmm* IST of its day."""
    day = world.clock.now().astimezone(IST).date()
    world.clock._start = datetime.combine(day, time.fromisoformat(hhmm), IST)


def with_time(world: World, hhmm: str | None) -> None:
    strategy = world.directory.strategies[STRATEGY]
    world.directory.put_strategy(msgspec.structs.replace(strategy, square_off_at=hhmm))


def written_done(world: World) -> dict[str, list[str]]:
    """Which accounts are done by name, as the ledger has it."""
    sql = write_squared_off({}, at=world.clock.now()).sql
    found = [write.args[1] for write in world.store.writes if write.sql == sql]
    return {name: sorted(accounts) for name, accounts in found[-1].items()} if found else {}


def actions(world: World) -> list[str]:
    return [record.action for record in world.store.audit if record.action.startswith("SQUARE_OFF_")]


async def test_intraday_positions_are_closed_once_at_their_time(clock: object, tmp_path: Any) -> None:
    kill = Kill(tmp_path)
    world = kill.world
    due = datetime.combine(world.clock.now().astimezone(IST).date(), time(15, 20), IST)
    world.clock._start = due - timedelta(seconds=5)
    done: dict[str, list[str]] = {}

    def keeper() -> SquareOffClock:
        return square_off_clock(kill, {Exchange.NSE: time(15, 20)}, done)

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


async def test_strategy_is_squared_off_at_its_own_time_once_and_others_are_left(clock: object, tmp_path: Any) -> None:
    kill = Kill(tmp_path, accounts=2)
    world = kill.world
    set_clock(world, "14:29")
    with_time(world, "14:30")
    other = UUID(int=STRATEGY.int + 1)
    async with kill.running(), trio.open_nursery() as nursery:
        await kill.hold()
        await kill.hold(SECOND)
        mine = world.submit(world.order("SBIN", product_type=ProductType.NRML))
        theirs = world.submit(world.order("TCS", strategy_id=other))
        for order in (mine, theirs):
            await world.until_status(order, S.OPEN)
        # no exchange has a time: a strategy that asks for it gets it all the same
        await nursery.start(square_off_clock(kill, {}, {}).run)
        await world.until(lambda: world.held() == 0 and world.held(account=SECOND) == 0)
        await world.until_status(mine, S.CANCELLED)
        dues = dues_of(world.directory.strategies[STRATEGY], trading_day(world.clock.now()), REGULAR)
        await world.until(lambda: actions(world).count("SQUARE_OFF_DONE") == 2 * len(dues))
        assert world.clock.now().astimezone(IST).time() >= time(14, 30)
        assert world.status(theirs) is S.OPEN
        # a start after it does it no more
        sent = {account: len(broker.left) for account, broker in world.brokers.items()}
        await nursery.start(square_off_clock(kill, {}, written_done(world)).run)
        again = world.submit(world.order())
        await world.until_status(again, S.OPEN)
        await trio.sleep(60)
        assert world.status(again) is S.OPEN
        assert {account: len(broker.left) for account, broker in world.brokers.items()} == {
            **sent,
            ACCOUNT: sent[ACCOUNT] + 1,
        }
        assert actions(world).count("SQUARE_OFF_BEGUN") == 2 * len(dues)
        nursery.cancel_scope.cancel()


async def test_start_in_the_middle_of_a_strategys_square_off_goes_on_with_it(clock: object, tmp_path: Any) -> None:
    kill = Kill(tmp_path)
    world = kill.world
    set_clock(world, "14:29")
    with_time(world, "14:30")
    async with kill.running():
        await kill.hold()
        world.broker.positions_down = BrokerUnavailable("scripted")
        async with trio.open_nursery() as nursery:
            await nursery.start(square_off_clock(kill, {}, {}).run)
            await world.until(lambda: "SQUARE_OFF_BEGUN" in actions(world))
            nursery.cancel_scope.cancel()
        world.executor.square_off.flattener.demands.clear()  # nor does the executor of a new life know of it
        world.broker.positions_down = None
        async with trio.open_nursery() as nursery:
            await nursery.start(square_off_clock(kill, {}, written_done(world)).run)
            await world.until(lambda: bool(written_done(world)))
            nursery.cancel_scope.cancel()
        assert world.held() == 0
        assert len([order for order in world.broker.left if order.is_square_off]) == 1


async def test_time_that_is_taken_back_closes_nothing_more(clock: object, tmp_path: Any) -> None:
    kill = Kill(tmp_path)
    world = kill.world
    set_clock(world, "14:29")
    with_time(world, "14:30")
    async with kill.running(), trio.open_nursery() as nursery:
        await kill.hold()
        world.broker.positions_down = BrokerUnavailable("scripted")
        await nursery.start(square_off_clock(kill, {}, {}).run)
        await world.until(lambda: bool(world.executor.square_off.flattener.demands))
        with_time(world, None)
        await world.until(lambda: "SQUARE_OFF_TAKEN_BACK" in actions(world))
        world.broker.positions_down = None
        await trio.sleep(60)
        assert not world.executor.square_off.flattener.demands
        assert world.held() == 10
        nursery.cancel_scope.cancel()


async def test_strategy_that_cannot_be_closed_is_told_by_name(clock: object, tmp_path: Any) -> None:
    kill = Kill(tmp_path)
    world = kill.world
    set_clock(world, "15:20")
    with_time(world, "15:21")
    async with kill.running(), trio.open_nursery() as nursery:
        await kill.hold()
        world.broker.positions_down = BrokerUnavailable("scripted")
        await nursery.start(square_off_clock(kill, {}, {}).run)
        await world.until(lambda: "SQUARE_OFF_FAILED" in actions(world), timeout_s=1200)
        told = [text for subject, text in world.alerts if subject == f"account:{ACCOUNT}"]
        assert told[0].startswith("SQUARE_OFF_FAILED: positions of the strategy default are not closed: ")
        assert any(text.endswith("the exchange has closed") for text in told)
        nursery.cancel_scope.cancel()
