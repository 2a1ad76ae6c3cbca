"""``engine ops``: files for whoever operates the engine, written out of the program."""

from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from engine.cli.places import say
from engine.errors import EngineError

app = typer.Typer(no_args_is_help=True, help="Files to operate the engine with: service, container, proxy, and others.")


@app.callback()
def group() -> None:
    """Files to operate the engine with."""


@app.command("export")
def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; made if it is not there.", file_okay=False)],
    force: Annotated[bool, typer.Option("--force", help="Write over files that are there.")] = False,
) -> None:
    """Write every file into DIR, each below a folder that says what it is for; never over one that is there."""
    files = dict(bundled())
    taken = [folder / name for name in files if (folder / name).exists()]
    if taken and not force:
        raise EngineError(f"{taken[0]} is there already; choose another folder, or --force")
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        # nothing secret in them, and other programs read them as other users
        path.chmod(0o644)
        say(f"wrote {path}")


def bundled() -> Iterator[tuple[PurePosixPath, bytes]]:
    """Yield every file and what it holds, by its path below the folder of all."""
    yield from _below(resources.files("engine.ops"), PurePosixPath())


def _below(folder: Traversable, at: PurePosixPath) -> Iterator[tuple[PurePosixPath, bytes]]:
    for entry in sorted(folder.iterdir(), key=lambda each: each.name):
        if entry.is_dir():
            if entry.name != "__pycache__":
                yield from _below(entry, at / entry.name)
        elif not entry.name.endswith((".py", ".pyc")):
            yield at / entry.name, entry.read_bytes()
