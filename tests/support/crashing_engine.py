"""The real engine, made to end at a named crash point: a launcher for tests, no part of the product.

    python -m tests.support.crashing_engine PLAN.json run --port 0     one engine
    python -m tests.support.crashing_engine --serve                    engines on demand, by fork

It installs a hook with `engine.runtime.crashpoint.install` and then runs the real ``engine.__main__``. The hook
kills the process with SIGKILL, or asks it to stop with SIGTERM, at the n-th passing of one point.
``--serve`` is for speed: the modules are imported once, and every engine is a fork of that process, which has
run nothing and started no thread. It reads one job as a JSON line and answers with the pid, then the exit code.

TEST-ONLY BUILD: with ``hurry`` in the plan an order's absence is believed after a few seconds instead of
180 s (rule R), which is only right against an exchange that is known to take no order late, and the journal is
trimmed every second. It says so on stderr.
"""

import json
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from engine.runtime import crashpoint
from tests.support import crash_sabotage
from tests.support.fork_server import prepare

MADE = frozenset({"S6.mid_head", "S6.mid_body", "S6.last_byte"})
"""Points that the launcher makes itself: a part of an order's request has left the process."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Where to end: at the *hit*-th passing of *point*, counted from when the file *arm* exists, if one is named.

    *marker* is written just before. *signal* is KILL or TERM. *hurry* is the horizon of rule R in seconds.
    *bug* is one of `crash_sabotage.BUGS`.
    """

    point: str = ""
    hit: int = 1
    arm: str | None = None
    marker: str = ""
    signal: str = "KILL"
    hurry: float | None = None
    bug: str = ""


class Trigger:
    """Counts the passings of one point, and ends the process when its number is up."""

    def __init__(self, plan: Plan) -> None:
        if plan.point and plan.point not in crashpoint.POINTS | MADE:
            raise ValueError(f"there is no crash point {plan.point!r}")
        self.plan = plan
        self._left = plan.hit

    def pass_point(self, name: str) -> None:
        """The hook."""
        if name not in crashpoint.POINTS:
            raise AssertionError(f"the engine passes {name!r}, which is no crash point")
        if self.is_up(name):
            self.end()

    def is_up(self, name: str) -> bool:
        """Whether this passing is the one."""
        plan = self.plan
        if name != plan.point or self._left <= 0 or (plan.arm is not None and not os.path.exists(plan.arm)):
            return False
        self._left -= 1
        return self._left == 0

    def end(self) -> None:
        """Leave the marker and end the process."""
        if self.plan.marker:
            Path(self.plan.marker).write_text(self.plan.point)
        os.kill(os.getpid(), signal.SIGTERM if self.plan.signal == "TERM" else signal.SIGKILL)


def cut_requests(trigger: Trigger) -> None:
    """End the process when only a part of an order's request has left it."""
    from engine.broker.kite.channel import Channel

    flush = Channel.flush

    def cut(channel: Channel) -> bool:
        request = bytes(channel._pending)
        if request.startswith(b"POST /orders/") and trigger.is_up(trigger.plan.point):
            head = request.index(b"\r\n\r\n") + 4
            ends = {"S6.mid_head": head // 2, "S6.mid_body": (head + len(request)) // 2, "S6.last_byte": -1}
            channel._sock.send(request[: ends[trigger.plan.point]])
            trigger.end()
        return flush(channel)

    Channel.flush = cut  # type: ignore[method-assign]


def hurry(horizon_s: float) -> None:
    """Believe absence after *horizon_s*, and trim the journal every second."""
    from engine.actors import clock, order_watch
    from engine.domain import reconcile

    sys.stderr.write(f"TEST-ONLY BUILD: absence of an order is believed after {horizon_s:g} s. Never trade with it.\n")
    prove = reconcile.AbsenceProof.__init__

    def prove_soon(self: Any, sent_at: Any, **_: Any) -> None:
        prove(self, sent_at, horizon_s=horizon_s)

    reconcile.MIN_HORIZON_S = 0  # type: ignore[misc]
    reconcile.AbsenceProof.__init__ = prove_soon  # type: ignore[method-assign]
    order_watch._LATE_HORIZON = timedelta(seconds=1.5)  # type: ignore[misc]
    clock._TRIM_EVERY = 1  # type: ignore[misc]


def run(plan: Plan, arguments: list[str]) -> None:
    """Run the engine's program under *plan*."""
    if plan.hurry is not None:
        hurry(plan.hurry)
    if plan.bug:
        sys.stderr.write(f"TEST-ONLY BUILD with the planted bug {plan.bug}. Never trade with it.\n")
        crash_sabotage.BUGS[plan.bug]()
    trigger = Trigger(plan)
    if plan.point in MADE:
        cut_requests(trigger)
    elif plan.point:
        crashpoint.install(trigger.pass_point)
    from engine.__main__ import main

    sys.argv = ["engine", *arguments]
    main()


def serve() -> None:
    """Fork an engine for every job on stdin."""
    prepare()
    for line in sys.stdin:
        job = json.loads(line)
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            _become(job)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _become(job: dict[str, Any]) -> None:
    """Turn this fork into the engine of *job*; does not return."""
    code = 1
    try:
        os.chdir(job["folder"])
        os.environ.clear()
        os.environ.update(job["environment"])
        nothing = os.open(os.devnull, os.O_RDONLY)
        output = os.open(job["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for number, descriptor in ((0, nothing), (1, output), (2, output)):
            os.dup2(descriptor, number)
        sys.stdout = os.fdopen(1, "w", buffering=1)
        sys.stderr = os.fdopen(2, "w", buffering=1)
        sys.stdin = os.fdopen(0)
        run(msgspec.convert(job["plan"], Plan), job["arguments"])
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve()
    else:
        run(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Plan), sys.argv[2:])
