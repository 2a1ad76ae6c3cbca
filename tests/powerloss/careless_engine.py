"""``engine`` on servers that confirm before they sync: what a power cut must be seen to punish.

Run as ``python careless_engine.py run ...``. The real engine refuses such servers at its start.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from engine.__main__ import main
from engine.embedded import postgres, valkey
from engine.journal.store import JournalSettings
from engine.store.checks import DatabaseSettings


def neglect() -> None:
    """Turn syncing off in both servers, and the engine's look at it."""
    postgres.EmbeddedPostgres.__init__.__kwdefaults__["durable"] = False
    valkey._SETTINGS["appendfsync"] = "no"
    JournalSettings.problems = lambda _self: []
    DatabaseSettings.problems = lambda _self: []


if __name__ == "__main__":
    neglect()
    main()
