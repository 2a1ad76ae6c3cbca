import threading
import time

import pytest
import trio
from structlog.testing import capture_logs

from engine.runtime.watchdog import Watchdog


class FakeTime:
    """A machine clock that runs with trio's test clock, plus what a blocking call adds."""

    def __init__(self):
        self.added_ns = 0

    def __call__(self):
        return int(trio.current_time() * 1e9) + self.added_ns


async def test_watchdog_counts_and_tells_stalls_over_the_limit(nursery, autojump_clock):
    clock, stalls = FakeTime(), []
    watchdog = Watchdog(on_stall=stalls.append, watch_stacks=False, now_ns=clock)
    await nursery.start(watchdog.run)
    await trio.sleep(1.01)
    assert watchdog.snapshot().stalls == 0
    with capture_logs() as logs:
        for added_ms in (90, 300):
            clock.added_ns += added_ms * 1_000_000
            await trio.sleep(0.1)
    snapshot = watchdog.snapshot()
    assert (snapshot.stalls, snapshot.beats) == (1, 24)
    assert snapshot.max_ms == pytest.approx(300, abs=0.01)
    assert snapshot.last_ms == pytest.approx(0, abs=0.01)
    assert stalls == [pytest.approx(0.3, abs=1e-5)]
    assert [(line["event"], line["stalls"]) for line in logs] == [("event_loop_stalled", 1)]
    nursery.cancel_scope.cancel()


async def test_watchdog_recent_maximum_forgets_old_stalls(nursery, autojump_clock):
    clock = FakeTime()
    watchdog = Watchdog(interval_s=1, watch_stacks=False, now_ns=clock)
    await nursery.start(watchdog.run)
    clock.added_ns += 500_000_000
    await trio.sleep(30.5)
    assert watchdog.snapshot().recent_max_ms == pytest.approx(500, abs=0.01)
    await trio.sleep(60)
    snapshot = watchdog.snapshot()
    assert snapshot.recent_max_ms == pytest.approx(0, abs=0.01)
    assert snapshot.max_ms == pytest.approx(500, abs=0.01)
    nursery.cancel_scope.cancel()


async def test_watchdog_names_the_blocking_call_and_its_thread_ends(nursery):
    stalled = trio.Event()
    watchdog = Watchdog(interval_s=0.01, stall_s=0.05, on_stall=lambda _: stalled.set())
    with capture_logs() as logs:
        await nursery.start(watchdog.run)
        await trio.sleep(0.02)
        time.sleep(0.4)  # noqa: ASYNC251 -- the stall under test
        with trio.fail_after(10):
            await stalled.wait()
    stacks = [line["stack"] or "" for line in logs if line["event"] == "event_loop_stalled"]
    assert any("time.sleep(0.4)" in stack for stack in stacks)
    threads = [thread for thread in threading.enumerate() if thread.name == "watchdog"]
    nursery.cancel_scope.cancel()
    with trio.CancelScope(shield=True), trio.fail_after(10):
        for thread in threads:
            await trio.to_thread.run_sync(thread.join)


async def test_watchdog_before_its_first_beat_has_an_empty_snapshot():
    snapshot = Watchdog().snapshot()
    assert (snapshot.beats, snapshot.stalls, snapshot.max_ms, snapshot.last_ms) == (0, 0, 0, 0)
