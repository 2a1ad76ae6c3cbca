"""What is inside a backup: read as it was written, refused when it does not add up, or is of a newer engine."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from engine.backup import parts
from engine.backup.checking import check_schema
from engine.backup.config_view import without_secrets
from engine.backup.parts import About, BackupDamaged, Manifest, PartReader, PartWriter
from engine.config import Config, SecurityConfig
from engine.config.sections import DatabaseConfig
from engine.errors import StartupError
from engine.secret import Secret
from engine.store.migrate import Applied, available

NOW = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)
ABOUT = About(format=1, engine="0.1", made_at=NOW, mode="paper", master_key="00", with_keys=False)


def manifest(writer: PartWriter, **changes: Any) -> Manifest:
    schema = tuple(Applied(version=m.version, name=m.name, checksum=m.checksum, applied_at=NOW) for m in available())
    made = Manifest(
        about=ABOUT, schema=schema, audit_records=0, audit_head="", epoch=None, position=None, parts=tuple(writer.done)
    )
    return msgspec.structs.replace(made, **changes)


def written(*, rows: int = 2, said_rows: int = 2) -> tuple[list[bytes], PartWriter]:
    pieces: list[bytes] = []
    writer = PartWriter(pieces.append)
    writer.whole(parts.ABOUT, b"about")
    writer.begin(parts.TABLE + "orders", ("id", "status"))
    for _ in range(rows):
        writer.content(b"1\tOPEN\n")
    writer.end(said_rows)
    return pieces, writer


def chunks(pieces: list[bytes], size: int = 7) -> Iterator[bytes]:
    whole = b"".join(pieces)
    return (whole[at : at + size] for at in range(0, len(whole), size))


def test_parts_are_read_as_they_were_written() -> None:
    pieces, writer = written()
    writer.manifest(manifest(writer))
    reader = PartReader(chunks(pieces))
    found = [(part.name, part.columns, part.bytes()) for part in reader]
    assert found == [("about", (), b"about"), ("table/orders", ("id", "status"), b"1\tOPEN\n" * 2)]
    assert reader.manifest is not None
    assert reader.manifest.rows == 2


def test_a_part_that_nobody_wants_counts_all_the_same() -> None:
    pieces, writer = written(said_rows=3)
    writer.manifest(manifest(writer))
    with pytest.raises(BackupDamaged, match="table/orders"):
        list(PartReader(chunks(pieces)))


def test_what_does_not_add_up_is_refused() -> None:
    pieces, writer = written()
    with pytest.raises(BackupDamaged, match="in the middle"):
        list(PartReader(chunks(pieces)))
    writer.manifest(manifest(writer, parts=()))
    with pytest.raises(BackupDamaged, match="manifest"):
        list(PartReader(chunks(pieces)))
    pieces, writer = written()
    writer.manifest(manifest(writer))
    with pytest.raises(BackupDamaged, match="after its end"):
        list(PartReader(chunks([*pieces, b"more"])))


def test_a_newer_or_altered_schema_is_refused_and_an_older_one_brought_forward() -> None:
    _, writer = written()
    made = manifest(writer)
    assert check_schema(made) == 0
    assert check_schema(msgspec.structs.replace(made, schema=made.schema[:-2])) == 2
    newer = Applied(version=len(made.schema) + 1, name="9999_later", checksum="x", applied_at=NOW)
    with pytest.raises(StartupError, match="newer"):
        check_schema(msgspec.structs.replace(made, schema=(*made.schema, newer)))
    altered = msgspec.structs.replace(made.schema[0], checksum="other")
    with pytest.raises(StartupError, match="changed after it was applied"):
        check_schema(msgspec.structs.replace(made, schema=(altered, *made.schema[1:])))


def test_the_configuration_goes_in_without_its_secrets() -> None:
    config = Config(
        security=SecurityConfig(master_key=Secret("the-master-key-itself")),
        database=DatabaseConfig(url="postgresql://engine:hunter2hunter2@db/engine"),
    )
    text = msgspec.json.encode(without_secrets(config)).decode()
    assert "master-key-itself" not in text
    assert "hunter2" not in text
    assert '"port":8080' in text
