"""What a signal wants of an account: sizing with caps, and orders towards a position."""

from decimal import Decimal
from typing import Any

import pytest

from engine.domain.denial import Denial
from engine.domain.directory import Target
from engine.domain.enums import SizingMode, TransactionType
from engine.domain.wanted import Book, Wanted, cut, wanted_of
from tests.support.desk import a_signal, make_instrument
from tests.support.trade import ACCOUNT

BUY, SELL = TransactionType.BUY, TransactionType.SELL
LOT = make_instrument("NIFTY26NOVFUT", 9, lot_size=25)
SHARE = make_instrument("INFY", 1)
EMPTY = Book()


def want(book: Book = EMPTY, instrument: Any = SHARE, price: str | None = "100", **fields: Any) -> Wanted | Denial:
    target = {name: fields.pop(name) for name in ("mode", "value", "max_quantity", "max_value") if name in fields}
    chosen = Target(**({"account_id": ACCOUNT, "mode": SizingMode.MULTIPLIER, "value": Decimal(1)} | target))
    return wanted_of(
        a_signal(instrument.symbol, **fields),
        chosen,
        instrument,
        capital=Decimal(100_000),
        price=None if price is None else Decimal(price),
        book=book,
    )


def code(found: Wanted | Denial) -> str:
    assert isinstance(found, Denial)
    return found.code


def order(found: Wanted | Denial) -> tuple[TransactionType, int]:
    assert isinstance(found, Wanted), found
    return found.side, found.quantity


@pytest.mark.parametrize(
    ("stop", "price", "instrument", "units"),
    [
        ("95", "100", SHARE, 200),  # 1 % of 100,000 is 1,000; 5 rupees a share
        ("105", "100", SHARE, 200),  # a short's stop is above
        ("97", "100", SHARE, 333),
        ("95", "100", LOT, 200),
        ("90", "100", LOT, 100),
        ("87", "100", LOT, 75),  # 76 units, three lots
    ],
)
def test_risk_pct_sizes_by_the_distance_to_the_stop(stop: str, price: str, instrument: Any, units: int) -> None:
    found = want(instrument=instrument, price=price, mode=SizingMode.RISK_PCT, stop_loss=Decimal(stop))
    assert order(found) == (BUY, units)


def test_risk_pct_counts_the_multiplier_of_a_contract() -> None:
    silver = make_instrument("SILVER", 7, multiplier=Decimal(10))
    assert order(want(instrument=silver, mode=SizingMode.RISK_PCT, stop_loss=Decimal(95))) == (BUY, 20)


def test_risk_pct_without_a_stop_or_a_price_is_denied() -> None:
    assert code(want(mode=SizingMode.RISK_PCT)) == "SIZE_NEEDS_STOP"
    assert code(want(mode=SizingMode.RISK_PCT, stop_loss=Decimal(100))) == "SIZE_NEEDS_STOP"
    assert code(want(price=None, mode=SizingMode.RISK_PCT, stop_loss=Decimal(95))) == "PRICE_UNAVAILABLE"


@pytest.mark.parametrize(
    ("caps", "units"),
    [
        ({"max_quantity": 4}, 4),
        ({"max_value": Decimal(350)}, 3),
        ({"max_quantity": 4, "max_value": Decimal(350)}, 3),
        ({"max_quantity": 40}, 10),
    ],
)
def test_caps_cut_and_say_so(caps: dict[str, Any], units: int) -> None:
    found = want(**caps)
    assert order(found) == (BUY, units)
    assert isinstance(found, Wanted)
    assert (found.note is None) is (units == 10)


def test_cap_below_a_lot_is_denied_and_never_stands_against_an_exit() -> None:
    assert code(want(instrument=LOT, quantity=50, max_quantity=24)) == "SIZE_ZERO"
    held = Book(held=50)
    assert order(want(held, LOT, quantity=50, max_quantity=25, transaction_type=SELL)) == (SELL, 50)
    assert order(want(held, LOT, price=None, quantity=50, max_value=Decimal(1), transaction_type=SELL)) == (SELL, 50)
    # what goes beyond what is held is capped
    assert order(want(held, LOT, quantity=100, max_quantity=25, transaction_type=SELL)) == (SELL, 50)
    assert code(want(price=None, max_value=Decimal(1000))) == "PRICE_UNAVAILABLE"


@pytest.mark.parametrize(
    ("goal", "book", "expected"),
    [
        (100, Book(), (BUY, 100)),
        (-100, Book(), (SELL, 100)),
        (100, Book(held=40), (BUY, 60)),
        (100, Book(held=140), (SELL, 40)),
        (-50, Book(held=50), (SELL, 100)),
        (0, Book(held=37), (SELL, 37)),
        (0, Book(held=-37), (BUY, 37)),
        # what is under way on the same side counts: a repeated signal doubles nothing
        (100, Book(buys=60), (BUY, 40)),
        (0, Book(held=100, sells=40), (SELL, 60)),
        # what is under way on the other side does not: it may never fill
        (0, Book(held=100, buys=50), (SELL, 100)),
    ],
)
def test_position_is_reached_by_what_is_missing(goal: int, book: Book, expected: tuple[Any, int]) -> None:
    assert order(want(book, position_size=goal)) == expected


@pytest.mark.parametrize(
    ("goal", "book", "expected"),
    [
        (100, Book(held=100), "NOTHING_TO_DO"),
        (0, Book(), "NOTHING_TO_DO"),
        (100, Book(held=40, buys=60), "NOTHING_TO_DO"),
        (0, Book(buys=50), "TARGET_BUSY"),  # selling 50 now would be a short of what nobody holds
        (0, Book(held=10, buys=5, sells=20), "TARGET_BUSY"),
    ],
)
def test_position_that_needs_no_order_says_why(goal: int, book: Book, expected: str) -> None:
    assert code(want(book, position_size=goal)) == expected


def test_position_in_lots_is_rounded_down_and_closes_to_the_unit() -> None:
    assert order(want(Book(), LOT, position_size=60)) == (BUY, 50)
    odd = want(Book(held=37), LOT, position_size=0)
    assert order(odd) == (SELL, 37)
    assert isinstance(odd, Wanted)
    assert odd.is_odd
    assert order(want(Book(held=37), LOT, position_size=-25)) == (SELL, 62)
    assert code(want(Book(held=40), LOT, position_size=50)) == "NOTHING_TO_DO"


def test_position_is_sized_and_capped_by_account() -> None:
    assert order(want(position_size=100, value=Decimal("0.5"))) == (BUY, 50)
    assert order(want(position_size=-100, mode=SizingMode.FIXED, value=Decimal(30))) == (SELL, 30)
    assert order(want(position_size=100, max_quantity=60)) == (BUY, 60)
    # a cap never makes a reduction larger than was asked for
    assert order(want(Book(held=100), position_size=80, max_quantity=20)) == (SELL, 20)


def test_cut_puts_odd_units_with_the_last_slice() -> None:
    frozen = make_instrument("X", 3, lot_size=25, freeze_quantity=50)
    assert cut(110, frozen) == (50, 50, 10)
    assert cut(85, frozen) == (50, 35)
    assert cut(7, frozen) == (7,)
