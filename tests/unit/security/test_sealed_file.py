"""A sealed file: it opens whole with its key, and with anything changed, cut or exchanged not at all."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.security import sealed_file
from engine.security.sealed_file import FileKey, SealedFileError, SealedWriter, WrongKey, read_sealed

KEY = FileKey(masters=(b"m" * 32,))
SMALL = 64


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_file, "CHUNK_BYTES", SMALL)
    monkeypatch.setattr(sealed_file, "_PASSES", 1)
    monkeypatch.setattr(sealed_file, "_MEMORY_KIB", 64)


def sealed(content: bytes, key: FileKey = KEY, piece: int = 50) -> bytes:
    file = io.BytesIO()
    writer = SealedWriter(file, key)
    for start in range(0, len(content), piece):
        writer.write(content[start : start + piece])
    writer.close()
    return file.getvalue()


def opened(file: bytes, key: FileKey = KEY) -> bytes:
    return b"".join(read_sealed(io.BytesIO(file), key))


@pytest.fixture(autouse=True)
def _header_of_small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    made = sealed_file._new_header

    def small(key: FileKey) -> sealed_file.Header:
        return sealed_file.msgspec.structs.replace(made(key), chunk_bytes=SMALL)

    monkeypatch.setattr(sealed_file, "_new_header", small)


@pytest.mark.parametrize("size", [0, 1, SMALL - 1, SMALL, SMALL + 1, 3 * SMALL, 3 * SMALL + 7])
def test_what_was_written_is_read(size: int) -> None:
    content = bytes(range(256)) * 2
    assert opened(sealed(content[:size])) == content[:size]


def test_a_file_that_was_changed_or_cut_anywhere_does_not_open() -> None:
    file = sealed(b"row\n" * 60)
    for at in range(len(file)):
        changed = bytearray(file)
        changed[at] ^= 1
        for broken in (bytes(changed), file[:at]):
            with pytest.raises(SealedFileError):
                opened(broken)
    with pytest.raises(SealedFileError):
        opened(file + b"x")


def test_chunks_cannot_change_places_be_left_out_or_come_from_another_file() -> None:
    first, second = sealed(b"a" * 4 * SMALL), sealed(b"b" * 4 * SMALL)
    head, size = len(first) - 4 * (SMALL + 16), SMALL + 16
    chunks = [first[head + n * size : head + (n + 1) * size] for n in range(4)]
    foreign = second[len(second) - size :]
    for order in ([1, 0, 2, 3], [0, 2, 3], [0, 1, 1, 2, 3], [0, 1, 2]):
        with pytest.raises(SealedFileError):
            opened(first[:head] + b"".join(chunks[n] for n in order))
    with pytest.raises(SealedFileError):
        opened(first[:head] + b"".join(chunks[:3]) + foreign)


def test_another_key_opens_nothing_and_says_which_is_wanted() -> None:
    with pytest.raises(WrongKey, match=sealed_file.master_key_id(b"m" * 32)):
        opened(sealed(b"x"), FileKey(masters=(b"n" * 32,)))
    with pytest.raises(WrongKey, match="none is here"):
        opened(sealed(b"x"), FileKey(passphrase="a long passphrase"))


def test_a_passphrase_opens_what_it_sealed() -> None:
    key = FileKey(passphrase="correct horse battery")
    file = sealed(b"rows", key)
    assert opened(file, key) == b"rows"
    with pytest.raises(SealedFileError, match="passphrase is wrong"):
        opened(file, FileKey(passphrase="incorrect horse battery"))
    with pytest.raises(WrongKey, match="passphrase"):
        opened(file, KEY)
    with pytest.raises(SealedFileError, match="at least 12"):
        sealed(b"rows", FileKey(passphrase="short"))


@given(content=st.binary(max_size=300))
def test_two_files_of_one_content_have_nothing_in_common(content: bytes) -> None:
    content = b"\xff" * 8 + content  # nothing of the header
    first, second = io.BytesIO(), io.BytesIO()
    for file in (first, second):
        writer = SealedWriter(file, KEY)
        writer.write(content)
        writer.close()
    one, other = first.getvalue(), second.getvalue()
    assert one != other
    assert b"\xff" * 8 not in one
    assert b"".join(read_sealed(io.BytesIO(one), KEY)) == content


def test_no_backup_is_told_as_such() -> None:
    with pytest.raises(SealedFileError, match="no backup"):
        opened(b"PK\x03\x04 something else entirely, and long enough")
