"""Contracts in words on their way through the risk actor: chosen once, on the record, and exactly once sent."""

from datetime import timedelta
from decimal import Decimal

import msgspec
import pytest
import trio

from engine.actors.decision import Rules
from engine.actors.intake import Passage
from engine.domain.enums import Exchange, IntentStatus, OrderType, TransactionType
from tests.support.chain import CHAIN
from tests.support.desk import World, a_delivery, a_signal, crashed, running
from tests.support.trade import USER

I = IntentStatus  # noqa: E741 -- short, as elsewhere
INDEX = "NSE:NIFTY 50"
ATM = "NFO:NIFTY01DEC2624500CE"
HIGHER = "NFO:NIFTY01DEC2624600CE"


def on_chain(world, **rules):
    world.risk_context = msgspec.structs.replace(
        world.risk_context,
        instruments=lambda: CHAIN,
        rules=Rules(enforce_hours=False, max_age_s=60, **rules),
    )
    return world


@pytest.fixture
async def world(autojump_clock):
    world = on_chain(World())
    world.prices |= {INDEX: Decimal("24512.35"), ATM: Decimal("120.50"), HIGHER: Decimal(80)}
    return world


def in_words(text="NIFTY ATM CE", **fields):
    market = {"exchange": Exchange.NFO, "quantity": 65, "order_type": OrderType.MARKET, "price": None}
    return a_signal(text, **(market | fields))


def decide(world, *signals, **fields):
    passage = Passage(a_delivery(world, *signals, **fields), world.kill.turn)
    world.crew.decide(passage)
    return passage


async def settled(passage):
    with trio.fail_after(300):
        await passage.wait_settled()
    return list(passage.intents.values())


async def rebuilt(world):
    world.crew.risk(USER)
    await trio.sleep(1)


def timeline(world, intent):
    return [(e.event, e.detail) for e in world.store.intent_events if e.intent_id == intent.id]


async def test_order_has_the_exchanges_symbol_and_the_intent_what_was_written(world, autojump_clock):
    async with running(world):
        (intent,) = await settled(decide(world, in_words()))
        assert intent.status is I.EXECUTING
        (order,) = world.store.orders.values()
        assert (order.exchange, order.symbol, order.quantity) == (Exchange.NFO, "NIFTY01DEC2624500CE", 65)
        kept = world.store.intents[intent.id]
        assert (kept.written_symbol, kept.signal.symbol) == ("NIFTY ATM CE", "NIFTY01DEC2624500CE")
        detail = f"NIFTY ATM CE is {ATM} at {INDEX} 24512.35, expiry 2026-12-01"
        assert ("RESOLVED", detail) in timeline(world, intent)
        record = next(r for r in world.store.audit if r.action == "INTENT_EXECUTING")
        assert detail in record.content


async def test_alias_of_the_configuration_is_traded(world, autojump_clock):
    on_chain(world, aliases={"MINE": "INFY"})
    async with running(world):
        (intent,) = await settled(decide(world, a_signal("MINE")))
        (order,) = world.store.orders.values()
        assert order.symbol == "INFY"
        assert ("RESOLVED", "MINE is NSE:INFY") in timeline(world, intent)


async def test_unknown_spot_is_asked_for_and_waited_for(world, autojump_clock):
    later = dict(world.prices)
    world.prices = {}

    async def ensure(key):
        world.price_asks.append(key)
        world.prices[key] = later[key]
        return later[key]

    world.ensure = ensure
    async with running(world):
        (intent,) = await settled(decide(world, in_words()))
        assert intent.status is I.EXECUTING
        assert world.price_asks == [INDEX, ATM], "first the index, then the option that it leads to"


async def test_without_a_spot_nothing_is_chosen_and_the_reason_says_so(world, autojump_clock):
    del world.prices[INDEX]
    async with running(world):
        (intent,) = await settled(decide(world, in_words()))
        assert intent.status is I.REJECTED
        assert intent.reason.startswith("PRICE_UNAVAILABLE: no last price of NIFTY is known")
        assert (intent.signal.symbol, intent.written_symbol) == ("NIFTY ATM CE", None)
        assert not world.store.orders


@pytest.mark.parametrize(
    ("text", "code"), [("NIFTY 24525 CE", "NO_SUCH_STRIKE"), ("NIFTY", "UNKNOWN_SYMBOL"), ("ZZZ", "UNKNOWN_SYMBOL")]
)
async def test_symbol_that_stands_for_nothing_is_refused(world, autojump_clock, text, code):
    async with running(world):
        (intent,) = await settled(decide(world, in_words(text)))
        assert intent.status is I.REJECTED
        assert intent.reason.startswith(f"{code}: ")


async def test_allowed_symbols_hold_for_what_is_traded_or_was_written(world, autojump_clock):
    (strategy,) = world.directory.strategies.values()
    async with running(world):
        for allowed, status in (
            ({"NIFTY"}, I.REJECTED),
            ({"NIFTY01DEC2624500CE"}, I.EXECUTING),
            ({"NIFTY ATM CE"}, I.EXECUTING),
        ):
            world.directory.put_strategy(msgspec.structs.replace(strategy, allowed_symbols=frozenset(allowed)))
            (intent,) = await settled(decide(world, in_words(), key=str(allowed)))
            assert intent.status is status, allowed


async def test_spot_that_moves_after_the_choice_changes_nothing(world, autojump_clock):
    async with running(world):
        await rebuilt(world)
        world.store.is_down = True
        passage = decide(world, in_words())
        await trio.sleep(1)
        world.prices[INDEX] = Decimal(24600)
        world.store.is_down = False
        await settled(passage)
        (order,) = world.store.orders.values()
        assert order.symbol == "NIFTY01DEC2624500CE"


async def test_replay_of_what_the_ledger_has_places_nothing_though_the_spot_has_moved(world, autojump_clock):
    async with running(world):
        (first,) = await settled(decide(world, in_words()))
        await world.until(lambda: bool(world.broker.left))
    after = on_chain(await crashed(world))
    after.prices |= {INDEX: Decimal(24600), ATM: Decimal("120.50"), HIGHER: Decimal(80)}
    async with running(after):
        (again,) = await settled(decide(after, in_words()))
        assert again.id == first.id
        (order,) = after.store.orders.values()
        assert order.symbol == "NIFTY01DEC2624500CE"
        assert len(after.broker.left) == 1


async def test_replay_of_what_was_never_on_disk_is_the_same_intent_and_one_order(world, autojump_clock):
    async with running(world):
        await rebuilt(world)
        world.store.is_down = True
        first = decide(world, in_words())
        await trio.sleep(1)
        assert not world.broker.left
    after = on_chain(await crashed(world))
    after.store.is_down = False
    after.prices |= {INDEX: Decimal(24600), ATM: Decimal("120.50"), HIGHER: Decimal(80)}
    async with running(after):
        (intent,) = await settled(decide(after, in_words()))
        assert intent.id in first.intents
        (order,) = after.store.orders.values()
        assert order.symbol == "NIFTY01DEC2624600CE", "chosen anew: nothing had been decided"
        await after.until(lambda: len(after.broker.left) == 1)
        assert [o.id for o in after.broker.left] == [order.id]


async def test_late_exit_in_words_is_parked_as_the_instrument_that_is_held(world, autojump_clock):
    async with running(world):
        await settled(decide(world, in_words()))
        await world.until(lambda: bool(world.broker.rows))
        world.broker.fill(next(iter(world.broker.rows)))
        await world.until(lambda: world.held("NIFTY01DEC2624500CE") == 65)
        late = in_words(transaction_type=TransactionType.SELL)
        (intent,) = await settled(
            decide(world, late, key="exit", received_at=world.clock.now() - timedelta(seconds=90))
        )
        assert intent.status is I.EXPIRED
        assert intent.reason.startswith("PARKED: SIGNAL_TOO_OLD")
        (parked,) = world.parked
        assert parked.intent.signal.symbol == "NIFTY01DEC2624500CE"
