"""``engine audit``: proof that nobody changed the record."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import trio
import typer

from engine.cli.audit_proof import Proof, prove
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
from engine.cli.terminal import progress, say_mark
from engine.config import Config
from engine.domain.audit import AuditRecord
from engine.security.checkpoint_book import public_key_of
from engine.store.audit_pages import page
from engine.store.database import Database

app = typer.Typer(no_args_is_help=True, help="Verify and export the audit log.")


@app.command("verify")
def verify_log(
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
    checkpoints: Annotated[
        Path | None, typer.Option("--checkpoints", help="Folder of checkpoint files; the data directory's otherwise.")
    ] = None,
    public_key: Annotated[
        str | None,
        typer.Option("--public-key", help="Key that signed the checkpoints, in hex; otherwise this engine's."),
    ] = None,
) -> None:
    """Prove the hash chain against itself and against every signed checkpoint; exit 1 when anything is wrong.

    Names the first record that cannot be trusted, a tail that was rewritten or cut off, and files of checkpoints that
    are gone. Reads only.
    """
    settings, folder = config_of(config), data_dir_of(data_dir)
    where = checkpoints or folder / "audit"
    key = public_key or _own_public_key(settings, folder)

    async def work() -> Proof:
        async with open_stores(settings, folder) as stores:
            database = Database(stores.database_url, max_connections=1)
            await database.open()
            try:
                return await prove(database, where, key, advance)
            finally:
                await database.close()

    with progress("proving") as advance:
        proof = trio.run(work)
    if json:
        say_json(proof)
    elif proof.ok:
        say_mark("ok", f": {proof.records} records, the chain is whole{_told(proof)}", ok=True)
    else:
        if proof.first_broken is not None:
            say_mark("BROKEN", f": record {proof.first_broken} does not follow from the one before it", ok=False)
        for problem in proof.problems:
            say_mark("BROKEN", f": {problem}", ok=False)
    if not proof.ok:
        raise typer.Exit(1)


def _told(proof: Proof) -> str:
    if not proof.checkpoints:
        return "; there are no checkpoints here to prove its end by"
    return f" and agrees with {proof.checkpoints} checkpoints, signed by {proof.public_key}"


def _own_public_key(settings: Config, folder: Path) -> str | None:
    if settings.security.master_key is None and not (folder / "keys" / "master.key").exists():
        return None  # to prove something makes no keys
    return public_key_of(load_keys(settings.security, folder).audit)


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
