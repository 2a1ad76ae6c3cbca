"""Differences with the broker, and the two reads that they must survive."""

from decimal import Decimal

import pytest

from engine.domain.difference import DifferenceKind, TwoReads, absent_rows, differences
from engine.domain.enums import ProductType
from engine.domain.position import Position
from tests.support.trade import a_position


def by_key(*positions: Position) -> dict[object, Position]:
    return {position.key: position for position in positions}


def test_equal_quantities_are_no_difference_whatever_their_values() -> None:
    ours = a_position(quantity=10, overnight_quantity=10, buy_value=Decimal(1000))
    theirs = a_position(quantity=10, day_buy_quantity=10, buy_value=Decimal("1000.01"))
    assert differences(by_key(ours), by_key(theirs)) == []  # type: ignore[arg-type]


def test_flat_and_missing_are_the_same() -> None:
    assert differences(by_key(a_position()), {}) == []  # type: ignore[arg-type]
    assert differences({}, by_key(a_position())) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ours", "theirs", "kind", "figures"),
    [
        (a_position(quantity=10), a_position(quantity=4), DifferenceKind.DIFFERS, (10, 4)),
        (a_position(quantity=10), None, DifferenceKind.ABSENT, (10, 0)),
        (None, a_position(quantity=-3), DifferenceKind.DIFFERS, (0, -3)),
        # intraday positions never go to a demat account
        (a_position(quantity=10, overnight_quantity=10), None, DifferenceKind.ABSENT, (10, 0)),
    ],
)
def test_difference_is_named(
    ours: Position | None, theirs: Position | None, kind: DifferenceKind, figures: tuple[int, int]
) -> None:
    (found,) = differences(by_key(*([ours] if ours else [])), by_key(*([theirs] if theirs else [])))  # type: ignore[arg-type]
    assert (found.kind, found.figures) == (kind, figures)


@pytest.mark.parametrize(
    ("quantity", "overnight", "theirs", "kind"),
    [
        (10, 10, None, DifferenceKind.DELIVERED),
        (15, 10, a_position(product_type=ProductType.CNC, quantity=5), DifferenceKind.DELIVERED),
        (4, 10, a_position(product_type=ProductType.CNC, quantity=-6), DifferenceKind.DELIVERED),
        (-10, -10, None, DifferenceKind.DELIVERED),
        # a part only, or a row that still carries it: something else happened
        (10, 10, a_position(product_type=ProductType.CNC, quantity=4), DifferenceKind.DIFFERS),
        (10, 10, a_position(product_type=ProductType.CNC, overnight_quantity=5), DifferenceKind.DIFFERS),
        (10, 0, None, DifferenceKind.ABSENT),
    ],
)
def test_delivered_shares_are_told_from_lost_ones(
    quantity: int, overnight: int, theirs: Position | None, kind: DifferenceKind
) -> None:
    ours = a_position(product_type=ProductType.CNC, quantity=quantity, overnight_quantity=overnight)
    (found,) = differences(by_key(ours), by_key(*([theirs] if theirs else [])))  # type: ignore[arg-type]
    assert found.kind is kind


def test_absent_rows_are_those_a_whole_answer_must_have() -> None:
    held, other = a_position(), a_position(symbol="SBIN")
    assert absent_rows({held.key, other.key}, by_key(held)) == [other.key]  # type: ignore[arg-type]


def test_two_reads_agree() -> None:
    reads: TwoReads[str] = TwoReads(apart_s=2)
    assert reads.add(0, {"a": (1, 5)}) == frozenset()
    assert reads.add(1.9, {"a": (1, 5)}) == frozenset(), "too close together to be two"
    assert reads.add(2.0, {"a": (1, 5)}) == {"a"}


@pytest.mark.parametrize(
    "between",
    [{"a": (2, 5)}, {"a": (1, 6)}, {}],
    ids=["another figure", "a stir", "gone for a read"],
)
def test_two_reads_begin_anew_when_something_changed(between: dict[str, tuple[int, int]]) -> None:
    reads: TwoReads[str] = TwoReads(apart_s=2)
    reads.add(0, {"a": (1, 5)})
    assert reads.add(3, between) == frozenset()  # type: ignore[arg-type]
    last = between or {"a": (1, 5)}
    assert reads.add(4, last) == frozenset()  # type: ignore[arg-type]
    assert reads.add(6, last) == {"a"}  # type: ignore[arg-type]


def test_two_reads_stubborn_sighting_is_believed_though_it_never_rests() -> None:
    stubborn: TwoReads[str] = TwoReads(apart_s=2, stubborn=6)
    patient: TwoReads[str] = TwoReads(apart_s=2)
    seen = [stubborn.add(at * 3, {"a": ((), at)}) for at in range(6)]
    assert seen == [frozenset()] * 5 + [{"a"}]
    assert not any(patient.add(at * 3, {"a": ((), at)}) for at in range(50))


def test_two_reads_drop_and_clear_forget() -> None:
    reads: TwoReads[str] = TwoReads(apart_s=2)
    reads.add(0, {"a": (1, 1), "b": (1, 1)})
    reads.drop("a")
    assert reads.add(3, {"a": (1, 1), "b": (1, 1)}) == {"b"}
    reads.clear()
    assert len(reads) == 0
