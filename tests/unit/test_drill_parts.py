"""The parts of `engine drill` that need no process: its plan, what the record says, its folder."""

import fcntl
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from engine.drill.child import DrillError
from engine.drill.folder import drill_folder
from engine.drill.plan import LOAD_SYMBOLS, POSITION_SYMBOLS, default_faults, read_faults, written
from engine.drill.rehearsal import is_proof
from engine.drill.truth import hits_of, placed_of
from engine.exchange.config import ExchangeError
from engine.exchange.events import OrderRequested
from engine.exchange.faults import read_rule

AT = datetime(2026, 11, 28, 4, 30, tzinfo=UTC)


def test_default_faults_hit_exits_and_signals_by_their_own_symbols() -> None:
    rules = default_faults(3, seed=7)
    named = {rule.symbol for rule in rules if rule.on == "place"}
    assert len(named & set(POSITION_SYMBOLS[:3])) == 2
    assert len(named & set(LOAD_SYMBOLS)) == 2
    assert not set(POSITION_SYMBOLS) & set(LOAD_SYMBOLS)
    assert default_faults(3, seed=7) == rules
    assert [read_rule(written(rule)) for rule in rules] == list(rules)


def test_faults_are_read_as_the_exchange_reads_them() -> None:
    assert read_faults(None, positions=2, seed=1) == default_faults(2, seed=1)
    assert read_faults(["none"], positions=2, seed=1) == ()
    (rule,) = read_faults(["on=orders,answer=empty,count=3"], positions=2, seed=1)
    assert (rule.on, rule.answer, rule.count) == ("orders", "empty", 3)
    for wrong in (["none", "on=orders"], ["on=nowhere"], ["on=orders,answer=own,takes=late"]):
        with pytest.raises(ExchangeError):
            read_faults(wrong, positions=2, seed=1)


def request(tag: str, after_s: float) -> OrderRequested:
    return OrderRequested(
        at=AT + timedelta(seconds=after_s),
        api_key="k",
        user_id="u",
        action="place",
        variety="regular",
        params={"tag": tag},
        accepted=True,
        http_status=200,
        order_id=tag,
    )


def hit(tag: str, takes: str, after_s: float) -> dict[str, Any]:
    at = (AT + timedelta(seconds=after_s)).isoformat()
    return {"at": at, "rule": 0, "kind": "place", "takes": takes, "answer": "none", "tag": tag}


def test_order_counts_from_when_it_reached_the_exchange_taken_or_not() -> None:
    hits = hits_of([hit("LATE", "late", 1), hit("LOST", "never", 2)])
    found = placed_of([request("PLAIN", 0), request("LATE", 9)], hits, frozenset({"LOST"}))
    assert [(each.tag, (each.at - AT).total_seconds(), each.accepted, each.exit) for each in found] == [
        ("PLAIN", 0, True, False),
        ("LATE", 1, True, False),
        ("LOST", 2, False, True),
    ]


def test_certificate_proves_only_by_two_clean_looks_at_every_account() -> None:
    clean: dict[str, Any] = {"openOrders": [], "positions": [{"quantity": 0}]}
    assert is_proof({"accounts": [{"flat": True, "proofs": [clean, clean]}]})
    assert not is_proof({})
    assert not is_proof({"accounts": [{"flat": True, "proofs": [clean]}]})
    assert not is_proof({"accounts": [{"flat": False, "proofs": [clean, clean]}]})
    assert not is_proof({"accounts": [{"flat": True, "proofs": [clean, clean | {"openOrders": ["1"]}]}]})
    assert not is_proof({"accounts": [{"flat": True, "proofs": [clean, clean | {"positions": [{"quantity": 1}]}]}]})


def test_folder_is_gone_after_the_drill_and_what_a_killed_one_left_with_the_next(tmp_path: Path) -> None:
    left, used, foreign = (tmp_path / name for name in ("engine-drill-a", "engine-drill-b", "engine-drill-c"))
    for folder in (left, used):
        folder.mkdir()
        (folder / "drill.lock").touch()
    foreign.mkdir()
    lock = os.open(used / "drill.lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with drill_folder(tmp_path) as folder:
        assert folder.parent == tmp_path
        assert sorted(tmp_path.iterdir()) == sorted([folder, used, foreign])
    os.close(lock)
    assert not folder.exists()
    (tmp_path / "file").touch()
    with pytest.raises(DrillError, match="--data-dir"), drill_folder(tmp_path / "file"):
        pass
