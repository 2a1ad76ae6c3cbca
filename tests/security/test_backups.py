"""A backup stolen, and a backup restored while the world went on (SEC-078): useless to the one, safe for the other."""

import contextlib
import io
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from secrets import token_hex
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import httpx
import msgspec
import pytest
import redis

from engine.backup.checking import check
from engine.cli.root import main
from engine.clock import SystemClock
from engine.config import decode_key
from engine.domain.delivery import Delivery, Item
from engine.domain.enums import Exchange, OrderType, ProductType, TransactionType
from engine.domain.signal import Signal
from engine.ids import intent_id
from engine.journal import entry as journal_entry
from engine.journal import keys as journal_keys
from engine.security.keys import derive
from engine.security.sealed_file import FileKey
from tests.support.engine import EngineProcess, market_order
from tests.support.servers import TestServers

ENVIRONMENT = {"ENGINE__BACKUP__DIR": "daily"}


class Said(NamedTuple):
    """What a command came to."""

    returncode: int
    stdout: str
    stderr: str


def cli(folder: Path, *arguments: str, said: str = "", **environment: str) -> Said:
    """Run a command in *folder* as the program does, but in this process: a Python to start costs more than it does."""
    out, err = io.StringIO(), io.StringIO()
    before = dict(os.environ)
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        for name in [name for name in before if name.startswith("ENGINE")]:
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setattr(sys, "stdin", io.StringIO(said))
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
    return Said(int(ended.value.code or 0), out.getvalue(), err.getvalue())


def stores_of(engine: EngineProcess) -> dict[str, str]:
    return {key: value for key, value in engine._environment.items() if key.endswith("__URL")}


@pytest.fixture(scope="module")
def taken(engine: EngineProcess, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A backup made by the command while the engine trades, and the intents that were executed before it."""
    done = [_traded(engine) for _ in range(3)]
    for number in done:
        engine.wait_for("the fill", lambda n=number: engine.get(f"/signals/intents/{n}")["status"] == "EXECUTED")
    file = tmp_path_factory.mktemp("kept") / "engine.backup"
    is_over = threading.Event()

    def trade() -> None:
        while not is_over.is_set():
            _traded(engine)

    trading = threading.Thread(target=trade)
    trading.start()
    try:
        made = cli(engine.folder, "backup", str(file), **stores_of(engine))
    finally:
        is_over.set()
        trading.join()
    assert made.returncode == 0, made.stderr
    return file, done


@pytest.fixture
def place(servers: TestServers, tmp_path: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder for another engine, an empty database and an empty Valkey."""
    redis_url = f"{servers.redis_url}?db=13"
    servers.flush(redis_url)
    name = f"restored_{tmp_path.name}"
    yield (
        tmp_path,
        {
            "ENGINE__DATABASE__URL": servers.create_database(name),
            "ENGINE__REDIS__URL": redis_url,
            "ENGINE__LIMITS__LOGIN_PER_MINUTE": "1000",
        },
    )
    servers.drop_database(name)


def _traded(engine: EngineProcess, symbol: str = "SBIN") -> str:
    answer = engine.signal(market_order(symbol), key=uuid4().hex)
    assert answer.status_code == 202, answer.text
    number: str = answer.json()["data"]["intentId"]
    return number


def test_sec_078_a_stolen_backup_tells_nothing_and_opens_for_no_other_key(
    engine: EngineProcess, servers: TestServers, taken: tuple[Path, list[str]], place: tuple[Path, dict[str, str]]
) -> None:
    file, _ = taken
    folder, environment = place
    content = file.read_bytes()
    assert file.stat().st_mode & 0o077 == 0
    for secret in (engine.source[0], engine.source[1], "admin@localhost", "argon2", "SBIN", "trade_intents"):
        assert secret.encode() not in content
    refused = cli(folder, "restore", str(file), **environment)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1), refused.stderr
    assert "put back the keys" in refused.stderr
    foreign = folder / ".engine" / "keys"
    foreign.mkdir(mode=0o700, parents=True)
    (foreign / "master.key").write_text(token_hex(32))
    (foreign / "master.key").chmod(0o600)
    refused = cli(folder, "restore", str(file), **environment)
    assert (refused.returncode, "put back the keys" in refused.stderr) == (1, True), refused.stderr
    database = environment["ENGINE__DATABASE__URL"].partition("?")[0].rpartition("/")[2]
    assert servers.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", database) == "0"


def test_a_restored_engine_sends_nothing_until_a_person_has_looked(
    engine: EngineProcess, taken: tuple[Path, list[str]], place: tuple[Path, dict[str, str]]
) -> None:
    file, done = taken
    folder, environment = place
    old_token = engine.login()
    keys = folder / ".engine" / "keys"
    shutil.copytree(engine.data_dir / "keys", keys)
    restored = cli(folder, "restore", str(file), **environment)
    assert restored.returncode == 0, restored.stderr
    assert "KILL SWITCH IS ON" in restored.stdout
    again = cli(folder, "restore", str(file), **environment)
    assert (again.returncode, "is not empty" in again.stderr) == (1, True), again.stderr
    verified = cli(folder, "audit", "verify", **environment)
    assert verified.returncode == 0, verified.stdout + verified.stderr

    source = engine.get("/sources")[0]
    waits = _leave_in_journal(environment["ENGINE__REDIS__URL"], keys, source, engine)
    with EngineProcess(folder, **environment) as second:
        second.lines += [line for line in engine.lines if line.startswith("sheets source")]
        stale = {"Authorization": f"Bearer {old_token}"}
        assert httpx.get(f"{second.base_url}/api/v1/auth/me", headers=stale, timeout=10).status_code == 401
        (scope,) = [s for s in second.get("/risk/killswitch/status")["scopes"] if s["scope"] == "global"]
        assert (scope["enabled"], scope["mode"]) == (True, "BLOCK")
        assert scope["reason"].startswith("RESTORED")
        for number in done:
            assert second.get(f"/signals/intents/{number}")["status"] == "EXECUTED"
        assert second.get("/audit/verify")["ok"] is True
        # a signal that was accepted and not yet decided: it ends in a named state, and nothing of it was sent
        ended = second.wait_for("its end", lambda: _ended(second, waits))
        assert ended["status"] in ("REJECTED", "EXPIRED", "CANCELLED")
        assert "KILL_SWITCH" in ended["reason"]
        assert [o for o in ended["orders"] if o["brokerOrderId"]] == []
        refused = second.signal(market_order(), key=uuid4().hex)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "KILL_SWITCH")
        lift = {"scope": "global", "reason": "compared with the broker", "force": True}
        assert second.request("POST", "/risk/killswitch/disable", json=lift).status_code == 200
        # an order that was on its way at the backup may hold its own symbol until the book has settled it
        number = _traded(second, "INFY")
        second.wait_for("the fill", lambda: second.get(f"/signals/intents/{number}")["status"] == "EXECUTED")
        assert second.get(f"/signals/intents/{waits}")["status"] == ended["status"]


def _ended(engine: EngineProcess, number: UUID) -> dict[str, Any] | None:
    answer = engine.request("GET", f"/signals/intents/{number}")
    found: dict[str, Any] = answer.json().get("data") or {}
    return found if found.get("status") in ("REJECTED", "EXPIRED", "CANCELLED", "FAILED") else None


def _leave_in_journal(url: str, keys: Path, source: dict[str, Any], engine: EngineProcess) -> UUID:
    """Put a fresh signal into the journal, as one that was accepted last before the end; return its intent's id."""
    master = decode_key((keys / "master.key").read_text().strip())
    signal = Signal(
        symbol="SBIN",
        exchange=Exchange.NSE,
        transaction_type=TransactionType.BUY,
        quantity=1,
        order_type=OrderType.LIMIT,
        product_type=ProductType.MIS,
        price=Decimal(815),
    )
    strategy = engine.get(f"/strategies/{source['strategyId']}")
    delivery = Delivery(
        source_id=UUID(source["id"]),
        strategy_id=UUID(source["strategyId"]),
        user_id=UUID(strategy["userId"]),
        idempotency_key=uuid4().hex,
        body_sha256=b"b" * 32,
        received_at=SystemClock().now(),
        request_id=None,
        items=(Item(position=0, signal=signal),),
    )
    client = redis.Redis.from_url(url)
    try:
        epoch = journal_keys.read_name(client.get(journal_keys.EPOCH).decode())[0]
        client.xadd(journal_keys.stream(epoch), {"e": journal_entry.encode(delivery, derive(master, "journal"))})
    finally:
        client.close()
    return intent_id(delivery.source_id, delivery.idempotency_key, 0)


def test_the_daily_backup_is_made_beside_the_engine_and_opens(engine: EngineProcess) -> None:
    folder = engine.folder / "daily"
    (made,) = engine.wait_for("the daily backup", lambda: list(folder.glob("engine-*.backup")))
    keys = engine.data_dir / "keys" / "master.key"
    checked = check(made, FileKey(masters=(decode_key(keys.read_text().strip()),)))
    assert checked.manifest.audit_records > 0
    assert checked.key_files is None
    (record,) = engine.wait_for("its record", lambda: engine.get("/audit", subject=f"backup:{made.name}"))
    assert (record["actor"], record["action"]) == ("system", "BACKUP_MADE")
    told = cli(engine.folder, "doctor", "--json", **stores_of(engine), **ENVIRONMENT).stdout
    (finding,) = [found for found in msgspec.json.decode(told) if found["check"] == "backup"]
    assert finding["ok"]


def test_a_backup_is_proved_by_an_engine_that_starts_on_it_and_leaves_nothing(
    engine: EngineProcess, taken: tuple[Path, list[str]]
) -> None:
    file, _ = taken
    before = set(Path(tempfile.gettempdir()).glob("engine-trial-*"))
    told = cli(engine.folder, "backup", "verify", str(file), "--json", **stores_of(engine))
    assert told.returncode == 0, told.stderr
    proof = msgspec.json.decode(told.stdout)
    assert (proof["started"], proof["killSwitch"]) == (True, "global")
    assert proof["rows"] > 0
    assert set(Path(tempfile.gettempdir()).glob("engine-trial-*")) <= before


def test_a_backup_with_its_keys_opens_with_its_passphrase_alone(
    engine: EngineProcess, place: tuple[Path, dict[str, str]]
) -> None:
    folder, environment = place
    file = folder / "whole.backup"
    passphrase = "a passphrase for the safe\n"

    naked = cli(engine.folder, "backup", str(file), "--with-keys", **stores_of(engine))
    assert naked.returncode == 2
    made = cli(
        engine.folder, "backup", str(file), "--with-keys", "--passphrase-stdin", said=passphrase, **stores_of(engine)
    )
    assert made.returncode == 0, made.stderr
    wrong = cli(folder, "restore", str(file), "--passphrase-stdin", said="some other passphrase\n", **environment)
    assert (wrong.returncode, "passphrase is wrong" in wrong.stderr) == (1, True), wrong.stderr
    assert not (folder / ".engine" / "keys").exists()
    right = cli(folder, "restore", str(file), "--passphrase-stdin", "--json", said=passphrase, **environment)
    assert right.returncode == 0, right.stderr
    for name in ("master.key", "jwt.key"):
        kept = folder / ".engine" / "keys" / name
        assert kept.stat().st_mode & 0o777 == 0o600
        assert decode_key(kept.read_text().strip()) == decode_key((engine.data_dir / "keys" / name).read_text().strip())
