"""Log files under a day's turn, a bound of size, logrotate and a full disk: no line is lost that could be written."""

import json
import os
import shutil
import threading
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import structlog

from engine.domain.audit import GENESIS, AuditDraft, seal
from engine.observability.log_writer import LogWriter
from engine.observability.logs import IDS, as_readable, audit_line, configure, copy_audit, lines_lost, note_intents

DAY = date(2026, 11, 30)
NEXT = date(2026, 12, 1)
AT = datetime(2026, 11, 30, 4, 0, tzinfo=UTC)


@pytest.fixture
def writer(tmp_path):
    made = LogWriter(tmp_path, 90, max_file_bytes=2000, last_resort_fd=os.open(os.devnull, os.O_WRONLY))
    made.start()
    yield made
    made.close(5)


def numbers(folder: Path, pattern: str = "app-*") -> list[int]:
    rows = [json.loads(row) for path in folder.glob(pattern) for row in path.read_text().splitlines() if row]
    return sorted(row["n"] for row in rows if "n" in row)


def put(writer, numbers_, day=DAY):
    for number in numbers_:
        writer.put(day, b'{"n":%d}\n' % number, is_error=False)
    assert writer.flush(5)


def test_full_file_is_followed_by_another_and_holds_whole_lines(writer, tmp_path):
    for first in range(0, 600, 20):
        put(writer, range(first, first + 20))
    files = sorted(path.name for path in tmp_path.glob("app-*"))
    assert {"app-2026-11-30.log", "app-2026-11-30.1.log", "app-2026-11-30.2.log"} <= set(files)
    assert all(path.stat().st_size <= 2000 for path in tmp_path.glob("app-*"))
    assert numbers(tmp_path) == list(range(600))


def test_renaming_files_under_the_engine_loses_no_line(writer, tmp_path):
    path, over = tmp_path / "app-2026-11-30.log", threading.Event()

    def rotate():
        for turn in range(20):
            if path.exists():
                path.rename(tmp_path / f"app-2026-11-30.log.{turn}")
            over.wait(0.005)

    rotator = threading.Thread(target=rotate)
    rotator.start()
    for first in range(0, 1000, 10):
        put(writer, range(first, first + 10))
    over.set()
    rotator.join()
    assert numbers(tmp_path) == list(range(1000))


def test_file_that_was_copied_and_emptied_goes_on_from_its_beginning(writer, tmp_path):
    path = tmp_path / "app-2026-11-30.log"
    put(writer, range(50))
    shutil.copy(path, tmp_path / "app-2026-11-30.log.1")
    os.truncate(path, 0)
    put(writer, range(50, 60))
    assert b"\0" not in path.read_bytes()
    assert numbers(tmp_path) == list(range(60))


def test_midnight_begins_new_files_and_old_ones_of_every_name_go(writer, tmp_path):
    (tmp_path / "audit").mkdir()
    old = ["app-2026-08-31.log", "error-2026-08-31.2.log", "app-2026-08-31.log.1.gz", "audit/audit-2026-08-31.log"]
    kept = ["app-2026-09-05.log.gz", "audit/audit-2026-09-05.log", "other-2020-01-01.log"]
    for name in (*old, *kept):
        (tmp_path / name).touch()
    put(writer, [1])
    put(writer, [2], NEXT)
    assert numbers(tmp_path, "app-2026-12-01.log") == [2]
    assert [name for name in old if (tmp_path / name).exists()] == []
    assert [name for name in kept if not (tmp_path / name).exists()] == []


def test_full_disk_costs_lines_that_are_counted_and_ends_with_the_room(writer, tmp_path):
    path = tmp_path / "app-2026-11-30.log"
    path.symlink_to("/dev/full")
    put(writer, range(10))
    assert writer.lost >= 1
    path.unlink()
    put(writer, range(10, 20))
    assert numbers(tmp_path) == list(range(10, 20))
    assert "log_lines_lost" in path.read_text()


def record(number=1, **content):
    draft = AuditDraft(at=AT, actor="system", action="TRIED", subject="order:1", content=content)
    return seal(GENESIS, number, draft)


def test_audit_records_are_copied_with_their_place_in_the_chain_and_without_secrets(tmp_path):
    logs = configure(tmp_path, "warn", 90, console="off")
    sealed = [record(1, quantity=5), record(2, apiSecret="hunter2hunter2", text="Authorization: token abc:def123")]
    copy_audit(sealed)
    assert logs.flush()
    logs.close()
    rows = [json.loads(row) for row in (tmp_path / "audit" / "audit-2026-11-30.log").read_text().splitlines()]
    assert [(row["seq"], row["hash"]) for row in rows] == [(each.seq, each.hash.hex()) for each in sealed]
    assert rows[0]["content"] == {"quantity": 5}
    assert rows[1]["content"] == {"apiSecret": "***", "text": "Authorization: ***"}
    assert (tmp_path / "audit" / "audit-2026-11-30.log").stat().st_mode & 0o777 == 0o600
    copy_audit(sealed)  # no logs any more: nothing happens
    assert lines_lost() == 0


def test_audit_line_cannot_be_forged_by_its_content():
    (line,) = audit_line(record(1, text='x\n{"seq":2}\u2028\u202e')).decode().splitlines()
    assert json.loads(line)["content"]["text"].startswith("x\n")


def test_ids_of_the_task_and_the_request_that_brought_an_intent_stand_on_its_lines(tmp_path):
    logs = configure(tmp_path, "info", 90, console="off")
    note_intents(["i-1"], "req-7")
    token = IDS.set({"intent_id": "i-1", "order_id": None})
    structlog.get_logger().info("sent")
    IDS.reset(token)
    structlog.get_logger().info("elsewhere")
    assert logs.flush()
    logs.close()
    (path,) = tmp_path.glob("app-*")
    first, second = map(json.loads, path.read_text().splitlines())
    assert (first["intent_id"], first["request_id"], "order_id" in first) == ("i-1", "req-7", False)
    assert "intent_id" not in second


def test_terminal_form_is_coloured_by_level_and_by_nothing_that_is_logged():
    line = b'{"timestamp":"2026-11-30T04:00:00Z","level":"error","event":"x \\u001b[32m","a":1}\n'
    shown = as_readable(line, coloured=True)
    assert shown.startswith(b"\x1b[31m09:30:00.000 ERROR")
    assert shown.count(b"\x1b") == 2
    assert b"\x1b" not in as_readable(line)


SECRETS = {
    "kite authorization": "Authorization: token kitekey123:kitetoken456",
    "bearer": "sent with Bearer eyJhbGciOi.eyJzdWIi.c2lnbmF0dXJl",
    "api key": "api_key=k1tek3yk1tek3y",
    "access token": '{"access_token": "br0kert0ken"}',
    "telegram": "https://api.telegram.org/bot8123456789:AAF-abcdefghijklmnopqrstuvwxyz012/sendMessage",
    "dsn": "postgresql://engine:dbpassw0rd@host/db",
    "totp": "totp=492039",
    "password": "password: correct-horse",
    "checksum": "checksum=abcdef0123456789",
    "webhook": "X-Signature: 5f5f5f5f5f5f",
}
PARTS = (
    "kitekey123", "kitetoken456", "c2lnbmF0dXJl", "k1tek3yk1tek3y", "br0kert0ken", "AAF-abcdef", "dbpassw0rd",
    "492039", "correct-horse", "abcdef0123456789", "5f5f5f5f5f5f",
)  # fmt: skip


def test_secrets_of_every_kind_reach_no_file_by_any_road(tmp_path, capfd):
    logs = configure(tmp_path, "debug", 90, console="json")
    log = structlog.get_logger("engine.x")
    for name, text in SECRETS.items():
        log.info(f"said {text}")
        log.warning("fact", text=text, nested={"deep": [text]})
        try:
            raise ValueError(text)
        except ValueError:
            log.exception("failed")
        token = IDS.set({"request_id": text})
        log.info("bound")
        IDS.reset(token)
        structlog.stdlib.logging.getLogger("httpx").warning("foreign %s", text)
        copy_audit([record(1, what=text, inner={"list": [text]})])
        log.info("by key", otp="492039", apiSecret="br0kert0ken", Authorization="kitetoken456", name=name)
    assert logs.flush()
    logs.close()
    shown = capfd.readouterr().err + "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert len(shown.splitlines()) > 100
    assert [part for part in PARTS if part in shown] == []
