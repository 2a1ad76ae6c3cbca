"""Charges against the published contract note of July 2023 and Zerodha's lists since."""

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.charges import charges_of, charges_of_turnover
from engine.domain.enums import Exchange, ProductType, TransactionType
from engine.domain.instruments import Instrument

D = Decimal
JULY_2023 = date(2023, 7, 10)
BUY, SELL = TransactionType.BUY, TransactionType.SELL


def instrument(exchange: str, kind: str = "EQ", multiplier: int = 1) -> Instrument:
    return Instrument(
        exchange=Exchange(exchange),
        symbol="X",
        token=1,
        tick_size=D("0.05"),
        lot_size=1,
        instrument_type=kind,
        multiplier=D(multiplier),
    )


def test_charges_of_a_delivery_purchase_are_the_published_note() -> None:
    found = charges_of(instrument("NSE"), ProductType.CNC, BUY, 1, D(560), JULY_2023)
    assert (found.transaction_tax, found.exchange_turnover) == (D("0.56"), D("0.01876"))
    assert (found.sebi_turnover, found.brokerage, found.stamp_duty) == (D("0.00056"), 0, 0)
    assert (found.gst, found.total) == (D("0.0034776"), D("0.5827976"))


def test_charges_of_a_commodity_sale_are_the_published_note() -> None:
    found = charges_of(instrument("MCX", "FUT"), ProductType.NRML, SELL, 1, D(5862), JULY_2023)
    assert found.is_commodity
    assert (found.transaction_tax, found.exchange_turnover) == (D("0.5862"), D("0.152412"))
    assert (found.sebi_turnover, found.brokerage, found.stamp_duty) == (D("0.005862"), D("1.7586"), 0)
    assert (found.gst, found.total) == (D("0.34503732"), D("2.84811132"))


def test_charges_of_an_option_purchase_are_the_published_note() -> None:
    found = charges_of(instrument("NFO", "PE"), ProductType.NRML, BUY, 100, D("1.5"), JULY_2023)
    assert (found.transaction_tax, found.exchange_turnover, found.brokerage) == (0, D("0.075"), 20)
    assert (found.sebi_turnover, found.gst) == (D("0.00015"), D("3.613527"))


@pytest.mark.parametrize(
    ("kind", "day", "rate"),
    [
        ("FUT", date(2023, 3, 31), "0.0001"),
        ("FUT", date(2023, 4, 1), "0.000125"),
        ("FUT", date(2024, 9, 30), "0.000125"),
        ("FUT", date(2024, 10, 1), "0.0002"),
        ("FUT", date(2026, 3, 31), "0.0002"),
        ("FUT", date(2026, 4, 1), "0.0005"),
        ("CE", date(2023, 4, 1), "0.000625"),
        ("CE", date(2024, 10, 1), "0.001"),
        ("CE", date(2026, 11, 23), "0.0015"),
    ],
)
def test_tax_of_a_sale_follows_the_day_of_the_trade(kind: str, day: date, rate: str) -> None:
    found = charges_of(instrument("NFO", kind), ProductType.NRML, SELL, 65, D(100), day)
    assert found.transaction_tax == 6500 * D(rate)


@pytest.mark.parametrize(
    ("exchange", "kind", "product", "brokerage"),
    [
        ("NSE", "EQ", "CNC", 0),
        ("NSE", "EQ", "MIS", "3"),
        ("NSE", "EQ", "MTF", "20"),
        ("BSE", "EQ", "MIS", "3"),
        ("NFO", "FUT", "NRML", "3"),
        ("BFO", "CE", "MIS", "20"),
        ("CDS", "FUT", "NRML", "3"),
        ("CDS", "CE", "NRML", "3"),
        ("BCD", "FUT", "MIS", "3"),
        ("MCX", "FUT", "NRML", "3"),
        ("MCX", "PE", "NRML", "20"),
    ],
)
def test_brokerage_of_ten_thousand_rupees_by_segment_and_product(
    exchange: str, kind: str, product: str, brokerage: str
) -> None:
    found = charges_of(instrument(exchange, kind), ProductType(product), BUY, 100, D(100), date(2026, 11, 23))
    assert found.brokerage == D(brokerage)


def test_brokerage_is_at_most_twenty_rupees() -> None:
    assert charges_of(instrument("NSE"), ProductType.MIS, BUY, 1000, D(1000), JULY_2023).brokerage == 20


def test_stamp_duty_is_of_purchases_in_whole_rupees() -> None:
    bought = charges_of(instrument("NSE"), ProductType.CNC, BUY, 10, D(10_000), JULY_2023)
    sold = charges_of(instrument("NSE"), ProductType.CNC, SELL, 10, D(10_000), JULY_2023)
    assert (bought.stamp_duty, sold.stamp_duty) == (15, 0)


def test_charges_count_the_multiplier_of_a_lot() -> None:
    found = charges_of(instrument("MCX", "FUT", 1000), ProductType.NRML, SELL, 1, D("161.05"), JULY_2023)
    assert found.transaction_tax == D("16.105")


def test_charges_before_the_table_begins_are_refused() -> None:
    with pytest.raises(ValueError, match="begins on 2020-07-01"):
        charges_of(instrument("NSE"), ProductType.CNC, BUY, 1, D(100), date(2020, 6, 30))


def test_charges_are_known_of_every_exchange_kind_and_product() -> None:
    for exchange in Exchange:
        for kind in ("EQ", "FUT", "CE", "PE"):
            for product in ProductType:
                assert charges_of(instrument(exchange, kind), product, BUY, 1, D(100), JULY_2023).total > 0


@given(
    st.sampled_from([("NSE", "EQ"), ("NFO", "FUT"), ("NFO", "CE"), ("MCX", "FUT"), ("CDS", "FUT")]),
    st.sampled_from([BUY, SELL]),
    st.integers(1, 10_000),
    st.decimals("0.05", "10000", places=2),
    st.dates(date(2020, 7, 1), date(2030, 1, 1)),
)
def test_total_is_the_sum_of_parts_that_are_never_negative(
    market: tuple[str, str], side: TransactionType, quantity: int, price: Decimal, day: date
) -> None:
    found = charges_of(instrument(*market), ProductType.MIS, side, quantity, price, day)
    parts = (
        found.transaction_tax,
        found.exchange_turnover,
        found.sebi_turnover,
        found.brokerage,
        found.stamp_duty,
        found.gst,
    )
    assert min(parts) >= 0
    assert sum(parts) == found.total
    assert found.total < quantity * price + 100


@pytest.mark.parametrize("exchange", list(Exchange))
@pytest.mark.parametrize("symbol", ["RELIANCE", "NIFTY26NOVFUT", "NIFTY26NOV24000CE", "GOLD26NOV70000PE"])
def test_every_exchange_and_product_has_a_cost(exchange: Exchange, symbol: str) -> None:
    """A fill that nothing is known of the charges of would stop the books."""
    for product in ProductType:
        cost = charges_of_turnover(
            exchange, symbol, product, TransactionType.SELL, Decimal(100_000), date(2026, 11, 18)
        )
        assert cost > 0


def test_cost_of_a_turnover_is_that_of_the_order() -> None:
    contract = instrument("NFO", "CE")
    on = date(2026, 11, 18)
    cost = charges_of_turnover(
        Exchange.NFO, "NIFTY26N2424000CE", ProductType.NRML, TransactionType.BUY, Decimal(75) * 80, on
    )
    assert cost == charges_of(contract, ProductType.NRML, TransactionType.BUY, 75, Decimal(80), on).total
