"""Order ids: snowflakes that tell their time, the older dated form, never repeated."""

from datetime import UTC, datetime, timedelta

from engine.exchange import ids

NOW = datetime(2026, 11, 23, 4, 30, 0, 123000, tzinfo=UTC)


def test_snowflake_has_19_digits_and_tells_its_millisecond() -> None:
    made = str(ids.next_snowflake(0, NOW))
    assert len(made) == 19
    assert ids.snowflake_time(made) == NOW


def test_snowflake_decodes_a_known_id() -> None:
    # epoch milliseconds are (id >> 22) + 1288834974657
    assert ids.snowflake_time("1877600770887540736").date().isoformat() == "2025-01-10"


def test_snowflake_never_repeats_even_when_the_clock_steps_back() -> None:
    first = ids.next_snowflake(0, NOW)
    second = ids.next_snowflake(first, NOW)
    third = ids.next_snowflake(second, NOW - timedelta(seconds=5))
    assert first < second < third


def test_dated_id_has_15_digits_and_starts_with_the_ist_date() -> None:
    late = datetime(2026, 11, 23, 19, 0, tzinfo=UTC)
    first = ids.next_dated(0, late)
    assert str(first) == "261124000000001"
    assert ids.next_dated(first, late) == first + 1


def test_exchange_and_trade_ids_have_16_and_8_digits() -> None:
    assert ids.exchange_order_id(17, NOW) == "1261123000000017"
    assert ids.trade_id(3) == "10000003"
