"""A delivery that kills the engine whenever it is handled: set aside after three deaths, and nothing else is lost.

What the deaths leave in doubt takes three minutes to settle and is not waited for here: the kill matrix does.
"""

import signal
from pathlib import Path

import pytest
import redis

from engine.journal import keys
from tests.support.engine import EngineProcess
from tests.support.letters import Letters
from tests.support.poison_engine import QUANTITY
from tests.support.servers import TestServers

pytestmark = pytest.mark.crash

NAME = "poison"


class PoisonedEngine(EngineProcess):
    program = ("-m", "tests.support.poison_engine")


def test_poison_is_buried_after_three_deaths_and_every_other_signal_is_executed(
    servers: TestServers, redis_url: str, tmp_path: Path
) -> None:
    environment = {
        "ENGINE__DATABASE__URL": servers.create_database(NAME),
        "ENGINE__REDIS__URL": redis_url,
        "ENGINE__RISK__PRICE_BAND_PCT": "none",
        "ENGINE__RISK__DUPLICATE_WINDOW_S": "none",
        "ENGINE__SIGNALS__MAX_AGE_S": "119",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    with EngineProcess(tmp_path, **environment) as first:
        letters = Letters(first, servers, NAME)
        assert first.stop() == 0
    before, after = [f"before-{n}" for n in range(4)], [f"after-{n}" for n in range(4)]
    poison = letters.entry(letters.delivery("poison", quantity=QUANTITY))
    client = redis.Redis.from_url(redis_url)
    stream = keys.stream(keys.read_name(client.get(keys.EPOCH).decode())[0])
    # a death may catch an order of `before` between its write-ahead and the wire: that one's symbol waits
    entries = [letters.entry(letters.delivery(key, symbol="SBIN")) for key in before[:1]]
    entries += [letters.entry(letters.delivery(key, symbol="TCS")) for key in before[1:]]
    entries += [poison] + [letters.entry(letters.delivery(key, symbol="INFY")) for key in after]
    for entry in entries:
        newest = client.xadd(stream, {"e": entry}).decode()
    client.close()

    engine = PoisonedEngine(tmp_path, **environment)
    letters._engine = engine
    try:
        for _ in range(3):
            engine.start(wait=False)
            assert engine.process is not None
            assert engine.process.wait(60) == -signal.SIGKILL, engine.errors[-5:]
            engine.kill()
        engine.start()
        assert {letters.ended(key)["status"] for key in after} == {"EXECUTED"}
        for key in before:
            intent = letters.intent_of(key)
            assert intent is not None, key
            assert intent["status"] in ("EXECUTED", "EXECUTING"), intent
        assert letters.intent_of("poison") is None
        (letter,) = engine.get("/system/dead-letters")
        assert (letter["kind"], letter["queue"], letter["status"]) == ("POISON", "signal", "WAITING")
        assert (letter["attempts"], letter["sizeBytes"]) == (3, len(poison))
        actions = [row["action"] for row in engine.get("/audit", subject=f"dead_letter:{letter['id']}")]
        assert sorted(actions) == ["ALERT", "DEAD_LETTER"]
        assert {row["name"]: row["dead"] for row in engine.get("/system/queues")}["signal"] == 1
        cursor = "SELECT position FROM journal_cursor"
        engine.wait_for("the cursor behind the last entry", lambda: servers.sql(cursor, NAME) == newest)
        assert servers.sql("SELECT count(*) FROM journal_attempts", NAME) == "0"
        assert engine.get("/audit/verify")["ok"]
    finally:
        engine.kill()
    servers.drop_database(NAME)
