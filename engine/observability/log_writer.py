"""The thread that writes log lines, so that a full or slow disk never holds up or kills trading.

Putting a line never waits: when the queue is at its bound the line is dropped and counted. When writing
fails, lines are counted as lost, error lines go to stderr as the last resort, and the next line tries again.
"""

import os
import re
import threading
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from queue import SimpleQueue

MAX_LINES = 20_000
MAX_BYTES = 32 * 1024 * 1024
_BATCH = 1000
_NOTICE_EVERY_S = 60.0
_FILE_NAME = re.compile(r"(?:app|error)-(\d{4}-\d{2}-\d{2})\.log")

Entry = tuple[date, bool, bytes]


class LogWriter:
    """Appends lines to ``app-<day>.log``, error lines to ``error-<day>.log`` too, in *directory*.

    *mirror_fd* gets every line as well, through *readable* if that is given. Files older than
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
    ) -> None:
        self._directory = directory
        self._retention_days = retention_days
        self._mirror_fd = mirror_fd
        self._readable = readable
        self._last_resort_fd = last_resort_fd
        self._max_lines = max_lines
        self._max_bytes = max_bytes
        self._queue: SimpleQueue[Entry | threading.Event | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._waiting_bytes = 0
        self._is_closed = False
        self._files: dict[str, tuple[date, int]] = {}
        self._torn: set[str] = set()
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
        with self._lock:
            is_full = self._queue.qsize() >= self._max_lines or self._waiting_bytes + len(line) > self._max_bytes
            if is_full or self._is_closed:
                self.dropped += 1
                return
            self._waiting_bytes += len(line)
        self._queue.put((day, is_error, line))

    def flush(self, timeout_s: float) -> bool:
        """Wait until what was put before is written; False if *timeout_s* passed first."""
        done = threading.Event()
        self._queue.put(done)
        return done.wait(timeout_s)

    def close(self, timeout_s: float) -> bool:
        """Write what waits and end the thread; False if *timeout_s* passed first. Later lines are dropped."""
        with self._lock:
            was_closed, self._is_closed = self._is_closed, True
        if not was_closed:
            self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # in the thread

    def _run(self) -> None:
        is_over = False
        while not is_over:
            item = self._queue.get()
            batch: list[Entry] = []
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
        for _, fd in self._files.values():
            os.close(fd)
        self._files.clear()

    def _write_batch(self, batch: list[Entry]) -> None:
        with self._lock:
            self._waiting_bytes -= sum(len(line) for _, _, line in batch)
        for day in sorted({day for day, _, _ in batch}):
            self._prune(day)
            lines = [line for at, _, line in batch if at == day]
            errors = [line for at, is_error, line in batch if at == day and is_error]
            lost_now = self.dropped + self.lost
            if lost_now > self._reported:
                lines.append(b'{"level":"warning","event":"log_lines_lost","total":%d}\n' % lost_now)
            if self._append("app", day, lines):
                self._reported = max(self._reported, lost_now)
            else:
                self._complain(errors)
            self._append("error", day, errors)
        self._mirror([line for _, _, line in batch])

    def _append(self, prefix: str, day: date, lines: list[bytes]) -> bool:
        if not lines:
            return True
        payload = b"".join(lines)
        try:
            fd = self._open(prefix, day)
            if prefix in self._torn:
                payload = b"\n" + payload
            _write_all(fd, payload)
        except OSError:
            if prefix == "app":
                self.lost += len(lines)
            # Part of a line may be on disk: the next write starts a new one, in a file opened anew.
            self._torn.add(prefix)
            self._shut(prefix)
            return False
        self._torn.discard(prefix)
        return True

    def _open(self, prefix: str, day: date) -> int:
        known = self._files.get(prefix)
        if known is not None and known[0] == day:
            return known[1]
        self._shut(prefix)
        path = self._directory / f"{prefix}-{day.isoformat()}.log"
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._files[prefix] = (day, fd)
        return fd

    def _shut(self, prefix: str) -> None:
        known = self._files.pop(prefix, None)
        if known is not None:
            try:
                os.close(known[1])
            except OSError:
                pass  # a delayed write error at close: the lines count as lost already

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
            _write_all(fd, payload)
        except OSError:
            pass  # nobody reads the terminal or pipe; the files are the record

    def _prune(self, today: date) -> None:
        if self._pruned_on == today:
            return
        self._pruned_on = today
        oldest = (today - timedelta(days=self._retention_days)).isoformat()
        try:
            for path in self._directory.iterdir():
                match = _FILE_NAME.fullmatch(path.name)
                if match is not None and match[1] < oldest:
                    path.unlink(missing_ok=True)
        except OSError:
            pass  # tried again at the next change of day


def _write_all(fd: int, payload: bytes) -> None:
    view = memoryview(payload)
    while view:
        view = view[os.write(fd, view) :]
