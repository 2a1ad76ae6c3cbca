"""What a user gets for a start that cannot work: one clear line that names the mend, exit 1, no traceback."""

import os
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from engine.config import load
from engine.security.keys import load_or_create
from engine.store.migrate import latest_version
from tests.support import forks
from tests.support.servers import TestServers


def start(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("ENGINE")}
    return forks.command(
        "run",
        "--port",
        "0",
        *words,
        cwd=folder,
        env=clean | {"PYTHONWARNINGS": "ignore"} | environment,
        timeout=60,
    )


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_unknown_key_names_file_key_and_nearest_known_one(tmp_path: Path) -> None:
    (tmp_path / "engine.toml").write_text("[server]\nprot = 8080\n")
    line = refusal(start(tmp_path))
    assert "engine.toml" in line
    assert "prot" in line
    assert "port" in line.replace("prot", "")


def test_missing_configuration_file_is_named(tmp_path: Path) -> None:
    assert "nowhere.toml" in refusal(start(tmp_path, "--config", "nowhere.toml"))


def test_key_file_that_others_can_read_names_chmod(tmp_path: Path) -> None:
    keys = tmp_path / ".engine" / "keys"
    keys.mkdir(parents=True, mode=0o700)
    key = keys / "master.key"
    key.write_text("x" * 43)
    key.chmod(0o644)
    line = refusal(start(tmp_path))
    assert "chmod 600" in line
    assert "master.key" in line


def test_unreachable_postgresql_says_so_without_the_password(tmp_path: Path, redis_url: str) -> None:
    url = "postgresql://someone:hunter22secret@127.0.0.1:1/nothing"
    line = refusal(start(tmp_path, ENGINE__DATABASE__URL=url, ENGINE__REDIS__URL=redis_url))
    assert "PostgreSQL" in line
    assert "[database] url" in line
    assert "hunter22secret" not in line


def test_unreachable_valkey_says_so(tmp_path: Path, database_url: str) -> None:
    line = refusal(start(tmp_path, ENGINE__DATABASE__URL=database_url, ENGINE__REDIS__URL="redis://127.0.0.1:1/0"))
    assert "[redis] url" in line


def test_schema_of_a_newer_engine_is_refused(
    tmp_path: Path, servers: TestServers, database_url: str, redis_url: str
) -> None:
    stores = {"ENGINE__DATABASE__URL": database_url, "ENGINE__REDIS__URL": redis_url}
    migrated = forks.command(
        "migrate",
        cwd=tmp_path,
        env=dict(os.environ) | stores,
        timeout=60,
    )
    assert migrated.returncode == 0, migrated.stderr
    name = urlsplit(database_url).path.strip("/")
    servers.sql(
        f"INSERT INTO schema_migrations VALUES ({latest_version() + 1}, '9999_from_tomorrow', 'abc')", dbname=name
    )
    line = refusal(start(tmp_path, **stores))
    assert "newer" in line
    assert "9999_from_tomorrow" in line


def test_journal_server_without_append_only_file_is_refused_with_the_setting(
    tmp_path: Path, database_url: str, servers: TestServers
) -> None:
    with servers.setting("appendonly", "no"):
        line = refusal(start(tmp_path, ENGINE__DATABASE__URL=database_url, ENGINE__REDIS__URL=servers.redis_url))
    assert "CONFIG SET appendonly yes" in line


@pytest.mark.parametrize("words", [["walk"], ["killswitch", "on", "--scope", "moon"]])
def test_usage_error_exits_two(tmp_path: Path, words: list[str]) -> None:
    done = forks.command(*words, cwd=tmp_path, timeout=30)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_init_keeps_the_keys_that_the_data_directory_was_written_with(tmp_path: Path) -> None:
    before = load_or_create(master_key=None, jwt_secret=None, data_dir=tmp_path / ".engine")
    done = forks.command("init", cwd=tmp_path, timeout=30)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "keys").exists()
    security = load(tmp_path / "engine.toml", {}).security
    used = load_or_create(
        master_key=security.master_key, jwt_secret=security.jwt_secret, data_dir=tmp_path / "elsewhere"
    )
    assert (used.master, used.jwt) == (before.master, before.jwt)


def test_init_writes_files_that_run_accepts_and_refuses_to_overwrite(tmp_path: Path) -> None:
    def init() -> subprocess.CompletedProcess[str]:
        return forks.command("init", cwd=tmp_path, timeout=30)

    assert init().returncode == 0
    for name in ("engine.toml", "keys/master.key", "keys/jwt.key"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    again = init()
    assert again.returncode == 1
    assert "engine.toml is there already" in again.stderr
    # the keys are usable: the start gets past them, to the database that is not there
    line = refusal(start(tmp_path, ENGINE__DATABASE__URL="postgresql://x@127.0.0.1:1/x"))
    assert "PostgreSQL" in line
