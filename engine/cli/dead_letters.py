"""``engine dead-letters``: jobs that gave up, with the engine running or stopped."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import trio
import typer

from engine.actors.control import call
from engine.actors.lease_keeper import LIFE_S
from engine.cli.places import (
    ConfigOption,
    DataDirOption,
    JsonOption,
    config_of,
    data_dir_of,
    open_stores,
    say,
    say_json,
)
from engine.cli.terminal import say_table
from engine.clock import SystemClock
from engine.config import Config
from engine.domain.dead_letter import DeadLetter, LetterQueue, LetterStatus
from engine.errors import EngineError
from engine.http.views.dead_letters import letter_detail, letter_view
from engine.store import lease
from engine.store.database import Database
from engine.store.dead_letters import decide
from engine.store.migrate import migrate
from engine.store.queries.dead_letters import LetterFilter, find, list_letters

app = typer.Typer(no_args_is_help=True, help="Jobs that gave up: look at them, take them in again, drop them.")

LetterArgument = Annotated[str, typer.Argument(metavar="ID", help="The letter, as `list` shows it.")]


@app.command("list")
def show_all(
    queue: Annotated[LetterQueue | None, typer.Option("--queue", help="Only those of one stage.")] = None,
    status: Annotated[LetterStatus | None, typer.Option("--status", help="Only those in one state.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many, newest first.")] = 200,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """List them, newest first."""
    wanted = LetterFilter(limit=limit, queue=queue, status=status)
    found: list[DeadLetter] = _read(lambda connection: list_letters(connection, wanted), config, data_dir)
    if json:
        say_json([letter_view(letter) for letter in found])
        return
    rows = [
        (letter.id, _at(letter.created_at), letter.queue, letter.kind, letter.status, letter.error) for letter in found
    ]
    say_table(
        ("ID", "At", "Queue", "Kind", "Status", "Error"),
        rows,
        plain=[f"{row[0]}  {row[1]}  {row[2]:<9} {row[3]:<10} {row[4]:<9} {row[5]}" for row in rows],
    )


@app.command("show")
def show(letter: LetterArgument, config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Show one as JSON, with its bytes and what they say."""
    letter_id = _id(letter)
    found: DeadLetter | None = _read(lambda connection: find(connection, letter_id), config, data_dir)
    if found is None:
        raise EngineError(f"there is no dead letter {letter_id}; `engine dead-letters list` shows those there are")
    say_json(letter_detail(found))


@app.command("requeue")
def requeue(letter: LetterArgument, config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Take one in again; without a running engine it is taken in at the next start."""
    _decide("dead-letter-requeue", LetterStatus.REQUEUED, _id(letter), config, data_dir)


@app.command("discard")
def discard(letter: LetterArgument, config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Drop one for good; it stays on the record."""
    _decide("dead-letter-discard", LetterStatus.DISCARDED, _id(letter), config, data_dir)


def _at(instant: datetime) -> str:
    return instant.isoformat(timespec="seconds").replace("+00:00", "Z")


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise typer.BadParameter("a letter's id looks like 018f3c5e-…", param_hint="ID") from None


def _decide(command: str, status: LetterStatus, letter_id: UUID, config: Path | None, data_dir: Path | None) -> None:
    settings, folder = config_of(config), data_dir_of(data_dir)

    async def ask() -> dict[str, Any] | None:
        return await call(folder, {"command": command, "id": str(letter_id)})

    answer = trio.run(ask)
    if answer is not None:
        if "error" in answer:
            raise EngineError(str(answer["error"]))
        say(f"{letter_id}: {answer['status']}")
        return
    now = SystemClock().now()

    async def unit(connection: Any) -> DeadLetter:
        held = await lease.read(connection)
        if held is not None and not held.released and held.age_s < LIFE_S:
            raise EngineError("an engine works on these stores, but not in this data directory: ask that one")
        return await decide(connection, letter_id, status, by="cli", at=now)

    _run(unit, settings, folder)
    later = " (no engine runs here; it is taken in at the next start)" if status is LetterStatus.REQUEUED else ""
    say(f"{letter_id}: {status.value}{later}")


def _read(unit: Any, config: Path | None, data_dir: Path | None) -> Any:
    return _run(unit, config_of(config), data_dir_of(data_dir))


def _run(unit: Any, settings: Config, folder: Path) -> Any:
    async def work() -> Any:
        async with open_stores(settings, folder) as stores:
            await migrate(stores.database_url)
            database = Database(stores.database_url, max_connections=1)
            await database.open()
            try:
                return await database.run(unit, timeout_s=10, shield=True)
            finally:
                await database.close()

    return trio.run(work)
