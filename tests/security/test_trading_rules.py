"""The rules of trading under attack: reserved at once, asked again at the gate, along the lattice (SEC-086 to 091)."""

import ast
import re
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from engine.actors import decision as decisions
from engine.actors import exchange_terms
from engine.actors.intake import Passage
from engine.domain.directory import Source
from engine.domain.enums import IntentStatus, OrderStatus, SourceType
from engine.domain.order import TRANSITIONS, IllegalTransition, can_move, move
from engine.domain.source_caps import value_cap
from tests.support.desk import SOURCE, World, a_delivery, a_signal, running
from tests.support.trade import NOW, STRATEGY, USER, an_order

ENGINE = Path(decisions.__file__).parents[1]


async def decided(world: World, *signals: Any, key: str = "k1") -> None:
    passage = Passage(a_delivery(world, *signals, key=key), world.kill.turn)
    world.crew.decide(passage)
    await world.until(lambda: all(i in world.store.intents for i in passage.intents))


async def test_sec_086_five_hundred_signals_that_each_fit_do_not_pass_the_limit_together(autojump_clock: Any) -> None:
    # 10 units at 100 are 0.1 % of a million: fifty of them are the limit
    world = World(limits={"max_position_pct": Decimal(5)}, orders_per_second=1000, orders_per_minute=10_000)
    async with running(world):
        for number in range(5):
            world.crew.decide(Passage(a_delivery(world, *[a_signal()] * 100, key=f"k{number}"), world.kill.turn))
        await world.until(lambda: len(world.store.intents) == 500)
        statuses = [intent.status for intent in world.store.intents.values()]
        assert statuses.count(IntentStatus.REJECTED) == 450
        await world.until(lambda: len(world.broker.left) >= 1)
        assert sum(order.quantity * (order.price or 0) for order in world.store.orders.values()) == 50_000


async def test_sec_087_kill_switch_between_risk_and_wire_lets_nothing_leave(autojump_clock: Any) -> None:
    world = World(orders_per_second=1)
    async with running(world):
        await decided(world, *[a_signal(s) for s in ("INFY", "SBIN", "TCS")])
        await world.until(lambda: len(world.broker.left) == 1)
        world.block()
        left = len(world.broker.left)
        await world.until(lambda: sum(o.status is OrderStatus.CANCELLED for o in world.store.orders.values()) == 2)
        assert len(world.broker.left) == left


def test_sec_088_nothing_but_the_executor_and_the_flattener_sends() -> None:
    senders = set()
    for path in ENGINE.rglob("*.py"):
        module = path.relative_to(ENGINE).with_suffix("").as_posix()
        text = path.read_text()
        if module.startswith(("broker/", "exchange/")) or not re.search(r"broker\s*\.\s*place\b", text):
            continue
        for node in ast.walk(ast.parse(text)):
            # await broker.place(order, gate), whatever the broker is called
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "place":
                owner = ast.unparse(node.func.value)
                if owner.endswith("broker"):
                    senders.add(module)
    assert senders == {"actors/sending", "actors/lone_flatten"}


async def test_sec_088_order_without_a_row_of_risk_does_not_leave(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        # handed to the executor past risk and ledger: nothing says that it may leave
        world.crew.admit(world.order())
        genuine = world.order("SBIN")
        world.submit(genuine)
        await world.until_status(genuine, OrderStatus.OPEN, OrderStatus.SUBMITTED)
        assert [order.symbol for order in world.broker.left] == ["SBIN"]


def test_sec_090_no_jump_outside_the_lattice() -> None:
    refused = 0
    for before, after in product(OrderStatus, OrderStatus):
        order = an_order(status=before)
        if can_move(before, after):
            assert move(order, after, at=NOW)[0].status is after
            continue
        refused += 1
        with pytest.raises(IllegalTransition):
            move(order, after, at=NOW)
    assert refused > len(OrderStatus)
    assert set(TRANSITIONS) == set(OrderStatus)
    # nothing is ever again sent out of an end
    assert not any(can_move(end, OrderStatus.SUBMITTING) for end in OrderStatus if end.is_terminal)


async def test_sec_091_restart_and_a_clock_set_back_reset_no_counter(autojump_clock: Any) -> None:
    world = World(limits={"max_orders_per_day": 2})
    async with running(world) as run:
        await decided(world, a_signal("INFY"), key="one")
        await decided(world, a_signal("SBIN"), key="two")
        await run.restart_risk()
        world.clock.step = -3600
        await decided(world, a_signal("TCS"), key="three")
        (last,) = [i for i in world.store.intents.values() if i.idempotency_key == "three"]
        assert last.status is IntentStatus.REJECTED
        assert (last.reason or "").startswith("MAX_ORDERS_PER_DAY")


@pytest.mark.parametrize("broken", ["limited", "killed_since", "targets_of", "check_order", "judge"])
async def test_sec_101_check_of_risk_that_fails_denies(
    autojump_clock: Any, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("injected")

    world = World()
    async with running(world):
        monkeypatch.setattr(exchange_terms if broken == "check_order" else decisions, broken, fail)
        world.crew.decide(Passage(a_delivery(world), world.kill.turn))
        await world.until(lambda: world.clock.boottime_ns() > 1000 * 10**9 + 5 * 10**9)
        assert world.broker.left == []
        assert world.store.orders == {}


def capped(world: World, **caps: Any) -> None:
    fields: dict[str, Any] = {"type": SourceType.WEBHOOK, "name": "capped", "api_key_hash": None, "secret": None}
    world.directory.put_source(Source(id=SOURCE, user_id=USER, strategy_id=STRATEGY, **fields, **caps))


async def test_sec_035_source_opens_only_what_its_caps_allow(autojump_clock: Any) -> None:
    world = World()
    capped(world, allowed_symbols=frozenset({"INFY"}), max_order_value=Decimal(1000))
    async with running(world):
        signals = {
            "fits": a_signal(),
            "other": a_signal("SBIN"),
            "large": a_signal(quantity=11),
        }
        for key, signal in signals.items():
            await decided(world, signal, key=key)
        await world.until(lambda: len(world.broker.left) == 1)
        reasons = {i.idempotency_key: i.reason or "" for i in world.store.intents.values()}
        assert reasons["fits"] == ""
        assert reasons["other"].startswith("SOURCE_ALLOWED_SYMBOLS")
        assert reasons["large"].startswith("SOURCE_MAX_ORDER_VALUE: 1100.00 exceeds 1000")


def test_sec_035_cap_that_cannot_be_judged_is_a_refusal() -> None:
    source = Source(
        id=SOURCE,
        user_id=USER,
        strategy_id=STRATEGY,
        type=SourceType.WEBHOOK,
        name="capped",
        api_key_hash=None,
        secret=None,
        max_order_value=Decimal(1000),
    )
    assert value_cap(source, 10, Decimal(100), Decimal(1)) is None
    assert value_cap(source, 10, Decimal("100.0001"), Decimal(1)) is not None
    assert value_cap(source, 1, Decimal(100), Decimal(1000)) is not None
    assert value_cap(source, 1, None, Decimal(1)) is not None
    assert value_cap(None, 10**9, Decimal(100), Decimal(1)) is None
