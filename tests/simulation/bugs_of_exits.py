"""Planted bugs of attached exits, slices, changes and replacements (see `tests.simulation.bugs`)."""

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID, uuid5

import msgspec

from engine.actors import exit_keeper, modifying, slicing
from engine.actors.exit_keeper import ExitKeeper
from engine.actors.ledger_reader import LedgerReader
from engine.broker.base import RefusalCode
from engine.broker.kite import errors as kite_errors
from engine.domain import attached
from engine.domain.attached import Cancel, Shrink
from engine.domain.enums import OrderStatus
from engine.domain.options import OrderRole
from tests.simulation.world import World

Patch = tuple[Any, str, Any]
Plant = Callable[[World], Sequence[Patch]]

BUGS_OF_EXITS: dict[str, Plant] = {}


def bug(plant: Plant) -> Plant:
    """Register a bug under its function's name."""
    BUGS_OF_EXITS[plant.__name__] = plant
    return plant


def _without(kind: type, role: OrderRole | None = None) -> Patch:
    """Return a patch that leaves undone what is of a kind, for exits of a role or all."""
    do = ExitKeeper._do

    def wrapped(self: ExitKeeper, entry: Any, action: Any, nursery: Any) -> None:
        if not isinstance(action, kind) or (role is not None and getattr(action, "order").role is not role):  # noqa: B009
            do(self, entry, action, nursery)

    return (ExitKeeper, "_do", wrapped)


@bug
def exits_are_placed_again_after_a_restart(world: World) -> Sequence[Patch]:
    """A new life knows the entries and not the exits that an earlier one placed, and names them anew."""
    restore = ExitKeeper.restore

    def forgetful(self: ExitKeeper, orders: Any) -> None:
        restore(self, [order for order in orders if not order.is_attached])

    def fresh_id(entry_id: UUID, place: Any) -> UUID:
        return uuid5(entry_id, f"{place.role}{place.unit}{place.attempt}{len(world.lives)}")

    return [(ExitKeeper, "restore", forgetful), (exit_keeper, "exit_id", fresh_id)]


@bug
def entries_are_forgotten_by_a_restart(world: World) -> Sequence[Patch]:
    """What fills while no engine runs gets no exits."""
    restore = ExitKeeper.restore
    return [(ExitKeeper, "restore", lambda self, orders: restore(self, []))]


@bug
def other_exit_stays_when_one_has_filled(world: World) -> Sequence[Patch]:
    """A stop that triggered leaves its target in the market."""
    return [_without(Cancel, OrderRole.TARGET)]


@bug
def stop_is_not_made_smaller(world: World) -> Sequence[Patch]:
    """What a target fills in part stays on the stop."""
    return [_without(Shrink)]


@bug
def exits_are_not_limited_by_what_is_held(world: World) -> Sequence[Patch]:
    """A position that something else closed keeps its exits."""
    return [(ExitKeeper, "_held", lambda self, entry: 10**9)]


@bug
def exits_are_as_large_as_the_entry(world: World) -> Sequence[Patch]:
    """The first part that fills gets exits for the whole."""
    plan = attached.plan

    def whole(entry: Any, exits: Any, *, held: int, others: int = 0) -> Any:
        found = msgspec.structs.replace(entry, filled_quantity=entry.quantity if entry.filled_quantity else 0)
        return plan(found, exits, held=entry.quantity if held else 0, others=others)

    return [(exit_keeper, "plan", whole)]


@bug
def exit_that_a_person_cancelled_comes_back(world: World) -> Sequence[Patch]:
    """Nobody remembers that somebody did not want an exit."""
    return [(attached, "_is_stopped", lambda order: False)]


@bug
def each_exit_has_the_first_one_s_unit(world: World) -> Sequence[Patch]:
    """Part fills are not told apart."""
    make = ExitKeeper._exit

    def merged(self: ExitKeeper, entry: Any, place: Any, **rest: Any) -> Any:
        order = make(self, entry, place, **rest)
        return order and msgspec.structs.replace(order, options=msgspec.structs.replace(order.options, unit=1))

    return [(ExitKeeper, "_exit", merged)]


@bug
def changes_used_up_are_taken_for_haste(world: World) -> Sequence[Patch]:
    """A broker that takes no more changes of an exit is asked for them for ever."""
    known = tuple(found for found in kite_errors._CHANGE_REFUSALS if found[1] is not RefusalCode.MODIFICATION_CAP)
    return [
        (kite_errors, "_CHANGE_REFUSALS", known),
        (modifying, "MAX_MODIFICATIONS", 10**6),
        (attached, "MAX_MODIFICATIONS", 10**6),
        *((module, "RENEWED", 10**7) for module in (attached, modifying, exit_keeper)),
    ]


@bug
def slices_are_lost_by_a_restart(world: World) -> Sequence[Patch]:
    """A new life takes up what signals ordered, not what an earlier life made of it."""
    account = LedgerReader.account

    async def without(self: LedgerReader, account_id: UUID, day: Any) -> Any:
        found = await account(self, account_id, day)
        kept = [
            order
            for order in found.live_orders
            if order.status is not OrderStatus.PENDING or order.parent_id is None or order.is_attached
        ]
        return msgspec.structs.replace(found, live_orders=kept)

    return [(LedgerReader, "account", without)]


@bug
def slices_come_to_more_than_the_order(world: World) -> Sequence[Patch]:
    """The rest that does not fill a slice is sent as a whole one."""
    cut = slicing.slices

    def generous(quantity: int, instrument: Any) -> tuple[int, ...]:
        found = cut(quantity, instrument)
        return (*found[:-1], found[0])

    return [(slicing, "slices", generous)]
