"""The price of an instrument reaches every holding of it, and none twice."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from engine.domain.enums import Exchange
from engine.domain.marks import Marks

INFY = (Exchange.NSE, "INFY")
SBIN = (Exchange.NSE, "SBIN")
PRICE = Decimal(100)


def test_a_price_that_is_told_again_moves_nothing():
    marks: Marks[int] = Marks()
    marks.put(INFY, 1, Decimal(90))
    marks.put(INFY, 2, PRICE)
    assert sorted(marks.move(INFY, PRICE)) == [1, 2]
    assert not marks.move(INFY, PRICE)
    assert not marks.move(SBIN, PRICE)


def test_a_holding_that_came_at_another_price_is_moved_alone():
    marks: Marks[int] = Marks()
    marks.put(INFY, 1, PRICE)
    marks.move(INFY, PRICE)
    marks.put(INFY, 2, Decimal(90))
    marks.put(INFY, 3, PRICE)
    assert marks.move(INFY, PRICE) == [2]


def test_what_is_gone_is_moved_no_more():
    marks: Marks[int] = Marks()
    marks.put(INFY, 1, Decimal(90))
    marks.drop(INFY, 1)
    marks.put(INFY, 2, Decimal(90))
    marks.clear()
    assert not marks.move(INFY, PRICE)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.integers(0, 4), st.integers(1, 3)),
            st.tuples(st.just("drop"), st.integers(0, 4), st.just(0)),
            st.tuples(st.just("move"), st.just(0), st.integers(1, 3)),
        )
    )
)
def test_after_a_price_all_stand_at_it(steps):
    marks: Marks[int] = Marks()
    held: dict[int, Decimal] = {}
    for what, holding, number in steps:
        price = Decimal(number)
        if what == "put":
            held[holding] = price
            marks.put(INFY, holding, price)
        elif what == "drop":
            held.pop(holding, None)
            marks.drop(INFY, holding)
        else:
            moved = marks.move(INFY, price)
            assert len(moved) == len(set(moved))
            for each in moved:
                held[each] = price
            assert set(held.values()) <= {price}
