"""The journal's cursor under random interleavings: whatever was answered survives a crash at any instant.

Real ingest and audit writer; a store in memory that is away, refuses batches and loses answers; a journal that
is slow, loses appends, takes some without its answer being heard (at once or later), and is wiped. After every
commit and every answer to a sender the oracle asks what a crash now would leave: each delivery that was
answered must be in the ledger, or in the journal behind the ledger's cursor.
"""

import random
from collections import deque
from uuid import UUID

import msgspec
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.actors.audit_writer import AuditWriter, DuplicateIntent
from engine.actors.ingest import EarlierDeliveries, Ingest
from engine.actors.ledger_entry import LedgerEntry
from engine.domain.directory import Directory
from engine.domain.enums import IntentStatus
from engine.domain.killswitch import KillSwitches
from engine.errors import UnavailableError
from engine.journal.keys import order_of
from tests.support.desk import TrioClock
from tests.support.ledger_rows import Trader, draft
from tests.support.memory_store import MemoryStore

EPOCH = UUID(int=7)
KEY = b"j" * 32


class Journal:
    """A stream with dedupe that answers in order, or not at all."""

    def __init__(self, rng):
        self._rng = rng
        self._queue = deque()
        self._wake = trio.Event()
        self._number = 0
        self.stream = {}  # key: position
        self.answered = set()
        self.fates = [8, 1, 2, 2]

    def append(self, key, _entry, done):
        self._queue.append((key.rpartition(":")[2], done))
        self._wake.set()

    def append_first(self, entries):
        self._queue.extendleft((key.rpartition(":")[2], done) for key, _, done in reversed(entries))
        self._wake.set()

    def wipe(self):
        self.stream.clear()

    def _take(self, key):
        if key not in self.stream:
            self._number += 1
            self.stream[key] = f"1-{self._number}"
        return self.stream[key]

    async def run(self, nursery):
        async def late(key):
            await trio.sleep(self._rng.expovariate(5))
            self._take(key)

        while True:
            while not self._queue:
                self._wake = trio.Event()
                await self._wake.wait()
            # one pipeline at a time; what it holds is answered together
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), self._rng.randint(1, 4)))]
            await trio.sleep(self._rng.choices([0, 0.001, 0.01, 0.2, 5], [9, 9, 9, 9, 1])[0])
            fate = self._rng.choices(["taken", "lost", "unheard", "late"], self.fates)[0]
            for key, done in batch:
                if fate == "taken":
                    position = self._take(key)
                    self.answered.add(key)
                    done(position)
                    continue
                if fate == "unheard":
                    self._take(key)
                elif fate == "late":
                    nursery.start_soon(late, key)
                done(None)


class Store(MemoryStore):
    """Asks the oracle after every commit."""

    def __init__(self, world):
        super().__init__()
        self._world = world

    def _apply(self, batch):
        before = self.cursor
        super()._apply(batch)
        if before is not None and self.cursor is not None:
            assert order_of(self.cursor.position) >= order_of(before.position)
        self._world.check()


class World:
    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.trader = Trader()
        self.store = Store(self)
        self.store.delay_s = 0.002
        self.store.refuse = lambda _batch: self.rng.random() < 0.25
        self.ledger = AuditWriter(self.store, epoch=1)
        self.journal = Journal(self.rng)
        self.ingest = Ingest(
            directory=Directory(),
            kill=KillSwitches(),
            journal=self.journal,
            journal_key=KEY,
            clock=TrioClock(),
            dedup_window_s=3600,
            decide=self.decide,
            waiting_orders=lambda: 0,
            earlier=EarlierDeliveries(),
        )
        self.ingest.progress.begin(EPOCH, "0-0")
        self.ledger.journal = self.ingest.progress
        self.answered = set()
        self.in_memory_only = set()
        self.moves = 0

    def decide(self, passage):
        def failed(error):
            if isinstance(error, UnavailableError | DuplicateIntent):
                passage.fail(error)
            else:
                hand(IntentStatus.FAILED)

        def hand(status):
            intents = [msgspec.structs.replace(i, status=status) for i in passage.intents.values()]
            passage.entry = LedgerEntry(new_intents=intents, audit=(draft(),), on_commit=passage.commit, on_fail=failed)
            self.ledger.append(passage.entry)

        hand(IntentStatus.EXECUTING)

    def in_ledger(self):
        return {intent.idempotency_key for intent in self.store.intents.values()}

    def check(self):
        """What a crash now would leave."""
        cursor = (0, 0) if self.store.cursor is None else order_of(self.store.cursor.position)
        self.in_memory_only -= self.journal.answered
        kept = {key for key, position in self.journal.stream.items() if order_of(position) > cursor}
        lost = self.answered - self.in_ledger() - kept - self.in_memory_only
        assert not lost, f"a crash now loses {lost} at cursor {cursor}: {self.journal.stream}"
        assert order_of(self.ingest.progress.on_disk) <= cursor

    async def send(self, number):
        key = f"k{number}"
        for _ in range(self.rng.randint(1, 4)):
            await trio.sleep(self.rng.expovariate(2))
            try:
                await self.ingest.accept(self.trader.delivery(key))
            except UnavailableError:
                continue
            self.answered.add(key)
            self.check()

    async def trouble(self):
        while True:
            await trio.sleep(self.rng.expovariate(1))
            match self.rng.randint(0, 3):
                case 0:
                    self.store.is_down = True
                    await trio.sleep(self.rng.choice([0.05, 1, 8, 8]))
                    self.store.is_down = False
                case 1:
                    self.store.lose_answers = self.rng.randint(1, 2)
                case 2:
                    self.store.delay_s = self.rng.choice([0, 0.002, 0.3])
                case 3:
                    self.journal.wipe()
                    self.journal.answered.clear()
                    self.in_memory_only = self.answered - self.in_ledger()
                    self.ingest.journal_wiped()

    async def idle_writes(self):
        while True:
            await trio.sleep(0.5)
            if self.ingest.progress.is_behind and not self.ledger.mailbox.depth:
                self.ledger.append(LedgerEntry())

    async def run(self):
        async with trio.open_nursery() as nursery:
            await nursery.start(self.ledger.run)
            await nursery.start(self.ingest.run)
            nursery.start_soon(self.journal.run, nursery)
            nursery.start_soon(self.trouble)
            nursery.start_soon(self.idle_writes)
            self.ingest.open_intake()
            async with trio.open_nursery() as senders:
                for number in range(20):
                    senders.start_soon(self.send, number)
            await trio.sleep(20)
            self.check()
            nursery.cancel_scope.cancel()


@settings(max_examples=100)
@given(seed=st.integers(0, 2**32))
def test_what_was_answered_survives_a_crash_at_any_instant(seed):
    async def work():
        world = World(seed)
        await world.run()
        assert world.answered, "nothing was accepted: the example shows nothing"

    trio.run(work, clock=trio.testing.MockClock(autojump_threshold=0))


def test_cursor_comes_to_the_end_of_the_journal_once_all_is_decided():
    async def work():
        world = World(3)
        world.store.refuse = lambda _batch: False
        world.trouble = trio.sleep_forever
        world.journal.fates = [1, 0, 0, 0]
        await world.run()
        newest = max(world.journal.stream.values(), key=order_of)
        assert world.store.cursor.position == world.ingest.progress.on_disk == newest

    trio.run(work, clock=trio.testing.MockClock(autojump_threshold=0))
