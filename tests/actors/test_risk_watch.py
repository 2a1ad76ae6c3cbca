"""What trips by itself: breakers that open, rest and try one entry; limits that the state is past. And what stays."""

from datetime import timedelta
from decimal import Decimal

import msgspec
import pytest
import trio

from engine.actors.intake import Passage
from engine.actors.killswitch_guardian import DAY_LOSS
from engine.actors.risk import PositionsChanged, PricesChanged
from engine.actors.risk_watch import BREAKER, LIMIT
from engine.broker.base import RefusalCode, Refused, Unknown
from engine.clock import IST
from engine.domain.breaker import BreakerState
from engine.domain.directory import Limits
from engine.domain.enums import Exchange, IntentStatus, KillMode, KillState, OrderStatus
from engine.domain.killswitch import KillRecord
from engine.domain.limits import RiskLimits
from engine.errors import EngineError
from tests.support.desk import World, a_delivery, a_signal, answer, crashed, running
from tests.support.trade import ACCOUNT, STRATEGY, USER, a_position

I = IntentStatus  # noqa: E741 -- short for tables
SCOPE = f"account:{ACCOUNT}"
NO = answer(Refused(code=RefusalCode.FUNDS, message="no money"))
LIMITS = {"circuit_breaker_failures": 3, "circuit_breaker_cooldown_s": 30}


class Switches:
    """The guardian as risk sees it: blocks at once, and lifts a block that is still of the version it is told."""

    def __init__(self, world):
        self.world = world
        self.refuses = False
        world.risk_context = msgspec.structs.replace(world.risk_context, trip=self.trip, rearm=self.rearm)

    def put(self, scope, state, reason, actor, mode=KillMode.BLOCK):
        held = self.world.kill.records.get(scope)
        is_on = held is not None and held.enabled
        day = self.world.clock.now().astimezone(IST).date() if reason.startswith(DAY_LOSS) else None
        record = KillRecord(
            scope=scope,
            version=1 if held is None else held.version + 1,
            state=state,
            reason=reason,
            actor=actor,
            at=self.world.clock.now(),
            mode=mode,
            day=day or (held.day if is_on else None),
        )
        self.world.kill.put(record)
        self.world.crew.wake()
        return record

    def trip(self, scope, reason, mode, actor):
        return self.put(scope, KillState.BLOCKED, reason, actor, mode)

    async def rearm(self, scope, version, reason, actor):
        await trio.sleep(0.01)
        if self.refuses:
            # as the guardian does: the release that did not come about is followed by the block anew
            held = self.world.kill.records[scope]
            self.put(scope, held.state, held.reason, held.actor, held.mode)
            raise EngineError("the disk is full")
        record = self.world.kill.records[scope]
        if record.version != version or not record.enabled:
            return False
        self.put(scope, KillState.ARMED, reason, actor)
        return True

    def record(self, scope=SCOPE):
        return self.world.kill.records.get(scope)

    def is_on(self, scope=SCOPE):
        record = self.record(scope)
        return record is not None and record.enabled


def a_world(**limits):
    world = World(limits=LIMITS | limits)
    return world, Switches(world)


async def send(world, key, **signal):
    passage = Passage(a_delivery(world, a_signal(**signal), key=key), world.kill.turn)
    world.crew.decide(passage)
    with trio.fail_after(60):
        await passage.wait_settled()
    (intent,) = passage.intents.values()
    if intent.status is I.EXECUTING:
        await world.until(lambda: all(o.status is not OrderStatus.PENDING for o in world.store.orders.values()))
    return intent


async def fail(world, times, script=NO):
    for number in range(times):
        world.broker.answers.append(script)
        intent = await send(world, f"fail{number}-{world.clock.now()}")
        await world.until(lambda intent=intent: world.intent_status(intent.id) is not I.EXECUTING or script is not NO)


def breaker(world, scope=SCOPE):
    return world.crew.risk(USER).watch.breaker(scope)


async def test_refusals_in_a_row_open_it_and_block_the_account(autojump_clock):
    world, switches = a_world()
    async with running(world):
        await fail(world, 2)
        assert not switches.is_on()
        await fail(world, 1)
        await world.until(switches.is_on)
        assert switches.record().reason.startswith("CIRCUIT_BREAKER_FAILURES: 3 in a row, the last: FUNDS")
        assert (switches.record().mode, switches.record().actor) == (KillMode.BLOCK, BREAKER)
        assert any("circuit breaker" in text for _, text in world.alerts)
        assert (await send(world, "blocked")).reason.startswith("KILL_SWITCH")


async def test_success_in_between_begins_the_count_anew(autojump_clock):
    world, switches = a_world()
    async with running(world):
        await fail(world, 2)
        await send(world, "good")
        await world.until(lambda: breaker(world).failures == 0)
        await fail(world, 2)
        assert not switches.is_on()


async def test_orders_that_risk_refuses_trip_nothing(autojump_clock):
    world, _ = a_world(max_order_quantity=1)
    async with running(world):
        for number in range(10):
            assert (await send(world, f"k{number}")).status is I.REJECTED
        assert not world.kill.records
        assert breaker(world).failures == 0


async def test_orders_of_unknown_outcome_count_as_failures(autojump_clock):
    world, switches = a_world(circuit_breaker_failures=1)
    async with running(world):
        await fail(world, 1, answer(Unknown(reason="timeout")))
        await world.until(switches.is_on)


async def test_after_the_cooldown_one_entry_is_tried_and_its_success_closes_it(autojump_clock):
    world, switches = a_world()
    async with running(world):
        await fail(world, 3)
        await world.until(switches.is_on)
        await world.until(lambda: not switches.is_on(), timeout_s=31)
        await world.until(lambda: breaker(world).state is BreakerState.HALF_OPEN)
        passages = [Passage(a_delivery(world, a_signal("SBIN"), key=f"t{n}"), world.kill.turn) for n in range(3)]
        for passage in passages:
            world.crew.decide(passage)
        for passage in passages:
            await passage.wait_settled()
        intents = [intent for passage in passages for intent in passage.intents.values()]
        assert [intent.status for intent in intents] == [I.EXECUTING, I.REJECTED, I.REJECTED]
        assert intents[1].reason.startswith("CIRCUIT_BREAKER_FAILURES: half open")
        await world.until(lambda: breaker(world).state is BreakerState.CLOSED)
        assert (await send(world, "free", symbol="TCS")).status is I.EXECUTING


async def test_half_open_it_opens_again_on_the_first_failure(autojump_clock):
    world, switches = a_world()
    async with running(world):
        await fail(world, 3)
        await world.until(lambda: breaker(world).state is BreakerState.HALF_OPEN, timeout_s=40)
        await fail(world, 1)
        await world.until(switches.is_on)
        assert breaker(world).state is BreakerState.OPEN


async def test_block_of_a_person_on_top_is_not_lifted(autojump_clock):
    world, switches = a_world()
    async with running(world):
        await fail(world, 3)
        await world.until(switches.is_on)
        switches.put(SCOPE, KillState.BLOCKED, "I want to look first", "user:1")
        await trio.sleep(100)
        assert switches.is_on()
        assert breaker(world).state is BreakerState.OPEN
        switches.put(SCOPE, KillState.ARMED, "looked", "user:1")
        assert (await send(world, "after")).status is I.EXECUTING
        await world.until(lambda: breaker(world).state is BreakerState.CLOSED)


async def test_breaker_on_an_account_that_a_person_blocks_leaves_that_block_alone(autojump_clock):
    world, switches = a_world(circuit_breaker_failures=1)
    async with running(world):
        world.broker.answers.append(answer(Refused(code=RefusalCode.FUNDS, message="x"), after_s=5))
        passage = Passage(a_delivery(world), world.kill.turn)
        world.crew.decide(passage)
        await passage.wait_settled()
        await trio.sleep(1)
        mine = switches.put(SCOPE, KillState.BLOCKED, "mine", "user:1")
        await trio.sleep(100)
        assert switches.record() == mine


async def test_lift_that_cannot_be_recorded_is_tried_again(autojump_clock):
    world, switches = a_world()
    async with running(world):
        await fail(world, 3)
        await world.until(switches.is_on)
        switches.refuses = True
        await trio.sleep(60)
        assert switches.is_on()
        switches.refuses = False
        await world.until(lambda: not switches.is_on(), timeout_s=10)


async def test_open_breaker_outlives_a_restart_and_still_reopens(autojump_clock):
    world, switches = a_world()
    async with running(world):
        await fail(world, 3)
        await world.until(switches.is_on)
    after = await crashed(world)
    after.risk_context = msgspec.structs.replace(after.risk_context, defaults=world.risk_context.defaults)
    again = Switches(after)
    after.kill.put(switches.record())
    async with running(after):
        after.crew.risk(USER)
        await trio.sleep(1)
        assert again.is_on()
        await after.until(lambda: not again.is_on(), timeout_s=40)


async def again_after(world):
    """The engine of *world*, killed and begun anew with the same limits."""
    after = await crashed(world)
    after.risk_context = msgspec.structs.replace(after.risk_context, defaults=world.risk_context.defaults)
    return after, Switches(after)


async def test_row_of_failures_goes_on_after_a_restart(autojump_clock):
    world, switches = a_world()
    async with running(world):
        await fail(world, 2)
    assert not switches.is_on()
    after, again = await again_after(world)
    async with running(after):
        await fail(after, 1)
        await after.until(again.is_on)
    assert "3 in a row" in again.record().reason


async def test_row_that_somebody_ended_does_not_come_back_with_a_restart(autojump_clock):
    world, switches = a_world()
    async with running(world):
        await fail(world, 3)
        await world.until(switches.is_on)
        await trio.sleep(0.1)
        switches.put(SCOPE, KillState.ARMED, "looked into", "user:admin")
    after, again = await again_after(world)
    after.kill.put(switches.record())
    async with running(after):
        await fail(after, 2)
        await trio.sleep(0.1)
        assert not again.is_on()
        await fail(after, 1)
        await after.until(again.is_on)


async def test_signals_of_the_minute_count_after_a_restart(autojump_clock):
    world, _ = a_world(max_messages_per_minute=2)
    async with running(world):
        for number in range(2):
            await send(world, f"before{number}")
    after, _ = await again_after(world)
    async with running(after):
        intent = await send(after, "after")
    assert intent.status is I.REJECTED
    assert intent.reason.startswith("MAX_MESSAGES_PER_MINUTE")


async def test_breaker_of_a_strategy_blocks_the_strategy(autojump_clock):
    world, switches = a_world(circuit_breaker_failures=None)
    narrow = RiskLimits(circuit_breaker_failures=2, circuit_breaker_cooldown_s=10)
    world.directory.put_limits(Limits(id=STRATEGY, user_id=USER, account_id=None, strategy_id=STRATEGY, limits=narrow))
    async with running(world):
        await fail(world, 2)
        await world.until(lambda: switches.is_on(f"strategy:{STRATEGY}"))
        assert not switches.is_on()


# limits


def held_position():
    cost = {"buy_value": Decimal(1000), "day_buy_value": Decimal(1000), "last_price": Decimal(100)}
    return a_position(quantity=10, buy_quantity=10, day_buy_quantity=10, **cost)


def tick(world, price):
    world.prices["NSE:INFY"] = Decimal(price)
    world.crew.risk(USER).tell(PricesChanged(prices=((Exchange.NSE, "INFY", Decimal(price)),)))


def lose(world, price):
    world.crew.risk(USER).tell(PositionsChanged(positions=(held_position(),)))
    tick(world, price)


@pytest.mark.parametrize("scope", ["user", "account"])
async def test_loss_trips_the_scope_that_is_past_it_and_squares_off(autojump_clock, scope):
    limits = {"max_daily_loss_amount": Decimal(100)}
    world, switches = a_world(**(limits if scope == "user" else {}))
    name = f"user:{USER}" if scope == "user" else SCOPE
    if scope == "account":
        world.directory.put_limits(Limits(id=ACCOUNT, user_id=USER, account_id=ACCOUNT, limits=RiskLimits(**limits)))
    async with running(world):
        lose(world, 91)
        await trio.sleep(1)
        assert not world.kill.records
        lose(world, 90)
        await world.until(lambda: switches.is_on(name))
        record = switches.record(name)
        assert record.reason == "MAX_DAILY_LOSS_AMOUNT: a loss of 100.00 today reaches 100.00"
        assert (record.mode, record.actor) == (KillMode.SQUARE_OFF, LIMIT)
        assert list(world.kill.records) == [name]


async def test_limit_trips_once_and_what_a_person_lifts_stays_lifted(autojump_clock):
    world, switches = a_world(max_daily_loss_amount=Decimal(100))
    name = f"user:{USER}"
    async with running(world) as run:
        lose(world, 80)
        await world.until(lambda: switches.is_on(name))
        for price in (79, 81, 78):
            tick(world, price)
        await trio.sleep(1)
        assert switches.record(name).version == 1
        switches.put(name, KillState.ARMED, "two admins", "user:1")
        tick(world, 70)
        await trio.sleep(1)
        assert not switches.is_on(name)
        held = msgspec.structs.replace(held_position(), last_price=Decimal(70))
        world.store.positions[held.key] = (held, world.clock.now().date())
        await run.restart_risk()
        tick(world, 69)
        await trio.sleep(1)
        assert not switches.is_on(name), "a restart does not take back what a person decided today"
        tick(world, 95)
        tick(world, 60)
        await world.until(lambda: switches.is_on(name)), "another crossing"


async def test_loss_of_a_time_without_engine_trips_although_another_block_was_lifted_that_day(autojump_clock):
    world, switches = a_world(max_daily_loss_amount=Decimal(100))
    name = f"user:{USER}"
    async with running(world) as run:
        lose(world, 95)
        await trio.sleep(1)
        switches.put(name, KillState.BLOCKED, "lunch", "user:1")
        switches.put(name, KillState.ARMED, "back", "user:1")
        world.prices["NSE:INFY"] = Decimal(70)
        held = msgspec.structs.replace(held_position(), last_price=Decimal(70))
        world.store.positions[held.key] = (held, world.clock.now().date())
        await run.restart_risk()
        await world.until(lambda: switches.is_on(name))
        assert switches.record(name).mode is KillMode.SQUARE_OFF


async def test_limit_stays_tripped_when_the_state_recovers(autojump_clock):
    world, switches = a_world(max_daily_loss_amount=Decimal(100))
    async with running(world):
        lose(world, 80)
        await world.until(lambda: switches.is_on(f"user:{USER}"))
        lose(world, 120)
        await trio.sleep(3600)
        assert switches.is_on(f"user:{USER}")


async def test_state_past_a_limit_at_the_start_trips_then(autojump_clock):
    world, switches = a_world(max_open_positions=1)
    for symbol in ("INFY", "SBIN"):
        held = a_position(symbol=symbol, quantity=5, buy_quantity=5, buy_value=Decimal(500))
        world.store.positions[held.key] = (held, world.clock.now().date())
    async with running(world):
        world.crew.risk(USER)
        await world.until(lambda: switches.is_on(f"user:{USER}"))
        assert switches.record(f"user:{USER}").reason == "MAX_OPEN_POSITIONS: 2 exceeds 1"
        assert switches.record(f"user:{USER}").mode is KillMode.BLOCK


async def test_switch_that_is_on_already_is_made_harder_and_never_softer(autojump_clock):
    world, switches = a_world(max_daily_loss_amount=Decimal(100), max_open_positions=0)
    name = f"user:{USER}"
    async with running(world):
        mine = switches.put(name, KillState.BLOCKED, "mine", "user:1")
        lose(world, 100)
        await trio.sleep(1)
        assert switches.record(name) == mine, "a position too many blocks, and it is blocked"
        lose(world, 80)
        await world.until(lambda: switches.record(name) != mine)
        assert switches.record(name).mode is KillMode.SQUARE_OFF


@pytest.mark.parametrize(
    "limit", [{"max_daily_loss_amount": Decimal(100)}, {"max_drawdown_amount": Decimal(100)}], ids=["loss", "drawdown"]
)
@pytest.mark.parametrize("price", [80, 120])
async def test_hedge_is_judged_at_the_new_prices_of_both_legs_and_of_no_leg_alone(autojump_clock, limit, price):
    world, switches = a_world(**limit)
    cost = {"sell_value": Decimal(1000), "day_sell_value": Decimal(1000), "last_price": Decimal(100)}
    short = a_position(symbol="SBIN", quantity=-10, sell_quantity=10, day_sell_quantity=10, **cost)
    moved = tuple((Exchange.NSE, symbol, Decimal(price)) for symbol in ("INFY", "SBIN"))
    async with running(world):
        world.prices |= {"NSE:INFY": Decimal(price), "NSE:SBIN": Decimal(price)}
        actor = world.crew.risk(USER)
        actor.tell(PositionsChanged(positions=(held_position(), short)))
        actor.tell(PricesChanged(prices=moved))
        await trio.sleep(2)
        assert (actor.state.day_pnl(), actor.state.figures().peak) == (0, 0)
        assert not switches.is_on(f"user:{USER}")
        # one leg alone would have
        actor.tell(PricesChanged(prices=((Exchange.NSE, "INFY", Decimal(80)), (Exchange.NSE, "SBIN", Decimal(100)))))
        await world.until(lambda: switches.is_on(f"user:{USER}"))


async def test_next_day_begins_anew(autojump_clock):
    world, switches = a_world(max_daily_loss_amount=Decimal(100))
    name = f"user:{USER}"
    async with running(world):
        lose(world, 80)
        await world.until(lambda: switches.is_on(name))
        switches.put(name, KillState.ARMED, "next day", "user:1")
        world.clock.step = timedelta(days=1).total_seconds()
        held = a_position(quantity=10, buy_quantity=10, buy_value=Decimal(1000), last_price=Decimal(100))
        world.crew.risk(USER).tell(PositionsChanged(positions=(held,)))
        await trio.sleep(1)
        assert not switches.is_on(name)
        world.crew.risk(USER).tell(PricesChanged(prices=((Exchange.NSE, "INFY", Decimal(85)),)))
        await world.until(lambda: switches.is_on(name))
