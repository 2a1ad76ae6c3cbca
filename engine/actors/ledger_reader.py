"""What actors read from the ledger when they start: each one unit of work, with a deadline."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

import trio

from engine.actors.ingest import EarlierDeliveries
from engine.actors.intake import Receipt
from engine.actors.order_desk import AccountHistory
from engine.actors.risk import UserHistory
from engine.domain.audit import AuditRecord
from engine.domain.dead_letter import DeadLetter
from engine.domain.delivery import Delivery
from engine.domain.enums import IntentStatus
from engine.domain.freeze import FreezeQuantity
from engine.domain.intent import Intent
from engine.domain.kill_sequence import Certificate
from engine.domain.order import Order
from engine.domain.readiness_gate import Gate
from engine.domain.source_watch import Heard
from engine.errors import StoreUnavailable
from engine.store import audit_pages, freeze, history, late, lease
from engine.store import dead_letters as dead_letter_rows
from engine.store.database import Database
from engine.store.flags import gate, rounds, squared_off
from engine.store.kill_certificates import newest_certificates
from engine.store.kill_drills import DrillMemory, drill_memory
from engine.store.queries import dead_letters as dead_letter_queries
from engine.store.source_watch import all_heard, rows_taken

_TIMEOUT_S = 30.0
_ON_DEMAND_S = 3.0
# So many have some thousand orders of a week each at most: more would hold the event loop up.
_TOGETHER = 32


class _Wish:
    """An account whose history is waited for."""

    def __init__(self, account_id: UUID, day: date) -> None:
        self.account_id = account_id
        self.day = day
        self.found: history.AccountRows | None = None


class LedgerReader:
    """Reads histories."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._wishes: list[_Wish] = []
        self._reading = trio.Lock()

    async def account(self, account_id: UUID, day: date) -> AccountHistory:
        """Return what an executor starts from; those who ask meanwhile are read together. Raises StoreUnavailable.

        What is read is never older than the call.
        """
        wish = _Wish(account_id, day)
        self._wishes.append(wish)
        try:
            # in the order in which they came: whoever comes next reads for those behind it too
            with trio.fail_after(_TIMEOUT_S):
                await self._reading.acquire()
            try:
                if wish.found is None:
                    await self._read_for(wish)
            finally:
                self._reading.release()
        except trio.TooSlowError:
            raise StoreUnavailable("the histories of too many accounts are being read") from None
        finally:
            if wish in self._wishes:
                self._wishes.remove(wish)
        if wish.found is None:
            raise StoreUnavailable("the account's history was not read")
        return AccountHistory(**history.account_of(wish.found, account_id))

    async def _read_for(self, first: _Wish) -> None:
        together = [wish for wish in self._wishes if wish.day == first.day][:_TOGETHER]
        if first not in together:
            together = [first]
        for wish in together:
            self._wishes.remove(wish)
        ids = [wish.account_id for wish in together]
        try:
            found = await self._database.run(lambda c: history.accounts(c, ids, first.day), timeout_s=_TIMEOUT_S)
        except BaseException:
            # each of the others asks for itself: what is wrong may be wrong with this one, or it was cancelled
            self._wishes[:0] = [wish for wish in together if wish is not first]
            raise
        for wish in together:
            wish.found = found

    async def user(self, user_id: UUID, day: date) -> UserHistory:
        """Return what a risk actor starts from. Raises StoreUnavailable."""
        found = await self._database.run(lambda c: history.user(c, user_id, day), timeout_s=_TIMEOUT_S)
        return UserHistory(**found)

    async def heard(self) -> dict[UUID, Heard]:
        """Return what was heard of every source. Raises StoreUnavailable."""
        return await self._database.run(all_heard, timeout_s=_TIMEOUT_S)

    async def gate(self) -> Gate:
        """Return what the morning's checks said last. Raises StoreUnavailable."""
        return await self._database.run(gate, timeout_s=_TIMEOUT_S)

    async def rows_taken(self, source_id: UUID, keys: Sequence[str]) -> dict[str, tuple[UUID, str, bytes]]:
        """Return which of a source's *keys* were taken in: intent, its status, body hash. Raises StoreUnavailable."""
        return await self._database.run(lambda c: rows_taken(c, source_id, keys), timeout_s=_ON_DEMAND_S)

    async def busy(self) -> tuple[list[UUID], list[UUID]]:
        """Return the users and accounts that have something going on, or may have an intent to set right."""

        async def unit(connection: Any) -> tuple[list[UUID], list[UUID]]:
            users, accounts = await history.busy(connection)
            return [*users, *await late.users_ended_short(connection)], accounts

        return await self._database.run(unit, timeout_s=_TIMEOUT_S)

    async def ended_short(self, user_id: UUID, day: date) -> list[tuple[Intent, list[late.OrderEnd]]]:
        """Return a user's intents that ended short though something of them filled. Raises StoreUnavailable."""
        return await self._database.run(lambda c: late.ended_short(c, user_id, day), timeout_s=_TIMEOUT_S)

    async def earlier(self, now: datetime, window_s: int) -> EarlierDeliveries:
        """Return what ingest asks about deliveries that it no longer remembers."""
        keys = await self._database.run(lambda c: history.delivered_since(c, now, window_s), timeout_s=_TIMEOUT_S)
        return EarlierDeliveries(find=self._delivery, known=self._known, keys=keys)

    async def _delivery(self, source_id: UUID, key: str) -> tuple[bytes, tuple[Receipt, ...]] | None:
        rows = await self._database.run(lambda c: history.delivery(c, source_id, key), timeout_s=2.0)
        if not rows:
            return None
        receipts = tuple(
            Receipt(
                intent_id=row["id"],
                status=IntentStatus(row["status"]),
                position=row["position"],
                reason=row["reason"],
            )
            for row in rows
        )
        return rows[0]["body_sha256"], receipts

    async def _known(self, deliveries: Sequence[Delivery]) -> set[tuple[UUID, str]]:
        keys = [(delivery.source_id, delivery.idempotency_key) for delivery in deliveries]
        return await self._database.run(lambda c: history.known_deliveries(c, keys), timeout_s=_TIMEOUT_S)

    async def journal_attempts(self, epoch: UUID, positions: Sequence[str]) -> dict[str, int]:
        """Return how often entries of the journal have been begun by earlier starts. Raises StoreUnavailable."""
        return await self._database.run(
            lambda c: dead_letter_rows.attempts_of(c, epoch, positions), timeout_s=_TIMEOUT_S
        )

    async def dead_letter(self, letter_id: UUID) -> DeadLetter | None:
        """Return a dead letter, or None. Raises StoreUnavailable."""
        return await self._database.run(lambda c: dead_letter_queries.find(c, letter_id))

    async def requeued_letters(self) -> list[DeadLetter]:
        """Return the dead letters that wait to be taken in again. Raises StoreUnavailable."""
        return await self._database.run(dead_letter_queries.requeued, timeout_s=_TIMEOUT_S)

    async def audit_after(self, seq: int) -> list[AuditRecord]:
        """Return the next audit records after *seq*, the last one alone for a negative. Raises StoreUnavailable."""
        if seq < 0:
            return await self._database.run(audit_pages.newest, timeout_s=_TIMEOUT_S)
        return await self._database.run(lambda c: audit_pages.page(c, after_seq=seq), timeout_s=_TIMEOUT_S)

    async def waiting_parked(self) -> list[tuple[UUID, UUID, UUID]]:
        """Return (user, strategy, source) of the exits that wait for a person. Raises StoreUnavailable."""
        return await self._database.run(dead_letter_queries.waiting_parked, timeout_s=_ON_DEMAND_S)

    async def freeze_quantities(self) -> list[FreezeQuantity]:
        """Return the freeze quantities that are kept. Raises StoreUnavailable."""
        return await self._database.run(freeze.freeze_quantities, timeout_s=_TIMEOUT_S)

    async def rounds(self) -> dict[str, str]:
        """Return the IST date of the last of each round over the accounts. Raises StoreUnavailable."""
        return await self._database.run(rounds)

    async def drills(self) -> DrillMemory:
        """Return what is known of earlier drills of the kill switch. Raises StoreUnavailable."""
        return await self._database.run(drill_memory)

    async def squared_off(self) -> dict[str, list[str]]:
        """Return for which accounts each square-off by the clock is done. Raises StoreUnavailable."""
        return await self._database.run(squared_off)

    async def newest_certificates(self) -> list[Certificate]:
        """Return the newest kill certificate of every scope. Raises StoreUnavailable."""
        return await self._database.run(newest_certificates)

    async def unrecorded_orders(self, orders: Sequence[Order]) -> list[Order]:
        """Return which of *orders* the ledger does not have. Raises StoreUnavailable."""
        ids = [order.id for order in orders]
        known = await self._database.run(lambda c: history.known_orders(c, ids), timeout_s=_TIMEOUT_S)
        return [order for order in orders if order.id not in known]

    async def release_lease(self, epoch: int) -> None:
        """Give the lease back."""
        await self._database.run(lambda c: lease.release(c, epoch=epoch), timeout_s=1.0)
