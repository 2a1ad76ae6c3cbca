from decimal import Decimal
from typing import Any

import msgspec
import pytest

from engine.domain.enums import Exchange, OrderType, ProductType, Variety
from engine.domain.instruments import Instrument, InstrumentBook, check_order, slices
from tests.support.trade import BUY, SELL

INFY = Instrument(exchange=Exchange.NSE, symbol="INFY", token=408065, tick_size=Decimal("0.05"), lot_size=1)
NIFTY_INDEX = Instrument(
    exchange=Exchange.NSE, symbol="NIFTY 50", token=256265, tick_size=Decimal(0), lot_size=0, segment="INDICES"
)
OPTION = Instrument(
    exchange=Exchange.NFO,
    symbol="BANKNIFTY26NOV50000CE",
    token=12073986,
    tick_size=Decimal("0.05"),
    lot_size=25,
    instrument_type="CE",
    segment="NFO-OPT",
    freeze_quantity=910,
)


def codes(instrument: Instrument = INFY, **fields: Any) -> list[str]:
    return [denial.code for denial in denials(instrument, **fields)]


def denials(instrument: Instrument = INFY, **fields: Any) -> Any:
    defaults: dict[str, Any] = {
        "quantity": 25,
        "price": Decimal("100.05"),
        "trigger_price": None,
        "order_type": OrderType.LIMIT,
        "product_type": ProductType.MIS,
    }
    return check_order(instrument, **(defaults | fields))


def test_book_get_finds_by_exchange_and_symbol() -> None:
    book = InstrumentBook([INFY, OPTION])
    assert book.get(Exchange.NSE, "INFY") is INFY
    assert book.get(Exchange.BSE, "INFY") is None
    assert len(book) == 2


def test_book_symbols_sorted_and_filtered() -> None:
    bse = msgspec.structs.replace(INFY, exchange=Exchange.BSE)
    book = InstrumentBook([OPTION, INFY, bse])
    assert book.symbols() == ("BANKNIFTY26NOV50000CE", "INFY")
    assert book.symbols(Exchange.BSE) == ("INFY",)


def test_book_repeated_row_later_wins() -> None:
    moved = msgspec.structs.replace(INFY, token=7)
    book = InstrumentBook([INFY, moved])
    assert book.get(Exchange.NSE, "INFY") is moved
    assert len(book) == 1


def test_check_order_valid_limit_passes() -> None:
    assert denials() == ()


def test_check_order_index_not_tradable_alone() -> None:
    assert codes(NIFTY_INDEX, quantity=-1, price=None) == ["INSTRUMENT_NOT_TRADABLE"]


@pytest.mark.parametrize(("quantity", "mend"), [(30, "use 25 or 50"), (10, "use 25")])
def test_check_order_odd_lot_names_nearest(quantity: int, mend: str) -> None:
    (denial,) = denials(OPTION, quantity=quantity)
    assert denial.code == "LOT_SIZE"
    assert denial.text.endswith(mend)


def test_check_order_over_freeze_names_largest_whole_lot() -> None:
    (denial,) = denials(OPTION, quantity=925)
    assert denial.code == "FREEZE_QUANTITY"
    assert denial.text.endswith("use at most 900")


def test_check_order_iceberg_over_freeze_passes() -> None:
    assert denials(OPTION, quantity=925, variety=Variety.ICEBERG) == ()


def test_check_order_off_tick_names_both_neighbours() -> None:
    (denial,) = denials(price=Decimal("100.03"))
    assert (
        str(denial)
        == "TICK_SIZE: the price 100.03 is not a multiple of the tick 0.05 of NSE:INFY; use 100.00 or 100.05"
    )


def test_check_order_below_first_tick_names_only_the_tick() -> None:
    (denial,) = denials(price=Decimal("0.03"))
    assert denial.text.endswith("use 0.05")


@pytest.mark.parametrize("price", ["10000000.05", "-1", "NaN", "Infinity"])
def test_check_order_price_out_of_range_denied(price: str) -> None:
    assert codes(price=Decimal(price)) == ["PRICE_RANGE"]


@pytest.mark.parametrize(
    ("order_type", "price", "trigger", "expected"),
    [
        (OrderType.LIMIT, None, None, ["PRICE_REQUIRED"]),
        (OrderType.LIMIT, "0", None, ["PRICE_REQUIRED"]),
        (OrderType.MARKET, "100", None, ["PRICE_NOT_ALLOWED"]),
        (OrderType.MARKET, None, "100", ["TRIGGER_PRICE_NOT_ALLOWED"]),
        (OrderType.MARKET, "0", "0", []),
        (OrderType.SL, "100", None, ["TRIGGER_PRICE_REQUIRED"]),
        (OrderType.SL, "100", "99", []),
        (OrderType.SL_M, None, "99.01", ["TICK_SIZE"]),
        (OrderType.SL_M, None, "99", []),
    ],
)
def test_check_order_prices_fit_the_type(
    order_type: OrderType, price: str | None, trigger: str | None, expected: list[str]
) -> None:
    assert (
        codes(
            order_type=order_type,
            price=None if price is None else Decimal(price),
            trigger_price=None if trigger is None else Decimal(trigger),
        )
        == expected
    )


@pytest.mark.parametrize(
    ("side", "price", "fits"), [(BUY, "101", True), (BUY, "99", False), (SELL, "99", True), (SELL, "101", False)]
)
def test_check_order_stop_limit_must_reach_beyond_trigger(side: Any, price: str, fits: bool) -> None:
    found = codes(order_type=OrderType.SL, price=Decimal(price), trigger_price=Decimal(100), transaction_type=side)
    assert found == ([] if fits else ["TRIGGER_PRICE_SIDE"])


@pytest.mark.parametrize("product", [ProductType.CNC, ProductType.MTF])
def test_check_order_delivery_of_derivative_denied(product: ProductType) -> None:
    assert codes(OPTION, product_type=product) == ["PRODUCT_NOT_ALLOWED"]


def test_check_order_cover_order_needs_trigger_and_mis() -> None:
    assert codes(variety=Variety.CO, product_type=ProductType.CNC) == ["PRODUCT_NOT_ALLOWED", "TRIGGER_PRICE_REQUIRED"]


def test_check_order_several_faults_all_named() -> None:
    assert codes(OPTION, quantity=911, price=Decimal("0.01")) == ["LOT_SIZE", "FREEZE_QUANTITY", "TICK_SIZE"]


def test_slices_are_whole_lots_within_freeze() -> None:
    assert slices(1925, OPTION) == (900, 900, 125)
    assert slices(900, OPTION) == (900,)
    assert slices(5000, INFY) == (5000,)


@pytest.mark.parametrize(("quantity", "freeze"), [(26, 910), (0, 910), (25, 24)])
def test_slices_impossible_refused(quantity: int, freeze: int) -> None:
    with pytest.raises(ValueError):
        slices(quantity, msgspec.structs.replace(OPTION, freeze_quantity=freeze))
