"""This machine, looked at: keys, disk, memory, clock, backups."""

import ctypes
import os
import shutil
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from engine.backup import latest
from engine.config import Config
from engine.domain import day_checks
from engine.domain.day_checks import BackupFacts, Seen
from engine.security.keys import load_or_create

_TIMEX_BYTES = 512
_NOT_KEPT = 5


def keys(settings: Config, folder: Path) -> Seen:
    """See that the keys are there and nobody else may read them. Raises StartupError, ConfigError with the mend."""
    security = settings.security
    if security.master_key is None and not (folder / "keys").exists():
        return day_checks.ok("none yet; the first start makes them")
    load_or_create(
        master_key=security.master_key,
        jwt_secret=security.jwt_secret,
        data_dir=folder,
        previous=security.master_key_previous,
    )
    return day_checks.ok("present, readable by you alone")


def disk(folder: Path, samples: Sequence[tuple[datetime, int]] = ()) -> Seen:
    """See what is free where the data is, by the pace of earlier *samples*."""
    place = existing(folder)
    return day_checks.disk(free(folder), str(place), writable=os.access(place, os.W_OK), samples=samples)


def free(folder: Path) -> int:
    """Return the bytes free where *folder* is, or will be."""
    return shutil.disk_usage(existing(folder)).free


def existing(folder: Path) -> Path:
    """Return *folder*, or the nearest one above it that there is."""
    while not folder.exists():
        folder = folder.parent
    return folder


def memory() -> Seen:
    """See how much memory is to be had (proc(5), MemAvailable)."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        (found,) = (int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError):
        return day_checks.memory(None)
    return day_checks.memory(found)


def clock(now: datetime, suspect: str | None = None) -> Seen:
    """See whether the clock is sane and kept right."""
    return day_checks.clock(now, suspect=suspect, is_kept=_is_kept())


def _is_kept() -> bool | None:
    """Whether the kernel's clock is synchronised (adjtimex(2) answers TIME_ERROR when it is not)."""
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _NOT_KEPT


def backup(settings: Config, folder: Path, now: datetime) -> Seen:
    """See how old the last backup is, and whether it is there still."""
    wanted, known = settings.backup, latest.last(folder)
    facts = None
    if known is not None:
        facts = BackupFacts(
            file=known.file,
            at=known.at,
            is_there=Path(known.file).exists(),
            proved_at=known.proved_at,
            copy_fault=known.copy_fault,
        )
    return day_checks.backup(
        facts,
        wanted=wanted.dir,
        at=wanted.at,
        old_after=timedelta(hours=wanted.old_after_h),
        now=now,
        live=settings.broker.mode == "kite",
    )
