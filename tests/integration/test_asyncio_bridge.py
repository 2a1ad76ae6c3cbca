"""Real asyncio functions through the bridge, on the real clock."""

import asyncio
import gc

import pytest
import trio
from structlog.testing import capture_logs

from engine.runtime.asyncio_bridge import BridgeCancelled, BridgeNotOpen, is_benign, open_aio, run_aio


class Faults:
    """Collects asyncio's error reports; tells when one came."""

    def __init__(self):
        self.reports = []
        self.came = trio.Event()

    def __call__(self, context):
        self.reports.append(context)
        self.came.set()


@pytest.fixture
async def faults():
    collected = Faults()
    async with open_aio(collected):
        yield collected


async def double(number):
    await asyncio.sleep(0)
    return number * 2


async def test_unit_returns_its_value(faults):
    assert await run_aio(double, 21, timeout_s=5) == 42
    assert faults.reports == []


async def test_unit_error_passes_unchanged(faults):
    async def fail():
        await asyncio.sleep(0)
        raise ConnectionResetError("peer")

    with pytest.raises(ConnectionResetError, match="peer"):
        await run_aio(fail, timeout_s=5)


@pytest.mark.parametrize("shield", [False, True])
async def test_unit_past_its_deadline_raises_and_runs_its_clean_up(faults, shield):
    cleaned = []

    async def hang():
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)  # an asyncio clean-up that waits, like a rollback
            cleaned.append(True)

    with pytest.raises(trio.TooSlowError):
        await run_aio(hang, timeout_s=0.02, shield=shield)
    assert cleaned == [True]


async def test_unit_cancelled_from_trio_runs_its_clean_up(faults, nursery):
    began, cleaned = trio.Event(), []
    scope = trio.CancelScope()

    async def hang():
        began.set()
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    async def cross():
        with scope:
            await run_aio(hang, timeout_s=60)

    async with trio.open_nursery() as inner:
        inner.start_soon(cross)
        await began.wait()
        scope.cancel()
    assert scope.cancelled_caught
    assert cleaned == [True]


async def test_shielded_unit_finishes_although_cancelled(faults):
    written = []

    async def write():
        await asyncio.sleep(0.01)
        written.append(True)
        return "committed"

    with trio.CancelScope() as scope:
        scope.cancel()
        assert await run_aio(write, timeout_s=5, shield=True) == "committed"
        await trio.lowlevel.checkpoint()
    assert written == [True]
    assert scope.cancelled_caught


async def test_unit_cancelled_on_the_asyncio_side_raises_a_typed_error(faults):
    async def cancelled_by_its_library():
        task = asyncio.current_task()
        asyncio.get_running_loop().call_soon(task.cancel)
        await asyncio.sleep(3600)

    with pytest.raises(BridgeCancelled):
        await run_aio(cancelled_by_its_library, timeout_s=5)
    assert await run_aio(double, 1, timeout_s=5) == 2


async def test_unit_that_swallows_its_cancel_has_its_result_kept(faults):
    async def stubborn():
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            return "done anyway"

    assert await run_aio(stubborn, timeout_s=0.02) == "done anyway"


async def test_orphan_task_that_fails_is_reported_and_the_loop_lives(faults):
    async def start_orphan():
        async def orphan():
            raise ValueError("nobody awaits me")

        # No name keeps the task: it is collected, and reported, once it has failed.
        asyncio.get_running_loop().create_task(orphan())
        await asyncio.sleep(0.01)

    await run_aio(start_orphan, timeout_s=5)
    gc.collect()
    with trio.fail_after(5):
        await faults.came.wait()
    assert isinstance(faults.reports[0]["exception"], ValueError)
    assert await run_aio(double, 2, timeout_s=5) == 4


async def test_callback_that_fails_is_reported_and_the_loop_lives(faults):
    async def schedule():
        def listener():
            raise trio.WouldBlock

        asyncio.get_running_loop().call_soon(listener)

    await run_aio(schedule, timeout_s=5)
    with trio.fail_after(5):
        await faults.came.wait()
    assert isinstance(faults.reports[0]["exception"], trio.WouldBlock)
    assert await run_aio(double, 2, timeout_s=5) == 4


async def test_benign_report_is_a_warning_and_not_told(faults):
    async def complain():
        asyncio.get_running_loop().call_exception_handler({"message": "Unclosed Redis client", "client": object()})

    with capture_logs() as logs:
        await run_aio(complain, timeout_s=5)
    assert faults.reports == []
    assert [(line["event"], line["log_level"]) for line in logs] == [("asyncio_report", "warning")]


@pytest.mark.parametrize(
    ("message", "benign"),
    [("Unclosed Pipeline client", True), ("Task exception was never retrieved", False), ("", False)],
)
def test_only_listed_messages_are_benign(message, benign):
    assert is_benign({"message": message}) is benign


async def test_error_callback_that_fails_does_not_end_the_loop():
    def broken(_context):
        raise RuntimeError("bug in the callback")

    async def complain():
        asyncio.get_running_loop().call_exception_handler({"message": "odd"})

    with capture_logs() as logs:
        async with open_aio(broken):
            await run_aio(complain, timeout_s=5)
            assert await run_aio(double, 3, timeout_s=5) == 6
    assert [line["event"] for line in logs] == ["asyncio_error", "asyncio_error_callback_failed"]


async def test_crossing_without_a_loop_says_so():
    with pytest.raises(BridgeNotOpen, match="open_aio"):
        await run_aio(double, 1, timeout_s=5)
