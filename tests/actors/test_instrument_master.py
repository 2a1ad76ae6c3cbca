"""The instrument master's own memory: what refusals taught outlives a load."""

from decimal import Decimal

import pytest

from engine.actors.instrument_master import InstrumentMaster
from engine.clock import SystemClock
from engine.domain.enums import Exchange
from engine.domain.instruments import Instrument, InstrumentBook

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

    async def instruments(self, exchange=None):
        return list(self.rows)


@pytest.fixture
def master():
    dump = Dump(BANKNIFTY)

    async def any_broker():
        return dump

    return InstrumentMaster(any_broker=any_broker, clock=SystemClock())


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
