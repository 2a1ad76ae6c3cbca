"""Properties of the small pure rules: money, sizing, slices, tags."""

import re
from datetime import date
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.domain.denial import Denial
from engine.domain.enums import Exchange, SizingMode
from engine.domain.instruments import Instrument, slices
from engine.domain.money import is_multiple, parse_rupees, plain, to_tick
from engine.domain.sizing import size
from engine.domain.tag import is_ours, make_tag, valid

AMOUNTS = st.integers(0, 10**14).map(lambda units: Decimal(units) / 10_000)
TICKS = st.sampled_from([Decimal(tick) for tick in ("0.0025", "0.01", "0.05", "0.1", "0.25", "1", "5")])
LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
TAGS = st.builds(
    lambda key, deployment, epoch, order_id, attempt: make_tag(
        key, deployment=deployment, epoch=epoch, order_id=order_id, attempt=attempt
    ),
    st.binary(min_size=1, max_size=40),
    st.text(LETTERS, min_size=2, max_size=2),
    st.integers(0, 10**6),
    st.uuids(),
    st.integers(0, 2**32 - 1),
)
DAY = date(2026, 11, 18)


@given(amount=AMOUNTS)
@settings(max_examples=100, deadline=None)
def test_plain_reads_back_exactly(amount: Decimal) -> None:
    text = plain(amount)
    assert parse_rupees(text) == amount
    assert re.fullmatch(r"(0|[1-9][0-9]*)(\.[0-9]*[1-9])?", text)


@given(text=st.text(max_size=20) | st.text("0123456789.eE+-_naNfI ", max_size=12))
@settings(max_examples=200, deadline=None)
def test_parse_rupees_any_text_is_money_or_value_error(text: str) -> None:
    try:
        amount = parse_rupees(text)
    except ValueError:
        return
    assert amount.is_finite()
    assert 0 <= amount <= 10**12
    assert amount == Decimal(text)


@given(price=AMOUNTS, tick=TICKS, up=st.booleans())
@settings(max_examples=100, deadline=None)
def test_to_tick_is_the_nearest_tick_on_its_side(price: Decimal, tick: Decimal, up: bool) -> None:
    rounded = to_tick(price, tick, up=up)
    assert is_multiple(rounded, tick)
    assert 0 <= (rounded - price if up else price - rounded) < tick


@given(
    mode=st.sampled_from(SizingMode),
    value=st.integers(0, 10_000).map(lambda hundredths: Decimal(hundredths) / 100),
    signal=st.integers(1, 10_000),
    lot=st.integers(1, 100),
    price=st.integers(1, 10_000).map(Decimal),
    distance=st.integers(1, 500).map(Decimal),
)
@settings(max_examples=150, deadline=None)
def test_size_is_the_largest_whole_number_of_lots_within_what_was_asked(
    mode: SizingMode, value: Decimal, signal: int, lot: int, price: Decimal, distance: Decimal
) -> None:
    capital = Decimal(500_000)
    asked = {
        SizingMode.MULTIPLIER: signal * value,
        SizingMode.FIXED: value,
        SizingMode.LOTS: value * lot,
        SizingMode.CAPITAL_PCT: capital * value / 100 / price,
        SizingMode.RISK_PCT: capital * value / 100 / distance,
    }[mode]
    sized = size(
        mode=mode,
        value=value,
        signal_quantity=signal,
        lot_size=lot,
        capital=capital,
        price=price,
        stop_loss=price - distance,
    )
    if isinstance(sized, Denial):
        assert sized.code == "SIZE_ZERO"
        assert asked < lot
    else:
        assert sized.quantity % lot == 0
        assert sized.quantity <= asked < sized.quantity + lot


@given(lots=st.integers(1, 5_000), lot=st.integers(1, 100), spare=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_slices_are_whole_lots_within_freeze_and_sum_up(lots: int, lot: int, spare: int) -> None:
    freeze = lot + spare
    instrument = Instrument(
        exchange=Exchange.NFO, symbol="X", token=1, tick_size=Decimal("0.05"), lot_size=lot, freeze_quantity=freeze
    )
    parts = slices(lots * lot, instrument)
    assert sum(parts) == lots * lot
    assert all(0 < part <= freeze and part % lot == 0 for part in parts)


@given(tag=TAGS)
@settings(max_examples=60, deadline=None)
def test_tag_is_valid_ours_and_within_the_wire_rules(tag: str) -> None:
    assert re.fullmatch(r"T[0-9A-Z]{19}", tag)
    assert valid(tag)
    assert is_ours(tag, tag[1:3])


@given(tag=TAGS, at=st.integers(1, 19), letter=st.sampled_from(LETTERS))
@settings(max_examples=150, deadline=None)
def test_tag_one_wrong_character_is_seen(tag: str, at: int, letter: str) -> None:
    assert valid(tag[:at] + letter + tag[at + 1 :]) == (letter == tag[at])


@given(tag=TAGS, at=st.integers(0, 18))
@settings(max_examples=150, deadline=None)
def test_tag_swapped_neighbours_are_seen(tag: str, at: int) -> None:
    swapped = tag[:at] + tag[at + 1] + tag[at] + tag[at + 2 :]
    assert valid(swapped) == (swapped == tag)
