"""SIGKILL during recovery, five times in a row, and during the migrations of a first start."""

import random
import time
from pathlib import Path

import pytest

from engine.store.migrate import available
from tests.crash.matrix import told
from tests.crash.nested import IN_A_ROW, nest
from tests.support.crash_engine import Zygote
from tests.support.crashing_engine import Plan
from tests.support.kite_mode import kite_environment
from tests.support.servers import TestServers

pytestmark = pytest.mark.crash


@pytest.mark.long
def test_five_deaths_in_a_row_during_recovery_change_nothing(
    tmp_path: Path, servers: TestServers, capsys: pytest.CaptureFixture[str]
) -> None:
    chain = nest(tmp_path, servers, rounds=2, seed=1)
    with capsys.disabled():
        print(f"\nnested kills, {IN_A_ROW} in a row: {told([chain])}")
    assert chain.problems == []


def test_kill_in_each_migration_leaves_the_schema_before_it(tmp_path: Path, servers: TestServers) -> None:
    with_schema = _Schema(tmp_path, servers, "migrations")
    try:
        for number in range(1, len(available()) + 1):
            marker = tmp_path / f"marker-{number}"
            # each start completes what the last one died of, and dies of the next
            plan = Plan(point="R1.mid_migration", hit=min(number, 2), marker=str(marker))
            assert with_schema.zygote.start(plan).wait_died(20) == -9
            assert marker.exists()
            assert with_schema.versions() == list(range(1, number))
        with_schema.start_and_stop()
    finally:
        with_schema.close()


def test_kill_at_a_random_time_of_the_first_start_leaves_a_schema_that_the_next_completes(
    tmp_path: Path, servers: TestServers
) -> None:
    rng = random.Random(7)
    with_schema = _Schema(tmp_path, servers, "migration_random")
    try:
        for _ in range(6):
            engine = with_schema.zygote.start()
            time.sleep(rng.uniform(0.02, 0.25))
            engine.kill()
            versions = with_schema.versions()
            assert versions == list(range(1, len(versions) + 1))
        with_schema.start_and_stop()
    finally:
        with_schema.close()


class _Schema:
    """An empty database and engines for it; no broker is reached."""

    def __init__(self, folder: Path, servers: TestServers, name: str) -> None:
        self._servers, self._name = servers, name
        environment = {
            "ENGINE__DATABASE__URL": servers.create_database(name),
            "ENGINE__REDIS__URL": f"{servers.redis_url}?db=7",
            **kite_environment("http://127.0.0.1:9"),
        }
        servers.flush(environment["ENGINE__REDIS__URL"])
        self.zygote = Zygote(folder / "engine", environment)

    def versions(self) -> list[int]:
        """The migrations that the database has."""
        if self._servers.sql("SELECT to_regclass('schema_migrations')", self._name) == "":
            return []
        rows = self._servers.sql("SELECT version FROM schema_migrations ORDER BY version", self._name)
        return [int(row) for row in rows.splitlines()]

    def start_and_stop(self) -> None:
        """A start that nothing disturbs completes the schema and the first run."""
        engine = self.zygote.start().wait_ready()
        assert engine.stop() == 0
        assert self.versions() == list(range(1, len(available()) + 1))
        assert self._servers.sql("SELECT count(*) FROM users", self._name) == "1"

    def close(self) -> None:
        self.zygote.close()
        self._servers.drop_database(self._name)
