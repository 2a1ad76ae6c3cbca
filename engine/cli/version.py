"""``engine version``."""

import platform

from engine import __version__
from engine.cli.places import JsonOption, say, say_json
from engine.store.migrate import latest_version


def version(json: JsonOption = False) -> None:
    """Print the versions of the engine, of Python and of the schema."""
    if json:
        say_json({"version": __version__, "python": platform.python_version(), "schema": latest_version()})
        return
    say(f"engine {__version__}, Python {platform.python_version()}, schema {latest_version()}")
