"""What the one file runs: the engine, or one of the two programs that the engine starts out of itself."""

import os
import runpy
import sys
from pathlib import Path

from engine.runtime.own_program import CHILD, LAUNCH


def start() -> None:
    """Do what the first argument says; anything else is a command of the engine."""
    # the bundle's own libraries are for this process alone: servers and other programs are to find theirs
    before = os.environ.pop("LD_LIBRARY_PATH_ORIG", None)
    os.environ.pop("LD_LIBRARY_PATH", None)
    if before:
        os.environ["LD_LIBRARY_PATH"] = before
    # and what the loader left for itself: an engine that this one starts is to find its libraries anew
    for name in [name for name in os.environ if name.startswith("_PYI_")]:
        del os.environ[name]
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    if word == LAUNCH:
        # by path, as without a bundle: to import its package would cost each server's start half a second
        del sys.argv[1]
        runpy.run_path(str(Path(sys.executable).parent / "_internal/engine/embedded/launch.py"), run_name="__main__")
    if word == CHILD:
        os.nice(int(sys.argv[2]))
        del sys.argv[1:3]
    from engine.cli.root import main

    main()


if __name__ == "__main__":
    start()
