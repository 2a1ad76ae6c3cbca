"""A journal that is emptied under a living engine: on the record, and nothing that was accepted is lost."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.support.engine import EngineProcess, market_order
from tests.support.servers import TestServers
from tests.support.shared_engine import paper_engine


@pytest.fixture
def engine(servers: TestServers, tmp_path: Path) -> Iterator[EngineProcess]:
    yield from paper_engine(servers, tmp_path, "wiped")


def newest_entry(servers: TestServers) -> str | None:
    client = redis.Redis.from_url(f"{servers.redis_url}?db=0")
    try:
        streams = [key for key in client.scan_iter() if client.type(key) == b"stream"]
        newest = client.xrevrange(streams[0], count=1) if streams else []
        return newest[0][0].decode() if newest else None
    finally:
        client.close()


def test_wiped_journal_is_recorded_and_alerted_and_the_engine_goes_on_as_it_does_at_a_start(
    engine: EngineProcess, servers: TestServers
) -> None:
    assert engine.signal(market_order(), key="before").status_code == 202
    servers.flush(f"{servers.redis_url}?db=0")
    record = engine.wait_for("a record of the wipe", lambda: engine.get("/audit", action="JOURNAL_WIPED"))
    assert [row["actor"] for row in record] == ["system"]
    assert "journal" in [row["subject"] for row in engine.get("/audit", action="ALERT")]
    again = engine.signal(market_order(), key="before")
    assert again.json()["data"]["duplicate"] is True
    assert engine.signal(market_order("INFY"), key="after").status_code == 202
    newest = engine.wait_for("an entry in the new stream", lambda: newest_entry(servers))
    moved = "SELECT position FROM journal_cursor"
    engine.wait_for("the cursor to go on", lambda: servers.sql(moved, "wiped") == newest)
    engine.kill()
    engine.start()
    assert engine.get("/audit", action="JOURNAL_RESET") == []
    ends = {intent["status"] for intent in engine.get("/signals/intents")}
    assert ends == {"EXECUTED"}

    # and once more, while no engine runs
    alerts = len(engine.get("/audit", action="ALERT", limit=200))
    assert engine.stop() == 0
    servers.flush(f"{servers.redis_url}?db=0")
    engine.start()
    assert len(engine.get("/audit", action="JOURNAL_RESET")) == 1
    found = engine.get("/audit", action="ALERT", limit=200)
    assert "journal" in [row["subject"] for row in found[: len(found) - alerts]]
