"""What to do so that the triggers of an entry fit what it has filled.

Pure. As for exits that are orders (engine.domain.attached), each growth of an entry's filled quantity becomes a
unit of its own; here with one trigger, which holds its stop and its target. Nothing new is placed for an entry
while the outcome of one of its triggers is not known. One that somebody ended is not placed again; one that
was not sent, or was proven absent, is.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from uuid import UUID, uuid5

import msgspec

from engine.domain.attached import MAX_REFUSALS
from engine.domain.enums import OrderStatus
from engine.domain.gtt import Gtt, GttStatus
from engine.domain.instruments import Instrument
from engine.domain.money import to_tick
from engine.domain.options import OrderRole
from engine.domain.order import Order
from engine.domain.protection import protection_percent


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Place a trigger: the *attempt*-th of its unit."""

    unit: int
    unit_quantity: int
    quantity: int
    attempt: int


class Resize(msgspec.Struct, frozen=True, kw_only=True):
    """Make a trigger smaller: ``quantity`` is its new total in units."""

    gtt: Gtt
    quantity: int


class Cancel(msgspec.Struct, frozen=True, kw_only=True):
    """End a trigger: ``why`` is for its history."""

    gtt: Gtt
    why: str


class GiveUp(msgspec.Struct, frozen=True, kw_only=True):
    """No trigger is placed any more for this unit: a person must look."""

    unit: int
    quantity: int
    why: str


Action = Place | Resize | Cancel | GiveUp


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do for one entry; ``needs`` is what of its fills is still to be covered, ``is_over`` that nothing
    can come of it any more."""

    actions: tuple[Action, ...] = ()
    needs: int = 0
    is_over: bool = False


class Prices(msgspec.Struct, frozen=True, kw_only=True):
    """How a trigger is priced, in rupees; None for a side that the entry does not ask for."""

    stop_trigger: Decimal | None
    stop_price: Decimal | None
    target_trigger: Decimal | None
    target_price: Decimal | None


def price_gtt(entry: Order, instrument: Instrument, *, policy: Decimal) -> Prices:
    """Return how the trigger of *entry* is priced; *policy* is the market protection in percent, or -1.

    The stop's order is a LIMIT beyond its trigger by the protection, so that it fills in a market that moves
    on; the target's is a LIMIT at the target itself. Both lie on ticks.
    """
    stop, stop_price = entry.stop_loss, None
    if stop is not None:
        side = entry.transaction_type.opposite
        percent = protection_percent(instrument, stop, policy=policy)
        beyond = stop * (1 + side.sign * percent / 100)
        stop_price = max(to_tick(beyond, instrument.tick_size, up=side.sign > 0), instrument.tick_size)
    return Prices(stop_trigger=stop, stop_price=stop_price, target_trigger=entry.target, target_price=entry.target)


def passed(entry: Order, last_price: Decimal) -> OrderRole | None:
    """Return the side of *entry* whose price is met already at *last_price* (rupees), None for neither.

    A trigger on it could not be placed: it would wait for the price to come from the other side.
    """
    sign = entry.transaction_type.sign
    if entry.stop_loss is not None and (last_price - entry.stop_loss) * sign <= 0:
        return OrderRole.STOP
    if entry.target is not None and (last_price - entry.target) * sign >= 0:
        return OrderRole.TARGET
    return None


def exit_id(entry_id: UUID, place: Place) -> UUID:
    """Return the id of a trigger, or of the order in its place: the same step names the same one after a crash."""
    return uuid5(entry_id, f"gtt\x00{place.unit}\x00{place.attempt}")


def plan(
    entry: Order,
    gtts: Iterable[Gtt],
    *,
    held: int | None,
    others: int = 0,
    at_once: Iterable[Order] = (),
    working: Mapping[UUID, int] | None = None,
) -> Plan:
    """Return what to do so that the triggers of *entry* fit what it has filled.

    *gtts* are all triggers made for it, whatever their state. *held* is what the position can still be made
    smaller by, in units, on the side of the entry; None when that is not known, and nothing is made smaller
    then. *others* is what the exits of later entries claim of that first. *at_once* are exits of it that were
    placed as orders because the price had passed a side; *working* says, by trigger that has fired, how many
    units its order may still fill.
    """
    units: defaultdict[int, list[Gtt]] = defaultdict(list)
    for gtt in sorted(gtts, key=lambda gtt: (gtt.unit, gtt.attempt)):
        units[gtt.unit].append(gtt)
    orders: defaultdict[int, list[Order]] = defaultdict(list)
    for order in at_once:
        orders[order.options.unit].append(order)
    sizes = {unit: of_unit[0].unit_quantity for unit, of_unit in units.items()}
    sizes |= {unit: of_unit[0].options.unit_quantity for unit, of_unit in orders.items()}
    fresh = max(entry.filled_quantity - sum(sizes.values()), 0)
    if fresh:
        sizes[max(sizes, default=0) + 1] = fresh
    needs = {unit: _needs(sizes[unit], units[unit], orders[unit], working or {}) for unit in sizes}
    # the newest fills are what is still held when something else has closed a part: first in, first out
    room = None if held is None else max(held - others, 0)
    allowed: dict[int, int] = {}
    for unit in sorted(needs, reverse=True):
        allowed[unit] = needs[unit] if room is None else min(needs[unit], room)
        room = None if room is None else room - allowed[unit]
    actions: list[Action] = []
    for unit in sorted(sizes):
        actions += _of_unit(unit, sizes[unit], units[unit], orders[unit], allowed[unit])
    if any(gtt.status.is_unresolved for of_unit in units.values() for gtt in of_unit):
        actions = [action for action in actions if not isinstance(action, Place)]
    live = any(gtt.status.is_live for of_unit in units.values() for gtt in of_unit)
    live = live or any(not order.status.is_terminal for of_unit in orders.values() for order in of_unit)
    is_over = entry.status.is_terminal and not (live or actions or any((working or {}).values()))
    return Plan(actions=tuple(actions), needs=sum(allowed.values()), is_over=is_over)


def _needs(size: int, gtts: Sequence[Gtt], orders: Sequence[Order], working: Mapping[UUID, int]) -> int:
    fired = [gtt for gtt in gtts if gtt.status is GttStatus.TRIGGERED]
    if fired:
        return min(sum(working.get(gtt.id, 0) for gtt in fired), size)
    if any(map(_is_stopped, gtts)) and not any(gtt.status.is_live for gtt in gtts):
        return 0  # somebody has taken it over
    if any(not _left_nothing(order) for order in orders):
        return min(sum(order.remaining_quantity for order in orders), size)
    return size


def _of_unit(unit: int, size: int, gtts: Sequence[Gtt], orders: Sequence[Order], wanted: int) -> list[Action]:
    if any(gtt.status is GttStatus.TRIGGERED for gtt in gtts):
        # a second one of the unit, found late, must not fire too
        return [Cancel(gtt=gtt, why="the unit's exit has fired") for gtt in gtts if gtt.status is GttStatus.ACTIVE]
    active = [gtt for gtt in gtts if gtt.status is GttStatus.ACTIVE]
    excess: list[Action] = [Cancel(gtt=gtt, why="a second trigger of one unit") for gtt in active[1:]]
    if active:
        return [*excess, *_fit(active[0], wanted)]
    if not wanted or any(gtt.status.is_live or _is_stopped(gtt) for gtt in gtts):
        return excess
    if not all(_left_nothing(order) for order in orders):
        return excess
    refused = [gtt.status_message for gtt in gtts if gtt.status is GttStatus.REJECTED]
    refused += [order.status_message for order in orders if order.status is OrderStatus.REJECTED]
    if len(refused) >= MAX_REFUSALS:
        return [GiveUp(unit=unit, quantity=wanted, why=refused[-1] or "refused by the broker")]
    return [Place(unit=unit, unit_quantity=size, quantity=wanted, attempt=len(gtts) + len(orders) + 1)]


def _left_nothing(order: Order) -> bool:
    """Whether another exit may follow one that was an order: it never stood at the broker."""
    if order.status is OrderStatus.EXPIRED:
        return order.broker_order_id is None
    return order.status in (OrderStatus.FAILED, OrderStatus.REJECTED) and not order.filled_quantity


def _fit(active: Gtt, wanted: int) -> list[Action]:
    if not wanted:
        return [Cancel(gtt=active, why="what it was for is closed")]
    return [Resize(gtt=active, quantity=wanted)] if active.quantity > wanted else []


def _is_stopped(gtt: Gtt) -> bool:
    return gtt.status in (GttStatus.CANCELLED, GttStatus.EXPIRED)
