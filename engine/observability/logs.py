"""Structured logs: one JSON object per line, secrets starred, written by a thread of their own.

Use ``structlog.get_logger(__name__)`` and name the event in snake_case with its facts as keywords. What
belongs to one request or intent is bound once: ``with bound(request_id=…):``. The audit record is not a
log; it lives in the ledger.
"""

import json
import logging
import os
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Any

import msgspec
import structlog
from structlog.contextvars import bound_contextvars

from engine.clock import IST, Clock, SystemClock, trading_day
from engine.errors import ConfigError
from engine.observability.log_writer import LogWriter
from engine.observability.redaction import escape_controls, redact_mapping

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_ERROR_LEVELS = frozenset({"error", "critical"})
# Third-party loggers write URLs and headers at lower levels.
_FOREIGN_LEVEL = logging.WARNING

_encoder = msgspec.json.Encoder(enc_hook=str)


@contextmanager
def bound(**ids: str) -> Iterator[None]:
    """Put *ids* (``request_id``, ``intent_id``, …) on every line logged within, in this task and its children."""
    with bound_contextvars(**ids):
        yield


class Logging:
    """The logs of this process, from `configure` until `close`."""

    def __init__(self, writer: LogWriter, foreign: logging.Handler) -> None:
        self._writer = writer
        self._foreign = foreign

    @property
    def dropped(self) -> int:
        """Lines dropped because the queue was full."""
        return self._writer.dropped

    @property
    def lost(self) -> int:
        """Lines that could not be written to their file."""
        return self._writer.lost

    def flush(self, timeout_s: float = 2.0) -> bool:
        """Wait until everything logged so far is written; False if *timeout_s* passed first."""
        return self._writer.flush(timeout_s)

    def close(self, timeout_s: float = 2.0) -> bool:
        """Write what waits and stop; False if *timeout_s* passed first. Blocks the calling thread that long."""
        logging.getLogger().removeHandler(self._foreign)
        structlog.reset_defaults()
        return self._writer.close(timeout_s)


def configure(
    directory: Path,
    level: str,
    retention_days: int,
    *,
    stderr: bool,
    clock: Clock | None = None,
) -> Logging:
    """Send all logs of *level* and above to ``app-<IST day>.log`` and ``error-<IST day>.log`` in *directory*.

    With *stderr* they are shown there too, readable on a terminal, as JSON otherwise. Warnings of other
    libraries' standard loggers are included. Raises `ConfigError` for an unknown level or a directory
    that cannot be made.
    """
    if level not in LEVELS:
        raise ConfigError(f"logging.level: {level!r} is not one of {', '.join(LEVELS)}")
    if retention_days < 1:
        raise ConfigError(f"logging.retention_days: must be at least 1, got {retention_days}")
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigError(f"logging.dir: cannot make {directory}: {exc.strerror}") from exc
    readable = as_readable if stderr and os.isatty(2) else None
    writer = LogWriter(directory, retention_days, mirror_fd=2 if stderr else None, readable=readable)
    writer.start()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            _Renderer(clock or SystemClock()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=_PipeFactory(writer),
        cache_logger_on_first_use=False,
    )
    foreign = _ForeignHandler(_FOREIGN_LEVEL)
    logging.getLogger().addHandler(foreign)
    return Logging(writer, foreign)


def render(event: Mapping[str, Any], instant: datetime) -> bytes:
    """Return *event* as one JSON line, redacted; whatever the values are, this does not fail."""
    stamp = instant.isoformat(timespec="microseconds").replace("+00:00", "Z")
    line: dict[str, Any] = {"timestamp": stamp}
    try:
        line = line | redact_mapping(event) | line
        text = _encoder.encode(line).decode()
    except Exception as exc:  # a value whose __str__ fails, a lone surrogate, a number too large
        try:
            text = json.dumps(line, default=repr)
        except Exception:
            text = json.dumps({"timestamp": stamp, "level": "error", "event": "log_line_failed", "error": repr(exc)})
    return f"{escape_controls(text)}\n".encode()


def as_readable(line: bytes) -> bytes:
    """Return a JSON line as ``12:30:01.123 WARNING event key=value``, in IST, for a terminal."""
    try:
        event = msgspec.json.decode(line, type=dict[str, Any])
        instant = datetime.fromisoformat(event.pop("timestamp")).astimezone(IST)
    except (msgspec.DecodeError, KeyError, ValueError):
        return line
    level, name = str(event.pop("level", "")).upper(), event.pop("event", "")
    trace = event.pop("exception", None)
    facts = "".join(f" {key}={_plain(value)}" for key, value in event.items())
    text = escape_controls(f"{instant:%H:%M:%S}.{instant.microsecond // 1000:03d} {level:<8}{name}{facts}")
    if trace is not None:
        text += "".join(f"\n    {escape_controls(row)}" for row in str(trace).splitlines())
    return f"{text}\n".encode(errors="backslashreplace")


def _plain(value: Any) -> str:
    return value if isinstance(value, str) and value and " " not in value else json.dumps(value, default=str)


class _Renderer:
    """The last processor: turns the event into (day, line, is_error) for the pipe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def __call__(
        self, logger: Any, _method: str, event: MutableMapping[str, Any]
    ) -> tuple[tuple[date, bytes, bool], dict[str, Any]]:
        instant = self._clock.now()
        if logger.name:
            event.setdefault("logger", logger.name)
        line = render(event, instant)
        return (trading_day(instant), line, event.get("level") in _ERROR_LEVELS), {}


class _Pipe:
    """What structlog calls in the end: every method puts the line."""

    __slots__ = ("_writer", "name")

    def __init__(self, writer: LogWriter, name: str) -> None:
        self._writer = writer
        self.name = name

    def msg(self, day: date, line: bytes, is_error: bool) -> None:
        self._writer.put(day, line, is_error=is_error)

    debug = info = warning = error = critical = exception = fatal = log = msg


class _PipeFactory:
    def __init__(self, writer: LogWriter) -> None:
        self._writer = writer

    def __call__(self, *names: str) -> _Pipe:
        return _Pipe(self._writer, names[0] if names else "")


class _ForeignHandler(logging.Handler):
    """Passes records of the standard library's loggers on to ours."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except (TypeError, ValueError):
            text = str(record.msg)
        level = max((known for known in LEVELS.values() if known <= record.levelno), default=logging.DEBUG)
        structlog.get_logger().log(level, text, logger=record.name, exc_info=record.exc_info)
