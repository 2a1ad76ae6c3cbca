"""Attached exits of one account: after every change of an order it is worked out anew what is to be done.

Owned by the account's executor. Decides nothing itself (`engine.domain.attached` does); makes, shrinks and
cancels exits, waits with what cannot go now, and tells a person what it cannot bring about. Its memory is
rebuilt from the ledger, and the same step taken twice makes the same order.

Such exits are good for the day: none is placed for fills of an earlier one, whose positions the night may have
closed; nor, at a start, before what is held has been compared with the broker.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import date, datetime
from math import inf
from uuid import UUID

import msgspec
import structlog
import trio

from engine.actors.executor_context import ExecutorContext
from engine.actors.modifying import Terms
from engine.actors.order_desk import OrderDesk
from engine.broker.base import BrokerAuthError, NotSent, Refused, WriteOutcome
from engine.clock import trading_day
from engine.domain.attached import RENEWED, Action, Cancel, GiveUp, Place, Shrink, exit_id, is_passed, plan, price_exit
from engine.domain.enums import Exchange, OrderStatus, ProductType, TransactionType, Validity, Variety
from engine.domain.options import ExitMode, OrderOptions
from engine.domain.order import Order
from engine.errors import BrokerUnavailable, MailboxFull

_log = structlog.get_logger(__name__)

_GATHER_S = 0.02
_LOOK_S = 1.0
# One that could not be sent is tried again after so long; the first try waits for nothing.
_RETRY_S = (0.0, 1.0, 2.0, 5.0, 15.0, 30.0)
_ASK_AGAIN_S = 3.0
# How often in a row the broker may not do what was asked of an exit before a person hears of it.
_NOT_DONE = 3
# What is held is compared within seconds of a start; should that fail, a fill without a stop is worse.
_UNSURE_S = 30.0
_PRODUCTS_OF_THE_DAY = (ProductType.MIS,)

Key = tuple[Exchange, str, ProductType, TransactionType]


def exit_mode(order: Order) -> ExitMode:
    """Return how the exits of an entry are kept: as it asked, otherwise by whether its position ends with the day."""
    if order.options.exits is not None:
        return order.options.exits
    return ExitMode.ORDERS if order.product_type in _PRODUCTS_OF_THE_DAY else ExitMode.GTT


class ExitKeeper:
    """Keeps the exits of entries whose exits are orders.

    *spawn* enters a new order, *against* says why one must not go now, *take_back* ends one that waits unsent,
    *cancel* and *modify* ask the broker. *is_unsure* tells of an instrument whether what is held of it may be
    wrong, *is_behind* that something of it has filled that is not in the books yet, *is_replaced* of an order
    whether somebody else is about to place it anew.
    """

    def __init__(
        self,
        context: ExecutorContext,
        desk: OrderDesk,
        *,
        spawn: Callable[[Order, str], Order],
        against: Callable[[Order], str | None],
        take_back: Callable[[Order, str], bool],
        cancel: Callable[[Order], Awaitable[WriteOutcome]],
        modify: Callable[[Order, Terms], Awaitable[WriteOutcome]],
        is_unsure: Callable[[tuple[Exchange, str]], bool],
        is_replaced: Callable[[UUID], bool],
        is_behind: Callable[[tuple[Exchange, str]], bool],
    ) -> None:
        self._context = context
        self._desk = desk
        self._spawn = spawn
        self._against = against
        self._take_back = take_back
        self._cancel = cancel
        self._modify = modify
        self._is_unsure = is_unsure
        self._is_replaced = is_replaced
        self._is_behind = is_behind
        self._entries: dict[UUID, Order] = {}
        self._exits: defaultdict[UUID, dict[UUID, Order]] = defaultdict(dict)
        # when an entry has filled last, as far as is known
        self._filled_at: dict[UUID, datetime] = {}
        # when what was asked of the broker about an exit may be asked again
        self._asked: dict[UUID, float] = {}
        self._not_done: dict[UUID, int] = {}
        self._unsure_until = -inf
        self._day: date | None = None
        self._told: set[tuple[UUID, str]] = set()
        self._wake = trio.Event()

    def restore(self, orders: Iterable[Order]) -> None:
        """Hold what the ledger knows of entries with exits and of those exits."""
        self._entries.clear()
        self._exits.clear()
        self._asked.clear()
        self._not_done.clear()
        self._filled_at.clear()
        for order in orders:
            self._take(order)
        self._wake.set()

    def order_changed(self, order: Order) -> None:
        """An order of the account stands as given."""
        if self._take(order):
            self._wake.set()

    def _take(self, order: Order) -> bool:
        if order.is_attached and order.parent_id is not None:
            self._exits[order.parent_id][order.id] = order
            return True
        if (order.stop_loss is None and order.target is None) or exit_mode(order) is not ExitMode.ORDERS:
            return False
        before = self._entries.get(order.id)
        if order.filled_quantity > (0 if before is None else before.filled_quantity):
            # one look may show what several entries have filled since the last: their trades say in which order
            dealt = self._desk.holdings.filled_at(order.broker_order_id or "")
            self._filled_at[order.id] = dealt or order.updated_at
        self._entries[order.id] = order
        return True

    async def run(self) -> None:
        """Work until cancelled."""
        self._unsure_until = trio.current_time() + _UNSURE_S
        async with trio.open_nursery() as nursery:
            while True:
                with trio.move_on_after(_LOOK_S if self._has_open else inf):
                    await self._wake.wait()
                self._wake = trio.Event()
                # what one read of the book changes comes in one go
                await trio.sleep(_GATHER_S)
                self._work(nursery)

    @property
    def _has_open(self) -> bool:
        return any(entry.filled_quantity for entry in self._entries.values())

    def _work(self, nursery: trio.Nursery) -> None:
        if not self._context.holds_lease():
            return
        self._turn_day()
        claimed: defaultdict[Key, int] = defaultdict(int)
        # the one that filled last holds what is held first: an order may rest while a later one fills
        newest_first = sorted(self._entries.values(), key=self._age, reverse=True)
        for entry in newest_first:
            if not entry.filled_quantity and not self._exits.get(entry.id):
                if entry.status.is_terminal:
                    self._forget(entry)
                continue
            key = (entry.exchange, entry.symbol, entry.product_type, entry.transaction_type)
            exits = [self._as_booked(order) for order in self._exits[entry.id].values()]
            todo = plan(self._as_booked(entry), exits, held=self._held(entry), others=claimed[key])
            claimed[key] += todo.needs
            if todo.is_over and not self._is_in_doubt(entry):
                # its exits stay known: a late fill must not be covered as if it were the first
                del self._entries[entry.id]
                continue
            for action in todo.actions:
                self._do(entry, action, nursery)

    def _turn_day(self) -> None:
        """Let go of the entries of earlier days, and of exits whose entries are over."""
        day = self._desk.day
        if day is None:
            return
        for entry in [entry for entry in self._entries.values() if not _is_of(entry, day)]:
            del self._entries[entry.id]
        if day != self._day:
            self._day = day
            for entry_id, exits in list(self._exits.items()):
                if entry_id not in self._entries and all(order.trading_day < day for order in exits.values()):
                    del self._exits[entry_id]

    def _age(self, entry: Order) -> tuple[datetime, datetime, UUID]:
        return (self._filled_at.get(entry.id, entry.created_at), entry.created_at, entry.id)

    def _as_booked(self, order: Order) -> Order:
        """Return an order with what the trades show of it: the position has that already."""
        if order.broker_order_id is None:
            return order
        booked, _ = self._desk.holdings.booked(order.broker_order_id)
        filled = min(max(order.filled_quantity, booked), order.quantity)
        return order if filled == order.filled_quantity else msgspec.structs.replace(order, filled_quantity=filled)

    def _held(self, entry: Order) -> int:
        position = self._desk.holdings.positions.get(
            (entry.account_id, entry.exchange, entry.symbol, entry.product_type)
        )
        return 0 if position is None else max(position.quantity * entry.transaction_type.sign, 0)

    def _is_in_doubt(self, entry: Order) -> bool:
        """Whether what is held may prove to be more: an order of the instrument may have filled, and nobody knows."""
        return self._is_behind(entry.key) or any(
            order.status.is_unresolved for order in self._desk.index.of_instrument(entry.key)
        )

    def _forget(self, entry: Order) -> None:
        self._entries.pop(entry.id, None)
        self._exits.pop(entry.id, None)
        self._filled_at.pop(entry.id, None)

    # doing

    def _do(self, entry: Order, action: Action, nursery: trio.Nursery) -> None:
        match action:
            case Place():
                self._place(entry, action)
            case Cancel(order=order, why=why, renew=renew):
                if not self._take_back(order, why) and self._may_ask(order):
                    if renew and order.modifications < RENEWED:
                        order = self._desk.change(order, why, modifications=RENEWED)
                    self._desk.note(order, f"cancel requested by the engine: {why}")
                    nursery.start_soon(self._ask, entry, order, lambda: self._cancel(order))
            case Shrink(order=order, quantity=quantity):
                if self._take_back(order, "a smaller one follows") or self._desk.is_changing(order.id):
                    return
                if self._may_ask(order):
                    terms = Terms(quantity=quantity)
                    self._desk.note(order, f"modify requested by the engine: {quantity} of {order.quantity}")
                    nursery.start_soon(self._ask, entry, order, lambda: self._modify(order, terms))
            case GiveUp():
                text = (
                    f"EXIT_NOT_PLACED: the {action.role} of {action.quantity} {entry.exchange}:{entry.symbol} was "
                    f"refused again and again: {action.why}; place it by hand"
                )
                self._tell(entry, f"{action.role}{action.unit}", text)

    def _place(self, entry: Order, place: Place) -> None:
        if trio.current_time() < self._unsure_until and self._is_unsure(entry.key):
            return
        of_side = [o for o in self._exits[entry.id].values() if o.role is place.role and o.options.unit == place.unit]
        before = sorted(of_side, key=lambda order: (order.created_at, order.id))
        if any(self._is_replaced(order.id) for order in before):
            return
        last = max((order.updated_at for order in before), default=None)
        # a stop that the price has passed closes what it is for; what goes at market then is another order
        rest = _RETRY_S[min(place.attempt - 1, len(_RETRY_S) - 1)]
        if before and is_passed(before[-1], entry):
            rest = 0.0
        # one that is still to come is of a clock that has been set back since
        if last is not None and 0 <= (self._context.clock.now() - last).total_seconds() < rest:
            return
        order = self._exit(entry, place, before)
        if order is None:
            self._tell(entry, "instrument", f"EXIT_WAITS: {entry.symbol} is not in the instrument master")
            return
        stop = self._against(order)
        if stop is not None:
            self._tell(entry, stop.partition(":")[0], f"EXIT_WAITS: the {place.role} of {entry.symbol}: {stop}")
            return
        if place.attempt > 2 and before:
            why = before[-1].status_message or before[-1].status.value
            self._tell(entry, f"tries{place.role}", f"EXIT_DELAYED: the {place.role} of {entry.symbol}: {why}")
        try:
            self._spawn(order, f"{place.role} of {entry.id} for {place.quantity} filled")
        except MailboxFull as error:
            _log.warning("exit.no_room", entry=str(entry.id), error=str(error))

    def _exit(self, entry: Order, place: Place, before: Sequence[Order]) -> Order | None:
        instrument = self._context.instrument(entry.exchange, entry.symbol)
        if instrument is None:
            return None
        priced = price_exit(
            place.role,
            entry,
            instrument,
            last_price=self._context.last_price(entry.exchange, entry.symbol),
            protection=entry.options.market_protection or self._context.protection(entry.account_id),
            before=before,
        )
        return msgspec.structs.replace(
            entry,
            id=exit_id(entry.id, place),
            parent_id=entry.id,
            role=place.role,
            transaction_type=entry.transaction_type.opposite,
            quantity=place.quantity,
            filled_quantity=0,
            average_price=entry.average_price * 0,
            order_type=priced.order_type,
            price=priced.price,
            trigger_price=priced.trigger_price,
            market_protection=priced.market_protection,
            validity=Validity.DAY,
            variety=Variety.REGULAR,
            status=OrderStatus.PENDING,
            stop_loss=None,
            target=None,
            options=OrderOptions(unit=place.unit, unit_quantity=place.unit_quantity),
        )

    def _may_ask(self, order: Order) -> bool:
        """Whether the broker can be asked about *order* now: one that is on its way there has to arrive first."""
        if order.broker_order_id is None or trio.current_time() < self._asked.get(order.id, -inf):
            return False
        self._asked[order.id] = trio.current_time() + _ASK_AGAIN_S
        return True

    async def _ask(self, entry: Order, order: Order, ask: Callable[[], Awaitable[WriteOutcome]]) -> None:
        try:
            outcome = await ask()
        except (BrokerAuthError, BrokerUnavailable) as error:
            said = str(error)
        else:
            if not isinstance(outcome, Refused | NotSent):
                self._not_done.pop(order.id, None)
                return
            said = outcome.message if isinstance(outcome, Refused) else outcome.reason
        _log.warning("exit.not_changed", order=str(order.id), said=said)
        self._not_done[order.id] = self._not_done.get(order.id, 0) + 1
        if self._not_done[order.id] >= _NOT_DONE:
            text = f"EXIT_TOO_LARGE: the {order.role} of {entry.symbol} cannot be made smaller or cancelled: {said}"
            self._tell(entry, f"large{order.id}", text)

    def _tell(self, entry: Order, what: str, text: str) -> None:
        if (entry.id, what) in self._told:
            return
        self._told.add((entry.id, what))
        self._context.alert(f"order:{entry.id}", text)


def _is_of(entry: Order, day: date) -> bool:
    """Whether what an entry has filled is of the IST *day*: of one for the next session, the day it fills."""
    if entry.trading_day >= day:
        return True
    is_late = entry.variety is Variety.AMO and entry.status is not OrderStatus.EXPIRED
    return is_late and (entry.filled_quantity == 0 or trading_day(entry.updated_at) >= day)
