"""A second engine on the same stores: what it says and answers while it waits, and how its turn comes."""

import json
import os
import secrets
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import forks
from tests.support.engine import EngineProcess, market_order
from tests.support.servers import TestServers

pytestmark = pytest.mark.crash


def on_stores(folder: Path, database_url: str, redis_url: str) -> EngineProcess:
    return EngineProcess(folder, ENGINE__DATABASE__URL=database_url, ENGINE__REDIS__URL=redis_url)


def doctor(engine: EngineProcess) -> dict[str, Any]:
    """Return what ``engine doctor`` in the folder of *engine* finds about the lease."""
    done = forks.command(
        "doctor",
        "--json",
        cwd=engine.folder,
        env=engine._environment,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = next(finding for finding in json.loads(done.stdout) if finding["check"] == "lease")
    return found


@pytest.fixture(scope="module")
def stores(servers: TestServers) -> Iterator[tuple[str, str]]:
    """A database and a journal that the engines of this module share."""
    database_url, redis_url = servers.create_database("standby"), f"{servers.redis_url}?db=0"
    servers.flush(redis_url)
    yield database_url, redis_url
    servers.drop_database("standby")


@pytest.fixture(scope="module")
def leader(tmp_path_factory: pytest.TempPathFactory, stores: tuple[str, str]) -> Iterator[EngineProcess]:
    """The engine that leads, until the last test that uses it."""
    with on_stores(tmp_path_factory.mktemp("leader"), *stores) as running:
        yield running


@pytest.fixture
def standby(tmp_path: Path, leader: EngineProcess, stores: tuple[str, str]) -> Iterator[EngineProcess]:
    """One that waits, with a data directory of its own."""
    waiting = on_stores(tmp_path, *stores)
    shutil.copytree(leader.data_dir / "keys", waiting.data_dir / "keys")
    try:
        waiting.start(wait=False)
        waiting.wait_standby()
        yield waiting
    finally:
        waiting.kill()


def test_standby_ends_at_once_at_sigterm_and_the_leader_goes_on(leader: EngineProcess, standby: EngineProcess) -> None:
    assert standby.stop() == 0
    assert standby.base_url == ""
    assert leader.get("/system/ready")["leader"]["isThisEngine"] is True


def test_standby_without_the_leaders_keys_says_so_at_once(
    tmp_path: Path, leader: EngineProcess, stores: tuple[str, str]
) -> None:
    stranger = on_stores(tmp_path, *stores)
    try:
        stranger.start(wait=False)
        assert stranger.process is not None
        assert stranger.process.wait(60) == 1
    finally:
        stranger.kill()
    assert len(stranger.errors) == 1
    assert "keys do not open" in stranger.errors[0]
    assert not stranger.standby_url
    assert leader.get("/system/ready")["leader"]["isThisEngine"] is True


def test_standby_answers_tells_who_leads_and_takes_over_on_its_port(
    leader: EngineProcess, standby: EngineProcess
) -> None:
    assert leader.process is not None
    assert standby.process is not None
    url = f"{standby.standby_url}/api/v1"
    assert httpx.get(f"{url}/system/health").status_code == 200
    refused = [
        httpx.post(f"{url}/signals/sheets/webhook", json=market_order("INFY")),
        httpx.post(f"{url}/auth/login", json={"email": "admin@localhost", "password": "x"}),
        httpx.get(f"{url}/executions/orders"),
        httpx.get(f"{url}/system/ready"),
    ]
    for answer in refused:
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.json()["error"]["code"] == "UNAVAILABLE"
    told = refused[-1].json()["error"]["details"]
    assert (told["role"], told["leader"]["process"], told["leader"]["epoch"]) == ("standby", leader.process.pid, 1)

    ready = httpx.get(f"{leader.base_url}/api/v1/system/ready").json()["data"]["leader"]
    assert (ready["process"], ready["epoch"], ready["isThisEngine"]) == (leader.process.pid, 1, True)
    seen = [doctor(leader)["leader"], doctor(standby)["leader"]]
    assert [(found["process"], found["epoch"], found["isAlive"]) for found in seen] == [
        (leader.process.pid, 1, True)
    ] * 2
    assert [found["isThisEngine"] for found in seen] == [True, False]

    accepted = leader.signal(market_order("INFY"), key="one")
    assert accepted.status_code == 202
    # a clean stop gives the lease back
    assert leader.stop() == 0
    standby.wait_ready()
    assert standby.base_url == standby.standby_url
    repeated = standby.signal(market_order("INFY"), key="one", source=leader.source)
    assert (repeated.status_code, repeated.json()["data"]["intentId"]) == (202, accepted.json()["data"]["intentId"])
    assert repeated.json()["data"]["duplicate"] is True
    assert not [line for line in standby.lines if "password" in line], "a standby made a first start of its own"
    assert standby.get("/audit/verify")["ok"] is True
    assert standby.stop() == 0
    found = doctor(standby)
    assert found["detail"].startswith("free: ")
    assert (found["leader"]["epoch"], found["leader"]["released"]) == (2, True)


def test_second_engine_in_one_folder_waits_and_takes_the_embedded_servers_over(tmp_path: Path) -> None:
    first, second = EngineProcess(tmp_path), EngineProcess(tmp_path)
    try:
        first.start()
        assert first.process is not None
        second.start(wait=False)
        second.wait_standby()
        answer = httpx.get(f"{second.standby_url}/api/v1/system/ready")
        assert answer.status_code == 503
        assert answer.json()["error"]["details"]["leader"]["process"] == first.process.pid
        accepted = first.signal(market_order("INFY"), key="one")
        assert accepted.status_code == 202
        # its servers live on, and are in nobody's hands
        os.kill(first.process.pid, signal.SIGSTOP)
        second.wait_ready()
        assert first.process.wait(10) == -signal.SIGKILL
        first.kill()
        repeated = second.signal(market_order("INFY"), key="one", source=first.source)
        assert repeated.json()["data"]["intentId"] == accepted.json()["data"]["intentId"]
        intents = second.get("/signals/intents")
        assert [intent["id"] for intent in intents] == [accepted.json()["data"]["intentId"]]
        # the exchange's record and the control socket are the second's alone now
        assert second.get("/system/ready")["leader"]["isThisEngine"] is True

        third = EngineProcess(tmp_path).start(wait=False)
        try:
            third.wait_standby()
            second.kill()
            third.wait_ready()
            assert third.signal(market_order("INFY"), key="two", source=first.source).status_code == 202
            assert third.get("/audit/verify")["ok"] is True
            assert third.stop() == 0
        finally:
            third.kill()
    finally:
        first.kill()
        second.kill()


def test_two_engines_that_start_at_once_on_empty_stores_become_leader_and_standby(
    tmp_path: Path, database_url: str, redis_url: str
) -> None:
    shared_keys = tmp_path / "keys"
    shared_keys.mkdir(mode=0o700)
    for name in ("master", "jwt"):
        (shared_keys / name).write_text(secrets.token_urlsafe(32))
        (shared_keys / name).chmod(0o600)
    engines = [on_stores(tmp_path / f"engine{n}", database_url, redis_url) for n in range(2)]
    for engine in engines:
        engine._environment |= {
            "ENGINE__SECURITY__MASTER_KEY": f"file:{shared_keys}/master",
            "ENGINE__SECURITY__JWT_SECRET": f"file:{shared_keys}/jwt",
        }
    try:
        for engine in engines:
            engine.start(wait=False)
        engines[0].wait_for(
            "one leading and one waiting",
            lambda: sorted(bool(engine.base_url) + 2 * bool(engine.standby_url) for engine in engines) == [1, 2],
            within_s=60,
        )
        leader, standby = sorted(engines, key=lambda engine: not engine.base_url)
        assert leader.source
        standby.kill()
        assert not [line for line in standby.lines if "X-API-Key" in line]
    finally:
        for engine in engines:
            engine.kill()
