"""What is inside a backup: named parts in a row, and a manifest at the end that says what they must add up to.

A record is ``kind (1 byte) | length (4 bytes) | payload``: P begins a part, D is a piece of it (zlib), E ends it, M is
the manifest, which comes once and last. The file around it (`engine.security.sealed_file`) proves every byte.
"""

import hashlib
import zlib
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TypeVar

import msgspec

from engine.errors import EngineError
from engine.store.migrate import Applied

T = TypeVar("T")
FORMAT = 1
_PIECE = 1 << 18
_MAX_RECORD = 1 << 26
_LEVEL = 3

ABOUT, KEYS, JOURNAL, KILLS, CONFIG = "about", "keys", "journal", "kills", "config"
STATE, AUDIT, TABLE, EXCHANGE = "state/", "audit/", "table/", "exchange/"
"""Names of parts; those that end with a slash are followed by the name of a file or of a table."""


class BackupDamaged(EngineError):
    """What is in a backup is not what its manifest says, or cannot be read."""


class About(msgspec.Struct, frozen=True, kw_only=True):
    """The first part: what made the backup, and when (UTC)."""

    format: int
    engine: str
    made_at: datetime
    mode: str
    master_key: str
    with_keys: bool


class PartHead(msgspec.Struct, frozen=True, kw_only=True):
    """How a part begins; ``columns`` are those of a table."""

    name: str
    columns: tuple[str, ...] = ()


class PartInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a part adds up to; ``rows`` are lines of a table or entries of the journal."""

    name: str
    size: int
    sha256: str
    rows: int = 0


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What the whole adds up to. ``position`` is where the ledger of the backup stands in the journal ``epoch``."""

    about: About
    schema: tuple[Applied, ...]
    audit_records: int
    audit_head: str
    epoch: str | None
    position: str | None
    parts: tuple[PartInfo, ...]

    @property
    def schema_version(self) -> int:
        """The number of the newest migration that the rows are of."""
        return self.schema[-1].version if self.schema else 0

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(part.rows for part in self.parts if part.name.startswith(TABLE))

    def part(self, name: str) -> PartInfo | None:
        """Return what is said of a part, None when there is none of that name."""
        return next((part for part in self.parts if part.name == name), None)


class PartWriter:
    """Writes parts to *write*, one after the other."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._name = ""
        self._held = bytearray()
        self._digest = hashlib.sha256()
        self._size = 0
        self.done: list[PartInfo] = []

    def begin(self, name: str, columns: tuple[str, ...] = ()) -> None:
        """Begin a part."""
        self._name = name
        self._digest, self._size = hashlib.sha256(), 0
        self._record(b"P", msgspec.json.encode(PartHead(name=name, columns=columns)))

    def content(self, content: bytes) -> None:
        """Take a piece of the part."""
        self._digest.update(content)
        self._size += len(content)
        self._held += content
        if len(self._held) >= _PIECE:
            self._flush()

    def end(self, rows: int = 0) -> None:
        """End the part, which has *rows* rows."""
        self._flush()
        info = PartInfo(name=self._name, size=self._size, sha256=self._digest.hexdigest(), rows=rows)
        self._record(b"E", msgspec.json.encode(info))
        self.done.append(info)

    def whole(self, name: str, content: bytes, rows: int = 0) -> None:
        """Write a part that is at hand."""
        self.begin(name)
        self.content(content)
        self.end(rows)

    def manifest(self, manifest: Manifest) -> None:
        """Write the last record."""
        self._record(b"M", msgspec.json.encode(manifest))

    def _flush(self) -> None:
        if self._held:
            self._record(b"D", zlib.compress(bytes(self._held), _LEVEL))
            self._held.clear()

    def _record(self, kind: bytes, payload: bytes) -> None:
        self._write(kind + len(payload).to_bytes(4, "big") + payload)


class Part:
    """A part that is being read; its ``content`` is to be read to its end before the next part is asked for."""

    def __init__(self, head: PartHead, content: Iterator[bytes]) -> None:
        self.name = head.name
        self.columns = head.columns
        self.content = content

    def bytes(self) -> bytes:
        """Return the whole content."""
        return b"".join(self.content)


class PartReader:
    """Reads the parts of *chunks*, the opened content of a backup, once, in order. ``manifest`` is there at the end."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._held = bytearray()
        self._seen: list[PartInfo] = []
        self.manifest: Manifest | None = None

    def __iter__(self) -> Iterator[Part]:
        """Yield every part; at the end the manifest has been checked against them. Raises BackupDamaged."""
        while True:
            kind, payload = self._next()
            if kind == b"M":
                self._finish(payload)
                return
            if kind != b"P":
                raise BackupDamaged("the backup cannot be read: a part has no beginning")
            head = _decode(payload, PartHead)
            part = Part(head, self._content(head))
            yield part
            for _ in part.content:
                pass  # what nobody wanted is read all the same: it counts

    def _content(self, head: PartHead) -> Iterator[bytes]:
        digest, size, lines = hashlib.sha256(), 0, 0
        while True:
            kind, payload = self._next()
            if kind == b"E":
                said = _decode(payload, PartInfo)
                rows = lines if head.name.startswith(TABLE) else said.rows
                found = PartInfo(name=head.name, size=size, sha256=digest.hexdigest(), rows=rows)
                if said != found:
                    raise BackupDamaged(f"{head.name} is not what was written: {found.rows} rows, {size} bytes")
                self._seen.append(found)
                return
            if kind != b"D":
                raise BackupDamaged(f"the backup cannot be read: {head.name} has no end")
            content = zlib.decompress(payload)
            digest.update(content)
            size += len(content)
            lines += content.count(b"\n")
            yield content

    def _finish(self, payload: bytes) -> None:
        manifest = _decode(payload, Manifest)
        if list(manifest.parts) != self._seen:
            raise BackupDamaged("the parts of the backup are not those of its manifest")
        if self._held or next(self._chunks, None):
            raise BackupDamaged("the backup goes on after its end")
        self.manifest = manifest

    def _next(self) -> tuple[bytes, bytes]:
        head = self._take(5)
        size = int.from_bytes(head[1:], "big")
        if size > _MAX_RECORD:
            raise BackupDamaged("the backup cannot be read: a record is too long")
        return head[:1], self._take(size)

    def _take(self, size: int) -> bytes:
        while len(self._held) < size:
            more = next(self._chunks, None)
            if more is None:
                raise BackupDamaged("the backup ends in the middle")
            self._held += more
        taken = bytes(self._held[:size])
        del self._held[:size]
        return taken


def _decode(payload: bytes, type_: type[T]) -> T:
    try:
        return msgspec.json.decode(payload, type=type_)
    except msgspec.MsgspecError as error:
        raise BackupDamaged(f"the backup cannot be read: {error}; it may be of a newer engine") from None
