"""Freeze quantities on a real PostgreSQL: what was learned and what was set outlive the engine."""

from contextlib import asynccontextmanager
from datetime import date
from decimal import Decimal

import trio

from engine.actors.audit_writer import AuditWriter
from engine.actors.freeze_keeper import FreezeKeeper
from engine.actors.instrument_master import InstrumentMaster
from engine.domain.enums import Exchange
from engine.domain.freeze import FreezeOrigin, freeze_list
from engine.domain.instruments import Instrument, InstrumentBook
from engine.store import lease
from engine.store.database import APP_ROLE, Database
from engine.store.freeze import freeze_quantities
from engine.store.ledger import LedgerStore
from tests.support.api import MovableClock
from tests.support.ledger_rows import audit_chain

SYMBOL = "NIFTY26DEC24500CE"
OPTION = Instrument(
    exchange=Exchange.NFO,
    symbol=SYMBOL,
    name="NIFTY",
    token=1,
    tick_size=Decimal("0.05"),
    lot_size=65,
    instrument_type="CE",
    segment="NFO-OPT",
)


async def nobody():
    return None


@asynccontextmanager
async def life(url):
    """One life of an engine, as far as freeze quantities go."""
    database = Database(url, max_connections=2, role=APP_ROLE)
    await database.open()
    try:
        seen = await database.run(lease.read)
        grant = await database.run(lambda c: lease.take(c, holder="test", seen=seen))
        ledger = AuditWriter(LedgerStore(url, role=APP_ROLE), epoch=grant)
        clock = MovableClock()
        master = InstrumentMaster(any_broker=nobody, clock=clock)
        keeper = FreezeKeeper(master=master, ledger=ledger, clock=clock)
        keeper.restore(await database.run(freeze_quantities))
        master.book = InstrumentBook([OPTION], freeze=master.book.freeze)
        async with trio.open_nursery() as nursery:
            await nursery.start(ledger.run)
            yield master, keeper
            assert await ledger.barrier()
            nursery.cancel_scope.cancel()
    finally:
        await database.close()


def held(keeper):
    return {row.symbol: (row.quantity, row.origin) for row in keeper.table}


async def test_what_was_learned_and_set_outlives_the_engine(schema_url, aio):
    async with life(schema_url) as (master, keeper):
        assert held(keeper)["NIFTY"] == (1800, FreezeOrigin.DEFAULT)
        assert master.learn_freeze(Exchange.NFO, SYMBOL, 1755)
    async with life(schema_url) as (master, keeper):
        assert held(keeper)["NIFTY"] == (1755, FreezeOrigin.LEARNED)
        assert master.book.get(Exchange.NFO, SYMBOL).freeze_quantity == 1755
        rows = freeze_list("exchange,symbol,quantity\nNFO,BANKNIFTY,900\nNSE,INFY,40000", as_of=date(2026, 12, 1))
        await keeper.replace(rows, by="user:x")
        assert held(keeper)["NIFTY"] == (1755, FreezeOrigin.LEARNED), "the list does not name it"
    async with life(schema_url) as (_master, keeper):
        before = held(keeper)
        assert (before["BANKNIFTY"], before["INFY"]) == ((900, FreezeOrigin.USER), (40000, FreezeOrigin.USER))
        rows = freeze_list("exchange,symbol,quantity\nNFO,NIFTY,1300", as_of=date(2026, 12, 1))
        await keeper.replace(rows, by="user:x")
    async with life(schema_url) as (_master, keeper):
        assert held(keeper) == {"BANKNIFTY": (600, FreezeOrigin.DEFAULT), "NIFTY": (1300, FreezeOrigin.USER)}
    actions = [record.action for record in await audit_chain(schema_url)]
    assert actions == ["FREEZE_LEARNED", "FREEZE_SET", "FREEZE_SET"]
