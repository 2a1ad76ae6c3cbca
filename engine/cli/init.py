"""``engine init``: a configuration file and fresh keys, after a few questions on a terminal."""

import os
import secrets
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from engine.cli.init_answers import Answers, configuration
from engine.cli.init_questions import ask
from engine.cli.places import data_dir_of, say
from engine.errors import StartupError

_NAMES = ("master.key", "jwt.key")


def init(
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Ask nothing and take the defaults, as without a terminal.")
    ] = False,
) -> None:
    """Write ./engine.toml and fresh key files, readable by you alone; keys that ./.engine has already are kept.

    On a terminal it asks what matters first: paper or kite, addresses, Telegram, stores. Secrets go into files of their
    own in keys/, mode 0600, never into engine.toml.
    """
    config = Path("engine.toml")
    keys, kept = Path("keys"), data_dir_of(None) / "keys"
    if config.exists():
        raise StartupError(f"{config} is there already; move it away to make a fresh one")
    are_kept = all((kept / name).exists() for name in _NAMES)
    if not are_kept:
        _refuse_taken(keys, _NAMES)
    answers = ask() if not yes and sys.stdin.isatty() and sys.stdout.isatty() else Answers()
    # what the data directory holds can be read with its own keys alone
    holds = (kept.relative_to(Path.cwd()) if kept.is_relative_to(Path.cwd()) else kept) if are_kept else keys
    text, files = configuration(answers, keys=holds)
    _refuse_taken(keys, files)
    if files or not are_kept:
        keys.mkdir(mode=0o700, exist_ok=True)
        keys.chmod(0o700)
    for name, content in files.items():
        _write(keys / name, content + "\n")
    if not are_kept:
        for name in _NAMES:
            _write(keys / name, secrets.token_urlsafe(32) + "\n")
    _write(config, text)
    if are_kept:
        say(f"wrote engine.toml (mode 0600) with the keys that are there, in {holds}; keep a copy of them apart")
    else:
        say("wrote engine.toml, keys/master.key and keys/jwt.key (mode 0600); keep a copy of keys/ apart from the data")
    for line in answers.next_steps():
        say(line)


def _refuse_taken(keys: Path, names: Iterable[str]) -> None:
    taken = [keys / name for name in names if (keys / name).exists()]
    if taken:
        raise StartupError(f"{taken[0]} is there already; move it away to make a fresh one")


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
