"""The execution actors against the real paper exchange over the wire; its record is the truth."""

from contextlib import asynccontextmanager
from decimal import Decimal

import msgspec
import pytest
import trio

from engine.broker.kite.adapter import KiteBroker
from engine.clock import SystemClock
from engine.domain.enums import OrderStatus, OrderType, TransactionType
from engine.exchange.events import OrderRequested
from tests.support.desk import World, running
from tests.support.exchange import running_exchange

S = OrderStatus


def placed(exchange):
    return [e for e in exchange.record() if isinstance(e, OrderRequested) and e.action == "place"]


@asynccontextmanager
async def trading(tmp_path, **config):
    async with running_exchange(tmp_path, **config) as exchange:
        await exchange.set_price("NSE:INFY", "1450.00")
        await exchange.set_price("NSE:SBIN", "800.00")
        world = World()
        world.clock = SystemClock()

        async def open_broker(_account_id):
            token = await exchange.login()
            return KiteBroker(exchange.base_url, exchange.api_key, token, SystemClock())

        world.context = msgspec.structs.replace(world.context, clock=world.clock, open_broker=open_broker)
        async with running(world):
            yield world, exchange


def limit(world, symbol="INFY", price="1500", quantity=5, **fields):
    return world.order(symbol, price=Decimal(price), quantity=quantity, **fields)


async def test_order_fills_and_the_position_is_the_exchanges(tmp_path):
    async with trading(tmp_path, partial_fills=True) as (world, exchange):
        order = limit(world, quantity=20)
        world.submit(order)
        await world.until_status(order, S.COMPLETE, timeout_s=10)
        assert world.held() == 20
        async with exchange.client() as client:
            (row,) = (await client.get("/portfolio/positions")).json()["data"]["net"]
        ((position, _),) = world.store.positions.values()
        assert row["quantity"] == 20
        assert Decimal(str(row["buy_value"])) == position.buy_value


async def test_burst_on_one_symbol_arrives_in_accepted_order_each_once(tmp_path):
    async with trading(tmp_path) as (world, exchange):
        orders = [limit(world, quantity=n + 1) for n in range(8)]
        for order in orders:
            world.submit(order)
        for order in orders:
            await world.until_status(order, S.COMPLETE, timeout_s=15)
        assert [int(e.params["quantity"]) for e in placed(exchange)] == list(range(1, 9))
        assert world.held() == 36


async def test_refused_order_is_rejected_in_the_exchanges_words(tmp_path):
    async with trading(tmp_path) as (world, _):
        order = limit(world, quantity=100_000)
        world.submit(order)
        await world.until_status(order, S.REJECTED, timeout_s=10)
        assert world.message(order)
        assert world.held() == 0


async def test_resting_order_is_cancelled(tmp_path):
    async with trading(tmp_path) as (world, exchange):
        order = limit(world, price="1440")
        world.submit(order)
        await world.until_status(order, S.OPEN, timeout_s=10)
        after = await world.executor.cancel(order.id, by="me")
        assert after.status is S.CANCELLED
        assert len(placed(exchange)) == 1


async def test_session_flushed_by_the_broker_comes_back_by_itself(tmp_path):
    async with trading(tmp_path) as (world, exchange):
        first, second = limit(world), limit(world, "SBIN", "810")
        world.submit(first)
        await world.until_status(first, S.COMPLETE, timeout_s=10)
        await exchange.flush_sessions()
        world.submit(second)
        await world.until_status(second, S.REJECTED, timeout_s=30)
        third = limit(world, "SBIN", "810")
        await trio.sleep(2.5)
        world.submit(third)
        await world.until_status(third, S.COMPLETE, timeout_s=30)


@pytest.mark.parametrize("kind", [OrderType.MARKET, OrderType.LIMIT])
async def test_round_trip_leaves_the_account_flat(tmp_path, kind):
    async with trading(tmp_path) as (world, _):
        price = None if kind is OrderType.MARKET else Decimal(1500)
        protection = Decimal(-1) if kind is OrderType.MARKET else None
        buy = limit(world, order_type=kind, price=price or 0)
        buy = msgspec.structs.replace(buy, price=price, market_protection=protection)
        world.submit(buy)
        await world.until_status(buy, S.COMPLETE, timeout_s=10)
        sell = limit(world, transaction_type=TransactionType.SELL, price="1400")
        world.submit(sell)
        await world.until_status(sell, S.COMPLETE, timeout_s=10)
        assert world.held() == 0
