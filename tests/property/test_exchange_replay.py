"""Whatever is done to the exchange, its record brings back the same, and a cut record never doubles anything."""

from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.exchange.config import Behaviour, Latency
from engine.exchange.errors import KiteRefusal
from engine.exchange.events import Event
from tests.unit.exchange.conftest import Driver

PRICES = st.integers(1430, 1470)
SIDES = st.sampled_from(["BUY", "SELL"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("limit"), SIDES, PRICES),
        st.tuples(st.just("iceberg"), SIDES, PRICES),
        st.tuples(st.just("stop"), SIDES, PRICES),
        st.tuples(st.just("cover"), SIDES, PRICES),
        st.tuples(st.just("amo"), SIDES, PRICES),
        st.tuples(st.just("gtt"), SIDES, PRICES),
        st.tuples(st.just("modify"), st.integers(0, 30), PRICES),
        st.tuples(st.just("cancel"), st.integers(0, 30), PRICES),
        st.tuples(st.just("convert"), SIDES, PRICES),
        st.tuples(st.just("price"), SIDES, PRICES),
        st.tuples(st.just("wait"), st.integers(0, 30), PRICES),
        st.tuples(st.just("open"), SIDES, PRICES),
    ),
    min_size=4,
    max_size=25,
)
LATENCIES = st.sampled_from([Latency(), Latency(received_s=1, validation_s=2, exchange_s=4)])


def do(driver: Driver, step: tuple[str, Any, int]) -> None:
    name, what, price = step
    order = {"transaction_type": what, "price": f"{price}.00", "quantity": 9}
    orders = driver.rows()
    match name:
        case "limit":
            driver.place(**order)
        case "iceberg":
            driver.place("iceberg", **order, iceberg_legs=3, iceberg_quantity=3)
        case "stop":
            driver.place(**{**order, "order_type": "SL-M", "trigger_price": f"{price}.00", "market_protection": "1"})
        case "cover":
            stop = price - 10 if what == "BUY" else price + 10
            driver.place("co", **order, trigger_price=f"{stop}.00")
        case "amo":
            driver.place("amo", **order)
        case "gtt":
            condition = {"exchange": "NSE", "tradingsymbol": "INFY", "trigger_values": [price], "last_price": 1450.5}
            wanted = [{"transaction_type": what, "quantity": 2, "product": "MIS", "price": price}]
            form = {
                "type": "single",
                "condition": msgspec.json.encode(condition).decode(),
                "orders": msgspec.json.encode(wanted).decode(),
            }
            driver.exchange.gtts.place(driver.account, form, driver.exchange.roll(driver.now), driver.now)
        case "modify" | "cancel" if orders:
            row = orders[what % len(orders)]
            fields = {"price": f"{price}.00"} if name == "modify" else {"parent_order_id": row["parent_order_id"]}
            driver.write(name, row["variety"], row["order_id"], fields)
        case "convert":
            form = {
                "exchange": "NSE",
                "tradingsymbol": "INFY",
                "transaction_type": what,
                "position_type": "day",
                "quantity": "2",
                "old_product": "MIS",
                "new_product": "CNC",
            }
            driver.exchange.portfolio_desk.convert(driver.account, form, driver.exchange.roll(driver.now), driver.now)
        case "price":
            driver.pin(f"{price}.00")
        case "wait":
            driver.wait(what)
        case "open":
            driver.exchange.release_amos(driver.now)


def run(steps: list[tuple[str, Any, int]], latency: Latency, *, partial_fills: bool) -> Driver:
    driver = Driver(behaviour=Behaviour(latency=latency), partial_fills=partial_fills)
    driver.pin("1450.00")
    for step in steps:
        try:
            do(driver, step)
        except KiteRefusal:
            continue  # what cannot be done just now is refused, and leaves nothing behind
    driver.save()
    return driver


def seen(driver: Driver) -> tuple[Any, ...]:
    exchange, account, now = driver.exchange, driver.account, driver.now
    book = exchange.orders(account, now)
    return (
        book,
        exchange.trades(account, now),
        exchange.positions(account, now),
        exchange.margins(account, None, now),
        exchange.gtts.rows(account, now),
        [exchange.order_history(account, row["order_id"], now) for row in msgspec.json.decode(book)],
    )


def restarted(driver: Driver, events: list[Event]) -> None:
    encoded = msgspec.json.encode(events)
    driver.exchange = driver._make()
    driver.exchange.restore(msgspec.json.decode(encoded, type=list[Event]))
    driver.exchange.market.pin("NSE:INFY", Decimal("1450.00"))


@settings(max_examples=60, deadline=None)
@given(STEPS, LATENCIES, st.booleans())
def test_record_brings_back_what_was_there(
    steps: list[tuple[str, Any, int]], latency: Latency, partial_fills: bool
) -> None:
    driver = run(steps, latency, partial_fills=partial_fills)
    driver.pin("1450.00")
    events = list(driver.save())
    before = seen(driver)
    restarted(driver, events)
    assert seen(driver) == before
    assert driver.exchange.take_events() == []


@settings(max_examples=60, deadline=None)
@given(STEPS, LATENCIES, st.integers(0, 12), st.booleans())
def test_cut_record_never_doubles_a_leg_a_stop_a_trigger_or_a_fill(
    steps: list[tuple[str, Any, int]], latency: Latency, lost: int, partial_fills: bool
) -> None:
    driver = run(steps, latency, partial_fills=partial_fills)
    # the account and its session come first
    restarted(driver, driver.events[: max(2, len(driver.events) - lost)])
    for _ in range(5):
        driver.wait(12)
    entries = list(driver.exchange.state.books["AB1234"].entries.values())
    orders = [entry.order for entry in entries]
    for entry in entries:
        assert sum(trade.quantity for trade in entry.trades) == entry.order.filled_quantity <= entry.order.quantity
    legs = [(order.tag, order.follows) for order in orders if order.follows]
    stops = [order.parent_order_id for order in orders if order.parent_order_id]
    triggers = [order.gtt for order in orders if order.gtt]
    for found in (legs, stops, triggers):
        assert len(found) == len(set(found))
    for order in orders:
        if order.iceberg is not None and order.iceberg.leg < order.iceberg.legs and order.status == "COMPLETE":
            assert (None, order.order_id) in legs
        if order.variety == "co" and order.parent_order_id is None and order.filled_quantity:
            assert order.order_id in stops
