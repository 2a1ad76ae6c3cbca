"""The command line: one file per group of commands."""

import gc

# what importing makes stays: looking it over again and again would be an eighth of a command's start
gc.disable()

from engine.cli.root import main  # noqa: E402

gc.freeze()
gc.enable()

__all__ = ["main"]
