"""Reading the broker's list of triggers (GTT): following ours, and settling those of unknown outcome.

A trigger lives at the broker whether the engine runs or not, so its list is the truth of it. It is read slowly
while one stands, faster while one is in doubt or something hangs on the answer, and not at all without one.
"""

from collections.abc import Callable, Sequence
from math import inf
from uuid import UUID

import structlog
import trio

from engine.actors.account_session import AccountSession
from engine.actors.executor_context import ExecutorContext
from engine.actors.gtt_book import GttBook
from engine.actors.order_desk import OrderDesk
from engine.broker.base import Broker, BrokerAuthError
from engine.broker.values import BrokerHolding
from engine.domain.enums import Exchange
from engine.domain.gtt import CLEAN_READS_APART_S, GONE, BrokerGtt, Gtt, GttSearch, GttStatus, find, fold
from engine.errors import BrokerUnavailable, MailboxFull

_log = structlog.get_logger(__name__)

_POLL_S = 30.0
_DOUBT_S = 5.0
# No two reads follow closer: the broker's other calls share its ten in a second (kite.md 4.1).
_APART_S = 1.0
_READ_TIMEOUT_S = 30.0
_MISSING_READS = 3
NOT_PLACED = "NOT_PLACED"
_READS_KEPT = 8


class GttWatch:
    """The eyes for the triggers of one account.

    *wants_holdings* tells whether the demat account is to be read with the list; *excess* is told of a trigger
    at the broker that must not be there beside ours; *alert* takes a trigger of ours and a text for a person.
    """

    def __init__(
        self,
        context: ExecutorContext,
        desk: OrderDesk,
        book: GttBook,
        session: AccountSession,
        *,
        wants_holdings: Callable[[], bool],
        excess: Callable[[Gtt, str], None],
        alert: Callable[[Gtt, str], None],
    ) -> None:
        self._context = context
        self._desk = desk
        self._book = book
        self._session = session
        self._wants_holdings = wants_holdings
        self._excess = excess
        self._alert = alert
        self._searches: dict[UUID, GttSearch] = {}
        self._missing: dict[UUID, int] = {}
        self._reads: list[tuple[float, int]] = []
        self._wanted = trio.Event()
        self._looked = trio.Event()
        self._next_at = -inf
        self._restored_s = -inf
        self.wants_proof = False
        self.holdings: Sequence[BrokerHolding] | None = None

    def restore(self) -> None:
        """Begin anew: what was on the wire is in doubt, and was gone by now at the latest."""
        self._searches.clear()
        self._missing.clear()
        self._reads.clear()
        self.holdings = None
        self._restored_s = trio.current_time()
        for gtt in self._book.live:
            if gtt.status is GttStatus.SUBMITTING:
                why = "outcome not known: the engine stopped while it may have been on the wire"
                self._book.move(gtt, GttStatus.UNKNOWN, why)
        self.look_soon()

    def look_soon(self) -> None:
        """Read the list in a moment: something was sent, or has changed."""
        self._wanted.set()

    async def wait_looked(self) -> None:
        """Wait for the end of the next read; the caller sets the deadline."""
        await self._looked.wait()

    def proves(self, key: tuple[Exchange, str]) -> bool:
        """Whether the list has been read often enough since the instrument *key* last stirred in the books.

        What made a position smaller may be one of the triggers itself: until the list shows that it has fired,
        nothing may be taken away from the others.
        """
        since = [at for at, stirs in self._reads if stirs >= self._desk.stirred_at(key)]
        return len(since) > 1 and since[-1] - since[0] >= CLEAN_READS_APART_S

    async def run(self) -> None:
        """Read the list while a trigger of ours stands, until cancelled."""
        while True:
            with trio.move_on_after(self._delay):
                await self._wanted.wait()
            self._wanted = trio.Event()
            await trio.sleep(max(0.0, self._next_at - trio.current_time()))
            if self._has_reason and self._context.holds_lease() and not self._session.is_dead:
                await self._look()
            self._next_at = trio.current_time() + _APART_S
            self._looked.set()
            self._looked = trio.Event()

    @property
    def _has_reason(self) -> bool:
        return self.wants_proof or any(
            gtt.status.is_live or self._awaits_order(gtt) for gtt in self._book.gtts.values()
        )

    @property
    def _delay(self) -> float:
        if not self._has_reason:
            return inf
        if self.wants_proof:
            return CLEAN_READS_APART_S
        in_doubt = any(gtt.status.is_unresolved or self._awaits_order(gtt) for gtt in self._book.gtts.values())
        return _DOUBT_S if in_doubt or self._missing else _POLL_S

    @staticmethod
    def _awaits_order(gtt: Gtt) -> bool:
        return gtt.status is GttStatus.TRIGGERED and gtt.fired_role is None

    async def _look(self) -> None:
        began, stirs = trio.current_time(), self._desk.stirs
        broker: Broker | None = None
        try:
            with trio.fail_after(_READ_TIMEOUT_S):
                broker = await self._session.broker()
                rows = await broker.gtts()
            is_clean = self._take(rows, began)
            self.holdings = await self._read_holdings(broker) if self._wants_holdings() else None
        except BrokerAuthError as error:
            if broker is not None:
                self._session.died(broker, str(error), error.code)
        except (BrokerUnavailable, MailboxFull, trio.TooSlowError) as error:
            _log.warning("gtts.unreadable", account=str(self._desk.account_id), error=str(error) or "too slow")
            for search in self._searches.values():
                search.add(began, is_clean=False)
            self.holdings = None
        else:
            if is_clean:
                self._reads = [*self._reads[1 - _READS_KEPT :], (began, stirs)]

    async def _read_holdings(self, broker: Broker) -> Sequence[BrokerHolding] | None:
        """Return the demat account, None when it cannot be read: the triggers are followed all the same."""
        try:
            with trio.fail_after(_READ_TIMEOUT_S):
                return await broker.holdings()
        except (BrokerUnavailable, trio.TooSlowError) as error:
            _log.info("holdings.unreadable", account=str(self._desk.account_id), error=str(error) or "too slow")
            return None

    def _take(self, rows: Sequence[BrokerGtt], began: float) -> bool:
        """Take in a list whose read began at *began* (monotonic); return whether it had all that are known."""
        by_id = {row.trigger_id: row for row in rows}
        is_clean = self._follow(by_id, began)
        for gtt in list(self._book.gtts.values()):
            if gtt.status is GttStatus.UNKNOWN:
                self._settle(gtt, rows, began, is_clean=is_clean)
            elif gtt.status is GttStatus.FAILED and (gtt.status_message or "").startswith(NOT_PLACED):
                self._found_late(gtt, rows)
        self._searches = {
            gtt_id: search
            for gtt_id, search in self._searches.items()
            if gtt_id in self._book.gtts and self._book.gtts[gtt_id].status is GttStatus.UNKNOWN
        }
        return is_clean

    def _follow(self, by_id: dict[str, BrokerGtt], began: float) -> bool:
        missing: dict[UUID, int] = {}
        for gtt in list(self._book.gtts.values()):
            row = by_id.get(gtt.trigger_id or "")
            # an answer that was on its way when we changed it tells of before
            if gtt.trigger_id is None or self._book.touched_s(gtt) >= began:
                continue
            if row is not None:
                folded = fold(gtt, row, at=self._context.clock.now())
                if folded is not gtt:
                    self._book.take(gtt, folded)
            elif gtt.status is GttStatus.ACTIVE:
                missing[gtt.id] = self._missing.get(gtt.id, 0) + 1
                if missing[gtt.id] >= _MISSING_READS:
                    del missing[gtt.id]
                    self._book.move(gtt, GttStatus.CANCELLED, f"{GONE}: the broker's list does not have it any more")
        self._missing = missing
        return not missing

    def _settle(self, gtt: Gtt, rows: Sequence[BrokerGtt], began: float, *, is_clean: bool) -> None:
        """Adopt a trigger of unknown outcome from the list, or count the read towards the proof that it is absent."""
        found = find(gtt, rows, self._book.owned)
        if found:
            folded = fold(gtt, found[0], at=self._context.clock.now())
            if folded is not gtt:
                self._book.take(gtt, folded)
                _log.warning("gtt.found", gtt=str(gtt.id), trigger=found[0].trigger_id)
            for second in found[1:]:
                self._double(gtt, second)
            return
        since = max(self._book.touched_s(gtt), self._restored_s)
        search = self._searches.setdefault(gtt.id, GttSearch(since))
        if search.add(began, is_clean=is_clean):
            waited = trio.current_time() - since
            self._book.move(gtt, GttStatus.FAILED, f"{NOT_PLACED}: absent from the broker's list for {waited:.0f} s")

    def _found_late(self, gtt: Gtt, rows: Sequence[BrokerGtt]) -> None:
        """A trigger that was taken for absent is there: it stands for its unit, or is one too many."""
        if self._book.is_in_doubt(gtt.key):
            return  # it may be the one that is looked for
        for row in find(gtt, rows, self._book.owned):
            of_unit = [other for other in self._book.of_entry(gtt.entry_id) if other.unit == gtt.unit]
            taken = any(other.status.is_live or other.status is GttStatus.TRIGGERED for other in of_unit)
            if taken:
                self._double(gtt, row)
                continue
            late = fold(gtt, row, at=self._context.clock.now())
            if late is not gtt:
                self._book.take(
                    gtt, late, detail=f"LATE_FOUND: {row.status} at the broker after it was taken for absent"
                )
                self._alert(late, f"LATE_FOUND: trigger {row.trigger_id} is {row.status} at the broker after all")
                gtt = late

    def _double(self, gtt: Gtt, row: BrokerGtt) -> None:
        if row.is_active:
            self._excess(gtt, row.trigger_id)
        elif row.status == "triggered":
            text = f"GTT_DOUBLED: trigger {row.trigger_id} has fired beside ours; close what is too much by hand"
            self._alert(gtt, text)
