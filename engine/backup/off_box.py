"""Taking a backup off the box: a command of the operator's, run for each file."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import trio

_DEADLINE_S = 3600.0
_SHOWN = 300


async def take_off(command: Sequence[str], file: Path) -> str:
    """Run *command* for *file* (its words may have ``{file}`` and ``{name}``), no shell; return "" or why it failed."""
    words = [word.replace("{file}", str(file)).replace("{name}", file.name) for word in command]
    try:
        with trio.fail_after(_DEADLINE_S):
            done = await trio.run_process(words, stdin=b"", capture_stdout=True, stderr=subprocess.STDOUT, check=False)
    except OSError as error:
        return f"{words[0]}: {error.strerror or error}"
    except trio.TooSlowError:
        return f"{words[0]} took longer than {_DEADLINE_S / 60:.0f} minutes"
    if done.returncode == 0:
        return ""
    said = " ".join((done.stdout or b"").decode("utf-8", "replace").split())[-_SHOWN:]
    return f"{words[0]} ended with {done.returncode}: {said or 'no word'}"
