"""``engine backup`` and ``engine restore``: a sealed copy of everything, and the way back."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import trio
import typer

from engine.backup import latest
from engine.backup.checking import Checked, check, check_schema, header_of
from engine.backup.config_view import without_secrets
from engine.backup.job import serve
from engine.backup.making import Progress, Source, make_backup
from engine.backup.parts import Manifest
from engine.backup.restoring import Restorer, check_key, check_place, empty_again, put_keys
from engine.boot import prove_keys
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
from engine.cli.terminal import progress
from engine.cli.trial import alone, dry_start, throwaway
from engine.clock import SystemClock
from engine.config import Config, decode_key
from engine.data_dir import lock_data_dir
from engine.domain.audit import AuditDraft
from engine.errors import EngineError
from engine.security.keys import Keys
from engine.security.root_key import root_in, root_is_kept, sealed_root, write_root
from engine.security.sealed_file import FileKey, Header, SealedFileError
from engine.store import audit_append
from engine.store.database import Database
from engine.store.directory import Vault
from engine.store.restored import Restored

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The backup.", dir_okay=False)]
PassphraseOption = Annotated[
    bool, typer.Option("--passphrase-stdin", help="Seal or open it with the passphrase in the first line of stdin.")
]


def backup(
    words: Annotated[list[Path], typer.Argument(metavar="FILE", help="The backup; after `verify` one that is there.")],
    verify: Annotated[bool, typer.Option("--verify", help="Make nothing: read FILE to its end and prove it.")] = False,
    with_keys: Annotated[
        bool, typer.Option("--with-keys", help="Put the keys inside too; needs --passphrase-stdin.")
    ] = False,
    passphrase_stdin: PassphraseOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """Copy everything into FILE, with the engine running or stopped; never over a file that is there.

    It holds the database, the journal, the kill switch, the paper exchange's record and the configuration without its
    secrets, sealed under the master key. The keys are not inside: keep a copy of them apart, without them the file
    opens for nobody. `engine backup verify FILE` makes none: it restores FILE into a folder that it removes
    again, checks rows and audit chain, and starts an engine on it that reaches nobody.
    """
    file, is_trial = _file_of(words)
    settings, folder = config_of(config), data_dir_of(data_dir)
    passphrase = _passphrase() if passphrase_stdin else None
    if is_trial:
        _try(file, settings, folder, passphrase, json=json)
        return
    if verify:
        _verify(file, settings, folder, passphrase, json=json)
        return
    if with_keys and passphrase is None:
        raise typer.BadParameter("keys go into a backup only under a passphrase: add --passphrase-stdin")
    keys = _present_keys(settings, folder)
    if keys is None:
        raise EngineError(f"there are no keys in {folder / 'keys'}, so nothing to copy: start the engine first")
    sealed = sealed_root(folder / "keys", keys.master, keys.keks)
    key = FileKey(passphrase=passphrase)
    if passphrase is None:
        key = FileKey(masters=(keys.master,), root_sealed=sealed)
    clock = SystemClock()

    async def work(told: Progress) -> Manifest:
        async with open_stores(settings, folder) as stores:
            source = Source(
                database_url=stores.database_url,
                redis_url=stores.redis_url,
                data_dir=folder,
                root=keys.master,
                master=keys.master,
                key_files=_key_files(settings, folder, keys) if with_keys else {},
                root_sealed=sealed,
                mode=settings.broker.mode,
                config=without_secrets(settings),
            )
            made = await make_backup(file, source, key, with_keys=with_keys, clock=clock, progress=told)
            await _record(stores.database_url, file, made)
            return made

    with progress("copying") as advance:
        manifest = trio.run(work, lambda _what, done, of: advance(done, of))
    latest.note(folder, file, clock.now())
    _tell(file, manifest, "wrote", json=json)


def restore(
    file: FileArgument,
    passphrase_stdin: PassphraseOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """Put the backup FILE into an empty data directory, or into the empty database that is configured.

    Everything is proven before anything is touched. The engine then starts with the global kill switch on, until an
    ADMIN disables it: the engine that was lost may have traded on after the backup.
    """
    settings, folder = config_of(config), data_dir_of(data_dir)
    passphrase = _passphrase() if passphrase_stdin else None
    check_place(folder)
    checked, keys = _checked(file, settings, folder, passphrase)
    check_schema(checked.manifest)
    if keys is not None:
        check_key(checked, keys.master)
    elif checked.key_files is None:
        raise EngineError(
            f"the keys of the engine are not in the backup: put their copy into {folder / 'keys'}, or into [security]"
        )
    before = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    try:
        restored = _restore(file, settings, folder, checked, keys, passphrase)
    except BaseException:
        if folder.is_dir():
            empty_again(folder, before)
        raise
    if json:
        say_json({"file": str(file), "rows": checked.manifest.rows} | _told(restored))
        return
    for line in _words(checked.manifest, restored):
        say(line)


def backup_job() -> None:
    """Make a backup that a running engine asks for on standard input."""
    sys.stdout.buffer.write(serve(sys.stdin.buffer.read(), SystemClock()) + b"\n")
    sys.stdout.buffer.flush()


def _restore(
    file: Path, settings: Config, folder: Path, checked: Checked, keys: Keys | None, passphrase: str | None
) -> Restored:
    size = file.stat().st_size
    if keys is None:
        put_keys(folder, checked.key_files or {})
        keys = load_keys(msgspec.structs.replace(settings.security, master_key=None), folder)
        check_key(checked, keys.master)
    elif keys.master != load_keys(settings.security, folder).master:
        # the present master key alone does not tell it: what the backup brought along is kept here
        write_root(folder / "keys", keys.master, keys.keks)
    vault = Vault(keys.ring())
    restorer = Restorer(
        file,
        FileKey(masters=(keys.master,), passphrase=passphrase),
        checked,
        data_dir=folder,
        root=keys.master,
        prove=lambda database: prove_keys(database, vault),
        clock=SystemClock(),
        say=_progress_line,
        progress=lambda read: advance(read, size),
    )
    is_embedded = settings.database.is_embedded or settings.redis.is_embedded

    async def work() -> Restored:
        async with open_stores(settings, folder) as stores:
            return await restorer.run(stores.database_url, stores.redis_url)

    lock = None if is_embedded else lock_data_dir(folder)
    try:
        with progress("restoring") as advance:
            return trio.run(work)
    finally:
        if lock is not None:
            os.close(lock)


def _checked(file: Path, settings: Config, folder: Path, passphrase: str | None) -> tuple[Checked, Keys | None]:
    """Read *file* to its end with the key that it asks for; return it and the keys that are here."""
    header = header_of(file)
    keys = _with_root_of(header, _present_keys(settings, folder), folder)
    key = FileKey(masters=() if keys is None else (keys.master,), passphrase=passphrase)
    size = file.stat().st_size
    with progress("checking") as advance:
        return check(file, key, lambda read: advance(read, size)), keys


def _verify(file: Path, settings: Config, folder: Path, passphrase: str | None, *, json: bool) -> None:
    checked, _ = _checked(file, settings, folder, passphrase)
    check_schema(checked.manifest)
    _tell(file, checked.manifest, "ok:", json=json)


def _file_of(words: list[Path]) -> tuple[Path, bool]:
    """Return the file that is meant, and whether it is to be tried."""
    if len(words) == 2 and words[0] == Path("verify"):
        return words[1], True
    if len(words) != 1:
        raise typer.BadParameter("expected FILE, or verify FILE")
    return words[0], False


def _try(file: Path, settings: Config, folder: Path, passphrase: str | None, *, json: bool) -> None:
    """Restore *file* into a throwaway place and start an engine on it; remember that it was proved."""
    checked, keys = _checked(file, settings, folder, passphrase)
    check_schema(checked.manifest)
    if keys is None and checked.key_files is None:
        raise EngineError("the keys are not in the backup: try it where they are (--data-dir DIR)")
    with throwaway() as place:
        if keys is not None:
            check_key(checked, keys.master)
            put_keys(place, _key_files(settings, folder, keys))
        restored = _restore(file, alone(settings), place, checked, keys, passphrase)
        dry_start(place, checked.manifest.about.mode, _progress_line)
    latest.proved(folder, file, SystemClock().now())
    if json:
        say_json({"file": str(file), "rows": checked.manifest.rows, "started": True} | _told(restored))
        return
    say(
        f"ok: {file} was restored: {checked.manifest.rows} rows, {restored.audit_records} audit records, the chain is "
        "whole, an engine started on it; nothing of it is left"
    )


def _with_root_of(header: Header, keys: Keys | None, folder: Path) -> Keys | None:
    """Return *keys* around the root key that the backup brings along, where *folder* keeps none of its own."""
    if keys is None or not header.root_sealed or root_is_kept(folder / "keys"):
        return keys
    try:
        root = root_in(header.root, keys.keks)
    except ValueError:
        raise SealedFileError("the file is damaged: the root key in its header cannot be read") from None
    return keys if root is None else keys.with_root(root)


def _present_keys(settings: Config, folder: Path) -> Keys | None:
    """Return the engine's keys, None where none were ever made: a command makes none."""
    security = settings.security
    if security.master_key is None and not (folder / "keys" / "master.key").exists():
        return None
    return load_keys(security, folder)


def _key_files(settings: Config, folder: Path, keys: Keys) -> dict[str, bytes]:
    """Return the files of the keys folder, and those that configured keys would be."""
    kept = folder / "keys"
    found = {path.name: path.read_bytes() for path in kept.iterdir() if path.is_file()} if kept.is_dir() else {}
    for name, given in (("master.key", settings.security.master_key), ("jwt.key", settings.security.jwt_secret)):
        if given is not None:
            found[name] = decode_key(given.reveal()).hex().encode() + b"\n"
    return found


def _passphrase() -> str:
    text = sys.stdin.readline().rstrip("\r\n")
    if not text:
        raise typer.BadParameter("there is no passphrase in the first line of standard input")
    return text


async def _record(database_url: str, file: Path, manifest: Manifest) -> None:
    draft = AuditDraft(
        at=SystemClock().now(),
        actor="cli",
        action="BACKUP_MADE",
        subject=f"backup:{file.name}",
        content={
            "rows": manifest.rows,
            "auditRecords": manifest.audit_records,
            "withKeys": manifest.about.with_keys,
        },
    )
    database = Database(database_url, max_connections=1)
    await database.open(timeout_s=10)
    try:
        await audit_append.append_beside_engine(database, draft)
    finally:
        await database.close()


def _progress_line(line: str) -> None:
    print(line, file=sys.stderr)


def _tell(file: Path, manifest: Manifest, word: str, *, json: bool) -> None:
    size = file.stat().st_size
    if json:
        say_json(
            {
                "file": str(file),
                "bytes": size,
                "madeAt": manifest.about.made_at,
                "engine": manifest.about.engine,
                "schema": manifest.schema_version,
                "rows": manifest.rows,
                "auditRecords": manifest.audit_records,
                "auditHead": manifest.audit_head,
                "withKeys": manifest.about.with_keys,
            }
        )
        return
    say(
        f"{word} {file}: {size / 1e6:.1f} MB, {manifest.rows} rows of {manifest.about.made_at:%Y-%m-%d %H:%M:%S} UTC, "
        f"{manifest.audit_records} audit records, schema {manifest.schema_version}"
    )
    if not manifest.about.with_keys:
        say("the keys are not inside: keep a copy of keys/, or of the master key that is configured, apart from it")


def _told(restored: Restored) -> dict[str, Any]:
    return {
        "killSwitch": "global",
        "ordersInDoubt": restored.in_doubt,
        "ordersGivenUp": restored.given_up,
        "ordersWorking": restored.working,
        "sessionsEnded": restored.sessions_ended,
        "auditRecords": restored.audit_records,
    }


def _words(manifest: Manifest, restored: Restored) -> list[str]:
    made = f"{manifest.about.made_at:%Y-%m-%d %H:%M:%S} UTC"
    return [
        f"restored {manifest.rows} rows of {made}; {restored.audit_records} audit records, the chain is whole",
        "THE GLOBAL KILL SWITCH IS ON (RESTORED): nothing is sent until an ADMIN disables it",
        f"orders that may have been sent since: {restored.in_doubt} in doubt, {restored.given_up} given up and looked "
        f"for; {restored.working} were working at the broker: the engine compares them with the broker's book",
        "see that the engine that was lost does not run any more, then start this one, compare, and disable the switch",
        "everybody must sign in again, and programs need new API tokens; see who was disabled or lost a right since",
    ]
