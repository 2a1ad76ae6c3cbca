"""Reading a backup to its end: every byte authenticated, every part counted, before anything is believed."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from engine.backup import parts
from engine.backup.parts import BackupDamaged, Manifest, PartReader
from engine.errors import StartupError
from engine.security.sealed_file import FileKey, Header, SealedFileError, read_header, read_sealed
from engine.store.migrate import available, plan


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """A backup that is whole: what it says of itself, and the files of its keys where they are inside."""

    manifest: Manifest
    key_files: Mapping[str, bytes] | None

    def __repr__(self) -> str:
        return f"Checked({self.manifest.about.made_at}, ***)"


def header_of(file: Path) -> Header:
    """Return what is readable of *file* without the key. Raises SealedFileError that names the mend."""
    try:
        with file.open("rb") as stream:
            return read_header(stream)[0]
    except FileNotFoundError:
        raise SealedFileError(f"there is no backup {file}") from None


@contextmanager
def opened(file: Path, key: FileKey, progress: Callable[[int], None] = lambda _read: None) -> Iterator[PartReader]:
    """Open *file* for one reading; *progress* is told how many bytes of it are read. Blocks: use a thread."""
    with file.open("rb") as stream:

        def chunks() -> Iterator[bytes]:
            for chunk in read_sealed(stream, key):
                progress(stream.tell())
                yield chunk

        yield PartReader(chunks())


def check(file: Path, key: FileKey, progress: Callable[[int], None] = lambda _read: None) -> Checked:
    """Read the whole of *file* and return what it is. Raises WrongKey, SealedFileError, BackupDamaged. Blocks."""
    key_files: dict[str, bytes] | None = None
    with opened(file, key, progress) as reader:
        for part in reader:
            if part.name == parts.KEYS:
                key_files = msgspec.json.decode(part.bytes(), type=dict[str, bytes])
    manifest = reader.manifest
    if manifest is None:
        raise BackupDamaged("the backup has no manifest")
    if manifest.about.format != parts.FORMAT:
        raise BackupDamaged(f"the backup has form {manifest.about.format}; this engine knows {parts.FORMAT}")
    return Checked(manifest=manifest, key_files=key_files)


def check_schema(manifest: Manifest) -> int:
    """Return how many migrations bring the rows up to date. Raises StartupError for a newer or altered schema."""
    known = available()
    if manifest.schema_version > len(known):
        raise StartupError(
            f"the backup was made by engine {manifest.about.engine} with schema {manifest.schema_version}; this engine "
            f"knows {len(known)}: restore it with that engine, or a newer one"
        )
    return len(plan(known, list(manifest.schema)))
