"""Reconciliation: what the broker has against what our books say, at start, every few seconds and on demand.

Orders that this engine did not send are adopted as EXTERNAL; positions that differ take the broker's
figures. Both only after two reads that agree, with nothing of ours stirring in between
(engine.domain.difference), so that an answer under way, a lagging cache or a partial reply is never
taken for the truth; an answer that failed is never "flat". The engine never cancels or changes an
EXTERNAL order by itself.
"""

from collections.abc import Sequence
from datetime import date
from uuid import UUID

import msgspec
import structlog
import trio

from engine.actors.account_session import AccountSession
from engine.actors.adoption import Adopter
from engine.actors.executor_context import ExecutorContext
from engine.actors.look import Look
from engine.actors.order_desk import OrderDesk
from engine.actors.order_watch import OrderWatch
from engine.actors.position_check import PositionCheck
from engine.actors.reconcile_report import Found, ReconcileReport
from engine.broker.base import Broker, BrokerAuthError
from engine.broker.values import BrokerHolding, BrokerPositions
from engine.clock import Clock, trading_day
from engine.domain.enums import Exchange, OrderStatus
from engine.errors import BrokerUnavailable, MailboxFull

_log = structlog.get_logger(__name__)

_BUSY_S = 5.0
_IDLE_S = 10.0
# Passes of all accounts together: one of them costs a few milliseconds.
_SHARE_S = 0.02
_COST_FACTOR = 20
_MAX_PAUSE_S = 60.0
# The third is for a position that an order explains which the second adopted.
_PASSES_ON_DEMAND = 3
# Two reads count as two when they are this far apart: the broker's own caches move meanwhile.
APART_S = 2.0
# An idle account can come to hold something without an order (a conversion, a transfer): looked at once a minute.
_IDLE_PASSES = 6
_READ_TIMEOUT_S = 30.0


class Reconciler:
    """Compares one account with its broker; owned by the account's executor."""

    def __init__(
        self, context: ExecutorContext, desk: OrderDesk, session: AccountSession, watch: OrderWatch, *, user_id: UUID
    ) -> None:
        self._context = context
        self._clock: Clock = context.clock
        self._desk = desk
        self._session = session
        self._watch = watch
        self._adopter = Adopter(context, desk, user_id=user_id, apart_s=APART_S)
        self._check = PositionCheck(context, desk, apart_s=APART_S)
        self._at_work = trio.Lock()
        # held by whoever compares on demand: who asks meanwhile waits for the one after it, together
        self.turn = trio.Lock()
        self._wanted = trio.Event()
        self._wants_all = True
        self._light_passes = 0
        self._day: date | None = None
        self.last: ReconcileReport | None = None
        self._has_compared = False
        self._has_just_read = False

    def restore(self) -> None:
        """Begin anew: the books have just been rebuilt from the ledger."""
        self._adopter.clear()
        self._check.clear()
        self._wants_all = True
        self._has_compared = False
        self._has_just_read = False

    def is_unsure(self, instrument: tuple[Exchange, str]) -> bool:
        """Whether what is held of an instrument may be wrong: not compared in this life, or it differs and may be."""
        if not self._has_compared or instrument in self._adopter.pending_instruments:
            return True
        return any(not found.is_adopted and found.difference.key[1:3] == instrument for found in self._check.found)

    def ask(self) -> None:
        """Have everything read in a moment, in its turn among all accounts: the day closes."""
        self._wants_all = True
        self._wanted.set()

    async def run(self) -> None:
        """Reconcile until cancelled."""
        while True:
            if self._has_just_read:
                # before the account opened, and mostly it opens because something is about to happen
                self._has_just_read = False
                pause = self._rest_s(0.0, is_busy=True)
            else:
                await self._context.rush.stand_back()
                pause = await self._attempt()
            with trio.move_on_after(pause):
                await self._wanted.wait()
            if self._wanted.is_set():
                self._wanted = trio.Event()
                # all accounts are asked at one instant: each has its place in the seconds that they need together
                place = (self._desk.account_id.int % 1000) / 1000
                await trio.sleep(place * _SHARE_S * self._context.live_executors())

    async def _attempt(self) -> float:
        """Make a pass if there can be one; return the seconds to rest."""
        started = trio.current_time()
        # a dead session is brought back by the watch, which asks less and less often
        if self._context.holds_lease() and not (self._session.is_dead and self.last is not None):
            try:
                async with self._at_work:
                    await self._pass(full=False)
            except (BrokerUnavailable, MailboxFull) as error:
                _log.info("reconcile.put_off", account=str(self._desk.account_id), error=str(error))
        return self._rest_s(trio.current_time() - started, is_busy=self._is_busy)

    def _rest_s(self, took: float, *, is_busy: bool) -> float:
        """Return the seconds to the next pass, after one that *took* so long."""
        if self._is_pending:
            return APART_S
        pause = _BUSY_S if is_busy else _IDLE_S
        return min(_MAX_PAUSE_S, max(pause, _SHARE_S * self._context.live_executors(), _COST_FACTOR * took))

    @property
    def _is_busy(self) -> bool:
        desk = self._desk
        return desk.has_open_orders or desk.has_external_orders or desk.holdings.has_open

    @property
    def _is_pending(self) -> bool:
        return self._adopter.is_pending or self._check.is_pending

    async def now(self) -> ReconcileReport:
        """Read everything now, and once more where a first read is not proof enough.

        Raises BrokerAuthError when somebody must log in, BrokerUnavailable when the broker cannot be read.
        """
        async with self._at_work:
            report = await self._pass(full=True)
            for _ in range(_PASSES_ON_DEMAND - 1):
                if not self._is_pending:
                    break
                await trio.sleep(APART_S)
                try:
                    report = _together(report, await self._pass(full=True))
                except BrokerUnavailable as error:
                    _log.info("reconcile.cut_short", account=str(self._desk.account_id), error=str(error))
                    break
            return report

    async def first(self, *, timeout_s: float) -> None:
        """Reconcile once before the account's first order goes, if the broker answers within *timeout_s*."""
        with trio.move_on_after(timeout_s):
            try:
                async with self._at_work:
                    await self._pass(full=True)
                self._has_just_read = True
            except (BrokerUnavailable, MailboxFull) as error:
                _log.info("reconcile.put_off", account=str(self._desk.account_id), error=str(error))

    async def _pass(self, *, full: bool) -> ReconcileReport:
        """Read once and settle what can be; the caller has the turn."""
        now = self._clock.now()
        if self._context.clock_suspect() is None:
            self._desk.roll_day(trading_day(now))
        if self._day != self._desk.day:
            self._day = self._desk.day
            self.restore()
        stirs = self._desk.stirs
        began = trio.current_time()
        full = full or self._wants_all or self._adopter.is_pending or self._check.is_open
        look = await self._watch.look(full=full)
        if look is None:
            if self._session.is_dead:
                # the looks that follow bring the account back should the session live again
                self._watch.look_soon()
                raise BrokerAuthError("somebody must log in to the broker first")
            raise BrokerUnavailable("the order book cannot be read")
        positions: BrokerPositions | None = None
        failure: BrokerUnavailable | None = None
        if full or self._wants_positions(stirs):
            try:
                positions = await self._positions()
            except BrokerUnavailable as error:
                failure = error
        # orders are followed whether positions can be read or not
        report = await self._settle(look, positions, began=began, stirs=stirs)
        if failure is not None:
            raise failure
        self._wants_all = self._wants_all and not full
        self.last = report
        return report

    def _wants_positions(self, stirs: int) -> bool:
        self._light_passes += 1
        if self._is_busy or stirs != self._desk.stirs or self._light_passes >= _IDLE_PASSES:
            self._light_passes = 0
            return True
        return False

    async def _positions(self) -> BrokerPositions:
        broker: Broker | None = None
        try:
            with trio.fail_after(_READ_TIMEOUT_S):
                broker = await self._session.broker()
                return await broker.positions()
        except BrokerAuthError as error:
            if broker is not None:
                self._session.died(broker, str(error), error.code)
            raise
        except trio.TooSlowError:
            raise BrokerUnavailable("the positions cannot be read: no answer") from None

    async def _holdings(self) -> Sequence[BrokerHolding] | None:
        try:
            with trio.fail_after(_READ_TIMEOUT_S):
                return await (await self._session.broker()).holdings()
        except (BrokerUnavailable, trio.TooSlowError) as error:
            _log.info("holdings.unreadable", account=str(self._desk.account_id), error=str(error) or "too slow")
            return None

    async def _settle(
        self, look: Look, positions: BrokerPositions | None, *, began: float, stirs: int
    ) -> ReconcileReport:
        desk, ledger = self._desk, self._context.ledger
        # with the store away what waits for it is bounded, and nothing here is urgent
        ledger_is_there = ledger.available or not (ledger.in_flight or ledger.mailbox.depth)
        adopted = self._adopter.take(look, at_s=began, may_act=ledger_is_there)
        if adopted:
            desk.take_trades(look.trades or ())
            for order, row in adopted:
                self._watch.follow(order, row)
        now_adopted = [desk.orders.get(order.id, order) for order, _ in adopted]
        desk.drop_finished()
        found: Sequence[Found] = ()
        if positions is not None:
            desk.holdings.mark(positions, live=self._context.live_price)
            if self._check.needs_rows(positions, stirs=stirs):
                look = await look.at_hand()
            survived = self._check.take(
                look, positions, at_s=began, stirs=stirs, strangers=self._adopter.pending_instruments
            )
            if survived and ledger_is_there:
                holdings = await self._holdings() if self._check.wants_holdings(survived) else None
                self._check.act(survived, holdings)
            found = self._check.found
            self._has_compared = True
        return ReconcileReport(
            read_at=look.started_at,
            orders=len(look.book),
            trades=None if look.trades is None else len(look.trades),
            positions=None if positions is None else len(positions.net),
            is_whole=look.is_whole and look.trades is not None and positions is not None,
            adopted=now_adopted,
            differences=found,
            unknown=[order.id for order in desk.orders.values() if order.status is OrderStatus.UNKNOWN],
            unreadable=[*self._adopter.unreadable, *(self._check.unreadable if positions is not None else ())],
        )


def _together(first: ReconcileReport, second: ReconcileReport) -> ReconcileReport:
    """Return what two passes found: the second, with what the first took over."""
    taken_over = [found for found in first.differences if found.is_adopted]
    return msgspec.structs.replace(
        second, adopted=[*first.adopted, *second.adopted], differences=[*taken_over, *second.differences]
    )
