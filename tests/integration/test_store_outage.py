"""The embedded servers killed under a running engine: signals go on being accepted, and all of them execute."""

import os
import signal
from collections.abc import Iterator

import httpx
import psutil
import pytest

from tests.support.engine import EngineProcess, market_order


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    with EngineProcess(tmp_path_factory.mktemp("outage")) as running:
        running.login()
        yield running


def server(engine: EngineProcess, name: str) -> int | None:
    """Return the process of an embedded server, None while it is away: the child of the engine with its program."""
    assert engine.process is not None
    children = psutil.Process(engine.process.pid).children()
    # Valkey writes its arguments into the first word; a child that has ended has none
    words = {child.pid: " ".join(child.cmdline()).split() for child in children}
    found = [pid for pid, line in words.items() if line and line[0].endswith(f"/{name}")]
    return found[0] if found else None


def readiness(engine: EngineProcess) -> str:
    answer = httpx.get(f"{engine.base_url}/api/v1/system/ready", timeout=10)
    assert answer.status_code == 200
    return str(answer.json()["data"]["status"])


@pytest.mark.parametrize("name", ["valkey-server", "postgres"])
def test_killed_server_loses_no_accepted_signal_and_comes_back(engine: EngineProcess, name: str) -> None:
    dead = server(engine, name)
    assert dead is not None
    os.kill(dead, signal.SIGKILL)
    answers = [engine.signal(market_order(symbol), key=f"{name}-{symbol}") for symbol in ("SBIN", "INFY", "ITC", "TCS")]
    assert [answer.status_code for answer in answers] == [202] * 4
    accepted = {answer.json()["data"]["intentId"] for answer in answers}

    engine.wait_for("the server coming back", lambda: server(engine, name) not in (None, dead), within_s=30)
    engine.wait_for("the engine being whole again", lambda: readiness(engine) == "ok", within_s=30)

    def executed() -> bool:
        answer = engine.request("GET", "/signals/intents", params={"limit": 200})
        if answer.status_code == 503:
            return False  # a connection of the pool may not have noticed yet
        intents = {intent["id"]: intent for intent in answer.json()["data"]}
        return accepted <= set(intents) and all(intents[i]["status"] == "EXECUTED" for i in accepted)

    engine.wait_for("every accepted signal executing", executed, within_s=30)
    orders = [order for order in engine.get("/executions/orders", limit=200) if order["intentId"] in accepted]
    assert len(orders) == len(accepted)
    assert engine.get("/audit/verify")["ok"] is True


def test_engine_that_lost_its_servers_stops_cleanly(engine: EngineProcess) -> None:
    assert engine.stop() == 0, "\n".join(engine.errors[-80:])
    assert engine.lines[-1] == "engine stopped"
