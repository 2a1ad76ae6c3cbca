"""Making files outlive a power cut: lines with a check sum, and folders whose entries are on disk."""

import os
import zlib
from pathlib import Path


def checked_line(body: bytes) -> bytes:
    """Return *body*, which holds no line end, as a line that tells of damage."""
    return b"%08x %s\n" % (zlib.crc32(body), body)


def checked_body(line: bytes) -> bytes | None:
    """Return what `checked_line` made *line* of, given without its end; None when it is damaged."""
    checksum, _, body = line.partition(b" ")
    return body if checksum == b"%08x" % zlib.crc32(body) else None


def sync_folder(folder: Path) -> None:
    """Have the entries of *folder* (names made, replaced or removed) on disk. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
