"""Two engines on the same stores: one works, and one that slept through its lease stops."""

import os
import shutil
import signal
from pathlib import Path

import httpx

from tests.support.engine import EngineProcess, market_order


def test_engine_that_slept_through_its_lease_takes_nothing_in_and_stops(
    tmp_path: Path, database_url: str, redis_url: str
) -> None:
    stores = {"ENGINE__DATABASE__URL": database_url, "ENGINE__REDIS__URL": redis_url}
    first = EngineProcess(tmp_path / "first", **stores)
    second = EngineProcess(tmp_path / "second", **stores)
    try:
        first.start()
        assert first.process is not None
        # engines on the same stores need the same keys
        shutil.copytree(first.data_dir / "keys", second.data_dir / "keys")
        os.kill(first.process.pid, signal.SIGSTOP)
        second.start()
        os.kill(first.process.pid, signal.SIGCONT)
        try:
            answer = first.signal(market_order("INFY"), key="to-the-sleeper")
            assert answer.status_code == 503, answer.text
        except httpx.TransportError:
            pass  # it has closed the door already
        assert first.process.wait(20) == 1
        line = first.errors[-1]
        assert "lease" in line
        assert "another engine" in line
        accepted = second.signal(market_order("INFY"), key="to-the-new-one", source=first.source)
        assert accepted.status_code == 202
        intents = second.get("/signals/intents")
        assert [intent["id"] for intent in intents] == [accepted.json()["data"]["intentId"]]
        assert second.get("/audit/verify")["ok"] is True
        assert second.stop() == 0
    finally:
        first.kill()
        second.kill()
