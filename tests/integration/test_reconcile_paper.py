"""Hand trades on the real paper exchange, over the wire: the account's own keys, another hand."""

from contextlib import asynccontextmanager
from decimal import Decimal
from uuid import uuid4

import msgspec
import trio

from engine.broker.kite.adapter import KiteBroker
from engine.clock import SystemClock
from engine.domain.enums import OrderStatus
from engine.domain.tag import is_ours, make_tag
from tests.support.desk import World, crashed, running
from tests.support.exchange import running_exchange

S = OrderStatus
KEY = b"k" * 32


class Hand:
    """Somebody at the broker's own program."""

    def __init__(self, exchange):
        self._exchange = exchange

    async def place(self, symbol="INFY", side="BUY", quantity=5, price="1500", **fields):
        form = {
            "exchange": "NSE",
            "tradingsymbol": symbol,
            "transaction_type": side,
            "quantity": quantity,
            "product": "MIS",
            "order_type": "LIMIT",
            "price": price,
            "validity": "DAY",
        }
        async with self._exchange.client() as client:
            answer = await client.post("/orders/regular", data=form | fields)
            assert answer.status_code == 200, answer.text
            return answer.json()["data"]["order_id"]

    async def positions(self):
        async with self._exchange.client() as client:
            rows = (await client.get("/portfolio/positions")).json()["data"]["net"]
        return {(row["tradingsymbol"], row["product"]): row for row in rows}


@asynccontextmanager
async def trading(tmp_path):
    async with running_exchange(tmp_path) as exchange:
        await exchange.set_price("NSE:INFY", "1450.00")
        await exchange.set_price("NSE:SBIN", "800.00")
        world = World()
        world.clock = SystemClock()

        async def open_broker(_account_id):
            return KiteBroker(exchange.base_url, exchange.api_key, exchange.access_token, SystemClock())

        world.context = msgspec.structs.replace(
            world.context,
            clock=world.clock,
            open_broker=open_broker,
            is_ours=lambda tag: is_ours(tag, "E1"),
        )
        yield world, Hand(exchange)


def externals(world):
    return {o.broker_order_id: o for o in world.store.orders.values() if o.is_external}


async def agree(world, hand):
    theirs = await hand.positions()
    ours = {(p.symbol, p.product_type.value): p for p, _ in world.store.positions.values()}
    assert {key: p.quantity for key, p in ours.items()} == {key: row["quantity"] for key, row in theirs.items()}
    for key, row in theirs.items():
        assert ours[key].buy_value == Decimal(str(row["buy_value"]))
        assert ours[key].sell_value == Decimal(str(row["sell_value"]))


async def test_hand_trades_beside_our_orders_end_with_equal_positions(tmp_path):
    async with trading(tmp_path) as (world, hand):
        filled = await hand.place(quantity=3)
        async with running(world):
            ours = world.order(price=Decimal(1500), quantity=5)
            world.submit(ours)
            await world.until_status(ours, S.COMPLETE, timeout_s=10)
            resting = await hand.place(price="1440", quantity=7)
            other = await hand.place("SBIN", "SELL", 4, "790")
            report = await world.executor.reconcile()
            assert {o.broker_order_id for o in report.adopted} <= {filled, resting, other}
            await world.until(lambda: len(externals(world)) == 3, timeout_s=10)
            cancelled = await world.executor.cancel(externals(world)[resting].id, by="user:1")
            assert cancelled.status is S.CANCELLED
            await world.until(lambda: world.held() == 8 and world.held("SBIN") == -4, timeout_s=10)
            assert externals(world)[filled].status is S.COMPLETE
            await agree(world, hand)
            assert not world.alerts
        after = await crashed(world)
        after.context = msgspec.structs.replace(after.context, open_broker=world.context.open_broker)
        async with running(after):
            report = await after.executor.reconcile()
            assert (report.adopted, report.differences, report.is_whole) == ([], [], True)
            assert len(externals(after)) == 3


async def test_order_with_a_tag_of_ours_that_the_ledger_lacks_is_an_orphan(tmp_path):
    async with trading(tmp_path) as (world, hand):
        tag = make_tag(KEY, deployment="E1", epoch=1, order_id=uuid4(), attempt=1)
        async with running(world):
            await hand.place(quantity=2, tag=tag)
            report = await world.executor.reconcile()
            (order,) = report.adopted
            assert order.is_external
            assert [text for _, text in world.alerts if "ORPHAN" in text and tag in text]
            await world.until(lambda: world.held() == 2, timeout_s=5)


async def test_wrong_position_of_ours_takes_the_exchanges_figures(tmp_path):
    async with trading(tmp_path) as (world, hand):
        await hand.place(side="SELL", quantity=6, price="1400")
        async with running(world):
            await world.until(lambda: abs(world.held()) == 6, timeout_s=20)
            wrong = next(p for p, _ in world.store.positions.values())
            doubled = msgspec.structs.replace(wrong, quantity=wrong.quantity * 2)
            world.executor.desk.holdings.positions[wrong.key] = doubled
            report = await world.executor.reconcile()
            (found,) = report.differences
            assert (found.is_adopted, found.difference.figures) == (True, (wrong.quantity * 2, wrong.quantity))
            with trio.fail_after(5):
                await world.ledger.barrier()
            await agree(world, hand)
