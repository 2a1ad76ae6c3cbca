"""How the engine starts itself again: out of a Python with packages, or out of the one file that holds both.

Built as one file (`engine.packaging`), ``sys.executable`` is the engine and takes no ``-c`` and no script; it has two
words of its own instead, which its entry understands before anything of the engine is imported.
"""

import sys
from pathlib import Path

LAUNCH = "--own-launch"
CHILD = "--own-child"

# The engine of this very process, from wherever it was imported, and nothing of its folder or its environment.
_PROGRAM = (
    "import os, sys; os.nice(int(sys.argv.pop(1))); sys.path.insert(0, sys.argv.pop(1)); "
    "from engine.cli.root import main; main()"
)


def is_one_file() -> bool:
    """Whether this process runs out of the one file, without a Python of its own."""
    return bool(getattr(sys, "frozen", False))


def launcher(script: str, order: str) -> list[str]:
    """Return the argv that runs the launcher *script* of the embedded servers with its one argument *order*."""
    if is_one_file():
        return [sys.executable, LAUNCH, order]
    return [sys.executable, "-I", "-S", script, order]


def engine_command(arguments: tuple[str, ...], *, niceness: int = 0) -> list[str]:
    """Return the argv of ``engine *arguments*``; it gives way to other programs by *niceness*, 0 to 19."""
    if is_one_file():
        return [sys.executable, CHILD, str(niceness), *arguments]
    root = str(Path(__file__).resolve().parents[2])
    return [sys.executable, "-c", _PROGRAM, str(niceness), root, *arguments]
