import threading
import time

import trio
from structlog.testing import capture_logs

from engine.runtime.watchdog import Watchdog


async def test_watchdog_counts_and_tells_stalls_over_the_limit(nursery, autojump_clock):
    clock, stalls = [1], []
    watchdog = Watchdog(on_stall=stalls.append, watch_stacks=False, now_ns=lambda: clock[0])
    await nursery.start(watchdog.run)
    await trio.sleep(0.1)
    assert watchdog.snapshot().stalls == 0
    with capture_logs() as logs:
        for added_ms in (90, 300, 10):
            clock[0] += added_ms * 1_000_000
            await trio.sleep(0.1)
    snapshot = watchdog.snapshot()
    assert snapshot.stalls == 1
    assert (snapshot.max_ms, snapshot.recent_max_ms) == (300, 300)
    assert stalls == [0.3]
    assert [(line["event"], line["stalls"]) for line in logs] == [("event_loop_stalled", 1)]
    nursery.cancel_scope.cancel()


def test_watchdog_recent_maximum_forgets_old_stalls():
    clock = [0]
    watchdog = Watchdog(watch_stacks=False, now_ns=lambda: clock[0])
    watchdog.after_io_wait(0)
    clock[0] += 500_000_000
    watchdog.before_io_wait(0)
    watchdog.after_io_wait(0)
    assert watchdog.snapshot().recent_max_ms == 500
    clock[0] += 61_000_000_000
    assert (watchdog.snapshot().recent_max_ms, watchdog.snapshot().max_ms) == (0, 500)


async def test_watchdog_notices_that_the_whole_process_stood_still_while_it_waited(nursery):
    clock, stalls = [0], []
    watchdog = Watchdog(on_stall=stalls.append, watch_stacks=False, now_ns=lambda: clock[0])
    await nursery.start(watchdog.run)
    watchdog.before_io_wait(1.0)
    clock[0] += 4_000_000_000
    watchdog.after_io_wait(1.0)
    assert stalls == [3.0]
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
