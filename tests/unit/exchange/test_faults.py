from random import Random

import msgspec
import pytest

from engine.exchange.config import ExchangeError
from engine.exchange.fault_answers import ANSWERS, emptied, partial
from engine.exchange.faults import Answer, Asked, FaultRule, Faults, read_rule
from tests.unit.exchange.conftest import MORNING

PLACE = Asked(kind="place", symbol="INFY", tag="T1")


def hits(faults: Faults, asked: Asked = PLACE, n: int = 1) -> list[bool]:
    return [faults.pick(asked, MORNING) is not None for _ in range(n)]


def test_no_rule_is_off_and_hits_nothing():
    faults = Faults()
    assert not faults.are_on
    assert hits(faults) == [False]


@pytest.mark.parametrize(
    ("on", "hit"),
    [("any", True), ("write", True), ("place", True), ("cancel", False), ("read", False), ("orders", False)],
)
def test_rule_hits_only_the_kind_of_request_it_names(on, hit):
    assert hits(Faults([FaultRule(on=on, answer="drop")])) == [hit]


@pytest.mark.parametrize(
    ("narrowing", "hit"),
    [({"symbol": "INFY"}, True), ({"symbol": "TCS"}, False), ({"tag": "T1"}, True), ({"tag": "T2"}, False)],
)
def test_rule_hits_only_the_symbol_and_tag_it_names(narrowing, hit):
    assert hits(Faults([FaultRule(answer="drop", **narrowing)])) == [hit]


def test_rule_skips_the_first_and_stops_after_its_count():
    assert hits(Faults([FaultRule(answer="drop", skip=2, count=1)]), n=5) == [False, False, True, False, False]


def test_dice_of_a_seed_fall_the_same_way_again():
    def rolled(seed: int) -> list[bool]:
        return hits(Faults([FaultRule(answer="drop", probability=0.3, seed=seed)]), n=200)

    assert rolled(7) == rolled(7)
    assert rolled(7) != rolled(8)
    assert 30 < sum(rolled(7)) < 90


def test_first_of_two_rules_counts_and_both_are_counted_apart():
    faults = Faults([FaultRule(answer="drop", count=1), FaultRule(answer="reset")])
    hits(faults, n=3)
    assert faults.counts == [1, 2]
    assert [(hit.answer, hit.tag) for hit in faults.hits] == [("drop", "T1"), ("reset", "T1"), ("reset", "T1")]


@pytest.mark.parametrize(
    ("rule", "named"),
    [
        (FaultRule(takes="never"), "own"),
        (FaultRule(on="place", answer="empty"), "empty"),
        (FaultRule(on="orders", takes="late", answer="drop"), "late"),
    ],
)
def test_rule_that_cannot_be_is_refused_by_name(rule, named):
    with pytest.raises(ExchangeError, match=named):
        Faults([rule])


def test_written_rule_is_read_with_its_numbers():
    assert read_rule("on=place,takes=late,late_s=8,answer=timed_out,probability=0.1,count=3") == FaultRule(
        on="place", takes="late", late_s=8.0, answer="timed_out", probability=0.1, count=3
    )


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("drop", "drop"),
        ("answer=fly", "one of own, none, drop"),
        ("probability=2", "probability"),
        ("x=1", "`x` is not known; there are on, takes, answer"),
    ],
)
def test_written_rule_with_a_mistake_is_refused_by_name(text, named):
    with pytest.raises(ExchangeError, match=named):
        read_rule(text)


def test_every_answer_by_name_is_there():
    made_by_hand = {"own", "none", "drop", "reset", "cut", "logout", "stale", "empty", "partial"}
    assert set(Answer.__args__) == made_by_hand | set(ANSWERS)


def test_partial_answer_always_lacks_a_row():
    for seed in range(50):
        body = partial(b'{"status":"success","data":[{"a":1},{"a":2}]}', Random(seed))
        assert len(msgspec.json.decode(body)["data"]) < 2


def test_emptied_positions_keep_their_two_lists():
    assert msgspec.json.decode(emptied(b'{"status":"success","data":{"net":[1],"day":[2]}}'))["data"] == {
        "net": [],
        "day": [],
    }
