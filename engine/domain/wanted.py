"""What a signal wants of one account: the side and the units of its order, capped, and exact where it reduces.

A signal with a position size asks for a position, not an order. Its order is what is missing between that and
what the strategy holds there, with what is certain to come: live orders of the order's own side count as filled,
so that a repeated signal never doubles; those of the other side do not, so that the order cannot run past the
target should they never fill.
"""

from decimal import Decimal

import msgspec

from engine.domain.denial import Denial
from engine.domain.directory import Target
from engine.domain.enums import TransactionType
from engine.domain.instruments import Instrument, slices
from engine.domain.money import plain
from engine.domain.signal import Signal
from engine.domain.sizing import Sized, size


class Book(msgspec.Struct, frozen=True, kw_only=True):
    """What a strategy holds in one position (signed units), and the units that its live orders may still fill."""

    held: int = 0
    buys: int = 0
    sells: int = 0

    def live(self, side: TransactionType) -> int:
        """Return the units of live orders of a side."""
        return self.buys if side is TransactionType.BUY else self.sells

    def closable(self, side: TransactionType) -> int:
        """Return the units by which an order of *side* can only make the position smaller."""
        return max(abs(self.held) - self.live(side), 0) if self.held * side.sign < 0 else 0


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Side and units of an order; ``closing`` of them only reduce. ``note`` tells a person what was done to them."""

    side: TransactionType
    quantity: int
    closing: int = 0
    note: str | None = None

    @property
    def is_odd(self) -> bool:
        """Whether it may be no whole number of lots: it closes what is none."""
        return self.closing > 0


def wanted_of(
    signal: Signal,
    target: Target,
    instrument: Instrument,
    *,
    capital: Decimal | None,
    price: Decimal | None,
    book: Book,
) -> Wanted | Denial:
    """Return what *signal* wants of an account, or why it wants nothing that can be sent.

    *capital* and *price* are rupees. Denials: those of `size`, NOTHING_TO_DO (the position is as asked for already, or
    will be once the orders under way have filled) and TARGET_BUSY (orders of both sides may end on either side
    of it).
    """
    if signal.position_size is None:
        return _plain_order(signal, target, instrument, capital=capital, price=price, book=book)
    return _to_target(signal, target, instrument, capital=capital, price=price, book=book)


def cut(quantity: int, instrument: Instrument) -> tuple[int, ...]:
    """Split *quantity* into orders as `slices` does; what is over a whole number of lots goes with the last of them.

    Raises ValueError where `slices` does for another reason.
    """
    odd = quantity % instrument.lot_size
    if not odd:
        return slices(quantity, instrument)
    whole = slices(quantity - odd, instrument) if quantity > odd else ()
    freeze = instrument.freeze_quantity
    if whole and (freeze is None or whole[-1] + odd <= freeze):
        return (*whole[:-1], whole[-1] + odd)
    return (*whole, odd)


def _plain_order(
    signal: Signal,
    target: Target,
    instrument: Instrument,
    *,
    capital: Decimal | None,
    price: Decimal | None,
    book: Book,
) -> Wanted | Denial:
    sized = _size(signal, target, instrument, signal.quantity, capital, price)
    if isinstance(sized, Denial):
        return sized
    side = signal.transaction_type
    cap = _cap(target, instrument, price)
    if isinstance(cap, Denial):
        return _sized_or(cap, side, sized, book)
    closable = book.closable(side)
    allowed = sized.quantity if cap is None else max(cap, closable // instrument.lot_size * instrument.lot_size)
    if allowed < 1:
        return _too_low(target, instrument)
    quantity = min(sized.quantity, allowed)
    note = None if quantity == sized.quantity else _capped(sized.quantity, quantity, target)
    return Wanted(side=side, quantity=quantity, note=note)


def _sized_or(against: Denial, side: TransactionType, sized: Sized, book: Book) -> Wanted | Denial:
    """Return the order as sized where it only reduces: no cap is asked then; else what stands *against* the cap."""
    return Wanted(side=side, quantity=sized.quantity) if sized.quantity <= book.closable(side) else against


def _to_target(
    signal: Signal,
    target: Target,
    instrument: Instrument,
    *,
    capital: Decimal | None,
    price: Decimal | None,
    book: Book,
) -> Wanted | Denial:
    goal, note = signal.position_size or 0, None
    if goal:
        sized = _size(signal, target, instrument, abs(goal), capital, price)
        if isinstance(sized, Denial):
            return sized
        magnitude = sized.quantity
        kept = abs(book.held) if book.held * goal > 0 else 0
        if magnitude > kept:
            # a cap stands against more, never for less than what is held
            cap = _cap(target, instrument, price)
            if isinstance(cap, Denial):
                return cap
            allowed = magnitude if cap is None else max(cap, kept)
            if allowed < 1:
                return _too_low(target, instrument)
            if allowed < magnitude:
                note, magnitude = _capped(magnitude, allowed, target), allowed
        goal = magnitude if goal > 0 else -magnitude
    least, most = book.held - book.sells, book.held + book.buys
    if goal < least:
        side, away = TransactionType.SELL, least - goal
        closing = min(away, max(least, 0))
    elif goal > most:
        side, away = TransactionType.BUY, goal - most
        closing = min(away, max(-most, 0))
    else:
        return _nothing(goal, book)
    lot = instrument.lot_size
    quantity = closing + (away - closing) // lot * lot
    if quantity < 1:
        text = f"{away} units are missing to {goal}, less than one lot of {lot}"
        return Denial(code="NOTHING_TO_DO", text=text)
    against = book.live(side.opposite)
    if against:
        warning = f"{against} units of {side.opposite} orders still work and may take it past {goal}"
        note = warning if note is None else f"{note}; {warning}"
    return Wanted(side=side, quantity=quantity, closing=closing, note=note)


def _nothing(goal: int, book: Book) -> Denial:
    if book.buys and book.sells:
        text = f"orders to buy {book.buys} and to sell {book.sells} work; cancel them, then send it again"
        return Denial(code="TARGET_BUSY", text=text)
    coming = book.buys - book.sells
    if book.held + coming == goal:
        under_way = f", {abs(coming)} of them under way" if coming else ""
        return Denial(code="NOTHING_TO_DO", text=f"the position is {goal} as asked for{under_way}")
    side = TransactionType.BUY if coming > 0 else TransactionType.SELL
    text = f"{book.held} is held and orders to {side} {abs(coming)} work; cancel them, then send it again"
    return Denial(code="TARGET_BUSY", text=text)


def _size(
    signal: Signal,
    target: Target,
    instrument: Instrument,
    quantity: int,
    capital: Decimal | None,
    price: Decimal | None,
) -> Sized | Denial:
    return size(
        mode=target.mode,
        value=target.value,
        signal_quantity=quantity,
        lot_size=instrument.lot_size,
        capital=capital,
        price=price,
        multiplier=instrument.multiplier,
        stop_loss=signal.stop_loss,
    )


def _cap(target: Target, instrument: Instrument, price: Decimal | None) -> int | Denial | None:
    """Return the most units that the target's caps allow, in whole lots; None without a cap."""
    caps: list[int] = []
    if target.max_quantity is not None:
        caps.append(target.max_quantity)
    if target.max_value is not None:
        if price is None or price <= 0:
            return Denial(code="PRICE_UNAVAILABLE", text="maxValue needs a price, and none is known")
        caps.append(int(target.max_value / (price * instrument.multiplier)))
    return min(caps) // instrument.lot_size * instrument.lot_size if caps else None


def _caps(target: Target) -> str:
    quantity = None if target.max_quantity is None else f"maxQuantity {target.max_quantity}"
    value = None if target.max_value is None else f"maxValue {plain(target.max_value)}"
    return ", ".join(each for each in (quantity, value) if each is not None)


def _capped(asked: int, given: int, target: Target) -> str:
    return f"CAPPED: {given} instead of {asked} units, by {_caps(target)}"


def _too_low(target: Target, instrument: Instrument) -> Denial:
    text = f"{_caps(target)} allows less than one lot of {instrument.lot_size}"
    return Denial(code="SIZE_ZERO", text=text)


__all__ = ["Book", "Wanted", "cut", "wanted_of"]
