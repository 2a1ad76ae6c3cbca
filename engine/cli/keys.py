"""``engine keys``: what the stored secrets are sealed under, and changing it while the engine runs or not."""

import sys
from pathlib import Path
from typing import Annotated, Any

import trio
import typer

from engine.actors.control import call
from engine.cli.key_change import Change, KeyChange
from engine.cli.places import (
    ConfigOption,
    DataDirOption,
    JsonOption,
    config_of,
    data_dir_of,
    load_keys,
    open_stores,
    say,
    say_json,
)
from engine.cli.terminal import can_draw, progress, say_table
from engine.store import key_rotation
from engine.store.database import Database
from engine.store.migrate import migrate

app = typer.Typer(no_args_is_help=True, help="The keys that stored secrets are sealed under.")


@app.command("rotate")
def rotate(
    new_key: Annotated[
        Path | None,
        typer.Option("--new-key", help="File of the new master key, made if it is not there; for a configured key."),
    ] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """Change the master key and every data key, and seal every stored secret anew; the engine may run meanwhile.

    May be ended at any moment and run again: everything stays readable, and the next run takes up where it was. Order
    tags, kill records, the journal and the audit log stay valid.
    """
    settings, folder = config_of(config), data_dir_of(data_dir)

    async def work() -> Change:
        async with open_stores(settings, folder) as stores:
            change = KeyChange(settings, folder, stores.database_url, new_key=new_key, progress=told)
            return await change.run()

    if can_draw(sys.stderr):
        with progress("sealing anew") as told:
            done = trio.run(work)
    else:
        told = _progress
        done = trio.run(work)
    if json:
        say_json(
            {
                "masterKey": done.kek_id,
                "resealed": done.resealed,
                "retired": done.retired,
                "isFinished": done.todo == "",
                "todo": done.todo or None,
            }
        )
        return
    say(f"sealed {done.resealed} secrets anew; the master key is {done.kek_id}")
    say(done.todo or f"done: {done.retired} old data keys are gone, nothing needs the old master key any more")


@app.command("list")
def show(config: ConfigOption = None, data_dir: DataDirOption = None, json: JsonOption = False) -> None:
    """Show every key: its id, whose it is, its age, and how many records are under it."""
    _show(config, data_dir, json=json)


@app.command("status")
def status(config: ConfigOption = None, data_dir: DataDirOption = None, json: JsonOption = False) -> None:
    """Do as `list`."""
    _show(config, data_dir, json=json)


def _show(config: Path | None, data_dir: Path | None, *, json: bool) -> None:
    settings, folder = config_of(config), data_dir_of(data_dir)
    keys = load_keys(settings.security, folder)

    async def work() -> tuple[list[key_rotation.KeyRow], int, Any]:
        async with open_stores(settings, folder) as stores:
            await migrate(stores.database_url)
            database = Database(stores.database_url, max_connections=1)
            await database.open()
            try:
                rows = await database.run(key_rotation.keys)
                waiting = await database.run(key_rotation.waiting)
            finally:
                await database.close()
            return rows, waiting, await call(folder, {"command": "keys-status"})

    rows, waiting, engine = trio.run(work)
    if json:
        master = [kek.id.hex() for kek in keys.keks]
        say_json({"masterKeys": master, "waiting": waiting, "keys": rows, "engine": engine})
        return
    say("master key " + ", before it ".join(kek.id.hex() for kek in keys.keks))
    told = [(row, *_described(row)) for row in rows]
    say_table(
        ("ID", "Kind", "Whose", ">Records", ">Uses", ">Days", "Under"),
        [
            (row.id, kind, whose, row.records, row.uses, row.age_s // 86_400, ", ".join(row.kek_ids))
            for row, kind, whose in told
        ],
        plain=[
            f"{row.id}  {kind:<10}  {whose:<41}  {row.records} records, {row.uses} uses counted, "
            f"{row.age_s // 86_400} days old, under {', '.join(row.kek_ids)}"
            for row, kind, whose in told
        ],
    )
    say(f"{waiting} records wait to be sealed under today's keys" if waiting else "every record is under today's keys")


def _described(row: key_rotation.KeyRow) -> tuple[str, str]:
    """Return what a key is for, and whose it is."""
    whose = "deployment" if row.user_id.int == 0 else f"user {row.user_id}"
    return "root" if row.purpose == "root" else "seals" if row.is_active else "opens only", whose


def _progress(done: int, total: int) -> None:
    if total and done in (0, total):
        print(f"sealing anew: {done} of {total}", file=sys.stderr, flush=True)
