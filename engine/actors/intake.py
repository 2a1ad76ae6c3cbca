"""What ingest and the risk actors share about a delivery on its way: who waits, and how it ended."""

from collections.abc import Callable
from uuid import UUID

import msgspec
import trio

from engine.actors.ledger_entry import LedgerEntry
from engine.domain.delivery import Delivery
from engine.domain.enums import IntentStatus
from engine.domain.intent import Intent
from engine.domain.symbols import Resolution

_OVER = trio.Event()
_OVER.set()


class Receipt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a sender is told of one signal: its intent, the state of that, and its place in the delivery."""

    intent_id: UUID
    status: IntentStatus
    position: int
    reason: str | None = None


class Accepted:
    """The answer to a sender: one receipt for each good signal, and whether this was a repeat."""

    __slots__ = ("duplicate", "receipts")

    def __init__(self, receipts: tuple[Receipt, ...], *, duplicate: bool) -> None:
        self.receipts = receipts
        self.duplicate = duplicate


class Passage:
    """A delivery between its arrival and the ledger's commit.

    Durable as soon as the journal *or* the ledger has it on disk; settled when the ledger has, or never
    will. ``error`` is set when it was given up, and then nothing of it is or will be executed. ``promised``
    is set when a sender was told that it is accepted: from then on nobody can give it up. ``resolutions``
    are what the symbols of its intents mean, chosen once, by the prices of that moment. *kill_turn* is the
    `KillSwitches.turn` at which it came; None for one that came to an earlier process.
    """

    __slots__ = (
        "_durable",
        "_settled",
        "committed",
        "decided",
        "delivery",
        "entry",
        "error",
        "intents",
        "journal_failed",
        "journal_id",
        "on_settled",
        "promised",
        "resolutions",
    )

    def __init__(self, delivery: Delivery, kill_turn: int | None = None) -> None:
        self.delivery = delivery
        self.intents: dict[UUID, Intent] = {intent.id: intent for intent in delivery.intents(kill_turn)}
        self.resolutions: dict[UUID, Resolution] = {}
        self.journal_id: str | None = None
        self.journal_failed = False
        self.committed = False
        self.promised = False
        self.error: Exception | None = None
        self.entry: LedgerEntry | None = None
        self.decided = False
        self._durable = trio.Event()
        self._settled = trio.Event()
        self.on_settled: Callable[[Passage], None] | None = None

    @property
    def is_durable(self) -> bool:
        """Whether it would survive a crash now, and be executed."""
        is_withdrawn = self.entry is not None and self.entry.unwanted
        return self.committed or (self.journal_id is not None and not is_withdrawn)

    @property
    def is_settled(self) -> bool:
        """Whether the ledger has it, or never will."""
        return self._settled.is_set()

    def receipts(self) -> tuple[Receipt, ...]:
        """Return the state of its intents as known now."""
        return tuple(
            Receipt(intent_id=i.id, status=i.status, position=i.position, reason=i.reason)
            for i in self.intents.values()
        )

    def journalled(self, entry_id: str | None) -> None:
        """The journal's answer: the entry's id, or None when it is not durable there."""
        self.journal_id = entry_id
        self.journal_failed = entry_id is None
        if entry_id is not None:
            self._durable.set()

    def commit(self) -> None:
        """The ledger has it."""
        self.committed = True
        self._durable.set()
        self._settle()

    def fail(self, error: Exception) -> None:
        """The ledger never will have it."""
        self.error = error
        self._durable.set()
        self._settle()

    def _settle(self) -> None:
        if self._settled.is_set():
            return
        self._settled.set()
        # of thousands that are remembered only the receipts are needed, and nobody will have to wait again
        self.entry = None
        self.resolutions = {}
        self._durable = self._settled = _OVER
        told, self.on_settled = self.on_settled, None
        if told is not None:
            told(self)

    def give_up(self, error: Exception) -> None:
        """Its sender is told that it is not executed: see to it, unless a transaction may hold it already."""
        if self.is_settled or self.promised:
            return
        if self.entry is None:
            self.fail(error)
        else:
            # taken back when the ledger comes to it; what it may hold already is answered by the next try
            self.entry.withdraw()

    async def wait_durable(self) -> None:
        """Wait until it is durable or given up; the caller sets the deadline."""
        await self._durable.wait()

    async def wait_settled(self) -> None:
        """Wait until the ledger has it or never will; the caller sets the deadline."""
        await self._settled.wait()
