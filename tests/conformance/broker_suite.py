"""What every Broker must show, whichever venue is behind it.

A test module subclasses `BrokerSuite` and gives the fixture ``venue``: a `Venue` whose last price of
NSE:INFY is about 1450 and which fills a MARKET order at once. The rest of the suite needs a venue whose other
side can be turned by hand (`PaperVenue`): placing in every way is in order_suite.py, changing and cancelling
in change_suite.py, the account with its sessions and limits in account_suite.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from decimal import Decimal

import pytest
import trio

from engine.broker.base import (
    Accepted,
    Broker,
    BrokerAuthError,
    BrokerOrder,
    BrokerUnavailable,
    NotSent,
    OrderNotCommitted,
    RefusalCode,
    Refused,
    WriteOutcome,
    always_open,
)
from engine.domain.enums import OrderStatus, OrderType, TransactionType, Variety
from engine.domain.order import Order
from tests.support.broker_orders import committed_order

REGULAR = Variety.REGULAR


@dataclass
class Venue:
    """A broker and what the tests must know of what is behind it."""

    broker: Broker
    last_price: Decimal
    placements: Callable[[], int]
    set_token: Callable[[str | None], None]

    def below(self, percent: int) -> Decimal:
        """A price on the tick, *percent* below the last."""
        return _on_tick(self.last_price * (100 - percent) / 100)

    def above(self, percent: int) -> Decimal:
        """A price on the tick, *percent* above the last."""
        return _on_tick(self.last_price * (100 + percent) / 100)

    async def row(self, tag: str) -> BrokerOrder:
        """The one order with *tag*."""
        (row,) = [row for row in await self.broker.orders() if row.has_tag(tag)]
        return row

    async def settled(self, tag: str, *statuses: OrderStatus) -> BrokerOrder:
        """Wait until the order with *tag* is in one of *statuses*."""
        return await self.when(tag, lambda row: row.status in statuses)

    async def when(self, tag: str, holds: Callable[[BrokerOrder], bool]) -> BrokerOrder:
        """Read the order with *tag* until it *holds*: the venue works on its own time, 5 s at most."""
        with trio.fail_after(5):
            while True:
                row = await self.row(tag)
                if holds(row):
                    return row
                await trio.sleep(0.01)

    async def resting(self) -> tuple[Order, str]:
        """Place a LIMIT order that does not fill; returns it and its broker id."""
        order = committed_order(price=self.below(5))
        order_id = accepted(await self.broker.place(order, always_open))
        await self.settled(order.tag, OrderStatus.OPEN)
        return order, order_id


def _on_tick(price: Decimal) -> Decimal:
    return (price / Decimal("0.10")).to_integral_value() * Decimal("0.10")


def accepted(outcome: WriteOutcome) -> str:
    """The broker's id of an accepted write."""
    assert isinstance(outcome, Accepted), outcome
    return outcome.broker_order_id


def refused(outcome: WriteOutcome) -> Refused:
    """The refusal."""
    assert isinstance(outcome, Refused), outcome
    return outcome


class BrokerSuite:
    """Subclass it and give the fixture ``venue``."""

    async def test_limit_order_resting_is_read_back_by_its_tag(self, venue: Venue):
        order, order_id = await venue.resting()
        row = await venue.row(order.tag)
        assert row.broker_order_id == order_id
        assert (row.exchange, row.symbol, row.transaction_type) == ("NSE", "INFY", "BUY")
        assert (row.quantity, row.filled_quantity, row.price) == (1, 0, order.price)
        assert row.product == "MIS"
        assert row.order_timestamp is not None
        assert row.order_timestamp.tzinfo is UTC

    async def test_limit_order_that_crosses_fills_and_shows_trade_and_position(self, venue: Venue):
        order = committed_order(price=venue.above(2), quantity=2)
        order_id = accepted(await venue.broker.place(order, always_open))
        row = await venue.settled(order.tag, OrderStatus.COMPLETE)
        assert row.filled_quantity == 2
        trades = await venue.broker.order_trades(order_id)
        assert sum(trade.quantity for trade in trades) == 2
        assert {trade.trade_id for trade in trades} <= {trade.trade_id for trade in await venue.broker.trades()}
        fill = trades[0].as_fill(order_id=order.id, account_id=order.account_id)
        assert 0 < fill.price <= order.price
        assert fill.filled_at.tzinfo is UTC
        positions = await venue.broker.positions()
        held = [row for row in positions.net if (row.exchange, row.symbol, row.product) == ("NSE", "INFY", "MIS")]
        assert [row.quantity for row in held] == [2]

    async def test_market_order_is_protected_and_fills(self, venue: Venue):
        order = committed_order(order_type=OrderType.MARKET, transaction_type=TransactionType.SELL)
        accepted(await venue.broker.place(order, always_open))
        row = await venue.settled(order.tag, OrderStatus.COMPLETE)
        assert row.average_price > 0
        assert row.has_tag(order.tag)

    async def test_stop_order_waits_for_its_trigger(self, venue: Venue):
        order = committed_order(
            order_type=OrderType.SL,
            transaction_type=TransactionType.SELL,
            price=venue.below(4),
            trigger_price=venue.below(3),
        )
        accepted(await venue.broker.place(order, always_open))
        row = await venue.settled(order.tag, OrderStatus.TRIGGER_PENDING)
        assert row.trigger_price == order.trigger_price

    async def test_stop_market_order_waits_for_its_trigger(self, venue: Venue):
        order = committed_order(
            order_type=OrderType.SL_M, transaction_type=TransactionType.SELL, trigger_price=venue.below(3)
        )
        accepted(await venue.broker.place(order, always_open))
        await venue.settled(order.tag, OrderStatus.TRIGGER_PENDING)

    async def test_cancel_of_a_resting_order_ends_it(self, venue: Venue):
        order, order_id = await venue.resting()
        assert accepted(await venue.broker.cancel(order_id, REGULAR)) == order_id
        row = await venue.settled(order.tag, OrderStatus.CANCELLED)
        assert row.filled_quantity == 0

    async def test_cancel_of_a_finished_order_is_refused(self, venue: Venue):
        order = committed_order(price=venue.above(2))
        order_id = accepted(await venue.broker.place(order, always_open))
        await venue.settled(order.tag, OrderStatus.COMPLETE)
        outcome = refused(await venue.broker.cancel(order_id, REGULAR))
        assert outcome.code in (RefusalCode.ORDER_BUSY, RefusalCode.ORDER_NOT_FOUND)

    async def test_cancel_of_an_unknown_order_is_refused(self, venue: Venue):
        outcome = refused(await venue.broker.cancel("1914227164488699999", REGULAR))
        assert outcome.code is RefusalCode.ORDER_NOT_FOUND

    async def test_replace_of_the_price_changes_the_price_alone(self, venue: Venue):
        order, order_id = await venue.resting()
        accepted(await venue.broker.replace(order_id, REGULAR, price=venue.below(4)))
        row = await venue.when(order.tag, lambda row: row.price == venue.below(4))
        assert (row.quantity, row.has_tag(order.tag)) == (1, True)

    async def test_replace_of_an_unknown_order_is_refused(self, venue: Venue):
        outcome = refused(await venue.broker.replace("1914227164488699999", REGULAR, quantity=2))
        assert outcome.code is RefusalCode.ORDER_NOT_FOUND

    async def test_history_of_an_order_ends_with_its_state(self, venue: Venue):
        order, order_id = await venue.resting()
        history = await venue.broker.order_history(order_id)
        assert {row.broker_order_id for row in history} == {order_id}
        assert history[-1].status is OrderStatus.OPEN
        assert history[-1].price == order.price

    async def test_history_of_an_unknown_order_is_unavailable(self, venue: Venue):
        with pytest.raises(BrokerUnavailable):
            await venue.broker.order_history("1914227164488699999")

    async def test_order_beyond_the_funds_is_refused_or_rejected(self, venue: Venue):
        order = committed_order(quantity=100_000, price=venue.below(2))
        outcome = await venue.broker.place(order, always_open)
        if isinstance(outcome, Accepted):
            await venue.settled(order.tag, OrderStatus.REJECTED)
        else:
            assert refused(outcome).code is RefusalCode.FUNDS
            assert not any(row.has_tag(order.tag) for row in await venue.broker.orders())

    async def test_order_off_the_tick_is_refused_naming_the_tick(self, venue: Venue):
        order = committed_order(price=venue.below(2) + Decimal("0.03"))
        assert refused(await venue.broker.place(order, always_open)).code is RefusalCode.TICK_SIZE

    async def test_order_without_its_price_is_refused_before_the_wire(self, venue: Venue):
        outcome = refused(await venue.broker.place(committed_order(price=None), always_open))
        assert (outcome.code, outcome.status) == (RefusalCode.NOT_ENCODABLE, 0)
        assert venue.placements() == 0

    async def test_gate_that_refuses_sends_nothing(self, venue: Venue):
        outcome = await venue.broker.place(committed_order(), lambda: "kill switch")
        assert outcome == NotSent(reason="kill switch", gated=True)
        assert venue.placements() == 0

    async def test_gate_that_opens_is_asked_once_and_lets_one_order_through(self, venue: Venue):
        asked: list[int] = []
        accepted(await venue.broker.place(committed_order(price=venue.below(5)), lambda: asked.append(1)))
        assert (len(asked), venue.placements()) == (1, 1)

    async def test_gate_of_a_cancel_that_refuses_leaves_the_order(self, venue: Venue):
        order, order_id = await venue.resting()
        outcome = await venue.broker.cancel(order_id, REGULAR, gate=lambda: "not now")
        assert outcome == NotSent(reason="not now", gated=True)
        assert (await venue.row(order.tag)).status is OrderStatus.OPEN

    async def test_gate_of_a_replace_that_refuses_leaves_the_price(self, venue: Venue):
        order, order_id = await venue.resting()
        outcome = await venue.broker.replace(order_id, REGULAR, price=venue.below(4), gate=lambda: "not now")
        assert outcome == NotSent(reason="not now", gated=True)
        assert (await venue.row(order.tag)).price == order.price

    @pytest.mark.parametrize("status", [status for status in OrderStatus if status is not OrderStatus.SUBMITTING])
    async def test_order_that_is_not_committed_never_reaches_the_wire(self, venue: Venue, status: OrderStatus):
        with pytest.raises(OrderNotCommitted):
            await venue.broker.place(committed_order(status=status), always_open)
        assert venue.placements() == 0

    async def test_session_that_is_missing_blocks_writes_and_reads(self, venue: Venue):
        venue.set_token(None)
        assert refused(await venue.broker.place(committed_order(), always_open)).auth_blocked
        with pytest.raises(BrokerAuthError):
            await venue.broker.orders()
        assert venue.placements() == 0

    async def test_many_orders_at_once_are_each_placed_once(self, venue: Venue):
        orders = [committed_order(price=venue.below(5)) for _ in range(20)]
        async with trio.open_nursery() as nursery:
            for order in orders:
                nursery.start_soon(venue.broker.place, order, always_open)
        book = await venue.broker.orders()
        assert [sum(row.has_tag(order.tag) for row in book) for order in orders] == [1] * 20

    async def test_last_prices_leave_unknown_instruments_out(self, venue: Venue):
        prices = await venue.broker.last_prices(["NSE:INFY", "NSE:NOSUCHSHARE"])
        assert list(prices) == ["NSE:INFY"]
        assert prices["NSE:INFY"] > 0

    async def test_instruments_of_an_exchange_are_tradable_but_for_its_indices(self, venue: Venue):
        found = {instrument.symbol: instrument for instrument in await venue.broker.instruments("NSE")}
        assert found["INFY"].lot_size == 1
        assert not found["NIFTY 50"].is_tradable
        assert all(i.tick_size > 0 for i in found.values() if i.segment != "INDICES")

    async def test_profile_and_margins_are_read(self, venue: Venue):
        assert (await venue.broker.profile()).user_id
        margins = await venue.broker.margins()
        assert margins.equity.net > 0
        assert margins.equity.available - margins.equity.used == margins.equity.net

    async def test_reads_after_close_are_unavailable_and_writes_not_sent(self, venue: Venue):
        await venue.broker.aclose()
        assert isinstance(await venue.broker.place(committed_order(), always_open), NotSent)
        with pytest.raises(BrokerUnavailable):
            await venue.broker.orders()

    async def test_holdings_of_a_new_account_are_none(self, venue: Venue):
        assert await venue.broker.holdings() == []
