"""Run the engine, and on demand write down what the official package has done to its process.

Once the file LOOK_AT exists, what is seen is written as JSON beside it, with the suffix .seen.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from engine.cli.root import main


def look() -> dict[str, object]:
    """What Twisted would have left behind, had anybody started it."""
    reactor = sys.modules.get("twisted.internet.reactor")
    return {
        "package": "kiteconnect" in sys.modules,
        "running": bool(getattr(reactor, "running", False)),
        "started": bool(getattr(reactor, "_started", False)),
        "pool": getattr(reactor, "threadpool", None) is not None,
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "handlers": sorted(
            {getattr(signal.getsignal(number), "__module__", None) or "" for number in signal.valid_signals()}
        ),
    }


def watch(path: Path) -> None:
    while not path.exists():
        time.sleep(0.02)
    seen = path.with_suffix(".new")
    seen.write_text(json.dumps(look()))
    seen.replace(path.with_suffix(".seen"))


if __name__ == "__main__":
    threading.Thread(target=watch, args=(Path(os.environ["LOOK_AT"]),), daemon=True, name="watcher").start()
    main()
