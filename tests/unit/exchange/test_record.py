"""The truth record's file: torn ends, damage, one writer at a time."""

import math
import os
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
import trio

from engine.exchange.config import ExchangeError
from engine.exchange.events import AccountOpened, SessionClosed
from engine.exchange.record import RecordWriter, read_record

NOW = datetime(2026, 11, 23, 4, 30, tzinfo=UTC)
ACCOUNT = AccountOpened(
    at=NOW, api_key="k", api_secret="s", user_id="U", capital=Decimal("1.50"), redirect_url="http://x"
)


def closed(number: int) -> SessionClosed:
    return SessionClosed(at=NOW, api_key=f"k{number}")


def write(path: Path, *events: AccountOpened | SessionClosed) -> None:
    writer = RecordWriter(path)
    writer.open()
    writer.append(events)
    writer.close()


def test_record_without_a_file_is_empty(tmp_path: Path) -> None:
    assert read_record(tmp_path / "none.jsonl") == []


def test_record_reads_back_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "record.jsonl"
    write(path, ACCOUNT, closed(1))
    write(path, closed(2))
    assert read_record(path) == [ACCOUNT, closed(1), closed(2)]


@pytest.mark.parametrize("cut", [1, 2, 20])
def test_record_torn_last_line_is_left_out_and_cut_off_before_the_next(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "record.jsonl"
    write(path, ACCOUNT, closed(1))
    content = path.read_bytes()
    path.write_bytes(content[:-cut])
    assert read_record(path) == [ACCOUNT]
    write(path, closed(2))
    assert read_record(path) == [ACCOUNT, closed(2)]


def test_record_last_line_of_zeros_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    write(path, ACCOUNT)
    path.write_bytes(path.read_bytes() + b"\0\0\0\0\n")
    assert read_record(path) == [ACCOUNT]


def test_record_damaged_in_the_middle_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    write(path, ACCOUNT, closed(1), closed(2))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b'{"type":"nonsense"}\n' + lines[2])
    with pytest.raises(ExchangeError, match="damaged in line 2"):
        read_record(path)
    with pytest.raises(ExchangeError, match="damaged in line 2"):
        RecordWriter(path).open()


def test_record_opened_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    first = RecordWriter(path)
    first.open()
    with pytest.raises(ExchangeError, match="in use by another exchange"):
        RecordWriter(path).open()
    first.close()
    second = RecordWriter(path)
    assert second.open() == []
    second.close()


async def test_record_settled_returns_only_when_the_file_holds_the_events(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    writer = RecordWriter(path)
    writer.open()
    seen: list[int] = []

    async def one(number: int) -> None:
        writer.append([closed(number)])
        await writer.settled()
        assert closed(number) in read_record(path)
        seen.append(number)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.run)
            async with trio.open_nursery() as requests:
                for number in range(20):
                    requests.start_soon(one, number)
            nursery.cancel_scope.cancel()
    writer.close()
    assert sorted(seen) == list(range(20))
    assert len(read_record(path)) == 20


async def test_record_requests_that_wait_together_share_a_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs = []
    monkeypatch.setattr(os, "fdatasync", lambda descriptor, real=os.fdatasync: (syncs.append(1), real(descriptor)))
    writer = RecordWriter(tmp_path / "record.jsonl")
    writer.open()

    async def one(number: int) -> None:
        writer.append([closed(number)])
        await writer.settled()

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            async with trio.open_nursery() as requests:
                for number in range(50):
                    requests.start_soon(one, number)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(writer.run)
            nursery.cancel_scope.cancel()
    writer.close()
    assert 1 <= len(syncs) < math.ceil(50 / 2)


async def test_record_disk_error_ends_the_writer_and_settles_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    writer = RecordWriter(tmp_path / "record.jsonl")
    writer.open()
    monkeypatch.setattr(os, "fdatasync", full)
    settled = False

    async def wait() -> None:
        nonlocal settled
        await writer.settled()
        settled = True

    writer.append([closed(1)])
    with trio.fail_after(10):
        with pytest.RaisesGroup(OSError):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                nursery.start_soon(writer.run)
    writer.close()
    assert not settled


async def test_record_none_settles_at_once() -> None:
    writer = RecordWriter(None)
    assert writer.open() == []
    writer.append([closed(1)])
    with trio.fail_after(5):
        await writer.settled()
    writer.close()
