"""Daily backups: one file a day, tried again when it fails, told to a person, and only as many kept as wanted."""

import os
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from engine.actors.backup_keeper import BackupKeeper, due_name, outdated

AT = time(2, 30)
BEFORE, AFTER = datetime(2026, 11, 23, 20, 59, tzinfo=UTC), datetime(2026, 11, 23, 21, 0, tzinfo=UTC)


class Clock:
    def __init__(self, now: datetime) -> None:
        self._began = now

    def now(self) -> datetime:
        return self._began + timedelta(seconds=trio.current_time() - self._zero)

    def start(self) -> None:
        self._zero = trio.current_time()

    def boottime_ns(self) -> int:
        return 0


class Ledger:
    def __init__(self) -> None:
        self.actions: list[str] = []

    def record(self, draft: Any) -> None:
        self.actions.append(draft.action)


class Done(msgspec.Struct):
    why: str = ""
    size: int = 1
    rows: int = 1


def test_a_day_begins_at_the_time_of_its_backup_in_india() -> None:
    assert due_name(BEFORE, AT) == "engine-2026-11-23.backup"
    assert due_name(AFTER, AT) == "engine-2026-11-24.backup"


def test_only_the_oldest_daily_files_are_beyond_what_is_kept() -> None:
    names = [f"engine-2026-11-{day:02}.backup" for day in (3, 1, 2)]
    assert outdated([*names, "by-hand.backup", "engine.toml"], 2) == ["engine-2026-11-01.backup"]
    assert outdated(names, 3) == []


async def test_one_file_a_day_and_what_fails_is_told_and_tried_again(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def here(work: Any, *arguments: Any) -> Any:
        # a clock that jumps would not wait for a thread
        return work(*arguments)

    monkeypatch.setattr(trio.to_thread, "run_sync", here)
    tries: list[str] = []
    alerts: list[str] = []
    noted: list[Path] = []
    copies: list[str] = []
    clock, ledger = Clock(BEFORE), Ledger()
    (tmp_path / "engine-2026-11-20.backup").touch()

    async def make(target: Path) -> Done:
        tries.append(target.name)
        if len(tries) == 1:
            return Done(why="the disk is full")
        target.write_bytes(b"")  # noqa: ASYNC240 -- the clock jumps
        return Done()

    async def take_off(target: Path) -> str:
        copies.append(target.name)
        return "no route" if len(copies) == 1 else ""

    keeper = BackupKeeper(
        tmp_path,
        AT,
        2,
        make=make,
        made=lambda target, _at: noted.append(target),
        last=lambda: None,
        old_after=timedelta(hours=23),
        take_off=take_off,
        ledger=ledger,  # type: ignore[arg-type]
        clock=clock,
        alert=lambda _subject, text: alerts.append(text),
    )
    clock.start()
    with trio.move_on_after(86_400):
        await keeper.run()
    # the first fails; an hour later it is the next day's turn
    assert tries == ["engine-2026-11-23.backup", "engine-2026-11-24.backup"]
    assert [text.partition(":")[0] for text in alerts] == ["BACKUP_FAILED", "BACKUP_NOT_COPIED", "BACKUP_OLD"]
    assert copies == ["engine-2026-11-24.backup"] * 2
    assert "the disk is full" in alerts[0]
    assert ledger.actions[:2] == ["BACKUP_MADE", "BACKUP_COPIED"]
    assert noted == [tmp_path / "engine-2026-11-24.backup"]
    assert sorted(os.listdir(tmp_path)) == ["engine-2026-11-20.backup", "engine-2026-11-24.backup"]


@pytest.mark.parametrize("keep", [1, 2])
def test_the_newest_is_never_outdated(keep: int) -> None:
    assert outdated(["engine-2026-11-24.backup"], keep) == []
