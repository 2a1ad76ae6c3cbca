"""``engine instruments``: freeze quantities from a file, with the engine running or stopped."""

from pathlib import Path
from typing import Annotated, Any

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
from engine.clock import SystemClock, trading_day
from engine.config import Config
from engine.domain.audit import AuditDraft
from engine.domain.freeze import DEFAULTS, FreezeFault, FreezeTable, freeze_list
from engine.errors import EngineError
from engine.http.views.instruments import freeze_view
from engine.store import lease
from engine.store.audit_append import append
from engine.store.database import Database
from engine.store.freeze import freeze_quantities, replace_freeze
from engine.store.migrate import migrate

app = typer.Typer(no_args_is_help=True, help="Freeze quantities: the largest single orders that exchanges take.")

FileArgument = Annotated[
    Path,
    typer.Argument(
        metavar="FILE", help="CSV with the columns exchange, symbol (or underlying) and quantity.", dir_okay=False
    ),
]


@app.command("freeze")
def freeze(file: FileArgument, config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Set them, in place of the list that was set before; what was learned from refusals stays unless named."""
    try:
        text = file.read_text(encoding="utf-8")
        rows = freeze_list(text, as_of=trading_day(SystemClock().now()))
    except UnicodeDecodeError as error:
        raise EngineError(f"{file}: save it as UTF-8") from error
    except FreezeFault as fault:
        raise EngineError(f"{file}: {fault}") from fault
    settings, folder = config_of(config), data_dir_of(data_dir)

    async def ask() -> dict[str, Any] | None:
        return await call(folder, {"command": "freeze-set", "csv": text})

    answer = trio.run(ask)
    if answer is not None and "error" in answer:
        raise EngineError(str(answer["error"]))
    if answer is None:
        now = SystemClock().now()

        async def unit(connection: Any) -> None:
            held = await lease.read(connection)
            if held is not None and not held.released and held.age_s < LIFE_S:
                raise EngineError("an engine works on these stores, but not in this data directory: ask that one")
            for write in replace_freeze(rows, at=now):
                await connection.execute(write.sql, *write.args)
            content = {"quantities": [f"{row.exchange}:{row.symbol} {row.quantity}" for row in rows]}
            await append(
                connection, AuditDraft(at=now, actor="cli", action="FREEZE_SET", subject="freeze", content=content)
            )

        _run(unit, settings, folder)
    say(f"{len(rows)} freeze quantities set")


@app.command("freeze-list")
def freeze_list_command(config: ConfigOption = None, data_dir: DataDirOption = None, json: JsonOption = False) -> None:
    """List them, those built in and those learned included."""
    kept = _run(freeze_quantities, config_of(config), data_dir_of(data_dir))
    rows = sorted(FreezeTable([*DEFAULTS, *kept]), key=lambda row: (row.exchange, row.symbol))
    if json:
        say_json([freeze_view(row) for row in rows])
        return
    say_table(
        ("Exchange", "Symbol", ">Freeze quantity", "From", "As of"),
        [(row.exchange, row.symbol, row.quantity, row.origin, row.as_of) for row in rows],
        plain=[f"{row.exchange:<4} {row.symbol:<20} {row.quantity:>10}  {row.origin:<8} {row.as_of}" for row in rows],
    )


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
