"""The truth record: a file of JSON lines that is on the disk before any answer leaves.

`read_record` is the ground truth of tests. `RecordWriter` appends; requests that wait at the same
time share one fdatasync, done in a thread of its own.
"""

import fcntl
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from queue import SimpleQueue

import msgspec
import trio

from engine.exchange.config import ExchangeError
from engine.exchange.events import Event

_decoder = msgspec.json.Decoder(Event)
_encoder = msgspec.json.Encoder()


def read_record(path: Path) -> list[Event]:
    """Return the events of the record at *path*, [] when there is no file.

    A last line that was torn by a crash is left out: its answer never left. Raises ExchangeError
    naming the line for damage anywhere else.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    return _decode(path, content)[0]


class RecordWriter:
    """The open record. Use: `open`, then `run` as a task, `append` and `settled`, at the end `close`.

    With path None nothing is written and everything is settled at once.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: int | None = None
        self._waiting: list[bytes] = []
        self._arrived = trio.Event()
        # of what waits, and of what is being written; None when nothing is
        self._waiting_synced = trio.Event()
        self._underway_synced: trio.Event | None = None
        self._is_broken = False

    def open(self) -> list[Event]:
        """Open the record and return what it holds; blocks, so call it in a worker thread.

        Cuts a torn last line off. Raises ExchangeError when another exchange has the record open or it is damaged.
        """
        if self._path is None:
            return []
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            events, whole = _decode(self._path, self._path.read_bytes())
            os.ftruncate(descriptor, whole)
            os.fsync(descriptor)
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except BlockingIOError as exc:
            os.close(descriptor)
            raise ExchangeError(
                f"the record {self._path} is in use by another exchange; stop it or name another record"
            ) from exc
        except BaseException:
            os.close(descriptor)
            raise
        self._file = descriptor
        return events

    def append(self, events: Iterable[Event]) -> None:
        """Queue *events* for the next write."""
        if self._file is None:
            return
        for event in events:
            self._waiting.append(_encoder.encode(event))
        if self._waiting:
            self._arrived.set()

    async def settled(self) -> None:
        """Wait until everything appended so far is on the disk."""
        if self._waiting:
            await self._waiting_synced.wait()
        elif self._underway_synced is not None:
            await self._underway_synced.wait()

    async def run(self) -> None:
        """Write what is queued, for ever. An error of the disk ends it: nothing may be answered then."""
        thread = _WriterThread(self._write)
        try:
            while True:
                await self._arrived.wait()
                self._arrived = trio.Event()
                batch, self._waiting = self._waiting, []
                synced, self._waiting_synced = self._waiting_synced, trio.Event()
                self._underway_synced = synced
                await thread.write(batch)
                self._underway_synced = None
                synced.set()
        finally:
            thread.end()

    def close(self) -> None:
        """Write what is still queued and close the file; blocks. Call it after `run` has ended."""
        if self._file is None:
            return
        try:
            if self._waiting and not self._is_broken:
                self._write(self._waiting)
        finally:
            self._waiting = []
            os.close(self._file)
            self._file = None

    def _write(self, batch: list[bytes]) -> None:
        assert self._file is not None  # noqa: S101 -- append queues nothing without a file
        # until the write is whole: after half a line nothing may follow in this file
        self._is_broken = True
        rest = memoryview(b"\n".join(batch) + b"\n")
        while rest:
            rest = rest[os.write(self._file, rest) :]
        os.fdatasync(self._file)
        self._is_broken = False


class _WriterThread:
    """The thread that writes: at 3,000 orders a second a new job of `trio.to_thread` for each batch is dear."""

    def __init__(self, write: Callable[[list[bytes]], None]) -> None:
        self._write = write
        self._token = trio.lowlevel.current_trio_token()
        self._batches: SimpleQueue[list[bytes] | None] = SimpleQueue()
        self._done = trio.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="exchange record", daemon=True)
        self._thread.start()

    async def write(self, batch: list[bytes]) -> None:
        """Write *batch*; raises what the disk raised. A cancel waits for the end of the write."""
        self._done = trio.Event()
        self._batches.put(batch)
        # bounded by the disk, and what became of the batch must be known
        with trio.CancelScope(shield=True):
            await self._done.wait()
        if self._error is not None:
            raise self._error

    def end(self) -> None:
        """Let the thread end; nothing is being written any more."""
        self._batches.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (batch := self._batches.get()) is not None:
            try:
                self._write(batch)
            except BaseException as exc:  # to be raised where the batch came from
                self._error = exc
            self._token.run_sync_soon(self._tell)

    def _tell(self) -> None:
        self._done.set()


def _decode(path: Path, content: bytes) -> tuple[list[Event], int]:
    """Return the events of *content* and the length of the part that is whole."""
    events: list[Event] = []
    whole = 0
    lines = content.split(b"\n")
    last = len(lines) - 1 if lines[-1] else len(lines) - 2
    for number, line in enumerate(lines[: last + 1]):
        ended = number < len(lines) - 1
        try:
            if not ended:
                break
            events.append(_decoder.decode(line))
        except msgspec.DecodeError as exc:
            if number == last:
                break
            raise ExchangeError(
                f"the record {path} is damaged in line {number + 1}: {exc}; restore it or name another record"
            ) from exc
        whole += len(line) + 1
    return events, whole
