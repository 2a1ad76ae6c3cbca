"""The thread that writes log lines, so that a full or slow disk never holds up or kills trading.

Putting a line never waits: when the queue is at its bound the line is dropped and counted. Lines are written some
twenty times a second, errors at once: waking the thread for each line would cost the thread that trades more than
the line does. When writing fails, lines are counted as lost, error lines go to stderr as the last resort, and the
next line tries again.
"""

import threading
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from queue import SimpleQueue

from engine.observability.log_file import KINDS, LogFile, first_kept, prune, write_all

MAX_LINES = 20_000
MAX_BYTES = 32 * 1024 * 1024
MAX_FILE_BYTES = 512 * 1024 * 1024
_BATCH = 1000
_COMPANY_S = 0.05
_NOTICE_EVERY_S = 60.0


class _Entry:
    """Lines for the files of one day: ``kind`` is app, error (of those both) or audit; ``make`` gives the lines."""

    __slots__ = ("count", "day", "kind", "make", "size")

    def __init__(self, day: date, kind: str, make: bytes | Callable[[], bytes], *, count: int, size: int) -> None:
        self.day = day
        self.kind = kind
        self.make = make
        self.count = count
        self.size = size

    def lines(self) -> bytes:
        return self.make if isinstance(self.make, bytes) else self.make()


class LogWriter:
    """Appends lines to ``app-<day>.log``, error lines to ``error-<day>.log`` too, in *directory*.

    Those of audit records go to ``audit/audit-<day>.log``; a file beyond *max_file_bytes* is followed by another.
    *mirror_fd* gets every line but the audit's as well, through *readable* if that is given. Files older than
    *retention_days* are deleted at start and when the day changes.
    """

    def __init__(
        self,
        directory: Path,
        retention_days: int,
        *,
        mirror_fd: int | None = None,
        readable: Callable[[bytes], bytes] | None = None,
        last_resort_fd: int = 2,
        max_lines: int = MAX_LINES,
        max_bytes: int = MAX_BYTES,
        max_file_bytes: int = MAX_FILE_BYTES,
    ) -> None:
        self._directory = directory
        self._retention_days = retention_days
        self._mirror_fd = mirror_fd
        self._readable = readable
        self._last_resort_fd = last_resort_fd
        self._max_lines = max_lines
        self._max_bytes = max_bytes
        self._queue: SimpleQueue[_Entry | threading.Event | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._urgent = threading.Event()
        self._waiting_bytes = 0
        self._is_closed = False
        self._files = {
            kind: LogFile(kind, directory / "audit" if kind == "audit" else directory, max_bytes=max_file_bytes)
            for kind in KINDS
        }
        self._pruned_on: date | None = None
        self._reported = 0
        self._noticed_at = -_NOTICE_EVERY_S
        self.dropped = 0
        self.lost = 0
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, day: date, line: bytes, *, is_error: bool) -> None:
        """Queue *line* (with its newline) for the files of *day*, or drop and count it. Never waits."""
        self._put(_Entry(day, "error" if is_error else "app", line, count=1, size=len(line)))

    def put_audit(self, day: date, make: Callable[[], bytes], *, count: int, size: int) -> None:
        """Queue *count* lines of about *size* bytes for the audit file of *day*; *make* gives them, in the thread."""
        self._put(_Entry(day, "audit", make, count=count, size=size))

    def _put(self, entry: _Entry) -> None:
        with self._lock:
            is_full = self._queue.qsize() >= self._max_lines or self._waiting_bytes + entry.size > self._max_bytes
            if is_full or self._is_closed:
                self.dropped += entry.count
                return
            self._waiting_bytes += entry.size
        self._queue.put(entry)
        if entry.kind == "error":
            self._urgent.set()

    def flush(self, timeout_s: float) -> bool:
        """Wait until what was put before is written; False if *timeout_s* passed first."""
        done = threading.Event()
        self._queue.put(done)
        self._urgent.set()
        return done.wait(timeout_s)

    def close(self, timeout_s: float) -> bool:
        """Write what waits and end the thread; False if *timeout_s* passed first. Later lines are dropped."""
        with self._lock:
            was_closed, self._is_closed = self._is_closed, True
        if not was_closed:
            self._queue.put(None)
            self._urgent.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # in the thread

    def _run(self) -> None:
        is_over = False
        while not is_over:
            item = self._queue.get()
            if self._queue.qsize() < _BATCH:
                self._urgent.wait(_COMPANY_S)
            self._urgent.clear()
            batch: list[_Entry] = []
            flushed: list[threading.Event] = []
            while True:
                if item is None:
                    is_over = True
                elif isinstance(item, threading.Event):
                    flushed.append(item)
                else:
                    batch.append(item)
                if is_over or len(batch) >= _BATCH or self._queue.empty():
                    break
                item = self._queue.get()
            self._write_batch(batch)
            for event in flushed:
                event.set()
        for file in self._files.values():
            file.close()

    def _write_batch(self, batch: Sequence[_Entry]) -> None:
        with self._lock:
            self._waiting_bytes -= sum(entry.size for entry in batch)
        for day in sorted({entry.day for entry in batch}):
            self._prune(day)
            of_day = [entry for entry in batch if entry.day == day]
            lines = [entry.lines() for entry in of_day if entry.kind != "audit"]
            errors = [entry.lines() for entry in of_day if entry.kind == "error"]
            lost_now = self.dropped + self.lost
            if lost_now > self._reported:
                lines.append(b'{"level":"warning","event":"log_lines_lost","total":%d}\n' % lost_now)
            if self._append("app", day, lines):
                self._reported = max(self._reported, lost_now)
            else:
                self._complain(errors)
            self._append("error", day, errors)
            self._append_audit(day, [entry for entry in of_day if entry.kind == "audit"])
        self._mirror([entry.lines() for entry in batch if entry.kind != "audit"])

    def _append(self, kind: str, day: date, lines: list[bytes]) -> bool:
        if not lines:
            return True
        try:
            self._files[kind].append(day, b"".join(lines))
        except OSError:
            if kind == "app":
                self.lost += len(lines)
            return False
        return True

    def _append_audit(self, day: date, entries: Sequence[_Entry]) -> None:
        made: list[bytes] = []
        count = 0
        for entry in entries:
            try:
                made.append(entry.lines())
                count += entry.count
            except Exception:  # a record that cannot be shown must not end the thread of all logs
                self.lost += entry.count
        if not self._append("audit", day, made):
            self.lost += count

    def _complain(self, errors: list[bytes]) -> None:
        lines = [] if self._mirror_fd == self._last_resort_fd else list(errors)
        if time.monotonic() - self._noticed_at >= _NOTICE_EVERY_S:
            self._noticed_at = time.monotonic()
            lines.append(b'{"level":"error","event":"log_files_cannot_be_written","lost":%d}\n' % self.lost)
        self._show(self._last_resort_fd, b"".join(lines))

    def _mirror(self, lines: list[bytes]) -> None:
        if self._mirror_fd is not None:
            shown = lines if self._readable is None else [self._readable(line) for line in lines]
            self._show(self._mirror_fd, b"".join(shown))

    @staticmethod
    def _show(fd: int, payload: bytes) -> None:
        try:
            write_all(fd, payload)
        except OSError:
            pass  # nobody reads the terminal or pipe; the files are the record

    def _prune(self, today: date) -> None:
        if self._pruned_on == today:
            return
        self._pruned_on = today
        oldest = first_kept(today, self._retention_days)
        for folder in {file.folder for file in self._files.values()}:
            try:
                prune(folder, oldest)
            except OSError:
                pass  # tried again at the next change of day; the audit's folder may not be there yet
