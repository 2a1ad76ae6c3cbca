"""The root key in its wraps: any master key that it was wrapped under finds it, no other does."""

import io
from pathlib import Path

import pytest

from engine.security.root_key import read_root, root_in, sealed_root, write_root
from engine.security.sealed_file import FileKey, SealedWriter, read_header
from engine.security.wrapping import Kek

ROOT, OLD, NEW, STRANGE = b"r" * 32, Kek(b"o" * 32), Kek(b"n" * 32), Kek(b"s" * 32)


def test_root_is_found_by_every_key_that_it_was_wrapped_under_and_by_no_other(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    content = sealed_root(folder, ROOT, [OLD])
    assert root_in(content, [STRANGE, OLD]) == ROOT
    assert root_in(content, [NEW]) is None
    write_root(folder, ROOT, [OLD])
    write_root(folder, ROOT, [NEW])
    for kek in (OLD, NEW):
        assert read_root(folder, [kek]) == root_in(sealed_root(folder, ROOT, []), [kek]) == ROOT
    write_root(folder, ROOT, [NEW], and_no_other=True)
    assert root_in(sealed_root(folder, ROOT, [OLD]), [OLD]) is None


@pytest.mark.parametrize("content", [b"", b"{}", b'{"key":"zz","wraps":{}}', b'{"key":"00","wraps":{"zz":"!"}}'])
def test_damaged_wraps_are_a_value_error(content: bytes) -> None:
    with pytest.raises(ValueError):
        root_in(content, [OLD])


def test_backup_brings_along_the_root_that_it_was_sealed_under(tmp_path: Path) -> None:
    file = io.BytesIO()
    wrapped = sealed_root(tmp_path / "keys", ROOT, [NEW])
    SealedWriter(file, FileKey(masters=(ROOT,), root_sealed=wrapped)).close()
    file.seek(0)
    header = read_header(file)[0]
    assert root_in(header.root, [NEW]) == ROOT
    assert ROOT not in file.getvalue()
