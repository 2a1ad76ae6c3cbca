"""``engine run --demo``: a seeded day of several people, in a place of its own, for every page of a console."""

import json
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from engine.demo import script
from engine.demo.script import Drill, Send
from tests.support import forks
from tests.support.engine import EngineProcess
from tests.support.servers import TestServers

ROOT = Path(__file__).parents[2]
BASES = {symbol: Decimal(1000) for symbol in script.SYMBOLS}


class Watched(EngineProcess):
    """An engine that writes down what Twisted, which the broker's package brings along, does in it."""

    program = ("-m", "tests.support.watched_engine")


@pytest.fixture(scope="module")
def demo(servers: TestServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("demo")
    redis_url = f"{servers.redis_url}?db=9"
    servers.flush(redis_url)
    engine = Watched(
        folder / "engine",
        "--demo",
        "--demo-seconds",
        "15",
        ENGINE__DATABASE__URL=servers.create_database("demo"),
        ENGINE__REDIS__URL=redis_url,
        LOOK_AT=str(folder / "look"),
        PYTHONPATH=str(ROOT),
    )
    with engine:
        yield engine
    servers.drop_database("demo")


def test_the_day_is_a_function_of_its_seed_and_has_its_scenes() -> None:
    day = script.day(7, BASES)
    assert day == script.day(7, BASES)
    assert day != script.day(8, BASES)
    assert [act.on for _, act in day.acts if isinstance(act, Drill)] == [True, False]
    assert all(abs(price / 1000 - 1) < Decimal("0.04") for prices in day.prices.values() for price in prices)
    numbers = [act.number for _, act in day.acts if isinstance(act, Send) and act.number is not None]
    assert numbers[0] == 0
    assert len(set(range(numbers[-1])) - set(numbers)) == 1  # it never comes
    gentle = script.day(7, BASES, is_first=False)
    assert not [act for _, act in gentle.acts if isinstance(act, Drill)]


def test_every_page_has_life_after_the_day(demo: Watched) -> None:
    def certificates() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = demo.get("/risk/killswitch/certificates")
        return found

    (flat,) = demo.wait_for("the drill's certificate", certificates, within_s=40)
    assert flat["outcome"] == "FLAT_VERIFIED"
    demo.wait_for("the last signal that waits", lambda: len(_intents(demo, "PENDING_APPROVAL")) == 1, within_s=40)
    statuses = Counter(intent["status"] for intent in _intents(demo))
    assert statuses["EXECUTED"] >= 15
    assert statuses["PENDING_APPROVAL"] == 1
    reasons = {str(intent["reason"]).partition(":")[0] for intent in _intents(demo, "REJECTED")}
    assert {"MAX_ORDER_QUANTITY", "REJECTED_BY_HAND"} <= reasons
    orders = demo.get("/executions/orders", limit=200)
    assert len({order["accountId"] for order in orders}) == 4
    fills = Counter(trade["orderId"] for trade in demo.get("/executions/trades", limit=200))
    assert max(fills.values()) > 1  # in pieces
    alerts = " ".join(record["data"]["text"] for record in demo.get("/audit", limit=200, action="ALERT"))
    assert "SIGNALS_MISSING" in alerts
    emails = {user["email"] for user in demo.get("/users")}
    assert {"meera@demo.localhost", "arjun@demo.localhost", "nisha@demo.localhost"} <= emails
    assert any(account["realisedPnl"] for account in demo.get("/executions/pnl")["accounts"])
    assert demo.get("/audit/verify")["ok"]


def _intents(engine: EngineProcess, status: str | None = None) -> list[dict[str, Any]]:
    wanted = {} if status is None else {"status": status}
    found: list[dict[str, Any]] = engine.get("/signals/intents", limit=200, **wanted)
    return found


def test_no_reactor_of_the_brokers_package_runs_in_it(demo: Watched) -> None:
    look_at = Path(demo._environment["LOOK_AT"])
    look_at.touch()
    demo.wait_for("look", lambda: look_at.with_suffix(".seen").exists())
    seen: dict[str, Any] = json.loads(look_at.with_suffix(".seen").read_text())
    assert seen["package"] is True
    assert (seen["running"], seen["started"], seen["pool"]) == (False, False, False)
    assert not [name for name in seen["threads"] if "twisted" in name.lower()]
    assert not [module for module in seen["handlers"] if module.startswith("twisted")]


def test_it_leaves_no_mark_where_it_is_not_wanted(tmp_path: Path) -> None:
    def refused(*words: str) -> CompletedProcess[str]:
        return forks.command("run", "--demo", *words, cwd=tmp_path, timeout=30)

    real = tmp_path / "real"
    (real / "keys").mkdir(parents=True)
    done = refused("--data-dir", "real")
    assert (done.returncode, "is not a demo's" in done.stderr) == (1, True)
    (tmp_path / "engine.toml").write_text('[broker]\nmode = "kite"\n')
    done = refused()
    assert done.returncode == 2
    assert "--demo" in done.stderr
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["engine.toml", "keys", "real"]
