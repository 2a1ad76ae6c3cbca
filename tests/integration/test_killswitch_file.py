"""The kill switch's file on a real disk: torn lines, damage, and writers at once."""

import fcntl
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest

from engine.actors.killswitch_file import KillFile, KillFileDamaged
from engine.domain.enums import KillState
from engine.domain.killswitch import KillRecord, next_version

AT = datetime(2026, 11, 23, tzinfo=UTC)


def record(version, state=KillState.BLOCKED, scope="global", reason="why"):
    return KillRecord(scope=scope, version=version, state=state, reason=reason, actor="cli", at=AT)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data" / "state" / "kill.wal"


@pytest.fixture
def file(path):
    return KillFile(path)


def test_absent_file_holds_nothing(file):
    assert file.read() == {}


def test_newest_record_of_each_scope_is_read(file, path):
    for entry in (record(1), record(2, KillState.ARMED), record(1, scope="user:1"), record(3, reason='}"\n é')):
        file.append(entry)
    assert file.read() == {"global": record(3, reason='}"\n é'), "user:1": record(1, scope="user:1")}
    assert path.stat().st_mode & 0o777 == 0o600


def test_on_wins_where_two_records_have_one_version(file):
    file.append(record(2))
    file.append(record(2, KillState.ARMED))
    assert file.read()["global"].enabled


@pytest.mark.parametrize("length", [1, 8, 9, 40, -2, -1])
def test_torn_last_line_is_no_record_and_does_not_harm_the_next(file, path, length):
    file.append(record(1))
    whole = path.read_bytes()
    file.append(record(2, KillState.ARMED))
    torn = path.read_bytes()[len(whole) :][:length]
    path.write_bytes(whole + torn)
    assert file.read()["global"] == record(1)
    file.append(record(3, reason="after"))
    assert file.read()["global"] == record(3, reason="after")


def test_tail_of_zeros_is_torn_too(file, path):
    file.append(record(1))
    with path.open("ab") as raw:
        raw.write(b"\0" * 5000)
    assert file.read()["global"] == record(1)
    file.append(record(2))
    assert file.read()["global"] == record(2)


@pytest.mark.parametrize("line", [0, 1, 2])
def test_every_changed_byte_of_a_whole_line_is_damage(file, path, line):
    for version in (1, 2, 3):
        file.append(record(version))
    lines = path.read_bytes().splitlines(keepends=True)
    for place in range(len(lines[line]) - 1):
        changed = bytearray(lines[line])
        changed[place] ^= 0x01
        if changed[place] == ord("\n"):
            continue
        path.write_bytes(b"".join([*lines[:line], bytes(changed), *lines[line + 1 :]]))
        with pytest.raises(KillFileDamaged, match=f"line {line + 1}"):
            file.read()
    assert len(file.read_undamaged()) == 1


def test_damaged_file_is_replaced_and_kept(file, path):
    file.append(record(1))
    damaged = b"00000000 {}\n" + path.read_bytes()
    path.write_bytes(damaged)
    file.replace([record(5), record(2, scope="user:1")])
    assert file.read() == {"global": record(5), "user:1": record(2, scope="user:1")}
    assert path.with_suffix(".damaged").read_bytes() == damaged
    assert path.stat().st_mode & 0o777 == 0o600


def test_writers_at_once_lose_no_record(path):
    program = (
        "import sys; from pathlib import Path; from datetime import UTC, datetime\n"
        "from engine.actors.killswitch_file import KillFile\n"
        "from engine.domain.killswitch import KillRecord; from engine.domain.enums import KillState\n"
        "for n in range(40):\n"
        "    KillFile(Path(sys.argv[1])).append(KillRecord(scope=f'{sys.argv[2]}:{n}', version=1,\n"
        "        state=KillState.BLOCKED, reason='r', actor='a', at=datetime(2026, 1, 1, tzinfo=UTC)))\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", program, str(path), str(n)]) for n in range(3)]
    assert [writer.wait(30) for writer in writers] == [0, 0, 0]
    assert len(KillFile(path).read()) == 120


def test_writer_that_hangs_with_the_lock_holds_nobody_up(file, path, monkeypatch):
    monkeypatch.setattr("engine.actors.killswitch_file._LOCK_WITHIN_S", 0.05)
    file.append(record(1))
    with path.open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        file.append(record(2))
    assert file.read()["global"] == record(2)


def test_append_waits_for_a_writer_that_goes_on(file, path):
    file.append(record(1))
    with path.open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        writer = threading.Thread(target=file.append, args=(record(2),))
        writer.start()
        held.write(b"torn")
        held.flush()
        fcntl.flock(held, fcntl.LOCK_UN)
        writer.join(5)
    assert file.read()["global"] == record(2)


def test_replacing_loses_no_record_of_a_writer_that_waits(file, path):
    file.append(record(1))
    with path.open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        writer = threading.Thread(target=file.append, args=(record(9),))
        writer.start()
        replaced = path.with_suffix(".x")
        replaced.write_bytes(path.read_bytes())
        os.replace(replaced, path)
        fcntl.flock(held, fcntl.LOCK_UN)
        writer.join(5)
    assert file.read()["global"] == record(9)


def test_full_disk_is_an_error_and_leaves_no_half_line(file, path, monkeypatch):
    file.append(record(1))
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:10]))
    with pytest.raises(OSError, match="full"):
        file.append(record(2))
    monkeypatch.undo()
    file.append(record(3))
    assert file.read()["global"] == record(3)


def test_unwritable_folder_is_an_oserror(tmp_path):
    (tmp_path / "state").write_text("in the way")
    with pytest.raises(OSError, match="state"):
        KillFile(tmp_path / "state" / "kill.wal").append(record(1))


def test_versions_grow_with_time_and_always():
    assert next_version(None, AT) == int(AT.timestamp() * 1000)
    assert next_version(record(7), AT) == next_version(None, AT)
    ahead = record(next_version(None, AT + timedelta(days=1)))
    assert next_version(ahead, AT) == ahead.version + 1
