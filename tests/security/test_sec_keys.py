"""Attacks on stored secrets and on the audit log of a running engine (SEC-070, 074, 076 to 079, 081, 082, 085)."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import trio

from engine.cli.audit_proof import Proof, prove
from engine.domain.audit import AuditDraft, AuditRecord, seal
from engine.errors import ConfigError, StartupError
from engine.runtime.asyncio_bridge import open_aio
from engine.secret import Secret
from engine.security.checkpoint_book import checkpoint_files, public_key_of
from engine.security.envelope import KeyRing
from engine.security.keys import load_or_create
from engine.security.kill_seal import KillSeal
from engine.security.wrapping import Kek
from engine.store import data_keys, directory
from engine.store.audit_pages import page
from engine.store.database import Database
from engine.store.directory import Vault
from tests.support import forks
from tests.support.engine import EngineProcess, limit_order, market_order
from tests.support.servers import TestServers

APP_SECRET, TOKEN = uuid4().hex, uuid4().hex


def keys_of(engine: EngineProcess) -> Any:
    return load_or_create(master_key=None, jwt_secret=None, data_dir=engine.data_dir)


def command(engine: EngineProcess, *words: str) -> "subprocess.CompletedProcess[str]":
    return forks.command(
        *words,
        cwd=engine.folder,
        env=engine._environment,
        timeout=60,
    )


def in_store(url: str, unit: Callable[[Any], Any]) -> Any:
    """What *unit* returns of a connection to the store, as whoever owns it."""

    async def work() -> Any:
        async with open_aio(lambda _report: None):
            database = Database(url, max_connections=1)
            await database.open()
            try:
                return await unit(database)
            finally:
                await database.close()

    try:
        return trio.run(work)
    except BaseExceptionGroup as group:
        leaf: BaseException = group
        while isinstance(leaf, BaseExceptionGroup):
            leaf = leaf.exceptions[0]
        raise leaf from None


# one of its own: it is stopped here
ENVIRONMENT: dict[str, str] = {}


@pytest.fixture(scope="module")
def url(engine: EngineProcess) -> str:
    return str(engine._environment["ENGINE__DATABASE__URL"])


@pytest.fixture(scope="module")
def account(engine: EngineProcess) -> str:
    """A kite account with an application's secret and a session."""
    body = {"label": "kite", "broker": "kite", "apiKey": "canary-key", "apiSecret": APP_SECRET, "accessToken": TOKEN}
    made = engine.request("POST", "/accounts", json=body)
    assert made.status_code == 201, made.text
    return str(made.json()["data"]["id"])


def test_sec_076_account_shows_no_secret_to_anybody(engine: EngineProcess, account: str) -> None:
    for answer in (engine.request("GET", f"/accounts/{account}"), engine.request("GET", "/accounts")):
        assert answer.status_code == 200
        for secret in (APP_SECRET, TOKEN):
            # four characters at most
            assert not any(secret[at : at + 5] in answer.text for at in range(len(secret) - 4))
    changed = engine.request("PATCH", f"/accounts/{account}", json={"apiSecret": APP_SECRET})
    assert APP_SECRET not in changed.text


def test_sec_078_copy_of_the_store_opens_nothing_without_the_master_key(
    engine: EngineProcess, servers: TestServers, database_name: str, url: str, account: str
) -> None:
    tables = servers.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", database_name).split()
    dump = "".join(servers.sql(f'SELECT t::text FROM "{table}" t', database_name) for table in tables)
    keys = keys_of(engine)
    raw = [APP_SECRET.encode(), TOKEN.encode(), keys.master, keys.journal, keys.tag, keys.audit, keys.keks[0].file_key]
    assert "data_key_wraps" in tables
    assert [secret for secret in raw if secret.hex() in dump or secret.decode("latin-1") in dump] == []
    thief = Vault(KeyRing([b"t" * 32], keks=[Kek(b"another master key of 32 bytes..")]))
    with pytest.raises(Exception, match="stored secret cannot be read"):
        in_store(url, lambda database: database.run(lambda c: directory.load(c, thief, directory.Directory())))
    with pytest.raises(StartupError, match="do not open"):
        in_store(url, lambda database: database.run(lambda c: data_keys.stored_root(c, thief.ring.keks)))


def test_sec_074_keys_change_while_the_engine_trades_and_the_old_one_opens_nothing(
    engine: EngineProcess, url: str, servers: TestServers, database_name: str, account: str
) -> None:
    before = keys_of(engine)
    scope = {"scope": "global", "reason": "drill", "squareOff": False}
    assert engine.request("POST", "/risk/killswitch/enable", json=scope).status_code == 200
    off = {"scope": "global", "reason": "over", "force": True}
    assert engine.request("POST", "/risk/killswitch/disable", json=off).status_code == 200
    waiting = engine.signal(limit_order(price=805.0), key="before-the-change")
    assert waiting.status_code == 202
    master = (engine.data_dir / "keys" / "master.key").read_bytes()
    resting = _resting(engine)
    done = command(engine, "keys", "rotate", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["isFinished"]
    assert report["resealed"] >= 4
    after = keys_of(engine)
    assert (after.tag, after.master) == (before.tag, before.master)
    assert (engine.data_dir / "keys" / "master.key").read_bytes() != master
    # the engine that runs trades on, and seals under the new keys
    assert engine.signal(market_order("SBIN"), key="after-the-change").status_code == 202
    engine.wait_for("a fill", lambda: engine.get("/executions/orders", status="COMPLETE"))
    body = {"label": "later", "broker": "kite", "apiKey": "later", "apiSecret": "later-secret"}
    assert engine.request("POST", "/accounts", json=body).status_code == 201
    listed = json.loads(command(engine, "keys", "list", "--json").stdout)
    assert {kek for key in listed["keys"] for kek in key["kekIds"]} == {report["masterKey"]}
    assert listed["engine"]["keks"] == [report["masterKey"]]
    assert listed["waiting"] == 0
    unknown = "SELECT count(*) FROM kite_accounts WHERE api_secret IS NOT NULL AND data_key_of(api_secret) IS NULL"
    assert servers.sql(unknown, database_name) == "0"
    # with the old key, everything else being there
    thief = Vault(KeyRing([Kek(master).file_key], keks=[Kek(master)]))
    with pytest.raises(Exception, match="stored secret cannot be read"):
        in_store(url, lambda database: database.run(lambda c: directory.load(c, thief, directory.Directory())))
    # a start with the new key alone knows its order and its kill records again
    assert engine.stop() == 0
    engine.start()
    held = engine.get("/risk/killswitch/status")
    assert '"enabled": true' not in json.dumps(held), held
    assert KillSeal(keys_of(engine).master)._key == KillSeal(before.master)._key
    assert _resting(engine) == resting, "an order was doubled or is not ours any more"
    assert engine.signal(limit_order(price=805.0), key="before-the-change").json()["data"] is not None
    assert _resting(engine) == resting


def _resting(engine: EngineProcess) -> list[str]:
    def look() -> list[str]:
        return [order["id"] for order in engine.get("/executions/orders", status="OPEN")]

    return list(engine.wait_for("the resting order", look))


# files of keys


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_sec_077_key_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    load_or_create(master_key=None, jwt_secret=None, data_dir=tmp_path)
    path = tmp_path / "keys" / "master.key"
    path.chmod(mode)
    with pytest.raises(StartupError, match=f"chmod 600 {path}"):
        load_or_create(master_key=None, jwt_secret=None, data_dir=tmp_path)


def test_sec_077_key_file_that_is_a_link_is_refused(tmp_path: Path) -> None:
    load_or_create(master_key=None, jwt_secret=None, data_dir=tmp_path)
    path = tmp_path / "keys" / "master.key"
    path.rename(tmp_path / "elsewhere.key")
    path.symlink_to(tmp_path / "elsewhere.key")
    with pytest.raises(StartupError, match="key file"):
        load_or_create(master_key=None, jwt_secret=None, data_dir=tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="another user is needed to attack as")
def test_sec_077_engines_memory_and_environment_are_closed_to_others_of_its_user(engine: EngineProcess) -> None:
    assert engine.process is not None
    # what the kernel lets nobody but root read belongs to root
    for name in ("environ", "mem", "fd"):
        assert os.stat(f"/proc/{engine.process.pid}/{name}").st_uid == 0
    attack = "import os, sys; os.setuid(65534); open(sys.argv[1], 'rb').read()"
    for name in ("environ", "mem", "maps"):
        path = f"/proc/{engine.process.pid}/{name}"
        tried = subprocess.run([sys.executable, "-c", attack, path], capture_output=True, text=True, timeout=20)
        assert "Permission" in tried.stderr or "not permitted" in tried.stderr


def test_sec_077_short_and_placeholder_keys_are_refused(tmp_path: Path) -> None:
    for weak in ("short", "a" * 40, "change-me-change-me-change-me-change-me"):
        with pytest.raises(ConfigError, match=r"security\.master_key"):
            load_or_create(master_key=Secret(weak), jwt_secret=None, data_dir=tmp_path)


# the audit log


def proof_of(engine: EngineProcess, url: str, folder: Path | None = None) -> Proof:
    key = public_key_of(keys_of(engine).audit)
    return in_store(url, lambda database: prove(database, folder or engine.data_dir / "audit", key))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def stopped(engine: EngineProcess, url: str) -> EngineProcess:
    """The engine, stopped: its last checkpoint covers its whole log."""
    assert engine.stop() == 0
    return engine


@pytest.fixture(autouse=True)
def undone(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "stopped" in request.fixturenames:
        assert proof_of(request.getfixturevalue("stopped"), request.getfixturevalue("url")).ok


@contextlib.contextmanager
def as_superuser(servers: TestServers, database_name: str, statement: str) -> Iterator[None]:
    """*statement* is done with every guard of the log off, and undone after."""
    servers.sql("CREATE TABLE kept AS SELECT * FROM audit_logs", database_name)
    guards = (
        "DO $$ DECLARE part regclass; BEGIN FOR part IN SELECT relid FROM pg_partition_tree('audit_logs') LOOP "
        "EXECUTE format('ALTER TABLE %s {} TRIGGER ALL', part); END LOOP; END $$"
    )
    servers.sql(guards.format("DISABLE"), database_name)
    try:
        servers.sql(statement, database_name)
        yield
    finally:
        # the parts have a guard of their own
        servers.sql("SET session_replication_role = replica; TRUNCATE audit_logs", database_name)
        servers.sql("INSERT INTO audit_logs SELECT * FROM kept", database_name)
        servers.sql("DROP TABLE kept", database_name)
        servers.sql(guards.format("ENABLE"), database_name)


def test_sec_081_rewritten_cut_and_forked_logs_are_found_with_the_record_named(
    stopped: EngineProcess, servers: TestServers, database_name: str, url: str
) -> None:
    whole = proof_of(stopped, url)
    assert whole.checkpoints >= 2
    records: list[AuditRecord] = in_store(url, lambda database: database.run(lambda c: page(c, after_seq=0)))
    at = len(records) - 3
    forged, prev = [], records[at - 1].hash
    for record in records[at:]:
        draft = AuditDraft(at=record.at, actor="user:nobody", action=record.action, subject=record.subject)
        forged.append(seal(prev, record.seq, draft))
        prev = forged[-1].hash
    rows = ", ".join(
        f"({r.seq}, '{r.at.isoformat()}', '{r.actor}', '{r.action}', '{r.subject}', '{r.content}',"
        f" '\\x{r.prev_hash.hex()}', '\\x{r.hash.hex()}')"
        for r in forged
    )
    rewrite = f"DELETE FROM audit_logs WHERE seq > {at}; INSERT INTO audit_logs VALUES {rows}"
    with as_superuser(servers, database_name, rewrite):
        answer = command(stopped, "audit", "verify", "--json")
        assert answer.returncode == 1
        told = json.loads(answer.stdout)
        assert (told["ok"], told["records"]) == (False, len(records))
        assert told["firstBroken"] <= at + 1
        assert "were rewritten" in told["problems"][0]
    with as_superuser(servers, database_name, f"DELETE FROM audit_logs WHERE seq > {at}"):
        cut = proof_of(stopped, url)
        assert (cut.ok, cut.first_broken) == (False, at + 1)
        assert "its tail was cut off" in cut.problems[0]


def test_sec_085_deleted_checkpoint_files_are_named(stopped: EngineProcess, url: str) -> None:
    folder = stopped.data_dir / "audit"
    (path,) = checkpoint_files(folder)
    content = path.read_bytes()
    for attack in (b"", content.splitlines(keepends=True)[0], b"".join(content.splitlines(keepends=True)[1:])):
        if attack:
            path.write_bytes(attack)
        else:
            path.unlink()
        try:
            proof = proof_of(stopped, url)
        finally:
            path.write_bytes(content)
        assert not proof.ok
        assert any(word in proof.problems[0] for word in ("deleted", "are gone")), proof.problems


def test_sec_081_checkpoints_prove_the_log_with_the_public_key_alone(
    stopped: EngineProcess, url: str, tmp_path: Path
) -> None:
    folder = stopped.data_dir / "audit"
    (path,) = checkpoint_files(folder)
    (tmp_path / path.name).write_bytes(path.read_bytes())
    for key, words in ((public_key_of(keys_of(stopped).audit), ""), (public_key_of(b"x" * 32), "bears no signature")):
        proof: Proof = in_store(url, lambda database: prove(database, tmp_path, key))  # noqa: B023
        assert (proof.ok, proof.public_key) == (not words, key)
        assert words in " ".join(proof.problems)
