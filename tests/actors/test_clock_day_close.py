"""Day closes: at 15:35 and 23:55 IST every executor is told, once."""

from datetime import UTC, datetime
from types import SimpleNamespace
from uuid import uuid4

import trio

from engine.actors.audit_writer import AuditWriter
from engine.actors.clock import ClockActor
from engine.actors.journal_progress import JournalProgress
from engine.actors.kill_gate import KillFileLook
from engine.actors.killswitch_file import KillFile
from engine.actors.killswitch_guardian import KillSwitchGuardian
from engine.domain.killswitch import KillSwitches
from engine.journal.store import JournalStore
from engine.security.kill_seal import KillSeal
from tests.support.desk import TrioClock
from tests.support.memory_store import MemoryStore


class Closings:
    """An executor that only notes when it is told."""

    def __init__(self, clock: TrioClock) -> None:
        self._clock = clock
        self.at: list[str] = []

    def close_day(self) -> None:
        self.at.append(self._clock.now().strftime("%d %H:%M"))

    def wake(self) -> None:
        return None


async def test_executors_are_told_at_each_day_close_once(autojump_clock, tmp_path):
    clock = TrioClock(datetime(2026, 11, 18, 10, 4, 30, tzinfo=UTC))  # 15:34:30 IST
    executors = {uuid4(): Closings(clock) for _ in range(2)}
    ledger = AuditWriter(MemoryStore(), epoch=1)  # type: ignore[arg-type]
    kill_file = KillFile(tmp_path / "kill.wal")
    guardian = KillSwitchGuardian(
        switches=KillSwitches(),
        file=kill_file,
        ledger=ledger,
        clock=clock,
        on_change=lambda: None,
        seal=KillSeal(b"m" * 32),
    )
    actor = ClockActor(
        clock=clock,
        ingest=SimpleNamespace(progress=JournalProgress()),  # type: ignore[arg-type]
        ledger=ledger,
        journal=JournalStore("unix:///none.sock"),
        journal_epoch=uuid4(),
        kill_look=KillFileLook(kill_file, guardian.adopt),
        crew=SimpleNamespace(executors=executors),  # type: ignore[arg-type]
    )

    async def tick(seconds: float, *, asleep_s: float = 0) -> list[list[str]]:
        clock.step += asleep_s
        with trio.move_on_after(seconds):
            await actor.run()
        return [each.at for each in executors.values()]

    assert await tick(20) == [[]] * 2
    assert await tick(120) == [["18 10:05"]] * 2
    assert await tick(5, asleep_s=8 * 3600) == [["18 10:05"]] * 2, "23:36 IST"
    assert await tick(1200) == [["18 10:05", "18 18:25"]] * 2
    # a machine that slept over two of them: one comparison does for both
    told = await tick(5, asleep_s=30 * 3600)
    assert [(len(at), at[-1][:2]) for at in told] == [(3, "20")] * 2
