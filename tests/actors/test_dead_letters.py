"""Dead letters: what gave up is on the record before the journal is let go of, and nothing else becomes a letter."""

from contextlib import asynccontextmanager
from uuid import UUID

import msgspec
import pytest
import trio

from engine.actors.audit_writer import DuplicateIntent
from engine.actors.dead_letters import DeadLetters
from engine.actors.intake import Passage
from engine.domain.dead_letter import LetterKind, LetterQueue, LetterStatus
from engine.errors import ConflictError, NotFoundError, UnavailableError
from engine.journal.entry import decode
from engine.store.ledger import LedgerRefused
from tests.support.desk import World, a_delivery, running

KEY = b"j" * 32


class Desk:
    """Dead letters over a ledger in memory; ``rows`` are the letters that it wrote."""

    def __init__(self, world):
        self.world = world
        self.taken = []
        self.alerts = []
        self.letters = DeadLetters(
            ledger=world.ledger,
            clock=world.clock,
            journal_key=KEY,
            alert=lambda *told: self.alerts.append(told),
            take_in=self._take_in,
            find=self._find,
        )

    async def _take_in(self, delivery):
        await trio.sleep(1)
        self.taken.append(delivery)

    async def _find(self, letter_id):
        return self.found.get(letter_id)

    found: dict = {}

    @property
    def rows(self):
        return [w.args for w in self.world.store.writes if w.sql.lstrip().startswith("INSERT INTO dead_letters")]


@pytest.fixture
async def desk(autojump_clock):
    return Desk(World())


@asynccontextmanager
async def ledger(desk):
    async with trio.open_nursery() as nursery:
        await nursery.start(desk.world.ledger.run)
        yield
        assert await desk.world.ledger.barrier()
        nursery.cancel_scope.cancel()


async def test_unrecorded_delivery_is_settled_only_once_its_letter_is_on_disk(desk, autojump_clock):
    passage = Passage(a_delivery(desk.world), desk.world.kill.turn)
    desk.letters.unrecorded(passage, LedgerRefused("no such column"))
    assert not passage.is_settled
    async with ledger(desk):
        await passage.wait_settled()
    ((letter_id, queue, kind, subject, payload, error, attempts, _),) = desk.rows
    assert (queue, kind, attempts) == ("signal", "UNRECORDED", 1)
    assert decode(payload, KEY) == passage.delivery
    assert "no such column" in error
    assert subject.startswith("delivery:")
    assert [record.action for record in desk.world.store.audit] == ["DEAD_LETTER"]
    assert desk.alerts[0][0] == f"dead_letter:{letter_id}"


async def test_unrecorded_delivery_whose_letter_is_refused_too_stays_with_the_journal(desk, autojump_clock):
    passage = Passage(a_delivery(desk.world), desk.world.kill.turn)
    desk.world.store.refuse = lambda _batch: True
    desk.letters.unrecorded(passage, LedgerRefused("no"))
    async with ledger(desk):
        assert await desk.world.ledger.barrier()
    assert (passage.is_settled, desk.rows) == (False, [])


async def test_delivery_that_risk_can_record_neither_as_decided_nor_as_failed_becomes_a_letter(desk, autojump_clock):
    world = desk.world
    world.risk_context = msgspec.structs.replace(world.risk_context, unrecorded=desk.letters.unrecorded)
    world.store.refuse = lambda batch: bool(batch.new_intents)
    passage = Passage(a_delivery(world), world.kill.turn)
    async with running(world):
        world.crew.decide(passage)
        await passage.wait_settled()
        await trio.sleep(5)
    assert [row[2] for row in desk.rows] == ["UNRECORDED"]
    assert (world.store.intents, world.broker.left) == ({}, [])


@pytest.mark.parametrize("error", [UnavailableError("withdrawn"), DuplicateIntent("accepted before")])
async def test_delivery_that_was_refused_to_its_sender_or_is_in_the_ledger_is_no_letter(desk, error):
    passage = Passage(a_delivery(desk.world), desk.world.kill.turn)
    desk.letters.unrecorded(passage, error)
    assert (passage.error, desk.letters.buried) == (error, 0)


async def test_letter_of_one_delivery_has_one_id_and_text_that_the_store_takes(desk, autojump_clock):
    async with ledger(desk):
        for _ in range(2):
            desk.letters.bury_delivery(
                a_delivery(desk.world), LetterKind.POISON, "bad\x00 \ud800" + "x" * 9000, attempts=3
            )
    first, second = desk.rows
    assert first[0] == second[0]
    assert "\x00" not in first[5]
    assert len(first[5]) == 500
    first[5].encode()


async def test_parked_exit_keeps_its_account_and_is_one_letter_however_often_it_is_parked(desk, autojump_clock):
    (intent,) = a_delivery(desk.world).intents()
    async with ledger(desk):
        desk.letters.park(intent, "PARKED: too old", account="A0")
        desk.letters.park(intent, "PARKED: too old", account="A0")
        desk.letters.park(intent, "PARKED: too old", account="A1")
    ids = [row[0] for row in desk.rows]
    assert ids[0] == ids[1] != ids[2]
    _, queue, kind, subject, payload, *_ = desk.rows[0]
    assert (queue, kind, subject) == ("execution", "PARKED", f"intent:{intent.id}")
    delivery = decode(payload, KEY)
    assert delivery.idempotency_key == f"dead-letter:{ids[0]}"
    assert delivery.items[0].signal.account == "A0"
    assert desk.letters.park_write(intent, "PARKED: too old", account="A0").args[0] == ids[0]


async def test_decisions_about_one_letter_come_one_after_the_other(desk, autojump_clock):
    (intent,) = a_delivery(desk.world).intents()
    letter = desk.letters.parked(intent, "PARKED")
    answers = []

    async def find(_letter_id):
        # as the store has it once the first decision is on disk
        is_decided = bool(desk.world.store.writes)
        return msgspec.structs.replace(letter, status=LetterStatus.REQUEUED if is_decided else LetterStatus.WAITING)

    async def requeue():
        try:
            answers.append(await desk.letters.requeue(letter.id, actor="user:1"))
        except ConflictError as error:
            answers.append(error)

    desk.letters._find = find
    await trio.sleep(60)
    async with ledger(desk), trio.open_nursery() as nursery:
        nursery.start_soon(requeue)
        nursery.start_soon(requeue)
    assert [type(answer).__name__ for answer in answers] == ["DeadLetter", "ConflictError"]
    (taken,) = desk.taken
    assert (taken.received_at - intent.received_at).total_seconds() >= 60


async def test_letter_that_is_not_there_and_one_that_is_damaged_are_not_requeued(desk, autojump_clock):
    letter = desk.letters._letter(
        LetterQueue.SIGNAL, LetterKind.DAMAGED, b"x", "torn", subject="s", attempts=1, letter_id=UUID(int=1)
    )
    desk.found = {letter.id: letter}
    async with ledger(desk):
        with pytest.raises(NotFoundError):
            await desk.letters.requeue(UUID(int=2), actor="a")
        with pytest.raises(ConflictError, match="only discarded: torn"):
            await desk.letters.requeue(letter.id, actor="a")
    assert desk.taken == []
