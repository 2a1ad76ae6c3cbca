"""``engine init``: a configuration file and fresh keys."""

import os
import secrets
from pathlib import Path

from engine.cli.places import say
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
master_key = "file:keys/master.key"
jwt_secret = "file:keys/jwt.key"
"""


def init() -> None:
    """Write ./engine.toml and fresh key files, readable by you alone."""
    config = Path("engine.toml")
    keys = Path("keys")
    taken = [path for path in (config, keys / "master.key", keys / "jwt.key") if path.exists()]
    if taken:
        raise StartupError(f"{taken[0]} is there already; move it away to make a fresh one")
    keys.mkdir(mode=0o700, exist_ok=True)
    keys.chmod(0o700)
    for name in ("master.key", "jwt.key"):
        _write(keys / name, secrets.token_urlsafe(32) + "\n")
    _write(config, _TEXT)
    say("wrote engine.toml, keys/master.key and keys/jwt.key (mode 0600); keep a copy of keys/ apart from the data")


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
