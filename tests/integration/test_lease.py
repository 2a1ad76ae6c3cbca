"""The lease on a real PostgreSQL: one holder, and nothing written by a superseded one."""

import asyncio
import os
import subprocess
import sys
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from engine import leadership
from engine.actors.lease_keeper import LIFE_S, LeaseKeeper
from engine.clock import SystemClock
from engine.errors import Fenced, StartupError, StoreUnavailable
from engine.runtime import holder
from engine.store import lease
from engine.store.database import APP_ROLE, SESSION, Database
from engine.store.ledger import Batch, LedgerStore
from tests.support.ledger_rows import Trader, sql


class HandClock:
    """A boot-time clock moved by hand."""

    def __init__(self):
        self.ns = 0

    def now(self):
        return SystemClock().now()

    def boottime_ns(self):
        return self.ns


@pytest.fixture
async def database(schema_url, aio):
    opened = Database(schema_url)
    await opened.open()
    yield opened
    await opened.close()


def take(database, holder, seen=None):
    return database.run(lambda c: lease.take(c, holder=holder, seen=seen))


async def take_from(database, holder):
    """Take it from whoever has it."""
    return await take(database, holder, await database.run(lease.read))


async def put(url, holder, *, age_s=0.0, released=False, epoch=1):
    await sql(
        url,
        "INSERT INTO engine_lease (epoch, holder, renewed_at, released)"
        " VALUES ($1, $2, now() - $3 * interval '1s', $4)",
        epoch,
        holder,
        age_s,
        released,
    )


async def test_first_taker_gets_epoch_1_and_the_row_says_so(database):
    assert await database.run(lease.read) is None
    assert await take(database, "a") == 1
    held = await database.run(lease.read)
    assert (held.epoch, held.holder, held.released) == (1, "a", False)
    assert 0 <= held.age_s < 60


@pytest.mark.parametrize("held", [False, True])
async def test_of_two_takers_one_wins(database, held):
    if held:
        await take(database, "old")
    seen, won = await database.run(lease.read), []

    async def race(holder):
        won.append(await take(database, holder, seen))

    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(race, str(number))
    assert sorted(epoch or 0 for epoch in won) == [0] * 5 + [held + 1]


async def test_lease_renewed_since_it_was_seen_is_not_taken(database):
    await take(database, "a")
    seen = await database.run(lease.read)
    await database.run(lambda c: lease.renew(c, epoch=1))
    assert await take(database, "b", seen) is None
    assert (await database.run(lease.read)).holder == "a"


async def test_renewing_makes_it_young_and_release_says_so(database, schema_url):
    await put(schema_url, "a", age_s=100)
    await database.run(lambda c: lease.renew(c, epoch=1))
    assert (await database.run(lease.read)).age_s < 60
    await database.run(lambda c: lease.release(c, epoch=1))
    assert (await database.run(lease.read)).released


async def test_superseded_holder_can_neither_renew_nor_release_nor_check(database):
    await take(database, "a")
    await take_from(database, "b")
    with pytest.raises(Fenced):
        await database.run(lambda c: lease.renew(c, epoch=1))
    with pytest.raises(Fenced):
        await database.run(lambda c: lease.check(c, epoch=1))
    await database.run(lambda c: lease.release(c, epoch=1))
    held = await database.run(lease.read)
    assert (held.holder, held.released) == ("b", False)


@asynccontextmanager
async def under_way(database, step):
    """A transaction that has done *step* and is committed when the body ends."""
    done, go_on = trio.Event(), asyncio.Event()

    async def unit(connection):
        await step(connection)
        done.set()
        await go_on.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: database.run(unit, timeout_s=20))
        await done.wait()
        try:
            yield
        finally:
            go_on.set()


async def until_somebody_waits_for_a_lock(url):
    with trio.fail_after(10):
        while not await sql(
            url,
            "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()",
        ):
            await trio.sleep(0.01)


async def test_renewing_does_not_wait_for_a_ledger_transaction(database):
    await take(database, "a")
    async with under_way(database, lambda c: lease.check(c, epoch=1)):
        await database.run(lambda c: lease.renew(c, epoch=1), timeout_s=2)


async def test_ledger_transaction_does_not_wait_for_a_renewal(database, schema_url):
    await take(database, "a")
    store = LedgerStore(schema_url, role=APP_ROLE)
    async with under_way(database, lambda c: lease.renew(c, epoch=1)):
        await store.commit(Batch(), epoch=1, timeout_s=2)
    await store.close()


async def test_takeover_waits_for_the_transaction_under_way(database, schema_url):
    await take(database, "a")
    ended = []

    async def take_over():
        assert await take_from(database, "b") == 2
        ended.append("takeover")

    async with trio.open_nursery() as nursery, under_way(database, lambda c: lease.check(c, epoch=1)):
        nursery.start_soon(take_over)
        await until_somebody_waits_for_a_lock(schema_url)
        assert ended == []
    assert ended == ["takeover"]


async def test_commit_that_waits_for_a_takeover_is_fenced(database, schema_url):
    await take(database, "a")
    trader = await Trader().seed(schema_url)
    store = LedgerStore(schema_url, role=APP_ROLE)

    async def commit():
        with pytest.raises(Fenced):
            await store.commit(Batch(new_orders=(trader.order(),)), epoch=1, timeout_s=10)

    seen = await database.run(lease.read)
    taking = under_way(database, lambda c: lease.take(c, holder="b", seen=seen))
    async with trio.open_nursery() as nursery, taking:
        nursery.start_soon(commit)
        await until_somebody_waits_for_a_lock(schema_url)
    assert await sql(schema_url, "SELECT 1 FROM orders") == []
    await store.close()


# the keeper


async def test_keeper_holds_for_its_life_after_the_last_renewal_asked_for(database):
    clock = HandClock()
    keeper = LeaseKeeper(database, epoch=1, clock=clock, asked_ns=0)
    assert keeper.holds()
    clock.ns = int(LIFE_S * 1e9) - 1
    assert keeper.holds()
    clock.ns += 1
    assert not keeper.holds()


async def test_keeper_built_after_a_sleep_of_the_process_does_not_hold(database):
    clock = HandClock()
    asked_ns = clock.boottime_ns()
    # the process was stopped between the taking and this line, long enough for another to take it
    clock.ns = int(LIFE_S * 1e9)
    assert not LeaseKeeper(database, epoch=1, clock=clock, asked_ns=asked_ns).holds()


async def test_keeper_that_gave_the_lease_back_holds_no_more_and_renews_no_more(database):
    await take(database, "a")
    keeper = LeaseKeeper(database, epoch=1, clock=HandClock(), asked_ns=0)
    async with trio.open_nursery() as nursery:
        await nursery.start(keeper.run)
        await trio.testing.wait_all_tasks_blocked(0.1)
        await keeper.give_back()
        assert not keeper.holds()
        nursery.cancel_scope.cancel()
    given = await database.run(lease.read)
    assert given.released
    async with trio.open_nursery() as nursery:
        await nursery.start(keeper.run)
        await trio.testing.wait_all_tasks_blocked(0.1)
        nursery.cancel_scope.cancel()
    assert (await database.run(lease.read)).renewed_at == given.renewed_at


async def test_keeper_counts_from_the_asking_not_from_the_answer(database, monkeypatch):
    await take(database, "a")
    clock, real = HandClock(), lease.renew

    async def slow(connection, *, epoch):
        await real(connection, epoch=epoch)
        clock.ns += int((LIFE_S - 1) * 1e9)  # stopped after the server had recorded it

    monkeypatch.setattr(lease, "renew", slow)
    keeper = LeaseKeeper(database, epoch=1, clock=clock, asked_ns=0)
    async with trio.open_nursery() as nursery:
        await nursery.start(keeper.run)
        with trio.fail_after(10):
            while not clock.ns:
                await trio.sleep(0.01)
        await trio.testing.wait_all_tasks_blocked(0.1)
        assert keeper.holds()
        clock.ns = int(LIFE_S * 1e9)
        assert not keeper.holds()
        nursery.cancel_scope.cancel()


async def test_keeper_renews_and_holds_again(database, schema_url):
    await take(database, "a")
    clock = HandClock()
    keeper = LeaseKeeper(database, epoch=1, clock=clock, asked_ns=0)
    clock.ns = int(20e9)
    assert not keeper.holds()
    async with trio.open_nursery() as nursery:
        await nursery.start(keeper.run)
        with trio.fail_after(10):
            while not keeper.holds():
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    # stopping the task (a restart by its supervisor) is not losing the lease
    assert keeper.holds()


async def test_keeper_of_a_lost_lease_raises_and_never_holds_again(database):
    await take(database, "a")
    await take_from(database, "b")
    keeper = LeaseKeeper(database, epoch=1, clock=HandClock(), asked_ns=0)
    with pytest.raises(Fenced):
        await keeper.run()
    assert not keeper.holds()


async def test_keeper_that_fails_otherwise_holds_again_after_its_restart(database, schema_url):
    await take(database, "a")
    keeper = LeaseKeeper(database, epoch=1, clock=HandClock(), asked_ns=0)
    await sql(schema_url, "ALTER TABLE engine_lease RENAME TO gone")
    with pytest.raises(Exception, match="engine_lease"):
        await keeper.run()
    await sql(schema_url, "ALTER TABLE gone RENAME TO engine_lease")
    async with trio.open_nursery() as nursery:
        await nursery.start(keeper.run)
        await trio.testing.wait_all_tasks_blocked(0.1)
        assert keeper.holds()
        nursery.cancel_scope.cancel()


# taking it at start


async def take_at_start(database, wait_s=0):
    return (await leadership.take_lease(database, clock=SystemClock(), wait_s=wait_s)).epoch


def name_of(pid, started):
    return "|".join([*holder.own_name().split("|")[:3], str(pid), started])


async def test_start_takes_a_free_lease(database):
    assert await take_at_start(database) == 1
    assert (await database.run(lease.read)).holder == holder.own_name()


async def test_start_takes_a_released_lease_at_once(database, schema_url):
    await put(schema_url, "far|away|pid:[1]|1|1", released=True, epoch=7)
    assert await take_at_start(database) == 8


async def test_start_takes_the_lease_of_a_dead_process_of_this_host_at_once(database, schema_url):
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    await put(schema_url, name_of(process.pid, "12345"))
    assert await take_at_start(database) == 2


async def test_start_takes_the_lease_of_a_process_whose_number_another_bears(database, schema_url):
    await put(schema_url, name_of(os.getppid(), "1"))
    assert await take_at_start(database) == 2


def test_zombie_counts_as_dead():
    process = subprocess.Popen(["sleep", "60"])
    started = holder.started_at(process.pid)
    assert not holder.is_dead(name_of(process.pid, started))
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert holder.is_dead(name_of(process.pid, started))
    process.wait()


@pytest.mark.parametrize(
    "name",
    [
        "",
        "garbage",
        "other-host|b|pid:[1]|1|1",
        "|".join([*holder.own_name().split("|")[:2], "pid:[1]", "999999", "1"]),
        "|".join([*holder.own_name().split("|")[:3], "x", "1"]),
        holder.own_name(),
    ],
    ids=["nothing", "garbage", "another-host", "another-namespace", "no-process-id", "living"],
)
def test_holder_of_which_nothing_is_known_is_not_called_dead(name):
    assert not holder.is_dead(name)


async def test_start_takes_a_lease_that_fell_silent_after_the_grace(database, schema_url):
    await put(schema_url, "far|away|pid:[1]|1|1", age_s=60)
    assert await take_at_start(database) == 2


async def test_start_refuses_a_living_lease_and_says_who_has_it(database, schema_url):
    await put(schema_url, "trading-box|boot|pid:[1]|4711|99")
    with pytest.raises(StartupError, match=r"process 4711 on trading-box\); stop it first"):
        await take_at_start(database, wait_s=0.01)
    assert (await database.run(lease.read)).epoch == 1


async def test_standby_takes_the_lease_once_it_is_released(database, schema_url):
    await put(schema_url, "far|away|pid:[1]|1|1")
    looks, epochs = [], []
    candidate = leadership.Candidate(SystemClock())

    async def see(held):
        looks.append(held.epoch)
        if len(looks) == 2:
            await database.run(lambda c: lease.release(c, epoch=1))

    with trio.fail_after(20):
        seen = await candidate.wait(database, on_wait=see)
        epochs.append((await candidate.take(database, seen)).epoch)
    assert (looks, epochs) == ([1, 1], [2])


async def test_take_whose_answer_was_lost_is_recognised_as_ones_own(database, schema_url, monkeypatch):
    real, lost = lease.take, []

    async def take_and_lose(connection, **arguments):
        epoch = await real(connection, **arguments)
        if not lost:
            # the commit goes through; its answer is what is lost
            await connection.execute("COMMIT")
            lost.append(epoch)
            connection.terminate()
            raise ConnectionResetError
        return epoch

    monkeypatch.setattr(lease, "take", take_and_lose)
    assert await take_at_start(database, wait_s=10) == 1
    assert lost == [1]


async def test_engine_that_stands_still_in_a_transaction_keeps_nobody_from_taking_the_lease(
    schema_url, aio, monkeypatch
):
    held_s = float(SESSION["idle_in_transaction_session_timeout"].removesuffix("s"))
    assert held_s < leadership.SILENT_S
    monkeypatch.setitem(SESSION, "idle_in_transaction_session_timeout", "300ms")
    stopped, standby = Database(schema_url), Database(schema_url)
    await stopped.open()
    await standby.open()
    epoch = await standby.run(lambda c: lease.take(c, holder="a", seen=None))
    seen = await standby.run(lease.read)
    ended = []

    async def stand_still(connection):
        await lease.check(connection, epoch=epoch)
        await asyncio.sleep(2)
        await connection.fetchval("SELECT 1")

    async def stop():
        try:
            await stopped.run(stand_still)
        except StoreUnavailable:
            ended.append(True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop)
        await trio.sleep(0.1)
        assert await standby.run(lambda c: lease.take(c, holder="b", seen=seen), timeout_s=1.5) == epoch + 1
        assert not ended
    assert ended
    await stopped.close()
    await standby.close()
