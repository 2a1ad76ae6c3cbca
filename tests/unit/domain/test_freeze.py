from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.enums import Exchange
from engine.domain.freeze import DEFAULTS, FreezeFault, FreezeOrigin, FreezeQuantity, FreezeTable, freeze_list
from engine.domain.instruments import Instrument, InstrumentBook, freeze_from_refusal, slices


def option(symbol: str = "NIFTY26DEC24500CE", name: str = "NIFTY") -> Instrument:
    return Instrument(
        exchange=Exchange.NFO,
        symbol=symbol,
        name=name,
        token=2,
        tick_size=Decimal("0.05"),
        lot_size=65,
        instrument_type="CE",
        segment="NFO-OPT",
    )


def row(symbol: str, quantity: int, exchange: Exchange = Exchange.NFO) -> FreezeQuantity:
    return FreezeQuantity(
        exchange=exchange, symbol=symbol, quantity=quantity, origin=FreezeOrigin.USER, as_of=date(2026, 12, 1)
    )


KITE = (
    "The order quantity 1000 (40 lots) is higher than the maximum quantity of 900 (36 lots) allowed by the "
    "exchanges. Please reduce the order quantity or use iceberg orders. [Read more.](https://support.zerodha.com)"
)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (KITE, 900),
        (f"InputException (400): {KITE}", 900),
        (KITE.replace("900", "0"), None),
        (KITE.replace("900", "9000000000"), None),
        (KITE.replace("900", "1,800"), None),
        (KITE.replace("900", "90.5"), None),
        (KITE.replace("900", "\u0669\u0660\u0660"), None),
        ("RMS:Rule: Check freeze quantity for NSE CASH", None),
        ("Quantity should be greater than or equal to 3510 for order slicing.", None),
        ("Insufficient funds. Required margin is 95417.84 but available margin is 74251.80.", None),
        ("Maximum allowed order requests exceeded.", None),
        ("", None),
    ],
)
def test_freeze_from_refusal_reads_only_the_number_that_is_meant(message: str, expected: int | None) -> None:
    assert freeze_from_refusal(message) == expected


def test_contract_has_the_freeze_quantity_of_its_underlying() -> None:
    book = InstrumentBook([option()], freeze=FreezeTable(DEFAULTS))
    found = book.get(Exchange.NFO, "NIFTY26DEC24500CE")
    assert found is not None
    assert found.freeze_quantity == 1800
    assert slices(1950, found) == (1755, 195)


def test_row_of_the_contract_itself_goes_before_that_of_its_underlying() -> None:
    table = FreezeTable([row("NIFTY", 1800), row("NIFTY26DEC24500CE", 650)])
    book = InstrumentBook([option(), option("NIFTY26DEC24600CE")], freeze=table)
    assert [book.get(Exchange.NFO, s).freeze_quantity for s in book.symbols()] == [650, 1800]  # type: ignore[union-attr]


def test_share_is_not_taken_for_an_underlying_of_the_same_name() -> None:
    share = Instrument(
        exchange=Exchange.NSE, symbol="INFY", name="INFOSYS", token=1, tick_size=Decimal("0.05"), lot_size=1
    )
    book = InstrumentBook([share], freeze=FreezeTable([row("INFOSYS", 5, Exchange.NSE), row("INFY", 7, Exchange.NFO)]))
    assert book.get(Exchange.NSE, "INFY") == share


def test_new_table_holds_at_the_next_look_up_and_the_old_is_untouched() -> None:
    before = FreezeTable(DEFAULTS)
    book = InstrumentBook([option()], freeze=before)
    book.freeze = before.with_rows([row("NIFTY", 1300)])
    found = book.get(Exchange.NFO, "NIFTY26DEC24500CE")
    assert found is not None
    assert found.freeze_quantity == 1300
    kept = before.find(Exchange.NFO, "NIFTY")
    assert kept is not None
    assert kept.quantity == 1800


TODAY = date(2026, 12, 1)


def test_list_is_read_by_its_column_names() -> None:
    text = '\ufeffQuantity,Exchange,Underlying,Note\r\n1800,nfo,nifty,weekly\r\n\r\n"600",NFO, BANKNIFTY ,\r\n'
    assert [(row.exchange, row.symbol, row.quantity, row.as_of) for row in freeze_list(text, as_of=TODAY)] == [
        (Exchange.NFO, "NIFTY", 1800, TODAY),
        (Exchange.NFO, "BANKNIFTY", 600, TODAY),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1: begin with a line naming the columns"),
        ("NFO,NIFTY,1800\n", "line 1: begin with"),
        ("exchange,symbol,quantity\nNSX,NIFTY,1800\n", "line 2: exchange: write one of NSE"),
        ("exchange,symbol,quantity\nNFO,,1800\n", "line 2: symbol"),
        ("exchange,symbol,quantity\nNFO,NIFTY\n", "line 2: quantity"),
        ("exchange,symbol,quantity\nNFO,NIFTY,0\n", "line 2: quantity"),
        ("exchange,symbol,quantity\nNFO,NIFTY,1800.0\n", "line 2: quantity"),
        ("exchange,symbol,quantity\nNFO,NIFTY,-1\n", "line 2: quantity"),
        ("exchange,symbol,quantity\nNFO,NIFTY,1\nNFO,nifty,2\n", "NFO:NIFTY is there twice"),
        ('exchange,symbol,quantity\nNFO,"NIFTY,1\n', "line 2"),
    ],
)
def test_list_that_cannot_be_read_names_the_line(text: str, words: str) -> None:
    with pytest.raises(FreezeFault, match=words):
        freeze_list(text, as_of=TODAY)


@given(st.text(max_size=80))
def test_list_of_anything_raises_nothing_else(text: str) -> None:
    try:
        freeze_list(text, as_of=TODAY)
        freeze_list(f"exchange,symbol,quantity\n{text}", as_of=TODAY)
    except FreezeFault:
        return


@given(st.text(max_size=200))
def test_refusal_of_anything_never_raises(text: str) -> None:
    freeze_from_refusal(f"higher than the maximum quantity of {text}")
