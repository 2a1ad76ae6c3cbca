"""What the engine leaves behind: no secret anywhere, files for its owner alone, a log that cannot be forged.

SEC-061, 066, 070 to 079, 082, 084, 100 to 103, and O9 of the fault model.
"""

import base64
import json
import os
import re
import secrets
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from engine.observability.redaction import redact_text
from tests.support import forks
from tests.support.engine import PASSWORD, EngineProcess, market_order, signed
from tests.support.intruder import People
from tests.support.servers import TestServers

CANARIES = {
    "ENGINE__SECURITY__MASTER_KEY": secrets.token_urlsafe(32),
    "ENGINE__SECURITY__JWT_SECRET": secrets.token_urlsafe(32),
    "ENGINE__TELEGRAM__BOT_TOKEN": f"8123456789:{secrets.token_urlsafe(26)}",
    "ENGINE__TELEGRAM__SECRET_TOKEN": secrets.token_urlsafe(32),
}
THROUGH = "CANARY_METRICS_TOKEN"
ENVIRONMENT = {
    **CANARIES,
    THROUGH: secrets.token_urlsafe(32),
    "ENGINE__SECURITY__METRICS_TOKEN": f"env:{THROUGH}",
    "ENGINE__LOGGING__LEVEL": "debug",
    # a process of its own from its first breath: what /proc shows of a fork is the process that it came from
    "PYTHONHASHSEED": "7",
}
BASE = "/api/v1"


class Secrets:
    """Uses the engine with secrets of every kind, in ways that fail; keeps the secrets and the answers."""

    def __init__(self, engine: EngineProcess, people: People) -> None:
        self.values = CANARIES | {THROUGH: ENVIRONMENT[THROUGH], "administrator's password": PASSWORD}
        self.answers: list[httpx.Response] = []
        self._engine = engine
        person = people("owner", "TRADER")
        self.values |= {
            "access token": person.token,
            "refresh token": person.refresh_token,
            "password": person.password,
            "source secret": engine.source[1],
            "api key": f"canary{secrets.token_hex(12)}",
            "api secret": f"canary{secrets.token_hex(12)}",
            "broker token": f"canary{secrets.token_hex(12)}",
            "request token": f"canary{secrets.token_hex(12)}",
        }
        account = {
            "label": "kite",
            "broker": "kite",
            "apiKey": self.values["api key"],
            "apiSecret": self.values["api secret"],
        }
        made = person.request("POST", "/accounts", json=account)
        account_id = made.json()["data"]["id"]
        self.answers += [
            made,
            person.request("POST", "/accounts", json=account | {"label": f"{self.values['api secret']}\n2"}),
            person.request("POST", "/accounts", json=account | {"apiSecret": 7}),
            person.request("POST", "/accounts", json=account | {"label": "the same key again"}),
            person.request("PATCH", f"/accounts/{account_id}", json={"accessToken": self.values["broker token"]}),
            person.request(
                "POST", f"/accounts/{account_id}/session", json={"requestToken": self.values["request token"]}
            ),
            person.request("GET", f"/accounts/{account_id}/margins"),
            person.request("GET", "/auth/me", headers={"Authorization": f"Token {person.token}"}),
            person.request("GET", f"/nothing?token={person.token}"),
            person.request("POST", "/auth/password", json={"currentPassword": "x", "newPassword": person.password}),
            self._post("/auth/login", {"email": person.email, "password": person.password + "x"}),
            self._post("/auth/login", {"email": person.password, "password": person.password}),
            self._post("/auth/refresh", {"refreshToken": person.refresh_token[:-1] + "_"}),
            self._post("/auth/refresh", {"refreshToken": person.refresh_token, "password": person.password}),
        ]
        self._signals()

    def _post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        return httpx.post(f"{self._engine.base_url}{BASE}{path}", json=body, headers=headers, timeout=20)

    def _signals(self) -> None:
        engine, token = self._engine, CANARIES["ENGINE__TELEGRAM__SECRET_TOKEN"]
        assert engine.signal(market_order("SBIN")).status_code == 202
        raw = json.dumps(market_order()).encode()
        header = {"X-Telegram-Bot-Api-Secret-Token": token}
        self.answers += [
            self._post("/signals/telegram/webhook", {"update_id": 1}, **header),
            self._post("/signals/telegram/webhook", {"update_id": "x"}, **{next(iter(header)): token + "x"}),
            httpx.post(
                f"{engine.base_url}{BASE}/signals/sheets/webhook",
                content=raw,
                headers=signed(raw, engine.source[0], engine.source[1]) | {"X-Signature": engine.source[1]},
                timeout=20,
            ),
        ]

    def found_in(self, octets: bytes) -> list[str]:
        """Name the secrets that *octets* hold, as they are, in hex or in base64."""
        return [
            name
            for name, value in self.values.items()
            for form in (value.encode(), value.encode().hex().encode(), base64.b64encode(value.encode())[:-3])
            if form in octets
        ]


@pytest.fixture(scope="module")
def used(engine: EngineProcess, people: People) -> Secrets:
    return Secrets(engine, people)


def command(engine: EngineProcess, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return forks.command(
        *words,
        cwd=engine.folder,
        env=engine._environment | environment,
        timeout=60,
    )


# canaries


def test_canary_is_found_where_it_is(used: Secrets) -> None:
    assert used.found_in(b"x" + used.values["password"].encode() + b"y") == ["password"]
    assert len(used.values) >= 13


def test_sec_076_no_answer_gives_a_secret_away(used: Secrets) -> None:
    assert {answer.status_code for answer in used.answers} >= {200, 201, 401, 404, 409, 422}
    for answer in used.answers:
        assert used.found_in(answer.content) == [], answer.request.url
        assert used.found_in(str(answer.headers).encode()) == []


def test_sec_075_no_secret_stands_in_the_logs_or_on_the_terminal(engine: EngineProcess, used: Secrets) -> None:
    logs = list((engine.folder / "logs").rglob("*.log"))
    assert any(log.name.startswith("audit-") for log in logs)
    assert logs
    for log in logs:
        assert used.found_in(log.read_bytes()) == [], log.name
    ready = next(number for number, line in enumerate(engine.lines) if line.startswith("engine ready"))
    assert used.found_in("\n".join(engine.lines[ready:]).encode()) == []
    before = used.found_in("\n".join(engine.lines[:ready]).encode())
    assert before == ["source secret"]  # told once, by contract
    assert used.found_in("\n".join(engine.errors).encode()) == []


def test_sec_075_no_secret_stands_in_the_journal(servers: TestServers, engine: EngineProcess, used: Secrets) -> None:
    client: Any = redis.Redis.from_url(f"{servers.redis_url}?db=0")
    held = b""
    try:
        for key in client.scan_iter():
            held += key + client.dump(key)
            if client.type(key) == b"stream":
                held += b"".join(b"".join((*fields, *fields.values())) for _, fields in client.xrange(key))
    finally:
        client.close()
    assert b"SBIN" in held
    assert used.found_in(held) == []


def test_sec_084_no_secret_stands_in_the_store_or_the_audit_log(
    servers: TestServers, database_name: str, used: Secrets
) -> None:
    tables = servers.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", database_name).split()
    assert "audit_logs" in tables
    for table in tables:
        dump = servers.sql(f'SELECT t::text FROM "{table}" t', database_name).encode()
        # Kite's API key names an application in public addresses; it is no secret of the store's
        assert set(used.found_in(dump)) <= ({"api key"} if table == "kite_accounts" else set()), table


def test_sec_075_no_secret_stands_in_the_files_of_the_data_directory(engine: EngineProcess, used: Secrets) -> None:
    for path in engine.data_dir.rglob("*"):
        if path.is_file() and path.parent.name != "keys":
            assert used.found_in(path.read_bytes()) == [], path


def test_sec_084_audit_export_holds_no_secret_and_is_for_its_owner_alone(engine: EngineProcess, used: Secrets) -> None:
    target = engine.folder / "audit.jsonl"
    target.write_text("older")
    target.chmod(0o644)
    done = command(engine, "audit", "export", "--output", str(target))
    assert done.returncode == 0, done.stderr
    assert used.found_in(target.read_bytes()) == []
    assert b'"LOGIN_FAILED"' in target.read_bytes()
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


# the process and its files


def process_file(engine: EngineProcess, name: str) -> bytes:
    assert engine.process is not None
    return Path(f"/proc/{engine.process.pid}/{name}").read_bytes()


def test_sec_077_process_shows_no_secret_in_environment_or_command_line(engine: EngineProcess, used: Secrets) -> None:
    environment = process_file(engine, "environ")
    assert b"ENGINE_ADMIN_PASSWORD=***" in environment
    assert f"{THROUGH}=***".encode() in environment
    assert used.found_in(environment) == []
    assert used.found_in(process_file(engine, "cmdline")) == []


def test_sec_075_process_dumps_no_core(engine: EngineProcess) -> None:
    limits = process_file(engine, "limits").decode()
    assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE)


def test_sec_077_everything_that_the_engine_wrote_is_its_owners_alone(engine: EngineProcess, used: Secrets) -> None:
    assert engine.request("POST", "/risk/killswitch/enable", json=DISUSED).status_code == 200
    written = [
        engine.data_dir,
        *engine.data_dir.rglob("*"),
        engine.folder / "logs",
        *(engine.folder / "logs").rglob("*"),
    ]
    names = {path.name for path in written}
    assert {"kill.wal", "control.sock", "engine.lock", "record.jsonl"} <= names
    assert [path for path in written if not path.is_symlink() and path.lstat().st_mode & 0o077] == []


DISUSED = {"scope": "global", "reason": "to have the file", "squareOff": False}


def test_control_socket_survives_hostile_bytes(engine: EngineProcess) -> None:
    for hostile in (
        b"\x00\xff\n",
        b"[" * 50_000 + b"\n",
        b"{}\n",
        b'{"command":"eval","scope":"../x"}\n',
        b"x" * 200_000 + b"\n",
    ):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(10)
            folder = os.open(engine.data_dir, os.O_RDONLY)
            try:
                connection.connect(f"/proc/self/fd/{folder}/control.sock")
            finally:
                os.close(folder)
            connection.sendall(hostile)
            answer = json.loads(connection.makefile("rb").readline())
            assert "error" in answer
            assert "Traceback" not in str(answer)
    off = DISUSED | {"force": True}
    del off["squareOff"]
    assert engine.request("POST", "/risk/killswitch/disable", json=off).status_code == 200


# the audit log


ROLE = "SET ROLE engine_app;"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_logs SET content = '{}' WHERE seq = 1",
        "DELETE FROM audit_logs",
        "TRUNCATE audit_logs",
        "ALTER TABLE audit_logs DISABLE TRIGGER ALL",
        "DROP TRIGGER audit_logs_no_change ON audit_logs",
        "DROP TABLE audit_logs",
        "CREATE TABLE mine (a int)",
        "UPDATE order_events SET detail = ''",
        "DELETE FROM intent_events",
        "DELETE FROM trade_intents",
        "DELETE FROM users",
        "DELETE FROM engine_lease",
        "DELETE FROM system_flags",
        "INSERT INTO schema_migrations SELECT * FROM schema_migrations",
        "CREATE ROLE friend LOGIN",
        "SELECT pg_read_file('/etc/passwd')",
        "COPY audit_logs TO PROGRAM 'cat'",
        "SET session_replication_role = replica",
    ],
)
def test_sec_082_role_of_the_engine_may_not(
    engine: EngineProcess, servers: TestServers, database_name: str, statement: str
) -> None:
    with pytest.raises(RuntimeError, match=r"permission denied|must be owner"):
        servers.sql(ROLE + statement, database_name)


def test_sec_061_engine_works_under_that_role(engine: EngineProcess, servers: TestServers, database_name: str) -> None:
    engine.get("/executions/orders")
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'trading-engine' AND datname ="
    assert int(servers.sql(f"{query} '{database_name}'", database_name)) >= 1
    assert servers.sql(ROLE + "SELECT has_table_privilege('audit_logs', 'UPDATE')", database_name) == "f"


@pytest.mark.parametrize(
    "statement", ["UPDATE audit_logs SET actor = 'me'", "DELETE FROM audit_logs", "TRUNCATE audit_logs"]
)
def test_sec_082_owner_of_the_table_is_stopped_by_its_trigger(
    engine: EngineProcess, servers: TestServers, database_name: str, statement: str
) -> None:
    with pytest.raises(RuntimeError, match="append-only"):
        servers.sql(statement, database_name)


@pytest.fixture
def without_trigger(engine: EngineProcess, servers: TestServers, database_name: str) -> Iterator[None]:
    servers.sql("ALTER TABLE audit_logs DISABLE TRIGGER ALL", database_name)
    yield
    servers.sql("ALTER TABLE audit_logs ENABLE TRIGGER ALL", database_name)


@pytest.mark.parametrize(
    ("change", "undo"),
    [
        ("actor = 'user:someone'", "actor = (SELECT actor FROM audit_logs WHERE seq = 1)"),
        ("content = replace(content, '{', '{ ')", "content = replace(content, '{ ', '{')"),
        ("at = at + interval '1 microsecond'", "at = at - interval '1 microsecond'"),
    ],
)
def test_sec_082_record_changed_by_a_superuser_is_named(
    engine: EngineProcess, servers: TestServers, database_name: str, without_trigger: None, change: str, undo: str
) -> None:
    seq = servers.sql("SELECT min(seq) FROM audit_logs WHERE seq > 1 AND actor = 'system'", database_name)
    servers.sql(f"UPDATE audit_logs SET {change} WHERE seq = {seq}", database_name)
    try:
        found = engine.get("/audit/verify")
        assert (found["ok"], found["firstBroken"]) == (False, int(seq))
        assert command(engine, "audit", "verify").returncode == 1
    finally:
        servers.sql(f"UPDATE audit_logs SET {undo} WHERE seq = {seq}", database_name)
    assert engine.get("/audit/verify")["ok"] is True


def test_record_taken_out_of_the_middle_is_noticed(
    engine: EngineProcess, servers: TestServers, database_name: str, without_trigger: None
) -> None:
    servers.sql("CREATE TABLE kept AS SELECT * FROM audit_logs WHERE seq = 3", database_name)
    servers.sql("DELETE FROM audit_logs WHERE seq = 3", database_name)
    try:
        found = engine.get("/audit/verify")
        assert (found["ok"], found["firstBroken"]) == (False, 3)
    finally:
        servers.sql("INSERT INTO audit_logs SELECT * FROM kept; DROP TABLE kept", database_name)
    assert engine.get("/audit/verify")["ok"] is True


def test_sec_103_security_events_are_on_record_with_who_and_from_where(engine: EngineProcess, used: Secrets) -> None:
    records = engine.get("/audit", limit=200)
    by_action = {record["action"]: record for record in records}
    assert {"LOGIN", "LOGIN_FAILED", "WEBHOOK_REFUSED", "PASSWORD_CHANGE_FAILED", "ACCOUNT_CREATED"} <= set(by_action)
    for action in ("LOGIN", "LOGIN_FAILED", "WEBHOOK_REFUSED"):
        assert by_action[action]["data"]["ip"] == "127.0.0.1"
        assert by_action[action]["data"]["requestId"]


# logs


def test_sec_066_log_lines_cannot_be_forged(engine: EngineProcess, used: Secrets) -> None:
    hostile = b'x\x1b[31m"}\\n{"level":"info","event":"forged"}'
    names = (b"User-Agent", b"X-Request-Id", b"X-API-Key", b"X-Signature", b"Idempotency-Key")
    headers = [(name, hostile) for name in names]
    for path in ("/signals/sheets/webhook", "/auth/login", "/nothing/%0A%7B%22event%22:%22forged%22%7D"):
        try:
            httpx.post(f"{engine.base_url}{BASE}{path}", content=b"{}", headers=headers, timeout=10)
        except httpx.LocalProtocolError:
            pytest.fail("the client refused to send the attack")
    engine.signal(market_order('X\n{"event":"forged"}'))
    engine.signal(b'{"symbol":"\x1b[2J\n')
    for log in (engine.folder / "logs").rglob("*.log"):
        content = log.read_bytes()
        assert b"\x1b" not in content
        for line in content.splitlines():
            assert json.loads(line).get("event") != "forged"


@pytest.mark.parametrize(
    "text",
    [
        'duplicate key value violates "x"\nDETAIL:  Key (api_key)=(canary) already exists.',
        "DETAIL:  Key (user_id, lower(email))=(1, canary@x) already exists.",
        'Key (a)=(b)=(canary)) is not present in table "t".',
        "DETAIL:  Failing row contains (1, canary, null, \\x00).",
    ],
)
def test_values_that_the_database_quotes_are_starred(text: str) -> None:
    assert "canary" not in redact_text(text)
    assert "***" in redact_text(text)


# commands


def test_commands_show_no_control_character_of_others(
    engine: EngineProcess, servers: TestServers, database_name: str
) -> None:
    servers.sql(
        "INSERT INTO users (id, email, name, role, password_hash, created_at, updated_at) VALUES"
        " (gen_random_uuid(), E'evil\\x1b[2J@x', E'\\x1b]0;x\\x07', 'VIEWER', '', now(), now())",
        database_name,
    )
    listed = command(engine, "user", "list")
    assert listed.returncode == 0, listed.stderr
    assert "evil" in listed.stdout
    assert "\x1b" not in listed.stdout


@pytest.mark.parametrize("words", [("--email", "a b@x"), ("--email", "x@y", "--name", "a\x1b[2J"), ("--email", "x")])
def test_user_add_refuses_what_no_one_is_called(engine: EngineProcess, words: tuple[str, ...]) -> None:
    assert command(engine, "user", "add", "--role", "VIEWER", *words).returncode == 2


def test_kill_switch_command_makes_a_data_directory_for_its_owner_alone(tmp_path: Path) -> None:
    done = forks.command(
        "killswitch",
        "on",
        "--reason",
        "stop",
        cwd=tmp_path,
        env={"PATH": os.defpath},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    folder = tmp_path / ".engine"
    assert [path for path in (folder, *folder.rglob("*")) if path.stat().st_mode & 0o077] == []
