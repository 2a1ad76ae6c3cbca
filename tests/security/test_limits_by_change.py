"""A change is no way round the limits: what is not held against them may not grow (SEC-086, 088)."""

from typing import Any

import msgspec
import pytest

from engine.actors.intake import Passage
from engine.actors.modifying import Terms, with_terms
from engine.domain.enums import OrderStatus, TransactionType
from engine.domain.options import OrderRole
from tests.support.desk import World, a_delivery, running
from tests.support.trade import USER


@pytest.mark.parametrize("role", [OrderRole.STOP, OrderRole.TARGET])
async def test_sec_088_attached_exit_can_be_made_smaller_but_never_larger(autojump_clock: Any, role: OrderRole) -> None:
    # exits are reserved nowhere, for they only reduce: several of them, each grown by as much as is held,
    # would sell what nobody holds, and no limit would see it
    world = World()
    async with running(world):
        world.crew.decide(Passage(a_delivery(world), world.kill.turn))
        await world.until(lambda: any(o.status is OrderStatus.OPEN for o in world.store.orders.values()))
        (entry,) = world.store.orders.values()
        out = msgspec.structs.replace(entry, role=role, parent_id=entry.id, transaction_type=TransactionType.SELL)
        risk = world.crew.risk(USER)
        for quantity in (entry.quantity + 1, entry.quantity * 2):
            denials = risk.judge_change(out, with_terms(out, Terms(quantity=quantity)))
            assert [denial.code for denial in denials] == ["EXIT_QUANTITY"]
        assert not risk.judge_change(out, with_terms(out, Terms(quantity=entry.quantity - 1)))
        assert not risk.judge_change(out, with_terms(out, Terms(price=entry.price)))
        # the entry itself may grow as far as the limits go
        assert not risk.judge_change(entry, with_terms(entry, Terms(quantity=entry.quantity + 1)))
