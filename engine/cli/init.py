"""``engine init``: a configuration file and fresh keys."""

import os
import secrets
from pathlib import Path

from engine.cli.places import data_dir_of, say
from engine.errors import StartupError

_TEXT = """\
# Configuration of the trading execution engine. Every key is described in engine.toml.example;
# what is left out has its default. Unknown keys are refused.

[server]
host = "127.0.0.1"
port = 8080

[database]
url = "embedded"    # or postgresql://user@host/database

[redis]
url = "embedded"    # or redis://host:6379/0, unix:///path/to.sock

[broker]
mode = "paper"      # or kite

[security]
master_key = "file:{keys}/master.key"
jwt_secret = "file:{keys}/jwt.key"
"""
_NAMES = ("master.key", "jwt.key")


def init() -> None:
    """Write ./engine.toml and fresh key files, readable by you alone; keys that ./.engine has already are kept."""
    config = Path("engine.toml")
    keys, kept = Path("keys"), data_dir_of(None) / "keys"
    if config.exists():
        raise StartupError(f"{config} is there already; move it away to make a fresh one")
    if all((kept / name).exists() for name in _NAMES):
        # what the data directory holds can be read with these alone
        kept = kept.relative_to(Path.cwd()) if kept.is_relative_to(Path.cwd()) else kept
        _write(config, _TEXT.format(keys=kept))
        say(f"wrote engine.toml (mode 0600) with the keys that are there, in {kept}; keep a copy of them apart")
        return
    taken = [keys / name for name in _NAMES if (keys / name).exists()]
    if taken:
        raise StartupError(f"{taken[0]} is there already; move it away to make a fresh one")
    keys.mkdir(mode=0o700, exist_ok=True)
    keys.chmod(0o700)
    for name in _NAMES:
        _write(keys / name, secrets.token_urlsafe(32) + "\n")
    _write(config, _TEXT.format(keys=keys))
    say("wrote engine.toml, keys/master.key and keys/jwt.key (mode 0600); keep a copy of keys/ apart from the data")


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
