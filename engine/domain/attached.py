"""Exits attached to an entry: what stands against them, and what to do next so that they fit what has filled.

Pure. An entry's fills are covered in units: each growth of its filled quantity becomes a unit of its own,
with a stop order, a target order, or both. Within a unit one exit cancels the other: what one of them
fills is taken off the other, and a stop that was triggered takes the target out of the market.

An exit never comes to more than is held: when a position is made smaller by something else, the exits of the
oldest fills shrink first. An exit that somebody cancelled (a person, the broker, the end of the day, a kill
switch) is not placed again; one that could not be sent, or was proven absent, is. One that a kill switch kept
from leaving could not be sent.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal
from uuid import UUID, uuid5

import msgspec

from engine.domain.denial import Denial
from engine.domain.enums import OrderStatus, OrderType, TransactionType
from engine.domain.instruments import Instrument
from engine.domain.money import is_multiple, plain, rupees, to_tick
from engine.domain.options import OrderRole
from engine.domain.order import Order
from engine.domain.protection import is_option, protection_percent

MAX_MODIFICATIONS = 25
"""Changes of one order that Kite takes; after them it is cancelled and placed anew (kite.md 4.1)."""

RENEWED = MAX_MODIFICATIONS + 1
"""What an order's count of changes is set to when it is cancelled in order to be placed anew: somebody else's
cancel of one whose changes are used up is not taken for that."""

MAX_REFUSALS = 3
"""How often the broker may refuse an exit of a unit before a person is asked."""

_KEPT_BACK = "KILL_SWITCH"
# "Trigger price for stoploss sell orders should be lower than the last traded price." and, of buys, "higher": the
# only rule that holds the two against each other. What speaks of the circuit does not name the last traded price.
_PASSED = re.compile(
    r"trigger price\b.*\b(?:lower|less|below|higher|greater|above)\b.*\b(?:last traded price|LTP)\b", re.I | re.S
)
_SIDES = (OrderRole.STOP, OrderRole.TARGET)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Place an exit: the *attempt*-th order of its side of the unit."""

    role: OrderRole
    unit: int
    unit_quantity: int
    quantity: int
    attempt: int


class Shrink(msgspec.Struct, frozen=True, kw_only=True):
    """Make a live exit smaller: ``quantity`` is its new total, what has filled of it included."""

    order: Order
    quantity: int


class Cancel(msgspec.Struct, frozen=True, kw_only=True):
    """Cancel a live exit: ``why`` is for its history. With ``renew`` another follows: mark it as `RENEWED`."""

    order: Order
    why: str
    renew: bool = False


class GiveUp(msgspec.Struct, frozen=True, kw_only=True):
    """No exit is placed any more for this side of the unit: a person must look."""

    role: OrderRole
    unit: int
    quantity: int
    why: str


Action = Place | Shrink | Cancel | GiveUp


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do for one entry; ``needs`` is what of its fills is still to be covered, ``is_over`` that nothing
    can come of it any more."""

    actions: tuple[Action, ...] = ()
    needs: int = 0
    is_over: bool = False


class Exit(msgspec.Struct, frozen=True, kw_only=True):
    """How an exit is priced: rupees, and percent of market protection (-1: the broker's table)."""

    order_type: OrderType
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    market_protection: Decimal | None = None


def check_exits(
    instrument: Instrument,
    side: TransactionType,
    *,
    stop_loss: Decimal | None,
    target: Decimal | None,
    price: Decimal | None,
) -> tuple[Denial, ...]:
    """Return every reason against attaching exits to an entry of *side* at about *price* (rupees).

    Codes: TICK_SIZE, STOP_LOSS_SIDE, TARGET_SIDE, PRICE_UNAVAILABLE.
    """
    denials = []
    for what, value in (("stop loss", stop_loss), ("target", target)):
        if value is not None and not is_multiple(value, instrument.tick_size):
            near = " or ".join(rupees(to_tick(value, instrument.tick_size, up=up)) for up in (False, True))
            text = f"the {what} {rupees(value)} is not a multiple of the tick {plain(instrument.tick_size)}; use {near}"
            denials.append(Denial(code="TICK_SIZE", text=text))
    if stop_loss is None and target is None:
        return ()
    if not price:
        text = f"no price of {instrument.key} is known to hold the stop loss and target against"
        return (*denials, Denial(code="PRICE_UNAVAILABLE", text=text))
    below, above = ("below", "above") if side is TransactionType.BUY else ("above", "below")
    if stop_loss is not None and (price - stop_loss) * side.sign <= 0:
        text = f"the stop loss {rupees(stop_loss)} of a {side} must be {below} its price {rupees(price)}"
        denials.append(Denial(code="STOP_LOSS_SIDE", text=text))
    if target is not None and (target - price) * side.sign <= 0:
        text = f"the target {rupees(target)} of a {side} must be {above} its price {rupees(price)}"
        denials.append(Denial(code="TARGET_SIDE", text=text))
    return tuple(denials)


def price_exit(
    role: OrderRole,
    entry: Order,
    instrument: Instrument,
    *,
    last_price: Decimal | None,
    protection: Decimal,
    before: Sequence[Order] = (),
) -> Exit:
    """Return how the exit *role* of *entry* is priced; *protection* is the account's policy in percent, or -1.

    *before* are the earlier orders of its side of the unit. A stop is SL-M, on options SL with a limit beyond its
    trigger (exchanges take no SL-M there). A stop whose trigger the price has passed goes at market: the broker
    refused it with that word, whatever the price is since, or refused it otherwise and the last price is past.
    """
    side = entry.transaction_type.opposite
    if role is OrderRole.TARGET:
        return Exit(order_type=OrderType.LIMIT, price=entry.target)
    trigger = entry.stop_loss or Decimal(0)
    was_refused = any(order.status is OrderStatus.REJECTED for order in before)
    is_past = was_refused and last_price and (last_price - trigger) * side.sign >= 0
    if is_past or any(is_passed(order, entry) for order in before):
        return Exit(order_type=OrderType.MARKET, market_protection=protection)
    if not is_option(instrument):
        return Exit(order_type=OrderType.SL_M, trigger_price=trigger, market_protection=protection)
    percent = protection_percent(instrument, trigger, policy=protection)
    limit = to_tick(trigger * (1 + side.sign * percent / 100), instrument.tick_size, up=side is TransactionType.BUY)
    limit = max(limit, instrument.tick_size)
    return Exit(order_type=OrderType.SL, price=limit, trigger_price=trigger)


def is_passed(stop: Order, entry: Order) -> bool:
    """Whether the broker refused a stop of *entry* because the last traded price is past its trigger.

    One whose trigger somebody has moved towards the price says nothing of the entry's own stop loss.
    """
    if stop.order_type not in (OrderType.SL, OrderType.SL_M) or stop.status is not OrderStatus.REJECTED:
        return False
    if stop.trigger_price is None or entry.stop_loss is None or not _PASSED.search(stop.status_message or ""):
        return False
    return (stop.trigger_price - entry.stop_loss) * stop.transaction_type.sign >= 0


def exit_id(entry_id: UUID, place: Place) -> UUID:
    """Return the id of an exit: the same step, taken again after a crash, names the same order."""
    return uuid5(entry_id, f"{place.role}\x00{place.unit}\x00{place.attempt}")


def plan(entry: Order, exits: Iterable[Order], *, held: int, others: int = 0) -> Plan:
    """Return what to do so that the exits of *entry* fit what it has filled.

    *exits* are all orders attached to it, whatever their state. *held* is what the position can still be made
    smaller by, in units, on the side of the entry (0 when it is flat or turned); *others* is what the exits of
    later entries claim of that first.
    """
    units: defaultdict[int, list[Order]] = defaultdict(list)
    for order in exits:
        units[order.options.unit].append(order)
    covered = sum(orders[0].options.unit_quantity for orders in units.values())
    fresh = max(entry.filled_quantity - covered, 0)
    needs = {unit: max(orders[0].options.unit_quantity - _filled(orders), 0) for unit, orders in units.items()}
    claims = {unit: min(needs[unit], _reach(entry, orders)) for unit, orders in units.items()}
    if fresh:
        unit = max(units, default=0) + 1
        units[unit], needs[unit], claims[unit] = [], fresh, fresh
    # both exits of a unit may fill before one takes the other out: that closed a part of another unit
    left = entry.filled_quantity - sum(map(_filled, units.values()))
    # the newest fills are what is still held when something else has closed a part: first in, first out
    room = max(min(held - others, left), 0)
    allowed: dict[int, int] = {}
    claimed = 0
    for unit in sorted(needs, reverse=True):
        allowed[unit] = max(min(needs[unit], room - claimed), 0)
        # what no exit of it reaches any more must not keep another's from what is held
        claimed += min(claims[unit], allowed[unit])
    actions: list[Action] = []
    for unit in sorted(units):
        actions += _of_unit(entry, unit, units[unit], allowed[unit], fresh if not units[unit] else 0)
    live = any(not order.status.is_terminal for orders in units.values() for order in orders)
    is_over = entry.status.is_terminal and not live and not actions
    return Plan(actions=tuple(actions), needs=claimed, is_over=is_over)


def _of_unit(entry: Order, unit: int, orders: Sequence[Order], wanted: int, fresh: int) -> list[Action]:
    size = orders[0].options.unit_quantity if orders else fresh
    triggered = any(o.role is OrderRole.STOP and _is_triggered(o, entry) for o in orders)
    actions: list[Action] = []
    for role, level in zip(_SIDES, (entry.stop_loss, entry.target), strict=True):
        if level is None:
            continue
        of_side = [order for order in orders if order.role is role]
        want = 0 if role is OrderRole.TARGET and triggered else wanted
        live = next((order for order in of_side if not order.status.is_terminal), None)
        if live is not None:
            actions += _fit(live, want, triggered)
        elif (want := min(want, _left(of_side, size))) and not any(_is_stopped(order) for order in of_side):
            actions.append(_next(role, unit, size, want, of_side))
    return actions


def _fit(live: Order, want: int, triggered: bool) -> list[Action]:
    if not want:
        why = "the stop is triggered" if triggered else "what it was for is closed"
        return [Cancel(order=live, why=why)]
    if live.remaining_quantity > want:
        if live.modifications >= MAX_MODIFICATIONS:
            why = f"it has been changed {MAX_MODIFICATIONS} times; a smaller one follows"
            return [Cancel(order=live, why=why, renew=True)]
        return [Shrink(order=live, quantity=live.filled_quantity + want)]
    return []


def _next(role: OrderRole, unit: int, size: int, want: int, before: Sequence[Order]) -> Action:
    refusals = [order for order in before if order.status is OrderStatus.REJECTED]
    if len(refusals) >= MAX_REFUSALS:
        why = refusals[-1].status_message or "refused by the broker"
        return GiveUp(role=role, unit=unit, quantity=want, why=why)
    return Place(role=role, unit=unit, unit_quantity=size, quantity=want, attempt=len(before) + 1)


def _reach(entry: Order, orders: Sequence[Order]) -> int:
    """Return how much of a unit its exits can come to, those that live and those that may still be placed."""
    triggered = any(o.role is OrderRole.STOP and _is_triggered(o, entry) for o in orders)
    found = 0
    for role, level in zip(_SIDES, (entry.stop_loss, entry.target), strict=True):
        of_side = [order for order in orders if order.role is role]
        live = next((order for order in of_side if not order.status.is_terminal), None)
        if live is not None:
            found = max(found, live.remaining_quantity)
        elif level is None or any(map(_is_stopped, of_side)) or (role is OrderRole.TARGET and triggered):
            continue
        elif sum(order.status is OrderStatus.REJECTED for order in of_side) < MAX_REFUSALS:
            found = max(found, _left(of_side, orders[0].options.unit_quantity))
    return found


def _left(of_side: Sequence[Order], size: int) -> int:
    """Return what the next exit of a side of a unit may come to: it never covers more than the one before it did.

    A part that was not covered then is not of this entry's fills any more: something else had closed it.
    """
    last = max(of_side, key=lambda order: (order.created_at, order.id), default=None)
    return size if last is None else last.quantity - last.filled_quantity


def _is_stopped(order: Order) -> bool:
    """Whether somebody ended an exit; we end one in order to place it anew, and mark that before."""
    if order.status is not OrderStatus.CANCELLED or order.modifications > MAX_MODIFICATIONS:
        return False
    was_kept_back = order.broker_order_id is None and (order.status_message or "").startswith(_KEPT_BACK)
    return not was_kept_back


def _is_triggered(stop: Order, entry: Order) -> bool:
    """Whether a stop waits for no trigger: it is at the market, has filled, or goes there since the price passed it."""
    at_market = (OrderStatus.OPEN, OrderStatus.PARTIALLY_FILLED, OrderStatus.COMPLETE)
    return stop.status in at_market or stop.filled_quantity > 0 or is_passed(stop, entry)


def _filled(orders: Iterable[Order]) -> int:
    return sum(order.filled_quantity for order in orders)
