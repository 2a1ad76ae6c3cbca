from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.enums import Exchange
from engine.domain.instrument_index import InstrumentIndex, kind_of
from tests.support.chain import CONTRACTS

INDEX = InstrumentIndex(CONTRACTS)


def symbols(query: str = "", limit: int = 1000, **filters: object) -> list[str]:
    return [found.instrument.symbol for found in INDEX.find(query, limit=limit, **filters)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("infy", ["INFY"]),
        ("M&M", ["M&M"]),
        ("NIFTY", ["NIFTYBEES", "NIFTY 50", "NIFTY29DEC26FUT"]),
        ("nifty 50", ["NIFTY 50"]),
        ("50 nifty", ["NIFTY 50"]),
        ("reliance", ["RELIANCE", "RELIANCE29DEC26FUT", "RELIANCE26JAN27FUT"]),
        ("ELIANC", ["RELIANCE"]),
        ("crude fut", ["CRUDEOIL18DEC26FUT", "CRUDEOIL19JAN27FUT"]),
    ],
)
def test_best_answers_come_first(query: str, first: list[str]) -> None:
    assert symbols(query)[: len(first)] == first


def test_name_is_searched_by_its_words() -> None:
    share = CONTRACTS[0]
    named = InstrumentIndex([type(share)(**{**_fields(share), "name": "INFOSYS LIMITED"})])
    assert [f.instrument.symbol for f in named.find("limited", limit=5)] == ["INFY"]
    assert named.find("unlimited", limit=5) == []


def _fields(row: object) -> dict[str, object]:
    return {name: getattr(row, name) for name in row.__struct_fields__}  # type: ignore[attr-defined]


def test_filters_narrow_the_answer() -> None:
    found = symbols("NIFTY", exchange=Exchange.NFO, kind="PE", expiry=date(2026, 12, 1))
    assert len(found) == 21
    assert all(symbol.startswith("NIFTY01DEC26") and symbol.endswith("PE") for symbol in found)
    assert symbols(kind="INDEX") == ["NIFTY 50"]
    assert symbols("nothing like it") == []


def test_nearest_expiry_comes_first() -> None:
    expiries = [f.instrument.expiry for f in INDEX.find("NIFTY", kind="CE", exchange=Exchange.NFO, limit=1000)]
    assert expiries[0] == date(2026, 12, 1)


@given(
    st.sampled_from(["", "NIFTY", "CE", "BANKNIFTY 55", "E"]), st.integers(1, 60), st.sampled_from([None, "FUT", "CE"])
)
def test_pages_together_are_the_whole_in_order(query: str, size: int, kind: str | None) -> None:
    whole = INDEX.find(query, kind=kind, limit=10_000)
    assert {f.instrument.key for f in whole} == {
        row.key
        for row in CONTRACTS
        if kind in (None, kind_of(row))
        and all(word in f"{row.symbol} {row.name} {kind_of(row)}" for word in query.split())
    }
    pages, after = [], None
    while page := INDEX.find(query, kind=kind, limit=size, after=after):
        pages += page
        after = page[-1].place
    assert pages == whole
