"""What must be true of attached exits, slices and replacements: as they are sent, as they fill, and at rest.

O12: no two live exits of one side of a unit, none larger than what filled, none over what is held, every filled
entry covered. O13: slices and replacements never come to more than was asked for.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any
from uuid import UUID, uuid5

import msgspec
import trio

from engine.actors.exit_keeper import exit_mode
from engine.domain import attached
from engine.domain.enums import OrderStatus, OrderType
from engine.domain.intent import RESLICED
from engine.domain.options import ExitMode, OrderRole
from engine.domain.order import Order

_CALM_S = 5.0
"""How long both exits of a unit may fill side by side with nothing in the engine's way: a look at the order book
a second, the next one that has the trades, the request to cancel, and one that has to be asked for again."""

_EPS = 0.051
_STIRS = frozenset(
    ("fault", "over", "killed", "ready", "lease", "stopped", "thawed", "frozen", "died", "person", "heal")
)
_SIDES = (OrderRole.STOP, OrderRole.TARGET)

Key = tuple[UUID, str, str]
_Side = tuple[str, str, str, OrderRole]


class _Fill(msgspec.Struct, frozen=True, kw_only=True):
    at: float
    seen_at: float
    role: OrderRole
    quantity: int


class _Lot(msgspec.Struct):
    entry_id: UUID | None
    quantity: int


class Exits:
    """Watches over exits, slices and replacements of a world."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.storms = 0
        self.is_ending = False
        self._stirred_at = 0.0
        self._fills: defaultdict[tuple[UUID, int], list[_Fill]] = defaultdict(list)
        self.at_broker: defaultdict[tuple[UUID, UUID], int] = defaultdict(int)

    @property
    def _db(self) -> Any:
        return self.world.db

    def noted(self, what: str) -> None:
        """Something happened that may keep the engine from its work."""
        if what in _STIRS:
            self._stirred_at = trio.current_time()

    def _broken(self, oracle: str, text: str) -> None:
        self.world.broken(oracle, text)

    # as orders are sent

    def left(self, order: Order, now: float) -> None:
        """An order leaves: look at what it is for."""
        if order.is_attached:
            self._exit_left(order)
        replaced = self._replaced_by(order)
        if replaced is not None:
            for row in self._rows_of(replaced):
                if not row.status.is_terminal:
                    self._broken("O13", f"order {order.id} replaces {replaced.id}, which is {row.status} at the broker")

    def _exit_left(self, order: Order) -> None:
        self.world.counts["exits"] += 1
        entry = self._entry_of(order)
        if entry is None:
            self._broken("O12", f"exit {order.id} is of no entry")
            return
        if order.transaction_type is entry.transaction_type:
            self._broken("O12", f"exit {order.id} is on the side of its entry")
        if order.order_type is OrderType.MARKET and not self.world.market.has_passed(entry):
            self._broken("O12", f"exit {order.id} goes at market, and its trigger was never passed")
        filled = sum(row.filled_quantity for row in self._rows_of(entry))
        taken = order.quantity
        for other in self._exits_of(entry):
            if other.id == order.id or other.role is not order.role:
                continue
            rows = self._rows_of(other)
            alive = [row for row in rows if row.status.is_working]
            if other.options.unit == order.options.unit:
                if alive or not other.status.is_terminal:
                    self._broken("O12", f"exits {order.id} and {other.id} are both live: {order.role} of one unit")
                if self._is_taken_away(other) and self._replaced_by(order) is not other:
                    self._broken("O12", f"exit {order.id} is placed again: {other.id} was cancelled by somebody")
            taken += sum(row.quantity if row.status.is_working else row.filled_quantity for row in rows)
            if not rows and not other.status.is_terminal:
                taken += other.quantity
        if taken > filled:
            self._broken("O12", f"exit {order.id}: its side comes to {taken}, the entry has filled {filled}")

    def fresh(self, order: Order, now: float) -> None:
        """An order of the executor's own making leaves: it may be 30 s old, and as old as a signal."""
        if self.world.plan.clock_steps:
            return
        age = (self.world.broker_now() - order.created_at).total_seconds()
        if age > min(30.0, self.world.plan.max_age_s) + 1.0 + _EPS:
            self._broken("O5", f"order {order.id} left {age:.2f} s after it was made")
        if not order.is_attached and self._replaced_by(order) is None:
            self._broken("O1", f"order {order.id} is nobody's wish: it replaces nothing")

    def is_slice(self, order: Order, quantity: int) -> bool:
        """Whether *order* is one of several that together are an intent's order of *quantity*."""
        return self._sliced(order.intent_id, order.account_id) == quantity

    def _sliced(self, intent_id: UUID | None, account_id: UUID) -> int:
        """Return what the orders of an intent on an account come to, those placed in slices left out."""
        return sum(
            other.quantity
            for other in self._db.orders.values()
            if other.intent_id == intent_id
            and other.account_id == account_id
            and not other.is_attached
            and other.parent_id is None
        )

    # as the broker takes and fills them

    def accepted(self, order: Order, broker_id: str) -> None:
        """The broker takes an order in: an intent's slices must not come to more than it asked for."""
        if order.is_attached or order.intent_id is None or order.intent_id not in self.world.tried:
            return
        key = (order.intent_id, order.account_id)
        self.at_broker[key] += order.quantity
        asked = self.world.tried[order.intent_id][0][0].items[0].signal.quantity
        if self.at_broker[key] > asked:
            self._broken(
                "O13", f"the broker has {self.at_broker[key]} of intent {order.intent_id}, it asked for {asked}"
            )

    def filled(self, book: Any, broker_id: str, quantity: int, seen_at: float) -> None:
        """Units of an order are dealt, and can be seen in the trade book from *seen_at* on."""
        order = book.exits.get(broker_id)
        entry = None if order is None else self._entry_of(order)
        if order is None or entry is None:
            return
        self.world.counts["exit_fills"] += 1
        unit, now = order.options.unit, trio.current_time()
        fills = self._fills[entry.id, unit]
        others = [fill for fill in fills if fill.role is not order.role]
        fills.append(_Fill(at=now, seen_at=seen_at, role=order.role, quantity=quantity))
        if self._is_late(book, broker_id, order):
            return
        size = order.options.unit_quantity
        side = sum(fill.quantity for fill in fills if fill.role is order.role)
        if side > size:
            self._broken("O12", f"{order.role} of unit {unit} of {entry.id} filled {side} of {size}")
        known = sum(fill.quantity for fill in others if fill.seen_at <= now - _CALM_S)
        is_calm = not self.storms and self._stirred_at < min((f.seen_at for f in others), default=now)
        if is_calm and known and side + known > size:
            self._broken("O12", f"{order.role} of unit {unit} of {entry.id} filled over what is left of {size}")
        self.world.counts["over_exits"] += side + sum(fill.quantity for fill in others) > size

    def _is_late(self, book: Any, broker_id: str, order: Order) -> bool:
        """Whether the broker took an order in when it counted as never placed: it is cancelled, and may fill first."""
        row = self._db.orders.get(order.id)
        return row is not None and row.status.is_terminal and row.broker_order_id != broker_id

    # at rest

    def is_resting(self, order: Order) -> bool:
        """Whether an exit waits at the broker for a price that does not come."""
        if not order.is_attached or self.is_ending or not order.status.is_working:
            return False
        book = self.world.books[order.account_id]
        row = book.rows.get(order.broker_order_id)
        return row is not None and self.rests(book, row) and row.quantity == order.quantity

    def rests(self, book: Any, row: Any) -> bool:
        """Whether a row of the broker's book is such an exit."""
        return (
            not self.is_ending
            and row.broker_order_id in book.exits
            and row.status.is_working
            and row.broker_order_id not in book.filling
        )

    def uncovered(self) -> str | None:
        """Return what is wrong with the exits now, or None: it must be nothing when all is quiet."""
        if self.world.plan.extras is None or self.is_ending:
            return None
        for account_id, book in self.world.books.items():
            live: defaultdict[_Side, int] = defaultdict(int)
            of_entry: defaultdict[tuple[UUID, OrderRole], int] = defaultdict(int)
            for broker_id, order in book.exits.items():
                row = book.rows[broker_id]
                if row.status.is_working:
                    rest = row.quantity - row.filled_quantity
                    live[row.symbol, row.product, row.transaction_type, order.role] += rest
                    of_entry[self._entry_id(order), order.role] += rest
            net = book.net()
            for (symbol, product, side, role), rest in live.items():
                held = net.get((symbol, product), 0) * (1 if side == "SELL" else -1)
                if rest > max(held, 0):
                    return f"{role}s of {rest} {symbol} are live, {held} are held"
            wrong = self._uncovered(account_id, self._lots(book), live, of_entry)
            if wrong is not None:
                return wrong
        return None

    def _uncovered(
        self,
        account_id: UUID,
        lots: Iterable[_Lot],
        live: dict[_Side, int],
        of_entry: dict[tuple[UUID, OrderRole], int],
    ) -> str | None:
        held: defaultdict[UUID, int] = defaultdict(int)
        for lot in lots:
            if lot.entry_id is not None:
                held[lot.entry_id] += lot.quantity
        wanted: defaultdict[_Side, int] = defaultdict(int)
        excused: defaultdict[_Side, int] = defaultdict(int)
        for entry in [o for o in self._db.orders.values() if o.account_id == account_id and _is_kept(o)]:
            exits = self._exits_of(entry)
            closed = sum(order.filled_quantity for order in exits)
            for role, level in zip(_SIDES, (entry.stop_loss, entry.target), strict=True):
                rest = of_entry.get((entry.id, role), 0)
                if rest > max(entry.filled_quantity - closed, 0):
                    return f"{role}s of {rest} for {entry.id}, of which {entry.filled_quantity} filled, {closed} closed"
                if level is not None:
                    side = entry.transaction_type.opposite.value
                    key = (entry.symbol, entry.product_type.value, side, role)
                    less = self._excused(exits, role)
                    wanted[key] += held[entry.id] if self.world.plan.trade_lag else max(held[entry.id] - less, 0)
                    excused[key] += less if self.world.plan.trade_lag else 0
        for key, units in self._found_late(account_id).items():
            for role in _SIDES:
                excused[(*key, role)] += units
        for key, units in wanted.items():
            # whose fills are held may look otherwise to the engine, which sees trades late: the sum must be right
            due = units - excused[key]
            if live.get(key, 0) < due:
                return f"{due} of {key} are held with an exit due, those live come to {live.get(key, 0)}"
        return None

    def _found_late(self, account_id: UUID) -> dict[tuple[str, str, str], int]:
        """Return the units by which a position may have looked smaller than it was, by the side of its exits.

        Exits that were placed for less are not made larger when an order in doubt, or somebody else's, turns out
        to have filled: what it adds to may be another entry's by then.
        """
        doubted = {event.order_id for event in self._db.order_events if event.to_status is OrderStatus.UNKNOWN}
        found: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        if self.world.plan.trade_lag:
            trades = self.world.books[account_id].trades
            broker_ids = {trade.broker_order_id for at, seen_at, trade in trades if seen_at > at}
            doubted |= {self.world.books[account_id].order_of[broker_id] for broker_id in broker_ids}
        for order in self._db.orders.values():
            if order.account_id == account_id and (order.id in doubted or order.is_external):
                side = order.transaction_type.opposite.value
                found[order.symbol, order.product_type.value, side] += order.filled_quantity
        return found

    def _excused(self, exits: Iterable[Order], role: OrderRole) -> int:
        """Return the units of which somebody took the exit away, or the broker refused it again and again."""
        units: defaultdict[int, list[Order]] = defaultdict(list)
        for order in exits:
            units[order.options.unit].append(order)
        found = 0
        for orders in units.values():
            side = [order for order in orders if order.role is role]
            stopped = any(map(self._is_taken_away, side))
            refused = sum(o.status is OrderStatus.REJECTED for o in side) >= attached.MAX_REFUSALS
            triggered = role is OrderRole.TARGET and any(
                o.role is OrderRole.STOP and (o.status in _AT_MARKET or o.filled_quantity or self._is_passed(o))
                for o in orders
            )
            found += orders[0].options.unit_quantity if stopped or refused or triggered else 0
        return found

    def _is_passed(self, stop: Order) -> bool:
        """Whether the broker refused a stop since the price was past its trigger, and so past the entry's stop."""
        entry = self._entry_of(stop)
        if stop.status is not OrderStatus.REJECTED or entry is None or stop.trigger_price is None:
            return False
        beyond = (stop.trigger_price - entry.stop_loss) * entry.transaction_type.sign <= 0
        return beyond and "than the last traded price" in (stop.status_message or "")

    def _is_taken_away(self, order: Order) -> bool:
        """Whether somebody did not want an exit; one that a kill switch kept from leaving is still wanted after it."""
        if order.status is not OrderStatus.CANCELLED or order.modifications > attached.MAX_MODIFICATIONS:
            return False
        was_kept_back = (order.status_message or "").startswith("KILL_SWITCH") and not self._rows_of(order)
        return not was_kept_back

    def _lots(self, book: Any) -> list[_Lot]:
        """Return what is held and of which entry it is: closed by its own exits, else the oldest first."""
        held: defaultdict[Key, list[_Lot]] = defaultdict(list)
        sides: dict[Key, str] = {}
        for _, _, trade in book.trades:
            key = (book.account_id, trade.symbol, trade.product)
            order = self._db.orders.get(book.order_of.get(trade.broker_order_id))
            lots, rest = held[key], trade.quantity
            if lots and sides[key] != trade.transaction_type:
                own = self._entry_id(order) if order is not None and order.is_attached else None
                for lot in sorted(lots, key=lambda lot: lot.entry_id != own) if own is not None else list(lots):
                    part = min(lot.quantity, rest)
                    lot.quantity -= part
                    rest -= part
                lots[:] = [lot for lot in lots if lot.quantity]
            if rest:
                sides[key] = trade.transaction_type
                lots.append(_Lot(order.id if order is not None and _is_kept(order) else None, rest))
        return [lot for lots in held.values() for lot in lots]

    # at the end

    def final(self) -> None:
        """Look at what slices come to."""
        for order in self._db.orders.values():
            if (order.status_message or "").startswith(RESLICED):
                parts = [o for o in self._db.orders.values() if o.parent_id == order.id]
                made = sum(part.quantity for part in parts)
                if any(part.modifications for part in parts):
                    continue  # a person has changed one
                if made != order.quantity or order.status is not OrderStatus.REJECTED:
                    self._broken("O13", f"the slices of {order.id} come to {made} of {order.quantity}")
        for intent in self._db.intents.values():
            for account_id in {o.account_id for o in self._db.orders.values() if o.intent_id == intent.id}:
                made = self._sliced(intent.id, account_id)
                untouched = not any(
                    o.modifications for o in self._db.orders.values() if o.intent_id == intent.id and not o.is_attached
                )
                if untouched and made != intent.signal.quantity:
                    self._broken("O13", f"the orders of intent {intent.id} come to {made} of {intent.signal.quantity}")

    # who belongs to whom

    def _replaced_by(self, order: Order) -> Order | None:
        for other in self._db.orders.values():
            if other.account_id == order.account_id and uuid5(other.id, "replacement") == order.id:
                found: Order = other
                return found
        return None

    def _entry_id(self, order: Order) -> UUID:
        """Return the entry of an exit, through the exits that it replaces."""
        entry_id = order.parent_id
        while (parent := self._db.orders.get(entry_id)) is not None and parent.is_attached:
            entry_id = parent.parent_id
        assert entry_id is not None
        return entry_id

    def _entry_of(self, order: Order) -> Order | None:
        found: Order | None = self._db.orders.get(self._entry_id(order))
        return found

    def _exits_of(self, entry: Order) -> list[Order]:
        return [o for o in self._db.orders.values() if o.is_attached and self._entry_id(o) == entry.id]

    def _rows_of(self, order: Order) -> list[Any]:
        book = self.world.books[order.account_id]
        return [book.rows[broker_id] for broker_id, order_id in book.order_of.items() if order_id == order.id]


_AT_MARKET = (OrderStatus.OPEN, OrderStatus.PARTIALLY_FILLED, OrderStatus.COMPLETE)


def _is_kept(order: Order) -> bool:
    """Whether the engine keeps exits of an entry as orders."""
    return (
        not order.is_attached
        and not order.is_external
        and (order.stop_loss is not None or order.target is not None)
        and exit_mode(order) is ExitMode.ORDERS
    )
