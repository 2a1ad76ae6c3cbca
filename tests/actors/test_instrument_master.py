"""The instrument master's own memory: what refusals taught outlives a load."""

from decimal import Decimal

import msgspec
import pytest
import trio

from engine.actors.instrument_master import InstrumentMaster
from engine.domain.enums import Exchange
from engine.domain.instruments import Instrument, InstrumentBook
from tests.support.api import MovableClock

BANKNIFTY = tuple(
    Instrument(
        exchange=Exchange.NFO,
        symbol=f"BANKNIFTY26DEC{strike}CE",
        name="BANKNIFTY",
        token=strike,
        tick_size=Decimal("0.05"),
        lot_size=30,
        instrument_type="CE",
        segment="NFO-OPT",
    )
    for strike in (55000, 55100)
)


class Dump:
    def __init__(self, rows):
        self.rows = rows
        self.asked = 0

    async def instruments(self, exchange=None):
        self.asked += 1
        return list(self.rows)


@pytest.fixture
def dump():
    return Dump(BANKNIFTY)


@pytest.fixture
def alerts():
    return []


@pytest.fixture
def clock():
    return MovableClock()


@pytest.fixture
def master(dump, alerts, clock):
    async def any_broker():
        return dump

    return InstrumentMaster(any_broker=any_broker, clock=clock, alert=lambda subject, text: alerts.append(text))


def freeze(master, symbol="BANKNIFTY26DEC55000CE"):
    return master.book.get(Exchange.NFO, symbol).freeze_quantity


async def test_refusal_teaches_every_contract_of_the_underlying_at_once(master, nursery):
    await nursery.start(master.run)
    assert await master.wait_loaded(timeout_s=10)
    assert freeze(master) == 600, "built in"
    assert master.learn_freeze(Exchange.NFO, "BANKNIFTY26DEC55000CE", 900)
    assert freeze(master) == freeze(master, "BANKNIFTY26DEC55100CE") == 900
    assert not master.learn_freeze(Exchange.NFO, "BANKNIFTY26DEC55000CE", 900), "no news"


async def test_what_was_learned_holds_for_the_next_dump(master, nursery):
    master.book = InstrumentBook(BANKNIFTY, freeze=master.book.freeze)
    master.learn_freeze(Exchange.NFO, "BANKNIFTY26DEC55000CE", 900)
    await nursery.start(master.run)
    assert await master.wait_loaded(timeout_s=10)
    assert freeze(master) == 900


@pytest.mark.parametrize(("symbol", "quantity"), [("BANKNIFTY26DEC55000CE", 29), ("NOSUCH", 900)])
async def test_what_would_stop_all_trading_is_not_believed(master, symbol, quantity):
    master.book = InstrumentBook(BANKNIFTY, freeze=master.book.freeze)
    assert not master.learn_freeze(Exchange.NFO, symbol, quantity)
    assert freeze(master) == 600


async def until(condition):
    with trio.fail_after(10):
        while not condition():
            await trio.sleep(0.002)


async def asked_again(master, dump, times):
    """Have the master ask for the dump: the last ask but one is done with when the last begins."""
    for _ in range(times):
        asked = dump.asked
        master.try_now()
        await until(lambda asked=asked: dump.asked > asked)


async def test_dump_far_smaller_than_the_one_before_is_refused_with_one_alert(
    master, dump, alerts, clock, nursery, monkeypatch
):
    monkeypatch.setattr("engine.actors.instrument_master._CHECK_S", 0.005)
    whole = [msgspec.structs.replace(row, symbol=f"{row.symbol}{n}") for row in BANKNIFTY for n in range(4)]
    dump.rows = whole
    await nursery.start(master.run)
    assert await master.wait_loaded(timeout_s=10)
    first = master.loaded_for
    dump.rows = whole[:3]
    clock.advance(86_400)
    await until(lambda: alerts)
    await asked_again(master, dump, 3)
    assert len(master.book) == 8, "the last good one stays"
    assert len(alerts) == 1
    assert "it has 3 instruments, the one before had 8" in alerts[0]
    dump.rows = whole[:7]
    master.try_now()
    await until(lambda: master.loaded_for != first)
    assert len(master.book) == 7


async def test_dump_without_anything_to_trade_is_refused(master, dump, alerts, nursery):
    dump.rows = [msgspec.structs.replace(BANKNIFTY[0], segment="INDICES", lot_size=0, tick_size=Decimal(0))]
    await nursery.start(master.run)
    assert not await master.wait_loaded(timeout_s=0.2)
    assert len(alerts) == 1
    assert "it lists nothing that can be traded; none is in use" in alerts[0]


async def test_search_finds_what_was_loaded(master, nursery):
    await nursery.start(master.run)
    assert await master.wait_loaded(timeout_s=10)
    assert [found.instrument.symbol for found in master.index.find("55100", limit=5)] == ["BANKNIFTY26DEC55100CE"]
