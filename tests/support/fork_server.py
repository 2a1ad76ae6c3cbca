"""Forks of one prepared process for every engine that tests start: half of a start's time is its imports.

    python -m tests.support.fork_server FD

reads jobs from the socket FD, each one datagram of JSON with the descriptors of stdin, stdout and stderr beside it,
and answers with the pid, and the exit code when the fork has ended. The process itself has run nothing and started no
thread. What it runs is a module, as ``python -m`` would: the real program, with its own arguments, folder and
environment.
"""

import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import time
import traceback
import warnings
from contextlib import suppress
from typing import Any

WHAT_A_START_IMPORTS = (
    *("engine.cli.root", "engine.cli.run", "engine.cli.exchange", "engine.app", "engine.exchange.standalone"),
    *("holidays.financial", "httpcore", "typer._adapters"),
)
"""The engine, and what it and its libraries import only while it starts."""

_MOST = 1 << 20


def prepare() -> None:
    """Import what a start imports, and keep the collectors of forks away from it: they would copy its pages."""
    for name in WHAT_A_START_IMPORTS:
        # a start works without them, only slower
        with suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()


def serve(jobs: socket.socket) -> None:
    """Fork for every job until the other side closes."""
    prepare()
    watched = selectors.DefaultSelector()
    watched.register(jobs, selectors.EVENT_READ)
    running: dict[int, int] = {}
    while True:
        for key, _ in watched.select():
            if key.fileobj is jobs:
                text, descriptors, _, _ = socket.recv_fds(jobs, _MOST, 3)
                if not text:
                    return
                pid = os.fork()
                if pid == 0:
                    _become(json.loads(text), descriptors, [jobs.fileno(), watched.fileno(), *running])
                for descriptor in descriptors:
                    os.close(descriptor)
                ended = os.pidfd_open(pid)
                running[ended] = pid
                watched.register(ended, selectors.EVENT_READ)
                jobs.send(json.dumps({"pid": pid}).encode())
            else:
                ended = key.fd
                watched.unregister(ended)
                os.close(ended)
                pid = running.pop(ended)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                jobs.send(json.dumps({"pid": pid, "code": code}).encode())


def _become(job: dict[str, Any], descriptors: list[int], others: list[int]) -> None:
    """Turn this fork into the program of *job*; does not return."""
    code = 1
    try:
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
        for descriptor in (*descriptors, *others):
            os.close(descriptor)
        sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(job["folder"])
        os.environ.clear()
        os.environ.update(job["environment"])
        time.tzset()
        if job["environment"].get("PYTHONWARNINGS") == "ignore":
            warnings.simplefilter("ignore")
        sys.argv = [job["module"], *job["arguments"]]
        runpy.run_module(job["module"], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        if isinstance(leaving.code, str):
            sys.stderr.write(f"{leaving.code}\n")
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        with suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(socket.socket(fileno=int(sys.argv[1])))
