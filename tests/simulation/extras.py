"""What a scenario has beyond entries: attached exits, a price that moves, largest orders, persons who interfere.

Drawn apart from the rest of the plan, so that a seed without them is the scenario that it was.
"""

import random
from decimal import Decimal

import msgspec

from engine.domain.enums import ProductType
from engine.domain.options import NO_OPTIONS, ExitMode, OrderOptions
from tests.simulation.plan import PRICE, SYMBOLS, Deed, Extras, Fault, Kind, Move, Plan, Wish
from tests.simulation.scheduling import stream

SHARE = 0.25
"""How many of the seeds have exits."""

_POINTS = (
    "modify.before", "modify.after", "cancel.before", "C.after_answer", "S5.after_commit", "S5.told", "post.left",
    "S10.book_taken", "R4.executor_restored", "db.applied",
)  # fmt: skip
_DEEDS = ("cancel_exit", "cancel", "modify", "modify", "modify_often", "cancel_all", "close", "close")


def with_extras(plan: Plan) -> Plan:
    """Return *plan* with what its seed adds, mostly nothing."""
    dice = stream(plan.seed, "extras")
    if dice.random() >= SHARE:
        return plan
    symbols = sorted({wish.symbol for wish in plan.wishes})
    wishes = tuple(_with_exits(dice, wish) for wish in plan.wishes[:25])
    deeds = tuple(
        Deed(at=round(dice.uniform(2.0, plan.ends_at), 3), what=dice.choice(_DEEDS), number=dice.randrange(1000))
        for _ in range(dice.choice((0, 2, 4, 6)))
    )
    kills = tuple(
        Fault(
            at=round(dice.uniform(1.0, plan.ends_at), 3),
            kind=Kind.KILL_AT,
            text=dice.choice(_POINTS),
            number=dice.choice((1, 1, 2, 5)),
        )
        for _ in range(dice.choice((0, 0, 1, 2)))
    )
    return msgspec.structs.replace(
        plan,
        wishes=wishes,
        faults=tuple(sorted((*plan.faults, *kills), key=lambda fault: fault.at)),
        extras=Extras(
            moves=_moves(dice, symbols, plan.ends_at),
            freeze=tuple((symbol, dice.choice((4, 7))) for symbol in SYMBOLS if dice.random() < 0.3),
            deeds=deeds,
            refuses=dice.choice((0.0, 0.0, 0.1)),
            changes_fail=dice.choice((0.0, 0.1, 0.4)),
            pushes=dice.random() < 0.5,
        ),
    )


def _with_exits(dice: random.Random, wish: Wish) -> Wish:
    if dice.random() < 0.4:
        return wish
    at, sign = wish.price or PRICE, wish.side.sign
    which = dice.random()
    mode = None
    product = wish.product
    if product is not ProductType.MIS:
        # exits that are triggers at the broker are not simulated
        product, mode = (ProductType.MIS, None) if dice.random() < 0.5 else (product, ExitMode.ORDERS)
    return msgspec.structs.replace(
        wish,
        product=product,
        stop_loss=at - sign * dice.choice((1, 2, 4)) if which < 0.85 else None,
        target=at + sign * dice.choice((1, 2, 4)) if which > 0.25 else None,
        options=NO_OPTIONS if mode is None else OrderOptions(exits=mode),
    )


def _moves(dice: random.Random, symbols: list[str], length: float) -> tuple[Move, ...]:
    """A price for each symbol that wanders between 92 and 108, sometimes by a jump."""
    found = []
    for symbol in symbols:
        at, price = 0.0, PRICE
        while (at := at + dice.choice((0.3, 2.0, 5.0, 12.0)) * dice.uniform(0.5, 1.5)) < length:
            price += dice.choice((-5, -2, -1, -1, 1, 1, 2, 5)) * Decimal("0.5")
            price = min(max(price, Decimal(92)), Decimal(108))
            found.append(Move(at=round(at, 3), symbol=symbol, price=price))
    return tuple(sorted(found, key=lambda move: move.at))
