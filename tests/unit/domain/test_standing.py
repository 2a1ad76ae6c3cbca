"""What lasts is told once, what flickers is one spell, and the end is told when it is steady."""

from engine.domain.standing import STEADY_S, Condition, Standing

AWAY = Condition(subject="ledger", text="away", over="back", patience_s=3.0)


def told(seconds: "list[tuple[float, bool]]") -> "list[tuple[float, str]]":
    standing = Standing()
    return [(at, text) for at, is_away in seconds for _, text in standing.look(at, {"store": AWAY} if is_away else {})]


def test_what_ends_within_its_patience_is_nobodys_business() -> None:
    assert told([(0, True), (2.9, True), (3.0, False), (60, False)]) == []


def test_what_lasts_is_told_once_and_its_end_once() -> None:
    away = [(float(at), True) for at in range(30)]
    back = [(30.0 + at, False) for at in range(30)]
    assert told([*away, *back]) == [(3.0, "away"), (30.0 + STEADY_S, "back")]


def test_what_flickers_is_one_spell() -> None:
    flicker = [(float(at), at % 3 != 0) for at in range(60)]
    assert told(flicker) == []
    longer = [(float(at), at % 7 != 0) for at in range(60)]
    assert [text for _, text in told(longer)] == ["away"]


def test_a_second_spell_is_told_again() -> None:
    looks = [(0.0, True), (4.0, True), (5.0, False), (20.0, False), (21.0, True), (25.0, True)]
    assert [text for _, text in told(looks)] == ["away", "back", "away"]
