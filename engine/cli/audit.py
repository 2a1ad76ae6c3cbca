"""``engine audit``: proof that nobody changed the record."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import trio
import typer

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
from engine.domain.audit import GENESIS, AuditRecord, verify
from engine.store.audit_pages import page
from engine.store.database import Database

app = typer.Typer(no_args_is_help=True, help="Verify and export the audit log.")


@app.command("verify")
def verify_log(config: ConfigOption = None, data_dir: DataDirOption = None, json: JsonOption = False) -> None:
    """Prove the hash chain; names the first broken record and exits 1 if there is one."""
    settings, folder = config_of(config), data_dir_of(data_dir)

    async def work() -> tuple[int, int | None]:
        async with open_stores(settings, folder) as stores:
            count, prev, broken = 0, GENESIS, None
            database = Database(stores.database_url, max_connections=1)
            await database.open()
            try:
                while broken is None:
                    after = count
                    records = await database.run(lambda c: page(c, after_seq=after), timeout_s=60)  # noqa: B023
                    if not records:
                        break
                    broken = verify(records, prev=prev, first_seq=count + 1)
                    count += len(records)
                    prev = records[-1].hash
            finally:
                await database.close()
            return count, broken

    records, broken = trio.run(work)
    if json:
        say_json({"ok": broken is None, "records": records, "firstBroken": broken})
    elif broken is None:
        say(f"ok: {records} records, the chain is whole")
    else:
        say(f"BROKEN: record {broken} does not follow from the one before it")
    if broken is not None:
        raise typer.Exit(1)


@app.command("export")
def export(
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    output: Annotated[Path | None, typer.Option("--output", help="File to write; the terminal otherwise.")] = None,
) -> None:
    """Write every record as a line of JSON, oldest first."""
    settings, folder = config_of(config), data_dir_of(data_dir)

    async def work() -> list[AuditRecord]:
        async with open_stores(settings, folder) as stores:
            database = Database(stores.database_url, max_connections=1)
            await database.open()
            found: list[AuditRecord] = []
            try:
                while True:
                    after = found[-1].seq if found else 0
                    records = await database.run(lambda c: page(c, after_seq=after), timeout_s=60)  # noqa: B023
                    if not records:
                        return found
                    found += records
            finally:
                await database.close()

    lines = _lines(trio.run(work))
    if output is None:
        for line in lines:
            typer.echo(line)
        return
    # the log names people and what they trade: for the operator alone, also where an older file stands
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)
        file.writelines(line + "\n" for line in lines)
    say(f"wrote {output}")


def _lines(records: list[AuditRecord]) -> Iterator[str]:
    for record in records:
        row: dict[str, Any] = {
            "seq": record.seq,
            "at": record.at,
            "actor": record.actor,
            "action": record.action,
            "subject": record.subject,
            "data": msgspec.Raw(record.content.encode()),
            "prevHash": record.prev_hash.hex(),
            "hash": record.hash.hex(),
        }
        yield msgspec.json.encode(row).decode()
