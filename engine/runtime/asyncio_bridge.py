"""The only crossing between trio and asyncio (asyncpg and redis live on the other side).

Open the loop once, outermost. Cross once per unit of work, with a function that is asyncio through and
through: asyncio delivers a cancel once, so the unit's ``async with`` exits (rollback, release) run, which
they do not if each statement crosses by itself. Never call trio from the asyncio side; callbacks there
may only set a flag.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar, TypeVarTuple

import structlog
import trio
import trio_asyncio

from engine.errors import EngineError, Unavailable

Args = TypeVarTuple("Args")
T = TypeVar("T")
LoopContext = dict[str, Any]

_log = structlog.get_logger(__name__)

# Reports about objects whose owner has noticed already, or is gone: nothing is left to be decided.
BENIGN_MESSAGES = (
    "Unclosed ",  # redis: a client collected without aclose()
    "Fatal read error on socket transport",
    "Fatal write error on socket transport",
    "Fatal error on SSL transport",
    "Task was destroyed but it is pending!",
)


class BridgeCancelled(Unavailable):
    """The unit of work was cancelled on the asyncio side (pool closing, connection lost): outcome not known."""


class BridgeNotOpen(EngineError):
    """No asyncio loop runs here: open_aio() must be around this task."""


def is_benign(context: LoopContext) -> bool:
    """Whether an asyncio error report is one of `BENIGN_MESSAGES`."""
    return str(context.get("message", "")).startswith(BENIGN_MESSAGES)


@asynccontextmanager
async def open_aio(on_error: Callable[[LoopContext], None]) -> AsyncIterator[None]:
    """Run an asyncio loop inside trio for the body.

    An exception nobody fetched (orphan task, failed callback) would end the whole process; here it is
    logged, and *on_error* is called with asyncio's report (``message``, ``exception``, …) unless it is
    benign. *on_error* is called in the loop's thread and must not wait; if it fails, that is logged.
    """

    def report(_loop: object, context: LoopContext) -> None:
        error = context.get("exception")
        message = str(context.get("message", ""))
        if is_benign(context):
            _log.warning("asyncio_report", message=message, error=repr(error))
            return
        _log.error("asyncio_error", message=message, exc_info=error)
        try:
            on_error(context)
        except Exception:
            _log.exception("asyncio_error_callback_failed", message=message)

    async with trio_asyncio.open_loop() as loop:
        loop.set_exception_handler(report)
        yield


async def run_aio(fn: Callable[[*Args], Awaitable[T]], *args: *Args, timeout_s: float, shield: bool = False) -> T:
    """Run one unit of work, an asyncio function, and return what it returns.

    Raises `trio.TooSlowError` after *timeout_s* seconds, `BridgeCancelled` if something cancelled it on
    the asyncio side, `BridgeNotOpen`, else what *fn* raised (the adapter translates driver errors). A unit
    that finishes although it was cancelled has its result returned. *shield* holds off cancellation
    until done or *timeout_s*: for writes, whose outcome a cancel would leave unknown. After a timeout the
    outcome of a write is not known: read it back by its key. The unit's own clean-up runs to its end
    first, so its waits need deadlines of their own.
    """
    if trio_asyncio.current_loop.get() is None:
        raise BridgeNotOpen("no asyncio loop here: open_aio() must be entered around this task")
    try:
        with trio.fail_after(timeout_s, shield=shield):
            result: T = await trio_asyncio.aio_as_trio(fn)(*args)
            return result
    except asyncio.CancelledError as exc:
        raise BridgeCancelled("the unit of work was cancelled on the asyncio side") from exc
