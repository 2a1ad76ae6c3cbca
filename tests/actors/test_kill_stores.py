"""The kill switch's three stores: each on its own, all of them for a release, and again after an outage."""

import msgspec
import pytest
import trio

from engine.actors.kill_lanes import CopyLane
from engine.actors.killswitch_guardian import KillSwitchGuardian
from engine.domain.enums import KillMode, KillState
from engine.domain.killswitch import KillRecord, KillSwitches, merge, settle
from engine.errors import EngineError, JournalUnavailable
from engine.security.kill_seal import KillSeal
from tests.support.desk import TrioClock
from tests.support.trade import NOW

SEAL = KillSeal(b"m" * 32)
STORES = ("file", "ledger", "journal")


class Stores:
    """The three stores in memory, each of which can be down or slow."""

    def __init__(self):
        self.down = set()
        self.slow_s = dict.fromkeys(STORES, 0.0)
        self.records = {name: [] for name in STORES}
        self._held = []
        self.at_write = []

    def _keep(self, name, record):
        self.at_write.append((name, record))
        self.records[name].append(record)

    # the file

    def append(self, record):
        if "file" in self.down:
            raise OSError("no disk")
        self._keep("file", record)

    def read(self):
        return merge(self.records["file"])

    # Valkey

    async def put(self, record):
        await trio.sleep(self.slow_s["journal"])
        if "journal" in self.down:
            raise JournalUnavailable("away")
        self._keep("journal", record)

    # the ledger

    class Ledger:
        def __init__(self, stores):
            self.stores = stores

        def append(self, entry):
            self.stores._held.append(entry)
            self.stores.settle_ledger()

    def settle_ledger(self):
        if "ledger" in self.down:
            return
        held, self._held = self._held, []
        for entry in held:
            value = entry.writes[0].args[1]
            self._keep("ledger", msgspec.convert(value, KillRecord))
            entry.on_commit()

    def heal(self):
        self.down.clear()
        self.settle_ledger()

    def newest(self, name):
        return max(self.records[name], key=lambda record: record.version, default=None)


class Desk:
    def __init__(self):
        self.stores = Stores()
        self.switches = KillSwitches()
        self.guardian = KillSwitchGuardian(
            switches=self.switches,
            file=self.stores,
            ledger=Stores.Ledger(self.stores),
            clock=TrioClock(),
            on_change=lambda: None,
            seal=SEAL,
            journal=self.stores.put,
        )

    def is_on(self):
        return self.switches.records["global"].enabled

    async def until(self, condition):
        with trio.fail_after(30):
            while not condition():
                await trio.sleep(0.01)

    def restart(self):
        """What counts at a start now."""
        copies = [{r.scope: r for r in [self.stores.newest(name)] if r} for name in STORES]
        return settle(copies, TrioClock().now())["global"]


@pytest.fixture
async def desk(nursery, monkeypatch):
    desk = Desk()

    async def run_sync(work, *args, **_settings):
        await trio.sleep(desk.stores.slow_s["file"])
        return work(*args)

    # virtual time does not wait for threads
    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)
    await nursery.start(desk.guardian.run)
    return desk


def one_or_two_down():
    return [{a} for a in STORES] + [{a, b} for a in STORES for b in STORES if a < b]


async def test_block_is_written_to_all_three(autojump_clock, desk):
    record = await desk.guardian.block("global", reason="r", actor="a", mode=KillMode.CANCEL)
    await desk.until(lambda: all(desk.stores.newest(name) is not None for name in STORES))
    assert desk.stores.newest("file") == desk.stores.newest("journal") == record
    assert desk.stores.newest("ledger").version == record.version


@pytest.mark.parametrize("slow", STORES)
async def test_slow_store_delays_no_other(autojump_clock, desk, slow):
    if slow == "ledger":
        desk.stores.down.add("ledger")
    desk.stores.slow_s[slow] = 3.0
    desk.guardian.block_nowait("global", reason="r", actor="a")
    others = [name for name in STORES if name != slow]
    with trio.fail_after(1.5):
        await desk.until(lambda: all(desk.stores.newest(name) for name in others))
    assert desk.stores.newest(slow) is None


@pytest.mark.parametrize("down", one_or_two_down())
async def test_block_reaches_each_store_once_it_is_back(autojump_clock, desk, down):
    desk.stores.down |= down
    record = await desk.guardian.block("global", reason="r", actor="a")
    assert desk.is_on()
    assert desk.restart().enabled
    desk.stores.heal()
    await desk.until(lambda: all(desk.stores.newest(name) for name in STORES))
    assert desk.stores.newest("file").version == record.version


@pytest.mark.parametrize("down", one_or_two_down())
async def test_release_needs_all_three_and_names_those_that_lack_it(autojump_clock, desk, down):
    await desk.guardian.block("global", reason="MAX_X: r", actor="a", mode=KillMode.SQUARE_OFF)
    await desk.until(lambda: all(desk.stores.newest(name) for name in STORES))
    desk.stores.down |= down
    with pytest.raises(EngineError) as refused:
        await desk.guardian.release("global", reason="ok", actor="b")
    named = sorted(down - {"file"}) or ["file"]
    assert all(name in str(refused.value) for name in named)
    assert desk.is_on()
    assert desk.restart().enabled, "a start right after it stays blocked"
    desk.stores.heal()
    await desk.until(lambda: all(desk.stores.newest(name).enabled for name in STORES))
    held = desk.switches.records["global"]
    assert (held.reason, held.square_off) == ("MAX_X: r", True)
    assert desk.restart().enabled


async def test_release_is_in_the_other_two_before_the_file_and_in_memory_last(autojump_clock, desk):
    await desk.guardian.block("global", reason="r", actor="a")
    await desk.until(lambda: all(desk.stores.newest(name) for name in STORES))
    del desk.stores.at_write[:]
    await desk.guardian.release("global", reason="ok", actor="b")
    assert [name for name, _ in desk.stores.at_write][-1] == "file"
    assert not desk.is_on()
    assert not desk.restart().enabled


async def test_caller_that_goes_away_during_a_release_leaves_it_on(autojump_clock, desk):
    await desk.guardian.block("global", reason="r", actor="a")
    desk.stores.slow_s["journal"] = 2.0
    with trio.move_on_after(1):
        await desk.guardian.release("global", reason="ok", actor="b")
    await trio.sleep(10)
    assert desk.is_on()
    assert all(desk.stores.newest(name).enabled for name in STORES)


async def test_emptied_valkey_gets_everything_again(autojump_clock, desk):
    record = await desk.guardian.block("global", reason="r", actor="a")
    await desk.until(lambda: desk.stores.newest("journal") is not None)
    desk.stores.records["journal"].clear()
    assert desk.restart().enabled
    desk.guardian.journal_wiped()
    await desk.until(lambda: desk.stores.newest("journal") == record)


async def test_loss_of_the_day_is_remembered_through_later_trips(autojump_clock, desk):
    first = await desk.guardian.block("global", reason="MAX_DAILY_LOSS_PCT: 6 exceeds 5", actor="system")
    assert first.day is not None
    second = await desk.guardian.block("global", reason="by hand", actor="cli", mode=KillMode.SQUARE_OFF)
    third = await desk.guardian.block("global", reason="by hand", actor="cli")
    assert second.day == third.day == first.day
    assert third.square_off, "a later trip never narrows what runs"


async def test_trip_during_a_release_is_not_replaced_by_it(autojump_clock):
    stores = Stores()
    lane = CopyLane("journal", stores.put)
    before = KillRecord(scope="global", version=1, state=KillState.ARMED, reason="r", actor="a", at=NOW)
    after = msgspec.structs.replace(before, version=2, state=KillState.BLOCKED)
    lane.put(after)
    lane.put(before)
    await lane.flush()
    assert stores.records["journal"] == [after]
    assert lane.has(before)


async def test_trip_is_kept_whatever_others_make_of_it(autojump_clock, desk):
    def fault():
        raise RuntimeError("scripted")

    desk.guardian._on_change = fault
    with pytest.raises(RuntimeError):
        desk.guardian.block_nowait("global", reason="r", actor="a")
    assert desk.is_on()
    await desk.until(lambda: all(desk.stores.newest(name) for name in STORES))


async def test_release_says_which_loss_is_let_pass(autojump_clock, desk):
    blocked = await desk.guardian.block("global", reason="MAX_DAILY_LOSS_AMOUNT: r", actor="a")
    released = await desk.guardian.release("global", reason="ok", actor="b")
    assert released.day == blocked.day is not None
