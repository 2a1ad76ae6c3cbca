"""Ingest: each delivery once, answered only when it would survive, and never executed after a refusal."""

from collections.abc import Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import msgspec
import pytest
import trio
import trio.testing

from engine.actors.ingest import MAX_WAITING, EarlierDeliveries, Ingest
from engine.actors.intake import Receipt
from engine.domain.enums import IntentStatus
from engine.errors import ConflictError, KillSwitchError, MailboxFull, StoreUnavailable, UnavailableError
from engine.ids import uuid7
from tests.support.desk import SOURCE, World, a_delivery, a_signal, running

pytestmark = pytest.mark.filterwarnings("error")


class MemoryJournal:
    """A journal whose answers are scripted: ids in turn, None while it is down, nothing while it hangs."""

    def __init__(self) -> None:
        self.is_down = False
        self.hangs = False
        self.entries: list[str] = []
        self.pending: list[Callable[[str | None], None]] = []

    def append(self, key, _entry, done):
        if self.hangs:
            self.pending.append(done)
        elif self.is_down:
            done(None)
        else:
            self.entries.append(key)
            done(f"{len(self.entries)}-0")


@pytest.fixture
async def world(autojump_clock):
    return World()


@asynccontextmanager
async def taking(world, **fields):
    journal = MemoryJournal()
    settings = {
        "directory": world.directory,
        "kill": world.kill,
        "journal": journal,
        "journal_key": b"k" * 32,
        "clock": world.clock,
        "dedup_window_s": 3600,
        "decide": world.crew.decide,
        "waiting_orders": lambda: world.crew.waiting_orders,
        "earlier": EarlierDeliveries(),
    } | fields
    ingest = Ingest(**settings)
    async with running(world), trio.open_nursery() as nursery:
        await nursery.start(ingest.run)
        ingest.open_intake()
        yield ingest
        nursery.cancel_scope.cancel()


async def test_delivery_is_answered_with_its_intents(world, autojump_clock):
    async with taking(world) as ingest:
        accepted = await ingest.accept(a_delivery(world, a_signal(), a_signal("SBIN")))
        assert [r.position for r in accepted.receipts] == [0, 1]
        assert not accepted.duplicate
        await world.until(lambda: len(world.broker.left) == 2)


async def test_repeat_is_answered_like_the_first_and_places_nothing(world, autojump_clock):
    async with taking(world) as ingest:
        first = await ingest.accept(a_delivery(world))
        again = await ingest.accept(a_delivery(world))
        assert again.duplicate
        assert [r.intent_id for r in again.receipts] == [r.intent_id for r in first.receipts]
        await trio.sleep(5)
        assert len(world.broker.left) == 1


async def test_fifty_repeats_at_once_are_one_signal(world, autojump_clock):
    answers = []
    async with taking(world) as ingest, trio.open_nursery() as nursery:

        async def send():
            answers.append(await ingest.accept(a_delivery(world)))

        for _ in range(50):
            nursery.start_soon(send)
    assert sum(not a.duplicate for a in answers) == 1
    assert len({r.intent_id for a in answers for r in a.receipts}) == 1


async def test_same_key_with_another_body_is_a_conflict(world, autojump_clock):
    async with taking(world) as ingest:
        await ingest.accept(a_delivery(world))
        with pytest.raises(ConflictError):
            await ingest.accept(a_delivery(world, body=b"2" * 32))


async def test_delivery_is_durable_with_the_journal_alone(world, autojump_clock):
    async with taking(world) as ingest:
        world.store.is_down = True
        accepted = await ingest.accept(a_delivery(world))
        assert accepted.receipts
        assert ingest.journal.entries == [f"{SOURCE}:k1"]
        world.store.is_down = False
        await world.until(lambda: len(world.broker.left) == 1)


async def test_delivery_is_durable_with_the_ledger_alone(world, autojump_clock):
    async with taking(world) as ingest:
        ingest.journal.is_down = True
        assert (await ingest.accept(a_delivery(world))).receipts
        await world.until(lambda: len(world.broker.left) == 1)


async def test_delivery_that_nothing_makes_durable_is_refused_and_never_executed(world, autojump_clock):
    async with taking(world) as ingest:
        await ingest.accept(a_delivery(world, key="warm"))
        ingest.journal.is_down = True
        world.store.is_down = True
        with pytest.raises(UnavailableError):
            await ingest.accept(a_delivery(world))
        world.store.is_down = False
        await trio.sleep(30)
        assert len(world.broker.left) == 1
        assert len(world.store.intents) == 1
        assert ingest.waiting == 0


async def test_delivery_refused_before_it_was_decided_is_never_executed(world, autojump_clock):
    """The risk actor had not come to it when the sender was told no."""
    async with taking(world) as ingest:
        ingest.journal.is_down = True
        world.store.is_down = True
        with pytest.raises(UnavailableError):
            await ingest.accept(a_delivery(world))
        world.store.is_down = False
        await trio.sleep(60)
        assert not world.store.intents
        assert not world.broker.left


async def test_refused_delivery_can_be_sent_again(world, autojump_clock):
    async with taking(world) as ingest:
        ingest.journal.is_down = True
        world.store.is_down = True
        with pytest.raises(UnavailableError):
            await ingest.accept(a_delivery(world))
        world.store.is_down = False
        await trio.sleep(5)
        again = await ingest.accept(a_delivery(world))
        assert not again.duplicate
        await world.until(lambda: len(world.broker.left) == 1)


async def test_repeat_that_waits_with_the_first_is_refused_with_it(world, autojump_clock):
    refused = []
    async with taking(world) as ingest, trio.open_nursery() as nursery:
        ingest.journal.is_down = True
        world.store.is_down = True

        async def send(after_s):
            await trio.sleep(after_s)
            try:
                await ingest.accept(a_delivery(world))
            except UnavailableError as error:
                refused.append(error)

        nursery.start_soon(send, 0)
        nursery.start_soon(send, 3)
    assert len(refused) == 2


async def test_journal_answer_after_the_refusal_does_not_bring_it_back(world, autojump_clock):
    async with taking(world) as ingest:
        await ingest.accept(a_delivery(world, key="warm"))
        ingest.journal.hangs = True
        world.store.is_down = True
        with pytest.raises(UnavailableError):
            await ingest.accept(a_delivery(world))
        for done in ingest.journal.pending:
            done("9-0")
        world.store.is_down = False
        await trio.sleep(10)
        assert len(world.broker.left) == 1
        assert ingest.cursor == "9-0"


async def test_delivery_of_a_sender_that_went_away_while_it_queued_is_not_taken(world, autojump_clock):
    async with running(world):
        ingest = Ingest(
            directory=world.directory,
            kill=world.kill,
            journal=None,
            journal_key=b"k" * 32,
            clock=world.clock,
            dedup_window_s=3600,
            decide=world.crew.decide,
            waiting_orders=lambda: 0,
            earlier=EarlierDeliveries(),
        )
        ingest.open_intake()
        with pytest.raises(UnavailableError):
            await ingest.accept(a_delivery(world))  # nobody runs it yet
        async with trio.open_nursery() as nursery:
            await nursery.start(ingest.run)
            await trio.sleep(10)
            assert not world.store.intents
            nursery.cancel_scope.cancel()


async def test_kill_switch_refuses_before_anything_is_written(world, autojump_clock):
    world.block()
    async with taking(world) as ingest:
        with pytest.raises(KillSwitchError):
            await ingest.accept(a_delivery(world))
        assert not ingest.journal.entries
        assert not world.store.intents


async def test_kill_switch_of_one_of_two_accounts_lets_the_other_trade(autojump_clock):
    world = World(accounts=2)
    first, second = world.directory.accounts
    world.block(f"account:{first}")
    async with taking(world) as ingest:
        await ingest.accept(a_delivery(world))
        await world.until(lambda: len(world.brokers[second].left) == 1)
        assert not world.brokers[first].left


async def test_repeat_under_a_kill_switch_is_answered_like_the_first(world, autojump_clock):
    async with taking(world) as ingest:
        await ingest.accept(a_delivery(world))
        world.block()
        assert (await ingest.accept(a_delivery(world))).duplicate


async def test_bound_counts_signals_not_deliveries(world, autojump_clock):
    async with taking(world) as ingest:
        world.store.is_down = True
        big = a_delivery(world, *(a_signal() for _ in range(100)))
        taken = 0
        while taken < 2 * MAX_WAITING:
            try:
                await ingest.accept(msgspec.structs.replace(big, idempotency_key=f"k{taken}"))
            except UnavailableError:
                break
            taken += 100
        assert 20_000 <= taken <= MAX_WAITING
        world.store.is_down = False


async def test_full_risk_mailbox_refuses_and_remembers_nothing(world, autojump_clock):
    real, full = world.crew.decide, []

    def decide(passage):
        if full:
            raise MailboxFull("risk:1 is full")
        real(passage)

    async with taking(world, decide=decide) as ingest:
        full.append(True)
        with pytest.raises(UnavailableError):
            await ingest.accept(a_delivery(world))
        assert not ingest.journal.entries
        full.clear()
        assert not (await ingest.accept(a_delivery(world))).duplicate


async def test_closed_intake_refuses(world, autojump_clock):
    async with taking(world) as ingest:
        ingest.close_intake("the engine is stopping")
        with pytest.raises(UnavailableError, match="stopping"):
            await ingest.accept(a_delivery(world))


async def test_repeat_that_only_the_store_remembers_is_answered_from_it(world, autojump_clock):
    asked = []

    async def find(source_id, key):
        asked.append(key)
        receipt = Receipt(intent_id=SOURCE, status=IntentStatus.EXECUTED, position=0)
        return b"1" * 32, (receipt,)

    async with taking(world, earlier=EarlierDeliveries(find=find, keys=[(SOURCE, "k1")])) as ingest:
        answered = await ingest.accept(a_delivery(world))
        assert answered.duplicate
        assert answered.receipts[0].status is IntentStatus.EXECUTED
        with pytest.raises(ConflictError):
            await ingest.accept(a_delivery(world, body=b"2" * 32))
        assert asked == ["k1", "k1"]


async def test_repeat_that_is_only_found_by_the_ledger_is_answered_like_the_first(world, autojump_clock):
    delivery = a_delivery(world)

    async def find(_source, _key):
        receipts = tuple(
            Receipt(intent_id=i.id, status=IntentStatus.EXECUTED, position=i.position) for i in delivery.intents()
        )
        return delivery.body_sha256, receipts

    async with taking(world, earlier=EarlierDeliveries(find=find)) as ingest:
        ingest.journal.is_down = True
        for intent in delivery.intents():
            world.store.intents[intent.id] = msgspec.structs.replace(intent, status=IntentStatus.EXECUTED)
        answered = await ingest.accept(delivery)
        assert answered.duplicate
        assert answered.receipts[0].status is IntentStatus.EXECUTED
        with pytest.raises(ConflictError):
            await ingest.accept(msgspec.structs.replace(delivery, body_sha256=b"2" * 32))
        assert not world.broker.left


async def test_store_that_cannot_tell_whether_it_is_a_repeat_refuses(world, autojump_clock):
    async def find(_source, _key):
        raise StoreUnavailable("down")

    async with taking(world, earlier=EarlierDeliveries(find=find, keys=[(SOURCE, "k1")])) as ingest:
        with pytest.raises(UnavailableError, match="repeat"):
            await ingest.accept(a_delivery(world))
        assert (await ingest.accept(a_delivery(world, key="k2"))).receipts


async def test_repeat_never_takes_back_what_an_earlier_sender_was_promised(world, autojump_clock):
    async with taking(world) as ingest:
        world.store.is_down = True
        await ingest.accept(a_delivery(world))
        # the journal is wiped, and is away when it is to be appended again
        ingest.journal.append_first = lambda entries: [done(None) for _, _, done in entries]
        assert ingest.journal_wiped() == 1
        with pytest.raises(UnavailableError):
            await ingest.accept(a_delivery(world))
        world.store.is_down = False
        await world.until(lambda: len(world.broker.left) == 1)


async def test_repeat_of_what_was_withdrawn_is_not_answered_by_the_journals_late_word(world, autojump_clock):
    async with taking(world) as ingest:
        await ingest.accept(a_delivery(world, key="warm"))
        ingest.journal.hangs = True
        world.store.is_down = True
        with pytest.raises(UnavailableError):
            await ingest.accept(a_delivery(world))
        ingest.journal.pending[0]("9-0")
        with pytest.raises(UnavailableError):
            await ingest.accept(a_delivery(world))
        world.store.is_down = False
        await trio.sleep(10)
        assert not (await ingest.accept(a_delivery(world))).duplicate


async def test_entry_of_an_earlier_try_that_the_cursor_has_passed_is_not_relied_on(world, autojump_clock):
    async with taking(world) as ingest:
        await ingest.accept(a_delivery(world, key="a"))
        await ingest.settle()
        world.store.is_down = True
        ingest.journal.hangs = True
        ended = []

        async def send():
            try:
                ended.append(await ingest.accept(a_delivery(world, key="b")))
            except UnavailableError:
                ended.append(None)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked()
            # the journal has had it before what the cursor stands at: no start would read it there
            ingest.journal.pending[0]("0-5")
        assert ended == [None], "answered 202 for an entry that nobody would read again"


async def test_wiped_journal_is_given_what_only_it_had_in_the_old_order(world, autojump_clock):
    async with taking(world) as ingest:
        await ingest.accept(a_delivery(world, key="in the ledger"))
        await ingest.settle()
        world.store.is_down = True
        for key in ("a", "b"):
            await ingest.accept(a_delivery(world, key=key))
        ingest.journal.is_down = True
        with pytest.raises(UnavailableError):
            await ingest.accept(a_delivery(world, key="c"))
        again = []
        ingest.journal.append_first = again.extend
        assert ingest.journal_wiped() == 2
        assert [key for key, _, _ in again] == [f"{SOURCE}:a", f"{SOURCE}:b"]
        for number, (_, _, done) in enumerate(again):
            done(f"100-{number}")
        world.store.is_down = False
        await ingest.settle(timeout_s=30)
        assert ingest.cursor == "100-1"


async def test_cursor_moves_only_past_what_the_ledger_has(world, autojump_clock):
    async with taking(world) as ingest:
        await ingest.accept(a_delivery(world, key="a"))
        await ingest.settle()
        assert ingest.cursor == "1-0"
        world.store.is_down = True
        await ingest.accept(a_delivery(world, key="b"))
        await ingest.accept(a_delivery(world, key="c"))
        assert ingest.cursor == "1-0"
        world.store.is_down = False
        await ingest.settle(timeout_s=30)
        assert ingest.cursor == "3-0"


async def test_replay_takes_in_what_the_ledger_lacks_in_order(world, autojump_clock):
    deliveries = [a_delivery(world, a_signal(quantity=n + 1), key=f"k{n}") for n in range(5)]

    async def known(_deliveries):
        return {(SOURCE, "k0"), (SOURCE, "k3")}

    async with taking(world, earlier=EarlierDeliveries(known=known)) as ingest:
        assert await ingest.replay(deliveries) == 3
        await world.until(lambda: len(world.broker.left) == 3)
        assert [o.quantity for o in world.broker.left] == [2, 3, 5]
        assert (await ingest.accept(deliveries[1])).duplicate


async def test_replay_expires_what_is_too_old_and_executes_what_is_young(world, autojump_clock):
    old = a_delivery(world, key="old", received_at=world.clock.now() - timedelta(seconds=100))
    young = a_delivery(world, a_signal("SBIN"), key="young", received_at=world.clock.now() - timedelta(seconds=30))
    async with taking(world) as ingest:
        await ingest.replay([old, young])
        statuses = {i.idempotency_key: i.status for i in world.store.intents.values()}
        assert statuses["old"] is IntentStatus.EXPIRED
        assert statuses["young"] is IntentStatus.EXECUTING


async def test_replay_that_the_ledger_does_not_take_fails_instead_of_moving_on(world, autojump_clock):
    async with taking(world) as ingest:
        world.store.is_down = True
        with pytest.raises(UnavailableError):
            await ingest.replay([a_delivery(world)])


async def test_settled_deliveries_keep_only_their_receipts(world, autojump_clock):
    async with taking(world) as ingest:
        await ingest.accept(a_delivery(world))
        await ingest.settle()
        assert ingest.waiting == 0
        assert all(passage.entry is None for passage in ingest._recent.values())


async def test_forgotten_deliveries_are_asked_of_the_store(world, autojump_clock):
    asked = []

    async def find(_source, key):
        asked.append(key)

    async with taking(world, earlier=EarlierDeliveries(find=find), dedup_window_s=10) as ingest:
        await ingest.accept(a_delivery(world, key="a"))
        await trio.sleep(20)
        await ingest.accept(a_delivery(world, a_signal("SBIN"), key="b"))
        await ingest.accept(a_delivery(world, key="a"))
        assert asked == ["a"]


def test_hashes_of_old_deliveries_are_bounded(monkeypatch):
    monkeypatch.setattr("engine.actors.earlier._MOST", 10)

    async def find(_source, _key):
        return None

    earlier = EarlierDeliveries(find=find)
    for number in range(1000):
        earlier.remember((SOURCE, str(number)))
    assert earlier.may_hold((SOURCE, "999"))
    assert not earlier.may_hold((SOURCE, "1"))
    assert len(earlier._recent) + len(earlier._older) <= 20


async def test_key_of_a_call_is_one_call_whichever_source_it_went_through(world, autojump_clock):
    other = uuid7()

    def delivery(body):
        return msgspec.structs.replace(a_delivery(world, key="one"), body_sha256=body)

    async with taking(world) as ingest:
        first = await ingest.accept(delivery(b"a"))
        moved = msgspec.structs.replace(delivery(b"a"), source_id=other)
        again = await ingest.accept(moved, elsewhere=[SOURCE])
        assert again.duplicate
        assert [r.intent_id for r in again.receipts] == [r.intent_id for r in first.receipts]
        with pytest.raises(ConflictError):
            await ingest.accept(msgspec.structs.replace(moved, body_sha256=b"b"), elsewhere=[SOURCE])
        assert not (await ingest.accept(moved)).duplicate  # a sender's own key is its source's


async def test_earlier_answer_is_found_in_this_life_and_in_one_before_it(world, autojump_clock):
    async def find(_source, _key):
        return b"a", (Receipt(intent_id=uuid7(), status=IntentStatus.EXECUTED, position=0),)

    earlier = EarlierDeliveries(find=find, keys=[(SOURCE, "old")])
    async with taking(world, earlier=earlier) as ingest:
        first = await ingest.accept(msgspec.structs.replace(a_delivery(world, key="new"), body_sha256=b"a"))
        found = await ingest.earlier([uuid7(), SOURCE], "new", b"a")
        assert [r.intent_id for r in found.receipts] == [r.intent_id for r in first.receipts]
        old = await ingest.earlier([SOURCE], "old", b"a")
        assert (old.duplicate, old.receipts[0].status) == (True, IntentStatus.EXECUTED)
        assert await ingest.earlier([SOURCE], "none", b"a") is None
        with pytest.raises(ConflictError):
            await ingest.earlier([SOURCE], "old", b"b")
        assert [ingest.holds(SOURCE, key) for key in ("new", "old", "none")] == [True, True, False]
