"""An entry that its maker took back is not written, whatever the ledger's task was waiting for just then."""

import pytest
import trio
import trio.testing

from engine.actors.audit_writer import AuditWriter
from engine.actors.ledger_entry import LedgerEntry
from engine.domain.audit import AuditDraft
from engine.errors import StoreUnavailable, UnavailableError
from engine.store.ledger import Write
from tests.support.memory_store import MemoryStore
from tests.support.trade import NOW

WRITE = Write(sql="UPDATE", args=(1,))


class SlowHeadStore(MemoryStore):
    """One whose end of the chain takes long to read."""

    async def head(self):
        await trio.sleep(4.9)
        return await super().head()


async def test_entry_withdrawn_while_the_chain_is_read_is_not_written(autojump_clock, nursery):
    store = SlowHeadStore()
    ledger = AuditWriter(store, epoch=1)
    await nursery.start(ledger.run)
    with pytest.raises(UnavailableError, match="nothing was changed"):
        await ledger.write(LedgerEntry(writes=(WRITE,)), timeout_s=4)
    assert await ledger.barrier(timeout_s=30)
    assert not store.writes
    await ledger.write(LedgerEntry(writes=(WRITE,)), timeout_s=30)
    assert store.writes == [WRITE]


async def test_entry_withdrawn_under_a_commit_that_failed_is_not_written_when_the_store_is_back(
    autojump_clock, nursery
):
    store = MemoryStore()
    ledger = AuditWriter(store, epoch=1)
    await nursery.start(ledger.run)
    await ledger.write(LedgerEntry())
    store.is_down = True
    entry = LedgerEntry(writes=(WRITE,))
    with pytest.raises(StoreUnavailable, match="read it back"):
        await ledger.write(entry, timeout_s=4)
    assert entry.in_flight
    store.is_down = False
    assert await ledger.barrier(timeout_s=30)
    assert not store.writes


async def test_entry_withdrawn_under_a_commit_that_took_place_counts_as_written(autojump_clock, nursery):
    store = MemoryStore()
    ledger = AuditWriter(store, epoch=1)
    await nursery.start(ledger.run)
    store.lose_answers = 1
    told = []
    draft = AuditDraft(at=NOW, actor="test", action="TEST", subject="test", content={})
    entry = LedgerEntry(writes=(WRITE,), audit=(draft,), on_commit=lambda: told.append("commit"))
    ledger.append(entry)
    while not store.commits:
        await trio.sleep(0.0005)
    assert not entry.withdraw()
    assert await ledger.barrier(timeout_s=30)
    assert (told, store.writes) == (["commit"], [WRITE])


async def test_what_nobody_waits_for_goes_at_once_and_gathers_while_a_commit_is_under_way(autojump_clock, nursery):
    store = MemoryStore()
    ledger = AuditWriter(store, epoch=1)
    await nursery.start(ledger.run)
    await ledger.write(LedgerEntry())
    writes = [Write(sql="UPDATE", args=(number,)) for number in range(5)]
    store.delay_s = 1.0
    batches = ledger.batches
    began = trio.current_time()
    for write in writes[:4]:
        ledger.append(LedgerEntry(writes=(write,), can_wait=True))
        await trio.sleep(0.1)
    # what somebody waits for comes behind it, in its order, and with what waits already
    await ledger.write(LedgerEntry(writes=(writes[4],)))
    assert (store.writes, ledger.batches) == (writes, batches + 2)
    assert trio.current_time() - began == pytest.approx(2.0)
