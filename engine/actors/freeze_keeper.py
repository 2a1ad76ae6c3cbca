"""Keeps freeze quantities: durably, on the record, and in the instrument book that slicing goes by.

Owns the rows of ``freeze_quantities``. What a refusal taught holds at once and is recorded when the ledger
comes to it; what a person sets holds when it is on disk. No mailbox.
"""

from collections.abc import Iterable, Sequence

import structlog

from engine.actors.audit_writer import AuditWriter
from engine.actors.instrument_master import InstrumentMaster
from engine.actors.ledger_entry import LedgerEntry
from engine.clock import Clock
from engine.domain.audit import AuditDraft
from engine.domain.freeze import DEFAULTS, FreezeOrigin, FreezeQuantity, FreezeTable
from engine.errors import MailboxFull
from engine.store.freeze import put_freeze, replace_freeze

_log = structlog.get_logger(__name__)


class FreezeKeeper:
    """The one writer of freeze quantities."""

    def __init__(self, *, master: InstrumentMaster, ledger: AuditWriter, clock: Clock) -> None:
        self._master = master
        self._ledger = ledger
        self._clock = clock
        master.on_learned = self._learned

    @property
    def table(self) -> FreezeTable:
        """What holds now."""
        return self._master.book.freeze

    def restore(self, kept: Iterable[FreezeQuantity]) -> None:
        """Begin with what the store has, over what is built in."""
        self._master.book.freeze = FreezeTable([*DEFAULTS, *kept])

    async def replace(self, rows: Sequence[FreezeQuantity], *, by: str) -> FreezeTable:
        """Set the user's list in place of the one before; raises what `AuditWriter.write` raises.

        Learned quantities stay, but for those that the list names.
        """
        now = self._clock.now()
        content = {"quantities": [f"{row.exchange}:{row.symbol} {row.quantity}" for row in rows]}

        def publish() -> None:
            learned = [row for row in self.table if row.origin is FreezeOrigin.LEARNED]
            self._master.book.freeze = FreezeTable([*DEFAULTS, *learned, *rows])

        await self._ledger.write(
            LedgerEntry(
                writes=replace_freeze(rows, at=now),
                audit=(AuditDraft(at=now, actor=by, action="FREEZE_SET", subject="freeze", content=content),),
                on_commit=publish,
            )
        )
        return self.table

    def _learned(self, row: FreezeQuantity) -> None:
        now = self._clock.now()
        draft = AuditDraft(
            at=now,
            actor="system",
            action="FREEZE_LEARNED",
            subject=f"freeze:{row.exchange}:{row.symbol}",
            content={"quantity": row.quantity},
        )
        try:
            self._ledger.append(LedgerEntry(writes=(put_freeze(row, at=now),), audit=(draft,)))
        except MailboxFull as error:
            # it holds in memory; whoever learned it is in the middle of an order
            _log.error("freeze.not_recorded", symbol=row.symbol, error=str(error))
