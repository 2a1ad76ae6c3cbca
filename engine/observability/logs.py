"""Structured logs: one JSON object per line, secrets starred, written by a thread of their own.

Use ``structlog.get_logger(__name__)`` and name the event in snake_case with its facts as keywords. What
belongs to one request or intent is bound once: ``with bound(request_id=…):``. The audit record is not a
log; it lives in the ledger.
"""

import json
import logging
import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import date, datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal
from uuid import UUID

import msgspec
import structlog

from engine.clock import IST, Clock, SystemClock, trading_day
from engine.domain.audit import AuditRecord
from engine.errors import ConfigError
from engine.observability.log_writer import MAX_FILE_BYTES, LogWriter
from engine.observability.redaction import escape_controls, may_hold_secret, redact_mapping

LEVELS = {"debug": 10, "info": 20, "warn": 30, "warning": 30, "error": 40, "critical": 50}
_ERROR_LEVELS = frozenset({"error", "critical"})
# yellow, red, white on red; grey for what only a developer reads
_COLOURS = {"DEBUG": "90", "WARNING": "33", "ERROR": "31", "CRITICAL": "97;41"}
Console = Literal["auto", "readable", "json", "off"]
# Third-party loggers write URLs and headers at lower levels.
_FOREIGN_LEVEL = logging.WARNING

_encoder = msgspec.json.Encoder(enc_hook=str)
_current: "list[Logging]" = []


NO_IDS: Mapping[str, Any] = MappingProxyType({})
IDS: ContextVar[Mapping[str, Any]] = ContextVar("engine_log_ids", default=NO_IDS)
"""What stands on every line of this task and its children: ``request_id``, ``intent_id``, ``order_id``.

Setting it is one assignment: it is done for every signal. The values become text only where a line is logged.
"""
_MOST_REQUESTS = 20_000
_requests: OrderedDict[UUID, str] = OrderedDict()


@contextmanager
def bound(**ids: str) -> Iterator[None]:
    """Put *ids* (``request_id``, ``intent_id``, …) on every line logged within, in this task and its children."""
    token = IDS.set({**IDS.get(), **ids})
    try:
        yield
    finally:
        IDS.reset(token)


def note_intents(intents: Iterable[UUID], request_id: str | None) -> None:
    """Remember which request brought *intents*: it stands on their lines from now on, of whichever actor."""
    if request_id is None:
        return
    for intent_id in intents:
        _requests[intent_id] = request_id
    while len(_requests) > _MOST_REQUESTS:
        _requests.popitem(last=False)


def _add_ids(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    ids = IDS.get()
    for name, value in ids.items():
        if value is not None:
            event.setdefault(name, str(value))
    request_id = _requests.get(ids["intent_id"]) if "intent_id" in ids else None
    if request_id is not None:
        event.setdefault("request_id", request_id)
    return event


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

    def audit(self, records: Sequence[AuditRecord]) -> None:
        """Copy audit records that are on disk in the store to the audit file of their day; never waits."""
        size = sum(len(record.content) + 300 for record in records)
        day = trading_day(records[-1].at)
        self._writer.put_audit(day, partial(_audit_lines, records), count=len(records), size=size)

    def flush(self, timeout_s: float = 2.0) -> bool:
        """Wait until everything logged so far is written; False if *timeout_s* passed first."""
        return self._writer.flush(timeout_s)

    def close(self, timeout_s: float = 2.0) -> bool:
        """Write what waits and stop; False if *timeout_s* passed first. Blocks the calling thread that long."""
        if self in _current:
            _current.remove(self)
        logging.getLogger().removeHandler(self._foreign)
        structlog.reset_defaults()
        return self._writer.close(timeout_s)


def configure(
    directory: Path,
    level: str,
    retention_days: int,
    *,
    console: Console = "auto",
    max_file_bytes: int = MAX_FILE_BYTES,
    clock: Clock | None = None,
) -> Logging:
    """Send all logs of *level* and above to ``app-<IST day>.log`` and ``error-<IST day>.log`` in *directory*.

    *console* is what stderr shows of them: ``readable`` lines, coloured on a terminal unless NO_COLOR is set, ``json``
    lines, nothing (``off``), or what fits: readable on a terminal and nothing elsewhere (``auto``). Warnings of other
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
    is_terminal = os.isatty(2)
    if console == "auto":
        console = "readable" if is_terminal else "off"
    has_colours = is_terminal and not os.environ.get("NO_COLOR")
    writer = LogWriter(
        directory,
        retention_days,
        mirror_fd=None if console == "off" else 2,
        readable=partial(as_readable, coloured=has_colours) if console == "readable" else None,
        max_file_bytes=max_file_bytes,
    )
    writer.start()
    structlog.configure(
        processors=[
            _add_ids,
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
    configured = Logging(writer, foreign)
    _current.append(configured)
    return configured


def current() -> Logging | None:
    """Return the logs of this process, None where nobody has set them up."""
    return _current[-1] if _current else None


def copy_audit(records: Sequence[AuditRecord]) -> None:
    """Copy audit records to this process's audit file, if it has logs. Never waits, never raises."""
    logs = current()
    if logs is None or not records:
        return
    try:
        logs.audit(records)
    except Exception:
        # a copy: the ledger that calls must not feel it
        structlog.get_logger(__name__).exception("audit.not_copied")


def lines_lost() -> int:
    """Return how many lines this process's logs could not write or had no room for."""
    logs = current()
    return 0 if logs is None else logs.dropped + logs.lost


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


def _audit_lines(records: Sequence[AuditRecord]) -> bytes:
    # nearly always all of a batch may be shown as it stands: asked once for all
    is_open = not may_hold_secret("".join([record.content for record in records]))
    return "".join([_audit_text(record, is_open=is_open) for record in records]).encode(errors="backslashreplace")


def audit_line(record: AuditRecord) -> bytes:
    """Return an audit record as one JSON line with its place in the chain; what looks like a secret is starred.

    Contents hold none by rule, and nearly all of them nothing that looks like one: those are taken as they stand.
    """
    return _audit_lines((record,))


def _audit_text(record: AuditRecord, *, is_open: bool) -> str:
    content = record.content
    if not is_open and may_hold_secret(content):
        content = _encoder.encode(redact_mapping(msgspec.json.decode(content, type=dict[str, Any]))).decode()
    head = {
        "timestamp": record.at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "seq": record.seq,
        "actor": record.actor,
        "action": record.action,
        "subject": record.subject,
    }
    text = f'{_encoder.encode(head).decode()[:-1]},"content":{content},"hash":"{record.hash.hex()}"}}'
    # JSON in ASCII has every control character escaped but DEL
    return (text if text.isascii() and "\x7f" not in text else escape_controls(text)) + "\n"


def as_readable(line: bytes, *, coloured: bool = False) -> bytes:
    """Return a JSON line as ``12:30:01.123 WARNING event key=value``, in IST, for a terminal; *coloured* by level."""
    try:
        event = msgspec.json.decode(line, type=dict[str, Any])
        instant = datetime.fromisoformat(event.pop("timestamp")).astimezone(IST)
    except (msgspec.DecodeError, KeyError, ValueError):
        return line
    level, name = str(event.pop("level", "")).upper(), event.pop("event", "")
    trace = event.pop("exception", None)
    facts = "".join(f" {key}={_plain(value)}" for key, value in event.items())
    text = escape_controls(f"{instant:%H:%M:%S}.{instant.microsecond // 1000:03d} {level:<8}{name}{facts}")
    if coloured and level in _COLOURS:
        text = f"\x1b[{_COLOURS[level]}m{text}\x1b[0m"
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
