"""The keeper of daily backups, wired: what is copied, and where to."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from engine.actors.audit_writer import AuditWriter
from engine.actors.backup_keeper import BackupKeeper
from engine.backup import latest
from engine.backup.config_view import without_secrets
from engine.backup.job import run_backup
from engine.backup.making import Source
from engine.backup.off_box import take_off
from engine.clock import Clock
from engine.config import Config
from engine.security.keys import Keys
from engine.security.root_key import sealed_root


def daily_backups(
    config: Config,
    data_dir: Path,
    *,
    keys: Keys,
    database_url: str,
    redis_url: str,
    ledger: AuditWriter,
    clock: Clock,
    alert: Callable[[str, str], None],
) -> BackupKeeper | None:
    """Return the keeper, None where no backups are asked for; *database_url* is that of the tables' owner."""
    wanted = config.backup
    if not wanted.dir:
        return None
    source = Source(
        database_url=database_url,
        redis_url=redis_url,
        data_dir=data_dir,
        root=keys.master,
        master=keys.master,
        key_files={},
        mode=config.broker.mode,
        config=without_secrets(config),
    )

    def now() -> Source:
        # asked each time: a change of keys wraps the root anew
        sealed = sealed_root(data_dir / "keys", keys.master, keys.keks)
        return msgspec.structs.replace(source, root_sealed=sealed)

    def last() -> datetime | None:
        known = latest.last(data_dir)
        return None if known is None else known.at

    return BackupKeeper(
        Path(wanted.dir).absolute(),
        wanted.time,
        wanted.keep,
        make=lambda target: run_backup(target, now()),
        made=lambda target, at: latest.note(data_dir, target, at),
        last=last,
        old_after=timedelta(hours=wanted.old_after_h),
        take_off=(lambda target: take_off(wanted.after, target)) if wanted.after else None,
        taken_off=lambda fault: latest.copied(data_dir, fault),
        ledger=ledger,
        clock=clock,
        alert=alert,
    )
