"""Threads of low priority: lower than the loop's, and errors come through."""

import os
import sys
import threading

import pytest
import trio

from engine.security.low_priority import run_low


@pytest.mark.skipif(sys.platform != "linux", reason="only there the priority is the thread's own")
async def test_sec_007_hashing_gives_way_to_the_loop() -> None:
    limiter = trio.CapacityLimiter(1)
    mine = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert await run_low(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id()), limiter=limiter) > mine
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == mine
    with pytest.raises(ZeroDivisionError):
        await run_low(lambda: 1 // 0, limiter=limiter)
