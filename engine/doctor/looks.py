"""Looks made one after another, each with a deadline: what cannot be looked at is a failed check, not an exception."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from pathlib import Path

import structlog
import trio

from engine.clock import Clock
from engine.config import Config
from engine.doctor import box, reach
from engine.doctor.edges import certificate, outbound, running_user
from engine.doctor.egress import order_address
from engine.doctor.telegram import telegram
from engine.domain.day_checks import Check, Seen, check, fail, ok
from engine.errors import EngineError

_log = structlog.get_logger(__name__)

_LOOK_S = 22.0

Look = Callable[[], Awaitable[Seen]]

# where an error does not say how it is mended, this does
_MENDS = {
    "keys": "put the keys back, mode 0600, owned by the engine's user",
    "database": "start PostgreSQL, or correct [database] url",
    "migrations": "start PostgreSQL, or correct [database] url",
    "journal": "start Valkey, or correct [redis] url",
    "orderAddress": "see broker.kite.local_address and ipv4_only",
    "telegram": "see [telegram]",
}


async def look(code: str, of: Look, now: datetime) -> Check:
    """Make one look."""
    try:
        with trio.fail_after(_LOOK_S):
            seen = await of()
    except (EngineError, OSError, trio.TooSlowError) as error:
        text = " ".join(str(error).split()) or f"no answer within {_LOOK_S:.0f} s"
        seen = fail(text, _MENDS.get(code, "see what was found"))
    except Exception as error:
        # a fault in a look is no reason to end the engine that is looked at
        _log.exception("doctor.fault", code=code)
        seen = fail(f"the look itself failed: {type(error).__name__}", "see the log, and report the fault")
    return check(code, seen, now)


def worded(of: Callable[[], Awaitable[str]]) -> Look:
    """Return a look that is well when *of* returns what it saw, and failed when it raises."""

    async def seen() -> Seen:
        return ok(await of())

    return seen


def in_thread(of: Callable[[], Seen]) -> Look:
    """Return a look that reads files, off the event loop."""
    return lambda: trio.to_thread.run_sync(of)


def of_the_box(config: Config, folder: Path, clock: Clock) -> Mapping[str, Look]:
    """Return the looks that need neither stores nor a running engine, by their codes."""
    return {
        "keys": in_thread(lambda: box.keys(config, folder)),
        "memory": in_thread(box.memory),
        "backup": in_thread(lambda: box.backup(config, folder, clock.now())),
        "orderAddress": worded(lambda: order_address(config)),
        "certificate": in_thread(lambda: ok(certificate(config, clock))),
        "outbound": in_thread(lambda: ok(outbound(config))),
        "user": in_thread(lambda: ok(running_user())),
        "telegram": worded(lambda: telegram(config)),
        "publicUrl": lambda: reach.public_url(config),
    }
