"""What becomes of triggers (GTT) that have fired or ended: their order tied to its entry, a person told."""

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

from engine.actors.executor_context import ExecutorContext
from engine.actors.gtt_book import GttBook
from engine.clock import Clock, trading_day
from engine.domain.enums import OrderStatus
from engine.domain.gtt import Gtt, GttStatus
from engine.domain.order import Order
from engine.store.gtts import link

# A fired order that rests longer is told to a person, as is a trigger that nobody knows the outcome of.
_RESTS = timedelta(seconds=60)


class GttFollower:
    """Follows the triggers of one account to their end; *adopt_soon* has orders looked for that the broker placed.

    ``strangers`` are the orders of somebody else's making on instruments that have a trigger, by the broker's id.
    """

    def __init__(self, context: ExecutorContext, *, adopt_soon: Callable[[], None]) -> None:
        self._context = context
        self._clock: Clock = context.clock
        self._adopt_soon = adopt_soon
        self.strangers: dict[str, Order] = {}
        self._linked: set[str] = set()
        self._told: set[tuple[UUID, str]] = set()

    def restore(self, book: GttBook) -> None:
        """Begin anew; orders that an earlier life adopted and did not tie are tied now."""
        self.strangers.clear()
        self._linked.clear()
        for gtt in book.gtts.values():
            if gtt.broker_order_id is not None and self._is_of_today(gtt):
                self._tie(book, gtt)

    def forget_before_today(self) -> None:
        """Drop the orders of days that are over."""
        today = trading_day(self._clock.now())
        self.strangers = {key: order for key, order in self.strangers.items() if order.trading_day >= today}

    def working(self, gtt: Gtt, as_booked: Callable[[Order], Order]) -> int:
        """Return what the order that a trigger placed may still fill, as far as it is in the books."""
        order = self.strangers.get(gtt.broker_order_id or "")
        return 0 if order is None else as_booked(order).remaining_quantity

    def changed(self, before: Gtt, after: Gtt) -> None:
        """A trigger stands as *after*."""
        if after.status is before.status:
            return
        name = f"the GTT {after.trigger_id} of {after.quantity} {after.exchange}:{after.symbol}"
        message = after.status_message or ""
        if after.status is GttStatus.TRIGGERED:
            self._adopt_soon()
        elif after.status in (GttStatus.CANCELLED, GttStatus.EXPIRED) and not message.startswith("cancelled by"):
            self.tell(
                after, f"end{after.updated_at}", f"EXIT_ENDED: {name}: {message}; what it was for has no exit now"
            )

    def look_after(self, book: GttBook) -> None:
        """Tie what can be tied by now, and tell a person what does not go on by itself."""
        for gtt in list(book.gtts.values()):
            if gtt.status is GttStatus.UNKNOWN and self._is_long_ago(gtt):
                text = f"EXIT_DELAYED: whether the GTT of {gtt.exchange}:{gtt.symbol} stands is not known yet"
                self.tell(gtt, "doubt", text)
            elif gtt.status is GttStatus.TRIGGERED:
                self._fired(book, gtt)

    def _fired(self, book: GttBook, gtt: Gtt) -> None:
        what = f"the {gtt.fired_role or 'exit'} of {gtt.exchange}:{gtt.symbol} (GTT {gtt.trigger_id})"
        if gtt.broker_order_id is None:
            if gtt.fired_role is not None:
                text = f"EXIT_NOT_PLACED: {what} fired and the broker placed no order: {gtt.status_message}"
                self.tell(gtt, "refused", f"{text}; close it by hand")
            elif self._is_long_ago(gtt):
                self.tell(gtt, "unclear", f"EXIT_UNCLEAR: {what} fired and the broker shows no order; look by hand")
            return
        order = self.strangers.get(gtt.broker_order_id)
        if order is None:
            return
        if gtt.broker_order_id not in self._linked:
            self._tie(book, gtt)
            self._linked.add(gtt.broker_order_id)
        if order.status.is_terminal and order.status is not OrderStatus.COMPLETE:
            done = f"{order.filled_quantity} of {order.quantity} filled"
            why = order.status_message or "no reason given"
            text = f"EXIT_NOT_FILLED: {what} fired and its order {gtt.broker_order_id} is {order.status}, {done}: {why}"
            self.tell(gtt, "short", f"{text}; close the rest by hand")
        elif not order.status.is_terminal and self._is_long_ago(gtt):
            text = f"EXIT_NOT_FILLED: {what} fired and its LIMIT order {gtt.broker_order_id} rests unfilled"
            self.tell(gtt, "rests", f"{text}; change its price or close by hand")

    def is_awaited(self, gtt: Gtt) -> bool:
        """Whether the order of a trigger that fired today has yet to come into the books."""
        known = gtt.broker_order_id is None or gtt.broker_order_id in self._linked
        return gtt.status is GttStatus.TRIGGERED and not known and self._is_of_today(gtt)

    def _tie(self, book: GttBook, gtt: Gtt) -> None:
        tie = link(gtt, trading_day(gtt.updated_at) - timedelta(days=1))
        if tie is not None:
            detail = f"order {gtt.broker_order_id} is the {gtt.fired_role} of {gtt.entry_id}"
            book.note(gtt, "GTT_ORDER_LINKED", detail, writes=(tie,))

    def _is_of_today(self, gtt: Gtt) -> bool:
        return trading_day(gtt.updated_at) == trading_day(self._clock.now())

    def _is_long_ago(self, gtt: Gtt) -> bool:
        return self._clock.now() - gtt.updated_at > _RESTS

    def tell(self, gtt: Gtt, what: str, text: str) -> None:
        """Alert a person about a trigger, of each *what* once."""
        self._once(gtt.id, what, gtt.entry_id, text)

    def tell_of_entry(self, entry: Order, what: str, text: str) -> None:
        """Alert a person about the exits of an entry, of each *what* once."""
        self._once(entry.id, what, entry.id, text)

    def _once(self, about: UUID, what: str, entry_id: UUID, text: str) -> None:
        if (about, what) not in self._told:
            self._told.add((about, what))
            self._context.alert(f"order:{entry_id}", text)
