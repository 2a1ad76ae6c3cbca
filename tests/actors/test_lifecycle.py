import os
import signal

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from engine.errors import ConfigError
from engine.runtime.lifecycle import Drain, SignalWatcher, StepOutcome


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_first_signal_drains_and_second_cancels_the_root(nursery, number):
    with trio.CancelScope() as root:
        watcher = SignalWatcher(root)
        await nursery.start(watcher.run)
        os.kill(os.getpid(), number)
        with trio.fail_after(10):
            await watcher.draining.wait()
        assert not root.cancel_called
        os.kill(os.getpid(), signal.SIGTERM)
        with trio.fail_after(10):
            await trio.sleep_forever()
    assert root.cancelled_caught


async def test_signal_after_a_requested_drain_cancels_the_root(nursery):
    with trio.CancelScope() as root:
        watcher = SignalWatcher(root)
        await nursery.start(watcher.run)
        watcher.request_drain("operator")
        watcher.request_drain("operator again")
        assert watcher.draining.is_set()
        assert not root.cancel_called
        os.kill(os.getpid(), signal.SIGINT)
        with trio.fail_after(10):
            await trio.sleep_forever()
    assert root.cancelled_caught


async def test_drain_runs_steps_in_the_order_added(autojump_clock):
    done = []
    drain = Drain()

    def step(name):
        async def run():
            await trio.sleep(1)
            done.append(name)

        return run

    for name in ("close intake", "finish in-flight", "close stores"):
        drain.add(name, step(name), 5)
    report = await drain.run()
    assert done == ["close intake", "finish in-flight", "close stores"]
    assert report.is_clean
    assert report.took_s == 3
    assert [step.took_s for step in report.steps] == [1, 1, 1]


async def test_drain_step_that_overruns_or_fails_is_named_and_the_next_runs(autojump_clock):
    async def fail():
        async with trio.open_nursery():
            raise ConnectionError("already gone")

    async def finish():
        await trio.lowlevel.checkpoint()

    drain = Drain()
    drain.add("slow", trio.sleep_forever, 2)
    drain.add("broken", fail, 2)
    drain.add("last", finish, 2)
    report = await drain.run()
    assert [step.outcome for step in report.steps] == [StepOutcome.OVERRAN, StepOutcome.FAILED, StepOutcome.DONE]
    assert report.steps[1].error == "ConnectionError: already gone"
    assert report.overran == ("slow",)
    assert not report.is_clean


async def test_drain_is_bounded_in_total(autojump_clock):
    drain = Drain(total_s=5)
    for name in "abc":
        drain.add(name, trio.sleep_forever, 4)
    report = await drain.run()
    assert trio.current_time() == 5
    assert [step.outcome for step in report.steps] == [StepOutcome.OVERRAN, StepOutcome.OVERRAN, StepOutcome.SKIPPED]
    assert report.overran == ("a", "b", "c")


@pytest.mark.parametrize("total_s", [0, -1, 15.1])
def test_drain_total_out_of_bounds_is_refused(total_s):
    with pytest.raises(ConfigError, match="total_s"):
        Drain(total_s=total_s)


@pytest.mark.parametrize("shield", [True, False])
async def test_drain_in_a_cancelled_scope_runs_only_when_shielded(autojump_clock, shield):
    done = []

    async def step():
        await trio.sleep(1)
        done.append(True)

    drain = Drain()
    drain.add("step", step, 5)
    with trio.CancelScope() as scope:
        scope.cancel()
        await drain.run(shield=shield)
    assert done == ([True] if shield else [])


async def test_cancel_cuts_a_running_drain_short(nursery, autojump_clock):
    scope = trio.CancelScope()
    drain = Drain()
    drain.add("slow", trio.sleep_forever, 10)

    async def run():
        with scope:
            await drain.run()

    async with trio.open_nursery() as inner:
        inner.start_soon(run)
        await wait_all_tasks_blocked()
        scope.cancel()
    assert trio.current_time() == 0
    assert scope.cancelled_caught
