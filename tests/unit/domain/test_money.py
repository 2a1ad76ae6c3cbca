from decimal import Decimal

import pytest

from engine.domain.money import MAX_PRICE, is_multiple, parse_rupees, percent_of, plain, rupees, to_tick


@pytest.mark.parametrize(
    ("text", "amount"),
    [("0", "0"), ("2450.50", "2450.50"), ("0.0001", "0.0001"), ("1000000000000", "1e12"), ("007", "7")],
)
def test_parse_rupees_plain_number_exact(text: str, amount: str) -> None:
    assert parse_rupees(text) == Decimal(amount)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " 1",
        "1\n",
        "NaN",
        "Infinity",
        "-1",
        "-0",
        "+1",
        "1e3",
        "1E-30",
        "1,000",
        "1_000",
        ".5",
        "5.",
        "0.12345",
        "١٢",
        "0x10",
    ],
)
def test_parse_rupees_anything_else_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write digits"):
        parse_rupees(text)


def test_parse_rupees_very_long_text_is_not_repeated_whole() -> None:
    with pytest.raises(ValueError) as caught:
        parse_rupees("9" * 10_000)
    assert len(str(caught.value)) < 200


def test_parse_rupees_over_maximum_refused() -> None:
    assert parse_rupees("10000000", maximum=MAX_PRICE) == MAX_PRICE
    with pytest.raises(ValueError, match="more than 10000000 rupees"):
        parse_rupees("10000000.01", maximum=MAX_PRICE)


@pytest.mark.parametrize(
    ("price", "tick", "on"),
    [("100.05", "0.05", True), ("100.03", "0.05", False), ("0.3", "0.1", True), ("7", "0.25", True), ("7", "0", False)],
)
def test_is_multiple_decimal_arithmetic(price: str, tick: str, on: bool) -> None:
    assert is_multiple(Decimal(price), Decimal(tick)) is on


def test_to_tick_rounds_the_way_asked() -> None:
    price, tick = Decimal("100.03"), Decimal("0.05")
    assert to_tick(price, tick, up=False) == Decimal("100.00")
    assert to_tick(price, tick, up=True) == Decimal("100.05")
    assert to_tick(Decimal("100.05"), tick, up=True) == Decimal("100.05")


@pytest.mark.parametrize(("price", "tick"), [("1", "0"), ("1", "-0.05"), ("-1", "0.05")])
def test_to_tick_without_ticks_or_negative_refused(price: str, tick: str) -> None:
    with pytest.raises(ValueError):
        to_tick(Decimal(price), Decimal(tick), up=True)


@pytest.mark.parametrize(
    ("amount", "text"),
    [("1E+2", "100"), ("2450.50", "2450.5"), ("-0.00", "0"), ("1E-4", "0.0001"), ("100", "100"), ("-7.10", "-7.1")],
)
def test_plain_has_no_exponent_and_no_noise(amount: str, text: str) -> None:
    assert plain(Decimal(amount)) == text


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "1E+1000000", "1E-1000000"])
def test_plain_what_is_no_money_refused(amount: str) -> None:
    with pytest.raises(ValueError, match="not an amount"):
        plain(Decimal(amount))


@pytest.mark.parametrize(
    ("amount", "text"), [("245050", "245050.00"), ("0.5", "0.50"), ("1.0025", "1.0025"), ("-3", "-3.00")]
)
def test_rupees_has_at_least_two_decimals(amount: str, text: str) -> None:
    assert rupees(Decimal(amount)) == text


def test_percent_of_fraction_exact() -> None:
    assert percent_of(Decimal(1_000_000), Decimal("0.3")) == Decimal(3000)
