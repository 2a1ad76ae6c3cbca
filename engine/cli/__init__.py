"""The command line: one file per group of commands."""

from engine.cli.root import main

__all__ = ["main"]
