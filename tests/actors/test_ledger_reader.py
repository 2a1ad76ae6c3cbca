"""Histories of accounts that are opened at once are read together, and whoever gives up takes nobody along."""

from datetime import date
from uuid import UUID

import pytest
import trio

from engine.actors.ledger_reader import LedgerReader
from engine.errors import StoreUnavailable
from engine.store import history

DAY = date(2026, 11, 30)
ACCOUNTS = [UUID(int=n) for n in range(1, 101)]


class Store:
    """Answers each read when it is let go, and fails those that it is told to."""

    def __init__(self):
        self.reads = []
        self.let_go = trio.Event()
        self.failing = 0

    async def run(self, unit, *, timeout_s):
        return await unit(self)

    async def accounts(self, account_ids):
        self.reads.append(list(account_ids))
        if self.failing:
            self.failing -= 1
            raise StoreUnavailable("away")
        await self.let_go.wait()
        return history.AccountRows()


@pytest.fixture
def store(monkeypatch):
    async def accounts(store, account_ids, day):
        assert day == DAY
        return await store.accounts(account_ids)

    monkeypatch.setattr(history, "accounts", accounts)
    return Store()


async def test_accounts_that_wait_are_read_together(store, autojump_clock):
    reader, found = LedgerReader(store), []

    async def ask(account_id):
        found.append(await reader.account(account_id, DAY))

    async with trio.open_nursery() as nursery:
        for account_id in ACCOUNTS:
            nursery.start_soon(ask, account_id)
        await trio.sleep(1)
        store.let_go.set()
    assert len(found) == 100
    assert sorted(each for read in store.reads for each in read) == ACCOUNTS
    assert len(store.reads) <= 5


async def test_reader_that_is_cancelled_leaves_the_others_their_turn(store, autojump_clock):
    reader, found = LedgerReader(store), []

    async def ask(account_id):
        found.append(await reader.account(account_id, DAY))

    async with trio.open_nursery() as nursery:
        with trio.move_on_after(1):
            async with trio.open_nursery() as impatient:
                for account_id in ACCOUNTS[:3]:
                    impatient.start_soon(ask, account_id)
                await trio.sleep(0.5)
                nursery.start_soon(ask, ACCOUNTS[3])
        store.let_go.set()
    assert len(found) == 1
    assert ACCOUNTS[3] in store.reads[-1]


async def test_read_that_fails_is_told_to_the_one_that_made_it_and_made_again_by_the_next(store, autojump_clock):
    reader, found, failed = LedgerReader(store), [], []
    store.failing = 2
    store.let_go.set()

    async def ask(account_id):
        try:
            found.append(await reader.account(account_id, DAY))
        except StoreUnavailable:
            failed.append(account_id)

    async with trio.open_nursery() as nursery:
        for account_id in ACCOUNTS[:10]:
            nursery.start_soon(ask, account_id)
    assert (len(found), len(failed)) == (8, 2)


async def test_what_is_read_is_never_older_than_the_call(store, autojump_clock):
    reader = LedgerReader(store)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader.account, ACCOUNTS[0], DAY)
        await trio.sleep(1)
        nursery.start_soon(reader.account, ACCOUNTS[0], DAY)
        await trio.sleep(1)
        store.let_go.set()
    assert store.reads == [[ACCOUNTS[0]], [ACCOUNTS[0]]]
