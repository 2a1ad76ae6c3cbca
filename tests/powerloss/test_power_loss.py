"""Power loss: both servers and the whole engine on a disk that forgets what was not synced.

First it is shown that the disk catches servers that do not sync. Longer:
``python -m tests.powerloss --help``.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.powerloss.engine_cuts import Draft, careless_cut, cuts, draft
from tests.powerloss.lossy import LossyDisk, why_not
from tests.powerloss.postgres_drops import commits
from tests.powerloss.valkey_drops import drops

pytestmark = [pytest.mark.crash, pytest.mark.skipif(why_not() is not None, reason=why_not() or "")]


@pytest.fixture
def disk() -> Iterator[LossyDisk]:
    with LossyDisk() as made:
        made.mount()
        yield made


@pytest.fixture(scope="module")
def made() -> Iterator[Draft]:
    with draft() as one:
        yield one


def synced(path: Path, content: bytes, flags: int = 0) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o600)
    os.write(descriptor, content)
    if not flags:
        os.fsync(descriptor)
    os.close(descriptor)


def test_mounted_disk_keeps_what_was_synced_and_nothing_else(disk: LossyDisk) -> None:
    folder = disk.path / "d"
    folder.mkdir()
    synced(folder / "synced", b"s" * 9000)
    synced(folder / "dsync", b"d" * 9000, os.O_DSYNC)
    with (folder / "synced").open("ab") as file:
        file.write(b"lost")
    (folder / "unsynced").write_bytes(b"u")
    (folder / "dsync").rename(folder / "renamed")
    os.truncate(folder / "renamed", 5)
    disk.cut([])
    disk.mount()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"synced": b"s" * 9000, "dsync": b"d" * 9000}


def test_mounted_disk_lists_links_and_removes_as_others_do(disk: LossyDisk) -> None:
    for number in range(500):
        (disk.path / f"f{number}").touch()
    os.link(disk.path / "f1", disk.path / "again")
    assert (disk.path / "f1").stat().st_nlink == 2
    assert len(os.listdir(disk.path)) == 501
    with pytest.raises(FileExistsError):
        (disk.path / "f1").touch(exist_ok=False)
    for path in disk.path.iterdir():
        path.unlink()
    assert os.listdir(disk.path) == []
    with pytest.raises(FileNotFoundError):
        (disk.path / "f1").stat()


def test_valkey_that_syncs_every_second_loses_what_it_confirmed() -> None:
    assert any(drop.lost for drop in drops(5, policy="everysec", seed=1))


def test_valkey_that_always_syncs_loses_nothing() -> None:
    found = drops(10, policy="always", seed=1)
    assert [drop for drop in found if drop.lost] == []
    assert sum(drop.acked for drop in found) > 100


def test_postgres_without_fsync_loses_what_it_committed() -> None:
    assert commits(1, seed=1, durable=False)[0].lost > 0


def test_postgres_as_the_engine_sets_it_up_loses_nothing_and_stays_whole() -> None:
    found = commits(2, seed=1)
    assert [cut for cut in found if cut.lost or cut.damage] == []
    assert sum(cut.acked for cut in found) > 100


@pytest.mark.long
def test_engine_on_stores_that_do_not_sync_is_seen_to_lose_signals(made: Draft) -> None:
    outcome = careless_cut(made, seed=1)
    assert any("accepted and is not there" in wrong for wrong in outcome.wrong), outcome


@pytest.mark.long
def test_engine_loses_and_doubles_nothing_and_stays_stopped_when_it_was_stopped(made: Draft) -> None:
    outcome = cuts(3, made, seed=1)
    assert outcome.wrong == []
    assert outcome.acked > 30
    assert outcome.placed > 0
    assert outcome.kills > 0
