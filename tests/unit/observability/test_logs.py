import json
import logging
import math
import os
import threading
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import structlog
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import ConfigError
from engine.observability.log_writer import LogWriter
from engine.observability.logs import as_readable, bound, configure, render
from engine.secret import Secret

# 00:30 IST of the next day.
LATE = datetime(2026, 11, 21, 19, 0, tzinfo=UTC)
DAY = date(2026, 11, 22)


class FixedClock:
    def __init__(self, instant=LATE):
        self.instant = instant

    def now(self):
        return self.instant

    def boottime_ns(self):
        return 0


@pytest.fixture
def clock():
    return FixedClock()


@pytest.fixture
def logs(tmp_path, clock):
    configured = configure(tmp_path / "logs", "info", 30, console="off", clock=clock)
    yield configured
    configured.close()


def lines(directory: Path, name: str):
    return [json.loads(line) for line in (directory / name).read_bytes().splitlines()]


def test_line_goes_to_the_file_of_the_ist_day(logs, tmp_path):
    structlog.get_logger("engine.x").info("order_sent", quantity=5)
    assert logs.flush()
    assert lines(tmp_path / "logs", "app-2026-11-22.log") == [
        {
            "timestamp": "2026-11-21T19:00:00.000000Z",
            "level": "info",
            "event": "order_sent",
            "quantity": 5,
            "logger": "engine.x",
        }
    ]
    assert not (tmp_path / "logs" / "error-2026-11-22.log").exists()


def test_error_goes_to_both_files_with_its_traceback(logs, tmp_path):
    try:
        raise ValueError("password=hunter2")
    except ValueError:
        structlog.get_logger().exception("order_failed")
    assert logs.flush()
    for name in ("app-2026-11-22.log", "error-2026-11-22.log"):
        (line,) = lines(tmp_path / "logs", name)
        assert line["exception"].endswith("ValueError: password=***")


def test_line_below_the_level_is_not_written(logs, tmp_path):
    structlog.get_logger().debug("detail")
    structlog.get_logger().info("shown")
    assert logs.flush()
    assert [line["event"] for line in lines(tmp_path / "logs", "app-2026-11-22.log")] == ["shown"]


def test_day_change_starts_a_new_file(logs, tmp_path, clock):
    structlog.get_logger().info("first")
    clock.instant += timedelta(days=1)
    structlog.get_logger().info("second")
    assert logs.flush()
    assert [line["event"] for line in lines(tmp_path / "logs", "app-2026-11-23.log")] == ["second"]


def test_log_files_are_private(logs, tmp_path):
    structlog.get_logger().info("x")
    assert logs.flush()
    assert (tmp_path / "logs" / "app-2026-11-22.log").stat().st_mode & 0o777 == 0o600


async def test_bound_ids_are_on_every_line_of_the_task_and_its_children(logs, tmp_path):
    log = structlog.get_logger()

    async def child():
        log.info("child")

    with bound(request_id="r1"):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
        log.info("parent", intent_id="i1")
    log.info("after")
    assert logs.flush()
    written = lines(tmp_path / "logs", "app-2026-11-22.log")
    assert [(line["event"], line.get("request_id")) for line in written] == [
        ("child", "r1"),
        ("parent", "r1"),
        ("after", None),
    ]


def test_secrets_do_not_reach_the_file(logs, tmp_path):
    structlog.get_logger().info(
        "login",
        api_secret="hunter2",
        nested={"token": "hunter2"},
        value=Secret("hunter2"),
        url="/x?access_token=hunter2",
    )
    assert logs.flush()
    assert "hunter2" not in (tmp_path / "logs" / "app-2026-11-22.log").read_text()


def test_standard_library_warnings_are_included_and_info_is_not(logs, tmp_path):
    logging.getLogger("httpx").warning("GET %s", "/bot123456:AAAAAAAAAAAAAAAAAAAAAAAAAA/getMe")
    logging.getLogger("httpx").log(35, "odd level")
    logging.getLogger("httpx").info("GET /")
    broken = logging.Logger("httpx")
    for handler in logging.getLogger().handlers:
        if type(handler).__module__ == "engine.observability.logs":
            broken.addHandler(handler)
    broken.warning("broken %d", "x")
    assert logs.flush()
    written = lines(tmp_path / "logs", "app-2026-11-22.log")
    assert [(line["logger"], line["event"]) for line in written] == [
        ("httpx", "GET /bot123456:***/getMe"),
        ("httpx", "odd level"),
        ("httpx", "broken %d"),
    ]


def test_close_writes_what_waits_and_later_lines_go_elsewhere(tmp_path, clock, capsys):
    configured = configure(tmp_path, "info", 30, console="off", clock=clock)
    for number in range(3000):
        structlog.get_logger().info("line", number=number)
    assert configured.close()
    assert configured.close()
    assert [line["number"] for line in lines(tmp_path, "app-2026-11-22.log")] == list(range(3000))
    structlog.get_logger().info("late")
    assert "late" in capsys.readouterr().out
    assert not [thread for thread in threading.enumerate() if thread.name == "log-writer"]


def test_stderr_mirror_is_json_when_it_is_no_terminal(tmp_path, clock, capfd):
    configured = configure(tmp_path, "info", 30, console="json", clock=clock)
    structlog.get_logger().info("hello")
    configured.close()
    assert json.loads(capfd.readouterr().err)["event"] == "hello"


@pytest.mark.parametrize(
    ("level", "retention_days", "field"), [("loud", 30, "logging.level"), ("info", 0, "logging.retention_days")]
)
def test_bad_setting_is_named(tmp_path, level, retention_days, field):
    with pytest.raises(ConfigError, match=field):
        configure(tmp_path, level, retention_days, console="off")


def test_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"logging\.dir"):
        configure(tmp_path / "file" / "logs", "info", 30, console="off")


class Hostile:
    def __str__(self):
        raise RuntimeError("no")

    __repr__ = __str__


@pytest.mark.parametrize("value", ["\ud800", 2**200, math.nan, math.inf, Hostile(), {1: {2: Hostile()}}, {"a", "b"}])
def test_render_of_an_odd_value_is_still_one_json_line(value):
    line = render({"event": "odd", "value": value, "level": "info"}, LATE)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert json.loads(line)["timestamp"] == "2026-11-21T19:00:00.000000Z"


@settings(max_examples=60)
@given(st.dictionaries(st.text(), st.text() | st.floats() | st.integers() | st.lists(st.text()), max_size=4))
def test_render_of_anything_is_one_json_line_without_control_characters(event):
    line = render(event, LATE)
    json.loads(line)
    assert not any(byte < 32 or byte == 127 for byte in line[:-1])


def test_timestamp_cannot_be_overwritten():
    assert json.loads(render({"timestamp": "1970"}, LATE))["timestamp"] == "2026-11-21T19:00:00.000000Z"


def test_readable_line_shows_ist_and_escapes_controls():
    event = {
        "event": "order_sent",
        "level": "warning",
        "symbol": "A\x1b[2J",
        "note": "two words",
        "exception": "a\nb\x1b",
    }
    shown = as_readable(render(event, LATE)).decode()
    assert shown == '00:30:00.000 WARNING order_sent symbol=A\\u001b[2J note="two words"\n    a\n    b\\u001b\n'


@pytest.mark.parametrize("line", [b"not json\n", b"{}\n", b'{"timestamp":"x"}\n'])
def test_line_that_cannot_be_read_is_shown_as_it_is(line):
    assert as_readable(line) == line


# the writer


def fill(fd):
    while True:
        os.write(fd, b"x" * 4096)


def writer(directory, **settings):
    made = LogWriter(directory, settings.pop("retention_days", 30), **settings)
    made.start()
    return made


def test_terminal_mirror_is_readable(tmp_path):
    controller, terminal = os.openpty()
    made = writer(tmp_path, mirror_fd=terminal, readable=as_readable)
    made.put(DAY, render({"event": "hello", "level": "info"}, LATE), is_error=False)
    assert made.close(5)
    assert os.read(controller, 1000).startswith(b"00:30:00.000 INFO    hello")
    os.close(controller)
    os.close(terminal)


def test_full_queue_drops_and_counts_and_says_so_later(tmp_path):
    made = LogWriter(tmp_path, 30, max_lines=10)
    for number in range(25):
        made.put(DAY, b'{"n":%d}\n' % number, is_error=False)
    assert made.dropped == 15
    made.start()
    assert made.close(5)
    written = lines(tmp_path, "app-2026-11-22.log")
    assert [line["n"] for line in written[:10]] == list(range(10))
    assert (written[10]["event"], written[10]["total"]) == ("log_lines_lost", 15)


def test_queue_is_bounded_in_bytes_too(tmp_path):
    made = LogWriter(tmp_path, 30, max_bytes=100)
    for _ in range(3):
        made.put(DAY, b"x" * 39 + b"\n", is_error=False)
    assert made.dropped == 1
    made.start()
    assert made.flush(5)
    made.put(DAY, b"x" * 39 + b"\n", is_error=False)
    assert made.close(5)
    assert made.dropped == 1


def test_put_after_close_is_dropped_and_counted(tmp_path):
    made = writer(tmp_path)
    assert made.close(5)
    made.put(DAY, b"{}\n", is_error=False)
    assert made.dropped == 1


def test_full_disk_loses_lines_but_errors_reach_the_last_resort(tmp_path):
    (tmp_path / "app-2026-11-22.log").symlink_to("/dev/full")
    read, write = os.pipe()
    made = writer(tmp_path, last_resort_fd=write)
    made.put(DAY, b'{"event":"fine"}\n', is_error=False)
    made.put(DAY, b'{"event":"bad"}\n', is_error=True)
    assert made.flush(5)
    assert made.lost == 2
    shown = os.read(read, 10_000)
    assert b'"bad"' in shown
    assert b"log_files_cannot_be_written" in shown
    assert [line["event"] for line in lines(tmp_path, "error-2026-11-22.log")] == ["bad"]

    (tmp_path / "app-2026-11-22.log").unlink()  # the disk has room again
    made.put(DAY, b'{"event":"after"}\n', is_error=False)
    assert made.close(5)
    text = (tmp_path / "app-2026-11-22.log").read_text()
    written = [json.loads(line) for line in text.splitlines() if line]
    assert [line["event"] for line in written] == ["after", "log_lines_lost"]
    assert written[1]["total"] == 2
    os.close(read)
    os.close(write)


def test_slow_sink_never_holds_up_putting(tmp_path):
    read, write = os.pipe()
    os.set_blocking(write, False)
    with pytest.raises(BlockingIOError):
        fill(write)
    os.set_blocking(write, True)  # full, and nobody reads: the writer thread blocks on it
    made = writer(tmp_path, mirror_fd=write, max_lines=50)
    for _ in range(5000):
        made.put(DAY, b"x" * 999 + b"\n", is_error=False)
    assert made.dropped > 0
    assert made.close(0.05) is False
    os.close(read)  # the pipe breaks, the thread gets free
    assert made.close(5)
    os.close(write)


def test_files_past_retention_are_deleted_and_others_left(tmp_path):
    for name in (
        "app-2026-10-22.log",
        "app-2026-10-23.log",
        "error-2025-01-01.log",
        "notes-2020-01-01.log",
        "kill.now",
    ):
        (tmp_path / name).touch()
    made = writer(tmp_path, retention_days=30)
    made.put(DAY, b"{}\n", is_error=False)
    assert made.close(5)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "app-2026-10-23.log",
        "app-2026-11-22.log",
        "kill.now",
        "notes-2020-01-01.log",
    ]


def test_lines_of_many_threads_are_whole(tmp_path):
    made = writer(tmp_path)

    def put_many(who):
        for number in range(500):
            made.put(DAY, b'{"who":%d,"n":%d}\n' % (who, number), is_error=False)

    threads = [threading.Thread(target=put_many, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made.close(5)
    written = lines(tmp_path, "app-2026-11-22.log")
    for who in range(4):
        assert [line["n"] for line in written if line["who"] == who] == list(range(500))
