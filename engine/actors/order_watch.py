"""Looking at the broker's order book: following orders to their end, and settling doubt.

An order of unknown outcome is found by its tag, or proven absent (rule R of reliability.md 2.4), or
parked when the book cannot be read; it holds its instrument until then and is never sent again.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from math import inf
from uuid import UUID

import structlog
import trio

from engine.actors.account_session import AccountSession
from engine.actors.book_reader import BookReader
from engine.actors.executor_context import ExecutorContext
from engine.actors.order_desk import OrderDesk
from engine.actors.order_index import UNPLACED
from engine.broker.base import Broker, BrokerAuthError
from engine.broker.values import BrokerOrder, BrokerTrade
from engine.clock import Clock
from engine.domain.enums import OrderStatus
from engine.domain.order import Order
from engine.domain.reconcile import AbsenceProof, BookRead, Verdict, clean_read, next_poll_delay
from engine.errors import BrokerUnavailable

_log = structlog.get_logger(__name__)

_FIRST_LOOK_S = 0.1
_LOOK_S = 1.0
# Two reads for a look, and those for marks, stay below the broker's ten in a second (kite.md 4.1).
_REST_S = 0.25
_LONG_REST_S = 5.0
_UNPLACED_LOOK_S = 30.0
_DEAD_LOOK_S = (2.0, 5.0, 15.0, 60.0)
_READ_TIMEOUT_S = 30.0
_MARK_S = 5.0
# Send window, the wait for the ledger before it and the request's own timeout: when the last byte can have left.
_LATE_HORIZON = timedelta(seconds=13)


class OrderWatch:
    """The eyes of one account's executor; *free* is told when doubt about an order is over."""

    def __init__(
        self,
        context: ExecutorContext,
        desk: OrderDesk,
        session: AccountSession,
        *,
        free: Callable[[Order], None],
        cancel_excess: Callable[[Sequence[tuple[Order, BrokerOrder]]], None],
    ) -> None:
        self._context = context
        self._clock: Clock = context.clock
        self._desk = desk
        self._session = session
        self._free = free
        self._cancel_excess = cancel_excess
        self._reader = BookReader(desk)
        self._proofs: dict[UUID, AbsenceProof] = {}
        self._wanted = trio.Event()
        self._looked = trio.Event()

    # doubt

    def restore(self) -> None:
        """Take over, after a restart, what was on the wire or in doubt."""
        self._reader = BookReader(self._desk)
        self._proofs.clear()
        for order in list(self._desk.orders.values()):
            if order.status is OrderStatus.SUBMITTING:
                self.doubt(order, "the engine stopped while the order may have been on the wire", after_restart=True)
            elif order.status is OrderStatus.UNKNOWN:
                self._prove(order, after_restart=True)

    def doubt(self, order: Order, why: str, *, after_restart: bool = False) -> None:
        """Make an order UNKNOWN, of which bytes may have left, until the order book settles it."""
        doubted = self._desk.move(order, OrderStatus.UNKNOWN, message=f"outcome not known: {why}")
        _log.warning("order.unknown", order=str(order.id), why=why)
        self._prove(doubted, after_restart=after_restart)
        self.look_soon()

    def _prove(self, order: Order, *, after_restart: bool) -> None:
        now = self._clock.now()
        latest = (order.submitting_at or order.created_at) + _LATE_HORIZON
        self._proofs[order.id] = AbsenceProof(min(latest, max(now, order.created_at)) if after_restart else now)

    def _judge(self, started_at: datetime, known: frozenset[str], book: Sequence[BrokerOrder] | None) -> None:
        """Take a read of the book, or its failure (None), into every search under way."""
        now = self._clock.now()
        ids = None if book is None else {row.broker_order_id for row in book}
        for order_id, proof in list(self._proofs.items()):
            order = self._desk.orders.get(order_id)
            if order is None or order.status is not OrderStatus.UNKNOWN:
                del self._proofs[order_id]
                if order is not None:
                    self._free(order)
                continue
            clean = ids is not None and clean_read(known, ids, started_at, proof.sent_at)
            proof.add(BookRead(started_at=started_at, clean=clean))
            verdict = proof.verdict(now)
            if verdict is Verdict.NOT_PLACED:
                del self._proofs[order_id]
                waited = (now - proof.sent_at).total_seconds()
                text = f"{UNPLACED}: absent from clean order books for {waited:.0f} s"
                self._free(self._desk.move(order, OrderStatus.EXPIRED, message=text))
            elif verdict is Verdict.PARKED and not (order.status_message or "").startswith("PARKED"):
                text = "PARKED: the order book cannot be read; look by hand"
                self._desk.move(order, OrderStatus.UNKNOWN, message=text)
                self._context.alert(f"order:{order.id}", text)
                _log.error("order.parked", order=str(order.id), account=str(order.account_id))

    # looking

    def look_soon(self) -> None:
        """Read the order book in a moment: something was sent, or has changed."""
        self._wanted.set()

    async def wait_looked(self) -> None:
        """Wait for the end of the next look; the caller sets the deadline."""
        await self._looked.wait()

    async def run_looks(self) -> None:
        """Read the order book while anything is open; soon after a change, then every second or slower."""
        looks = dead_looks = 0
        rest = _REST_S
        rested_at = -inf
        while True:
            delay = self._delay(looks, dead_looks)
            with trio.move_on_after(max(delay, rest)):
                await self._wanted.wait()
            if self._wanted.is_set():
                self._wanted = trio.Event()
                looks = 0
                # the broker needs a moment, and one read then serves all that were sent meanwhile
                await trio.sleep(max(_FIRST_LOOK_S, rested_at - trio.current_time()))
            started = trio.current_time()
            is_readable = await self._look()
            looks += 1
            dead_looks = dead_looks + 1 if self._session.is_dead else 0
            # a large book costs more to read than it tells, and a broker in trouble is left alone for a while
            rest = min(max(_REST_S, 20 * (trio.current_time() - started)), _LONG_REST_S)
            if not is_readable:
                rest = max(rest, _LOOK_S)
            rested_at = trio.current_time() + rest
            self._looked.set()
            self._looked = trio.Event()

    def _delay(self, looks: int, dead_looks: int) -> float:
        """Return the seconds to the next look that nobody asks for."""
        if self._session.is_dead:
            return _DEAD_LOOK_S[min(dead_looks, len(_DEAD_LOOK_S) - 1)]
        if self._proofs:
            return next_poll_delay(min(looks, 5))
        if self._desk.has_open_orders or self._reader.lacks_trades:
            return _REST_S if looks < 3 else _LOOK_S
        return _UNPLACED_LOOK_S if self._desk.has_unplaced_orders else inf

    @property
    def _has_reason(self) -> bool:
        return bool(
            self._proofs
            or self._session.is_dead
            or self._reader.lacks_trades
            or self._desk.has_open_orders
            or self._desk.has_unplaced_orders
        )

    async def _look(self) -> bool:
        """Read the order book if there is a reason to; return whether it could be read."""
        if not self._has_reason or not self._context.holds_lease():
            return True
        started_at = self._clock.now()
        # what the broker confirms while the book is on its way cannot be missed in it
        known = frozenset(self._desk.known_broker_ids) if self._proofs else frozenset()
        broker: Broker | None = None
        try:
            with trio.fail_after(_READ_TIMEOUT_S):
                broker = await self._session.broker()
                book = await broker.orders()
                trades = await self._trades(broker) if self._reader.shows_new_fills(book) else ()
        except BrokerAuthError as error:
            if broker is not None:
                self._session.died(broker, str(error))
            self._judge(started_at, known, None)
        except (BrokerUnavailable, trio.TooSlowError) as error:
            _log.warning("book.unreadable", account=str(self._desk.account_id), error=str(error) or "too slow")
            self._judge(started_at, known, None)
        else:
            self._session.alive()
            self._desk.take_trades(trades)
            news = self._reader.take(book)
            self._judge(started_at, known, book)
            if news.excess:
                self._cancel_excess(news.excess)
            self._desk.drop_finished()
            return True
        return False

    async def _trades(self, broker: Broker) -> Sequence[BrokerTrade]:
        try:
            return await broker.trades()
        except BrokerAuthError:
            raise
        except BrokerUnavailable as error:
            # the order book alone still tells what becomes of the orders
            _log.warning("trades.unreadable", account=str(self._desk.account_id), error=str(error))
            return ()

    async def run_marks(self) -> None:
        """Value what is held at the broker's last prices, every five seconds."""
        while True:
            await trio.sleep(_MARK_S)
            if not self._desk.holdings.has_open or not self._context.holds_lease():
                continue
            try:
                with trio.fail_after(_READ_TIMEOUT_S):
                    self._desk.holdings.mark(await (await self._session.broker()).positions())
            except (BrokerUnavailable, trio.TooSlowError) as error:
                _log.debug("positions.unreadable", account=str(self._desk.account_id), error=str(error))
