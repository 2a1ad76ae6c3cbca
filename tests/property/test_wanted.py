"""Properties of sizing: caps hold, lots are whole, a position is reached exactly, asking again asks for nothing."""

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.domain.denial import Denial
from engine.domain.directory import Target
from engine.domain.enums import SizingMode, TransactionType
from engine.domain.wanted import Book, Wanted, cut, wanted_of
from tests.support.desk import a_signal, make_instrument
from tests.support.trade import ACCOUNT

LOTS = st.sampled_from([1, 7, 25, 75])
UNITS = st.integers(0, 2000)
CAPS = st.none() | st.integers(1, 3000)
MONEY = st.none() | st.integers(1, 10**6).map(Decimal)
BOOKS = st.builds(Book, held=st.integers(-2000, 2000), buys=UNITS, sells=UNITS)
TARGETS = st.builds(
    Target,
    account_id=st.just(ACCOUNT),
    mode=st.sampled_from(SizingMode),
    value=st.integers(1, 400).map(lambda n: Decimal(n) / 4),
    max_quantity=CAPS,
    max_value=MONEY,
)
PRICES = st.integers(1, 100_000).map(lambda n: Decimal(n) / 20)


def want(lot: int, target: Target, book: Book, price: Decimal, **fields: object) -> Wanted | Denial:
    instrument = make_instrument("X", 1, lot_size=lot)
    signal = a_signal("X", stop_loss=price + 5, **fields)
    return wanted_of(signal, target, instrument, capital=Decimal(10**6), price=price, book=book)


@given(
    lot=LOTS,
    target=TARGETS,
    book=BOOKS,
    price=PRICES,
    quantity=st.integers(1, 5000),
    side=st.sampled_from(TransactionType),
)
@settings(max_examples=300, deadline=None)
def test_order_is_whole_lots_and_within_the_caps_or_only_reduces(lot, target, book, price, quantity, side) -> None:
    found = want(lot, target, book, price, quantity=quantity, transaction_type=side)
    if isinstance(found, Denial):
        return
    assert found.quantity > 0
    assert found.quantity % lot == 0
    assert found.side is side
    if found.quantity > book.closable(side):
        assert target.max_quantity is None or found.quantity <= max(target.max_quantity, book.closable(side))
        assert target.max_value is None or found.quantity * price <= max(target.max_value, book.closable(side) * price)


@given(lot=LOTS, book=BOOKS, price=PRICES, goal=st.integers(-80, 80), factor=st.integers(1, 3))
@settings(max_examples=300, deadline=None)
def test_position_of_whole_lots_is_reached_exactly_when_it_can_be(lot, book, price, goal, factor) -> None:
    target = Target(account_id=ACCOUNT, mode=SizingMode.MULTIPLIER, value=Decimal(factor))
    wish = goal * lot
    found = want(lot, target, book, price, position_size=wish)
    least, most = book.held - book.sells, book.held + book.buys
    wish *= factor
    if isinstance(found, Denial):
        near = min(abs(least - wish), abs(most - wish))
        assert least <= wish <= most or near < lot
        return
    after = found.quantity * found.side.sign
    # with the live orders of its own side filled it is there, or short of it by less than a lot of odd units
    end = (least if found.side is TransactionType.SELL else most) + after
    assert 0 <= (wish - end) * found.side.sign < lot
    if least % lot == 0 and most % lot == 0:
        assert end == wish
    if wish == 0:
        assert end == 0
        assert found.quantity == found.closing
    assert sum(cut(found.quantity, make_instrument("X", 1, lot_size=lot))) == found.quantity


@given(lot=LOTS, target=TARGETS, held=st.integers(1, 2000), price=PRICES, sign=st.sampled_from([1, -1]))
@settings(max_examples=200, deadline=None)
def test_flat_is_reached_to_the_unit_whatever_the_sizing(lot, target, held, price, sign) -> None:
    found = want(lot, target, Book(held=held * sign), price, position_size=0)
    assert isinstance(found, Wanted)
    assert (found.quantity, found.side.sign) == (held, -sign)


@given(lot=LOTS, target=TARGETS, book=BOOKS, price=PRICES, goal=st.integers(-3000, 3000))
@settings(max_examples=300, deadline=None)
def test_asking_again_while_the_order_is_under_way_asks_for_nothing_more(lot, target, book, price, goal) -> None:
    found = want(lot, target, book, price, position_size=goal)
    if isinstance(found, Denial):
        return
    buying = found.side is TransactionType.BUY
    under_way = Book(
        held=book.held,
        buys=book.buys + (found.quantity if buying else 0),
        sells=book.sells + (0 if buying else found.quantity),
    )
    again = want(lot, target, under_way, price, position_size=goal)
    assert isinstance(again, Denial), again
