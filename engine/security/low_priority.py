"""Threads that give way: for work that takes a core for tens of milliseconds and that strangers can ask for.

The operating system runs them when nobody else of this process wants the core: hashing two passwords at a time
would otherwise take both cores of a small machine from the loop that sends orders (SEC-007, SEC-098). They are
threads of their own, for a thread without rights can never raise its priority again.
"""

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import trio

T = TypeVar("T")
_NICE = 15
_AT_A_TIME = 4


def _lower() -> None:
    if sys.platform == "linux":
        # on Linux the priority is the thread's own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


_threads = ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="low-priority", initializer=_lower)


async def run_low(work: Callable[[], T], *, limiter: trio.CapacityLimiter) -> T:
    """Run *work* in a thread of low priority, within *limiter*; raises what it raises. Not abandoned when cancelled."""
    return await trio.to_thread.run_sync(lambda: _threads.submit(work).result(), limiter=limiter)
