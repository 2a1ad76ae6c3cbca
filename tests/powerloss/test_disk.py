"""The disk that forgets: what lasts and what does not."""

import random
import stat
from pathlib import Path

import pytest

from tests.powerloss.disk import PAGE, SECTOR, Disk, File, Folder


def file_on(disk: Disk, name: bytes = b"f", folder: Folder | None = None) -> File:
    made = disk.make(stat.S_IFREG | 0o600, 0, 0)
    assert isinstance(made, File)
    disk.link(folder or disk.root, name, made)
    return made


def folder_on(disk: Disk, name: bytes) -> Folder:
    made = disk.make(stat.S_IFDIR | 0o700, 0, 0)
    assert isinstance(made, Folder)
    disk.link(disk.root, name, made)
    return made


def kept(disk: Disk, content: bytes) -> File:
    file = file_on(disk)
    file.write(0, content)
    disk.keep_all()
    return file


def test_bytes_written_after_the_sync_are_lost() -> None:
    disk = Disk()
    file = kept(disk, b"a" * 5000)
    file.write(4000, b"b" * 3000)
    assert disk.cut() == {"files": 1, "bytes": 5000 + 2000, "names": 0}
    assert file.content == b"a" * 5000


def test_bytes_synced_are_kept() -> None:
    disk = Disk()
    file = kept(disk, b"a" * 5000)
    file.write(4000, b"b" * 3000)
    file.sync()
    disk.cut()
    assert file.content == b"a" * 4000 + b"b" * 3000


def test_file_cut_short_and_written_again_without_sync_is_what_it_was() -> None:
    disk = Disk()
    file = kept(disk, bytes(range(256)) * 64)
    file.resize(10)
    file.write(9000, b"new")
    disk.cut()
    assert file.content == bytes(range(256)) * 64


def test_hole_reads_as_zeros() -> None:
    file = file_on(Disk())
    file.write(PAGE + 3, b"x")
    assert file.content == bytes(PAGE + 3) + b"x"


def test_new_file_without_any_sync_has_no_name_after_the_cut() -> None:
    disk = Disk()
    file_on(disk).write(0, b"x")
    disk.cut()
    assert disk.root.names == {}


def test_sync_of_a_file_keeps_the_names_that_lead_to_it() -> None:
    disk = Disk()
    folder = folder_on(disk, b"d")
    file = file_on(disk, b"f", folder)
    file_on(disk, b"other", folder)
    file.sync()
    file.keep_names()
    disk.cut()
    assert list(disk.root.names) == [b"d"]
    assert list(folder.names) == [b"f"]


def test_rename_without_a_sync_is_undone() -> None:
    disk = Disk()
    file = kept(disk, b"x")
    disk.unlink(disk.root, b"f")
    disk.link(disk.root, b"g", file)
    assert disk.cut()["names"] == 2
    assert list(disk.root.names) == [b"f"]
    assert file.links == 1


@pytest.mark.parametrize("of", ["file", "folder"])
def test_rename_is_kept_by_a_sync(of: str) -> None:
    disk = Disk()
    file = kept(disk, b"x")
    disk.unlink(disk.root, b"f")
    disk.link(disk.root, b"g", file)
    if of == "file":
        file.keep_names()
    else:
        disk.root.sync()
    disk.cut()
    assert list(disk.root.names) == [b"g"]


def test_removed_file_comes_back_unless_the_folder_was_synced() -> None:
    disk = Disk()
    kept(disk, b"x")
    disk.unlink(disk.root, b"f")
    disk.cut()
    assert list(disk.root.names) == [b"f"]
    disk.unlink(disk.root, b"f")
    disk.root.sync()
    disk.cut()
    assert disk.root.names == {}


def test_torn_cut_keeps_whole_sectors_and_a_prefix_of_what_was_appended() -> None:
    seen_old, seen_new, sizes = set(), set(), set()
    for seed in range(30):
        disk = Disk()
        file = kept(disk, b"o" * 4 * PAGE)
        file.write(0, b"n" * 6 * PAGE)
        disk.cut(random.Random(seed))
        overwritten = bytes(file.content[: 4 * PAGE])
        for start in range(0, len(overwritten), SECTOR):
            sector = overwritten[start : start + SECTOR]
            assert sector in (b"o" * SECTOR, b"n" * SECTOR)
            (seen_old if sector[:1] == b"o" else seen_new).add(start)
        assert set(file.content[4 * PAGE :]) <= {ord("n")}
        sizes.add(len(file.content))
    assert seen_old == seen_new == set(range(0, 4 * PAGE, SECTOR))
    assert len(sizes) > 10


def test_same_seed_forgets_the_same() -> None:
    def once() -> bytes:
        disk = Disk()
        file = kept(disk, b"o" * 9000)
        file.write(100, b"n" * 12000)
        disk.cut(random.Random(7))
        return bytes(file.content)

    assert once() == once()


def test_loaded_tree_lasts(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_bytes(b"x" * 10000)
    (tmp_path / "l").symlink_to("d/f")
    disk = Disk()
    disk.load(tmp_path)
    disk.cut()
    folder = disk.root.names[b"d"][1]
    assert isinstance(folder, Folder)
    assert folder.names[b"f"][1].size == 10000
    assert disk.root.names[b"l"][1].target == b"d/f"
