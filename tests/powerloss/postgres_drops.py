"""A PostgreSQL on the lossy disk, set up as the engine sets it up: what it committed, and what it has after the cut."""

import asyncio
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import trio

from engine.embedded.identity import private_directory, server_user
from engine.embedded.postgres import OWNER_ROLE, PORT, EmbeddedPostgres, binaries, database_url
from engine.embedded.process import Process, spawn
from tests.powerloss.lossy import LossyDisk

_CLIENTS = 4
_READY_WITHIN_S = 30.0
_GONE = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


@dataclass(frozen=True)
class Cut:
    """One power cut: commits that a client was told of, those of them that are gone, and what amcheck says."""

    acked: int
    lost: int
    damage: str
    forgotten_bytes: int


class _Load:
    """Clients that insert and update until the server is gone; ``acked`` holds what was committed."""

    def __init__(self, url: str, first: int) -> None:
        self.acked: dict[int, int] = {}
        self.answering = threading.Event()
        self.next_id = first
        self._url = url
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def join(self) -> None:
        self._thread.join(20)
        assert not self._thread.is_alive()

    def _work(self) -> None:
        # a plain loop: importing the engine puts trio-asyncio's in the place of asyncio's own
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(self._run())

    async def _run(self) -> None:
        await asyncio.gather(*(self._client() for _ in range(_CLIENTS)), self._checkpoints())

    async def _client(self) -> None:
        try:
            connection = await asyncpg.connect(self._url)
            while True:
                self.next_id += 1
                row = self.next_id
                await connection.execute("INSERT INTO promised VALUES ($1, 1, $2)", row, "x" * 500)
                self.acked[row] = 1
                self.answering.set()
                if row % 3 == 0:
                    await connection.execute("UPDATE promised SET version = 2 WHERE id = $1", row)
                    self.acked[row] = 2
        except _GONE:
            return

    async def _checkpoints(self) -> None:
        try:
            connection = await asyncpg.connect(self._url)
            while True:
                await asyncio.sleep(0.1)
                await connection.execute("CHECKPOINT")
        except _GONE:
            return


def commits(count: int, *, seed: int, longest_s: float = 0.4, durable: bool = True) -> list[Cut]:
    """Return *count* cuts of one server and disk, each after a random time of up to *longest_s*.

    A server that is not *durable* does not sync; the disk then forgets all, for of a part it could not start.
    """
    rng = random.Random(f"postgres {seed}")
    cuts: list[Cut] = []
    with LossyDisk() as disk:
        run_dir = disk.home / "run"
        _initialise(disk)
        acked: dict[int, int] = {}
        for number in range(count):
            disk.mount()
            with _running(disk.path / "data", run_dir, durable=durable) as server:
                if number == 0:
                    _sql(run_dir, "CREATE TABLE promised (id bigint PRIMARY KEY, version int, filler text)")
                    disk.keep()
                load = _Load(database_url(run_dir, "postgres"), max(acked, default=0))
                assert load.answering.wait(20)
                time.sleep(rng.random() * longest_s)
                seed_of_cut = rng.choice([None, rng.getrandbits(32)])
                forgotten = disk.cut([server.pid], seed=seed_of_cut if durable else None)
                load.join()
            acked |= load.acked
            disk.mount()
            with _running(disk.path / "data", run_dir, durable=durable) as server:
                rows = _sql(run_dir, "SELECT id || ' ' || version FROM promised").split("\n")
                found = dict(map(int, row.split()) for row in rows if row)
                lost = [row for row, version in acked.items() if found.get(row, 0) < version]
                cuts.append(
                    Cut(
                        acked=len(load.acked),
                        lost=len(lost),
                        damage=_amcheck(run_dir),
                        forgotten_bytes=forgotten["bytes"],
                    )
                )
                disk.cut([server.pid])
    return cuts


def _initialise(disk: LossyDisk) -> None:
    """Make a cluster on the machine's disk and copy it: initdb asks for thousands of writes."""
    draft = disk.home / "draft"
    draft.mkdir(mode=0o711)
    user = server_user(draft / "postgres")
    (draft / "postgres-log").mkdir()
    trio.run(EmbeddedPostgres(draft).initialise, user)
    (draft / "data").mkdir(mode=0o711)
    (draft / "postgres").rename(draft / "data" / "postgres")
    private_directory(disk.home / "run", user)
    disk.load(draft)


@contextmanager
def _running(data_dir: Path, run_dir: Path, *, durable: bool) -> Iterator[Process]:
    server = EmbeddedPostgres(data_dir, durable=durable)
    home = server.places.home
    (home / "postmaster.pid").unlink(missing_ok=True)
    for left in run_dir.iterdir():
        left.unlink()
    argv = [word.replace(str(server.places.socket_dir()), str(run_dir)) for word in server.command()]
    with open(run_dir.parent / "postgres.log", "ab") as log:
        process = spawn(argv, user=server_user(home), reads=server.reads(), death_signal=signal.SIGKILL, log=log)
    try:
        deadline = time.monotonic() + _READY_WITHIN_S
        while True:
            try:
                _sql(run_dir, "SELECT 1")
                break
            except subprocess.CalledProcessError:
                words = (run_dir.parent / "postgres.log").read_text()[-2000:]
                assert process.exit_code() is None, words
                assert time.monotonic() < deadline, words
                time.sleep(0.02)
        yield process
    finally:
        process.send(signal.SIGKILL)
        process.exit_code()
        process.close()


def _sql(run_dir: Path, statement: str) -> str:
    return _client(run_dir, "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", "postgres", "-c", statement)


def _amcheck(run_dir: Path) -> str:
    return _client(run_dir, "pg_amcheck", "-d", "postgres", "--install-missing", "--heapallindexed", "--table=promised")


def _client(run_dir: Path, program: str, *arguments: str) -> str:
    done = subprocess.run(
        [str(binaries() / program), "-h", str(run_dir), "-p", str(PORT), "-U", OWNER_ROLE, *arguments],
        env={"PATH": os.defpath, "PGCLIENTENCODING": "UTF8"},
        capture_output=True,
        text=True,
        timeout=60,
        check=program == "psql",
    )
    return done.stdout.strip() if done.returncode == 0 else f"{done.stdout}{done.stderr}".strip()
