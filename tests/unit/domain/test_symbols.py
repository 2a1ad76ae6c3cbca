from datetime import datetime
from decimal import Decimal

import pytest

from engine.clock import IST
from engine.domain.calendar import REGULAR
from engine.domain.enums import Exchange
from engine.domain.instruments import InstrumentBook
from engine.domain.symbols import Resolution, resolve
from tests.support.chain import CHAIN, CONTRACTS
from tests.support.desk import a_signal

NOW = datetime(2026, 11, 27, 10, tzinfo=IST)
PRICES = {"NSE:NIFTY 50": Decimal("24512.35")}


def resolved(
    symbol: str, exchange: Exchange = Exchange.NSE, book: InstrumentBook = CHAIN, **aliases: str
) -> Resolution:
    return resolve(
        a_signal(symbol, exchange=exchange),
        book=book,
        aliases=aliases,
        calendar=REGULAR,
        now=NOW,
        price=PRICES.get,
    )


@pytest.mark.parametrize(
    ("written", "exchange", "symbol"),
    [
        ("MM", Exchange.NSE, "M&M"),
        ("BAJAJAUTO", Exchange.NSE, "BAJAJ-AUTO"),
        ("INFOSYS", Exchange.NSE, "INFY"),
        ("INFY-EQ", Exchange.NSE, "INFY"),
        ("NIFTY", Exchange.NSE, "NIFTY 50"),
        ("NIFTY50", Exchange.NSE, "NIFTY 50"),
        ("NIFTY50 FUT", Exchange.NFO, "NIFTY29DEC26FUT"),
        ("BANK NIFTY 55500 CE", Exchange.NFO, "BANKNIFTY29DEC2655500CE"),
        ("NIFTY 50 ATM PE", Exchange.NFO, "NIFTY01DEC2624500PE"),
        ("CRUDE FUT", Exchange.MCX, "CRUDEOIL18DEC26FUT"),
    ],
)
def test_names_people_write_come_to_the_exchanges_symbol(written: str, exchange: Exchange, symbol: str) -> None:
    found = resolved(written, exchange)
    assert (found.signal.symbol, found.written, found.denial) == (symbol, written, None)
    assert found.detail.startswith(f"{written} is {exchange}:{symbol}")


def test_only_the_symbol_of_a_signal_changes() -> None:
    assert resolved("MM").signal == a_signal("M&M")


def test_verdict_names_price_and_expiry() -> None:
    found = resolved("NIFTY ATM CE", Exchange.NFO)
    assert found.detail == "NIFTY ATM CE is NFO:NIFTY01DEC2624500CE at NSE:NIFTY 50 24512.35, expiry 2026-12-01"
    assert found.spot_key == "NSE:NIFTY 50"


@pytest.mark.parametrize("symbol", ["INFY", "M&M", "NIFTYBEES"])
def test_trading_symbol_never_gives_way_to_an_alias(symbol: str) -> None:
    found = resolved(symbol, **{symbol: "RELIANCE"})
    assert found == Resolution(signal=a_signal(symbol))


def test_own_alias_goes_before_the_built_in() -> None:
    assert resolved("MM", MM="RELIANCE").signal.symbol == "RELIANCE"
    assert resolved("MYFUND", MYFUND="NIFTYBEES").signal.symbol == "NIFTYBEES"


def test_own_alias_may_stand_for_a_contract_or_an_underlying() -> None:
    assert resolved("CALL", Exchange.NFO, CALL="NIFTY ATM CE").signal.symbol == "NIFTY01DEC2624500CE"
    assert resolved("N FUT", Exchange.NFO, N="NIFTY50").signal.symbol == "NIFTY29DEC26FUT"


@pytest.mark.parametrize(
    ("symbol", "exchange", "code"),
    [
        ("NIFTY", Exchange.NFO, "UNKNOWN_SYMBOL"),
        ("NIFTY ATM CE", Exchange.NSE, "NO_SUCH_CONTRACT"),
        ("BANKNIFTY ATM CE", Exchange.NFO, "PRICE_UNAVAILABLE"),
        ("RELIANCE 1400 CE", Exchange.NFO, "NO_SUCH_CONTRACT"),
    ],
)
def test_what_cannot_be_chosen_is_denied_as_it_was_written(symbol: str, exchange: Exchange, code: str) -> None:
    found = resolved(symbol, exchange)
    assert found.denial is not None
    assert found.denial.code == code
    assert (found.signal.symbol, found.written, found.detail) == (symbol, None, "")


def test_missing_price_is_named_so_that_it_can_be_asked_for() -> None:
    assert resolved("BANKNIFTY ATM CE", Exchange.NFO).spot_key == "NSE:NIFTY BANK"


def test_no_price_is_asked_for_what_is_not_listed() -> None:
    found = resolved("NOSUCH ATM CE", Exchange.NFO)
    assert found.spot_key is None
    assert found.denial is not None
    assert found.denial.code == "NO_SUCH_CONTRACT"


@pytest.mark.parametrize("symbol", ["NOSUCH", "RELIANCE-BE", "INFY FUT X"])
def test_unknown_symbol_is_left_to_the_decision(symbol: str) -> None:
    assert resolved(symbol) == Resolution(signal=a_signal(symbol))


def test_nothing_is_chosen_before_the_master_is_loaded() -> None:
    found = resolved("NIFTY ATM CE", Exchange.NFO, InstrumentBook())
    assert found.denial is None
    assert found.written is None


def test_same_arguments_give_the_same_choice() -> None:
    again = InstrumentBook(reversed(CONTRACTS))
    assert resolved("NIFTY ATM CE", Exchange.NFO) == resolved("NIFTY ATM CE", Exchange.NFO, again)
