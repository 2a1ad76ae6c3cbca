"""Looking at the broker's order book: following orders to their end, and settling doubt.

An order of unknown outcome is found by its tag, or proven absent (rule R of reliability.md 2.4), or
parked when the book cannot be read; it holds its instrument until then and is never sent again.
"""

from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from math import inf
from uuid import UUID

import structlog
import trio

from engine.actors.account_session import AccountSession
from engine.actors.book_reader import BookReader
from engine.actors.executor_context import ExecutorContext
from engine.actors.look import Look
from engine.actors.order_desk import OrderDesk
from engine.actors.order_index import UNPLACED
from engine.broker.base import Broker, BrokerAuthError
from engine.broker.book import Book, book_of
from engine.broker.values import BrokerOrder, BrokerTrade
from engine.clock import Clock, SteadyTime, trading_day
from engine.domain.compact_set import CompactSet
from engine.domain.enums import Exchange, OrderStatus
from engine.domain.order import Order
from engine.domain.reconcile import AbsenceProof, BookRead, Verdict, clean_book, clean_read, next_poll_delay
from engine.errors import BrokerUnavailable
from engine.observability.measures import BOOK_READ, NEWS_POLL, NEWS_TRADES
from engine.runtime.crashpoint import crashpoint

_log = structlog.get_logger(__name__)

_FIRST_LOOK_S = 0.1
_LOOK_S = 1.0
# Two reads for a look, and those for marks, stay below the broker's ten in a second (kite.md 4.1).
_REST_S = 0.25
_SOON_LOOKS = 3
_LONG_REST_S = 5.0
# The rest after a read, in lengths of the read; what flattens waits for little else and gets more of the time.
_RESTS = 20
_URGENT_RESTS = 4
_UNPLACED_LOOK_S = 30.0
_DEAD_LOOK_S = (2.0, 5.0, 15.0, 60.0)
_READ_TIMEOUT_S = 30.0
# Orders of a portion of a look's news, the most portions, and the rest that whoever waits gets between two at least.
_PORTION = 4
_MOST_PAUSES = 32
_BREATH_S = 0.002
# Send window, the wait for the ledger before it and the request's own timeout: when the last byte can have left.
_LATE_HORIZON = timedelta(seconds=13)


CONTRACT_NOTE = "look it up in the contract note"
"""What a person is asked to do about an order that its day has left in doubt."""


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
        # how long an order has been looked for must not depend on a wall clock that is set meanwhile
        self._steady = SteadyTime(context.clock)
        self._desk = desk
        self._session = session
        self._free = free
        self._cancel_excess = cancel_excess
        self._reader = BookReader(desk)
        self._proofs: dict[UUID, AbsenceProof] = {}
        self._wanted = trio.Event()
        self._looked = trio.Event()
        self._reading = trio.Lock()
        self._rested_at = self._urgent_at = -inf
        # how long the last read took, None when it failed
        self._read_s: float | None = None
        self._looks = 0
        # the first and the latest of the reads in a row that failed, on trio's clock
        self._failed: tuple[float, float] | None = None
        self.read_at = self.trades_at = -inf
        """When (trio's clock) the order book, and the trade book, were read last."""

    # doubt

    @property
    def unreachable_s(self) -> float:
        """For how many seconds every read of the order book failed, by the reads that were made; 0 when one was good.

        A broker that answers that somebody must log in can be reached.
        """
        return 0.0 if self._failed is None else self._failed[1] - self._failed[0]

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
        # its event is on record: people are told, once it is parked it is an alert as well
        self._context.pass_on(
            f"order:{order.id}", f"UNKNOWN: its outcome is not known: {why}; the order book settles it"
        )
        self._prove(doubted, after_restart=after_restart)
        self.look_soon()

    def _prove(self, order: Order, *, after_restart: bool) -> None:
        now = self._steady.now()
        latest = (order.submitting_at or order.created_at) + _LATE_HORIZON
        # one that is still to come is of a clock that has been set back since
        self._proofs[order.id] = AbsenceProof(min(latest, now) if after_restart else now)

    def _judge(self, started_at: datetime, known: CompactSet[str], book: Book[BrokerOrder] | None) -> None:
        """Take a read of the book, or its failure (None), into every search under way; begun by steady time."""
        if not self._proofs:
            return
        now, today = self._steady.now(), trading_day(self._clock.now())
        ids = None if book is None else book.ids
        for order_id, proof in list(self._proofs.items()):
            order = self._desk.orders.get(order_id)
            if order is None or order.status is not OrderStatus.UNKNOWN:
                del self._proofs[order_id]
                if order is not None:
                    self._free(order)
                continue
            # the book of a later day says nothing of an order of an earlier one
            same_day = order.trading_day == today
            clean = ids is not None and same_day and clean_read(known, ids, started_at, proof.sent_at)
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
        dead_looks = 0
        while True:
            delay = self._delay(self._looks, dead_looks)
            with trio.move_on_after(max(delay, self._rested_at - trio.current_time())):
                await self._wanted.wait()
            if self._wanted.is_set():
                self._wanted = trio.Event()
                self._looks = 0
                # the broker needs a moment, and one read then serves all that were sent meanwhile
                await trio.sleep(max(_FIRST_LOOK_S, self._rested_at - trio.current_time()))
            await self._context.rush.stand_back()
            if self._has_reason and self._context.holds_lease():
                await self.look()
            self._looks += 1
            dead_looks = dead_looks + 1 if self._session.is_dead else 0
            self._looked.set()
            self._looked = trio.Event()

    def _delay(self, looks: int, dead_looks: int) -> float:
        """Return the seconds to the next look that nobody asks for."""
        if self._session.is_dead:
            return _DEAD_LOOK_S[min(dead_looks, len(_DEAD_LOOK_S) - 1)]
        if self._settles_today:
            return next_poll_delay(min(looks, 5))
        if self._desk.has_open_orders or self._reader.lacks_trades:
            return _REST_S if looks < _SOON_LOOKS else _LOOK_S
        if self._desk.has_external_orders and looks < _SOON_LOOKS:
            return _REST_S
        return _UNPLACED_LOOK_S if self._proofs or self._desk.has_unplaced_orders else inf

    def is_behind(self, key: tuple[Exchange, str]) -> bool:
        """Whether something of an instrument has filled, as far as is known, that is not in the books yet."""
        return self._reader.is_behind(key)

    @property
    def _settles_today(self) -> bool:
        day = trading_day(self._clock.now())
        doubted = (self._desk.orders.get(order_id) for order_id in self._proofs)
        return any(order is not None and order.trading_day >= day for order in doubted)

    @property
    def _has_reason(self) -> bool:
        return bool(
            self._proofs
            or self._session.is_dead
            or self._reader.lacks_trades
            or self._desk.has_open_orders
            # orders of somebody else are followed by reconciliation, unless a change of one was asked for
            or (self._desk.has_external_orders and self._looks < _SOON_LOOKS)
            or self._desk.has_unplaced_orders
        )

    async def look(self, *, full: bool = False, urgent: bool = False) -> Look | None:
        """Read the order book and fold it in, the trades of new fills first; None when it cannot be read.

        One read at a time, each after the rest that the last one earned the broker, a shorter one when *urgent*.
        *full* reads the trades in any case and tells whether the book is whole.
        """
        async with self._reading:
            rested_at = self._urgent_at if urgent else self._rested_at
            await trio.sleep(max(0.0, rested_at - trio.current_time()))
            started = trio.current_time()
            self._read_s = None
            taken = await self._look(full=full, urgent=urgent)
            ended = trio.current_time()
            took = ended - started if self._read_s is None else self._read_s
            # a large book costs more to read than it tells, and a broker in trouble is left alone for a while
            least = _REST_S if taken is not None else _LOOK_S
            self._rested_at = ended + max(least, min(_RESTS * took, _LONG_REST_S))
            self._urgent_at = ended + max(least, min(_URGENT_RESTS * took, _LONG_REST_S))
            return taken

    async def _look(self, *, full: bool, urgent: bool) -> Look | None:
        crashpoint("S10.before_look")
        started_at, began = self._clock.now(), self._steady.now()
        self._close_earlier_days(trading_day(started_at))
        # what the broker confirms while the book is on its way cannot be missed in it
        known = self._desk.known_broker_ids.copy() if self._proofs or full else CompactSet[str]()
        broker: Broker | None = None
        trades: Book[BrokerTrade] | None = None
        asked_s = trio.current_time()
        try:
            with trio.fail_after(_READ_TIMEOUT_S):
                broker = await self._session.broker()
                book, is_sound = book_of(await broker.orders()).named()
                if full or self._reader.shows_new_fills(book):
                    trades = await self._trades(broker)
        except BrokerAuthError as error:
            self._failed = None  # it answers
            if broker is not None:
                self._session.died(broker, str(error), error.code)
            self._judge(began, known, None)
        except (BrokerUnavailable, trio.TooSlowError) as error:
            self._failed = (asked_s if self._failed is None else self._failed[0], trio.current_time())
            _log.warning("book.unreadable", account=str(self._desk.account_id), error=str(error) or "too slow")
            self._judge(began, known, None)
        else:
            crashpoint("S10.book_read")
            self._failed = None
            self._session.alive()
            self._told(trio.current_time(), asked_s, has_trades=trades is not None)
            stirs = self._desk.stirs
            with self._desk.telling.together():
                if not urgent:
                    await self._take_progress(book, trades or ())
                self._desk.take_trades(trades or ())
                if self._desk.stirs != stirs:
                    NEWS_TRADES.inc()
                stirs = self._desk.stirs
                news = self._reader.take(book)
                if self._desk.stirs != stirs:
                    NEWS_POLL.inc()
            self._judge(began, known, book if is_sound else None)
            if news.excess:
                self._cancel_excess(news.excess)
            for order, row in news.doubles:
                text = f"SECOND_AT_BROKER: {row.broker_order_id} filled {row.filled_quantity} beside the order itself"
                self._context.alert(f"order:{order.id}", text)
            crashpoint("S10.book_taken")
            self._desk.drop_finished()
            is_whole = full and is_sound and clean_book(known, book.ids)
            return Look(started_at=started_at, book=book, trades=trades, foreign=news.foreign, is_whole=is_whole)
        return None

    async def _take_progress(self, book: Book[BrokerOrder], trades: Sequence[BrokerTrade]) -> None:
        """Take what went on as orders do in small portions, whole instruments each, with their trades first.

        A look that shows a hundred fills makes some 30 ms of work, here, for risk and for the ledger: what is on its
        way to the broker meanwhile would wait for all of it.
        """
        groups = self._reader.progress(book)
        most = max(_PORTION, sum(map(len, groups)) // _MOST_PAUSES)
        new = self._desk.new_trades(trades)
        while groups:
            began = trio.current_time()
            rows = groups.pop()
            while groups and len(rows) + len(groups[-1]) <= most:
                rows += groups.pop()
            instruments = {(row.exchange, row.symbol) for row in rows}
            self._desk.book_trades([trade for trade in new if (trade.exchange, trade.symbol) in instruments])
            self._reader.follow_progress(rows)
            if groups:
                await trio.sleep(max(_BREATH_S, trio.current_time() - began))

    def _told(self, now_s: float, asked_s: float, *, has_trades: bool) -> None:
        self._read_s = now_s - asked_s
        BOOK_READ.observe_ns(int(self._read_s * 1e9))
        self.read_at = now_s
        if has_trades:
            self.trades_at = now_s

    async def _trades(self, broker: Broker) -> Book[BrokerTrade] | None:
        try:
            return book_of(await broker.trades())
        except BrokerAuthError:
            raise
        except BrokerUnavailable as error:
            # the order book alone still tells what becomes of the orders
            _log.warning("trades.unreadable", account=str(self._desk.account_id), error=str(error))
            return None

    async def confirm_absent(self, order: Order, *, timeout_s: float) -> bool | None:
        """Ask one whole order book, read from now on: True when *order*'s tag is not in it, False when it is.

        None when no such book can be had within *timeout_s*. A tag that is there is told from any book.
        """
        asked_at = self._clock.now()
        with trio.move_on_after(timeout_s):
            while True:
                taken = await self.look(full=True)
                if taken is None or taken.started_at < asked_at:
                    continue  # the next one waits for its turn
                if any(row.has_tag(order.tag) for row in (await taken.at_hand()).book):
                    return False
                if taken.is_whole and trading_day(taken.started_at) == trading_day(asked_at):
                    return True
        return None

    def follow(self, order: Order, row: BrokerOrder) -> None:
        """Take into an order that was just adopted what its row of the book says."""
        self._reader.follow(order, row)

    # the end of a day

    def _close_earlier_days(self, day: date) -> None:
        """Park what the book of its own day has not settled: the books of later days cannot."""
        for order_id in self._proofs:
            order = self._desk.orders.get(order_id)
            if order is None or order.status is not OrderStatus.UNKNOWN or order.trading_day >= day:
                continue
            if CONTRACT_NOTE in (order.status_message or ""):
                continue
            text = f"PARKED: its order book closed with {order.trading_day}; {CONTRACT_NOTE} of that day"
            self._desk.move(order, OrderStatus.UNKNOWN, message=text)
            self._context.alert(f"order:{order.id}", text)
            _log.error("order.parked", order=str(order.id), account=str(order.account_id))

    def close_parked(self, order: Order, *, by: str) -> Order | None:
        """End an order whose own day is over because a person says so; None for any other.

        Nothing of it can fill any more, for it was good for its day, and it is not sent again either way.
        """
        if order.status is not OrderStatus.UNKNOWN or CONTRACT_NOTE not in (order.status_message or ""):
            return None
        text = f"PARKED: its day ended in doubt; closed by {by}, who has seen the contract note"
        closed = self._desk.move(order, OrderStatus.EXPIRED, message=text)
        self._proofs.pop(order.id, None)
        self._free(closed)
        return closed
