"""The suite's part on changing orders: modify in every legal way and every refused one, and cancel."""

from decimal import Decimal

import pytest

from engine.broker.base import RefusalCode
from engine.domain.enums import OrderStatus, OrderType, TransactionType, Validity, Variety
from tests.conformance.broker_suite import accepted, refused
from tests.conformance.paper_venue import PaperVenue

S = OrderStatus
REGULAR = Variety.REGULAR


class ChangeSuite:
    """Subclass it and give the fixture ``venue``, a `PaperVenue`."""

    async def stop(self, venue: PaperVenue, kind: OrderType = OrderType.SL) -> tuple[str, str]:
        """A stop to sell below the market; returns its tag and its id."""
        order, order_id = await venue.place(
            order_type=kind,
            transaction_type=TransactionType.SELL,
            trigger_price=venue.below(3),
            price=venue.below(4) if kind is OrderType.SL else None,
        )
        await venue.settled(order.tag, S.TRIGGER_PENDING)
        return order.tag, order_id

    async def test_quantity_and_price_change_together_and_history_tells(self, venue: PaperVenue):
        order, order_id = await venue.resting()
        accepted(await venue.broker.replace(order_id, REGULAR, quantity=7, price=venue.below(4)))
        row = await venue.when(order.tag, lambda row: row.price == venue.below(4))
        assert (row.status, row.quantity, row.has_tag(order.tag)) == (S.OPEN, 7, True)
        history = await venue.broker.order_history(order_id)
        assert [row.raw_status for row in history[-5:]] == [
            "OPEN", "MODIFY VALIDATION PENDING", "MODIFY PENDING", "MODIFIED", "OPEN",
        ]  # fmt: skip
        # rows before the last carry the old price (kite.md 6.4)
        assert [row.price for row in history[-5:]] == [order.price] * 4 + [venue.below(4)]
        assert all(row.status.is_working for row in history)

    async def test_trigger_of_a_stop_changes_alone(self, venue: PaperVenue):
        tag, order_id = await self.stop(venue)
        accepted(await venue.broker.replace(order_id, REGULAR, trigger_price=venue.below(2)))
        row = await venue.when(tag, lambda row: row.trigger_price == venue.below(2))
        assert (row.status, row.price) == (S.TRIGGER_PENDING, venue.below(4))

    async def test_limit_becomes_market_with_protection_and_fills(self, venue: PaperVenue):
        order, order_id = await venue.resting()
        accepted(await venue.broker.replace(order_id, REGULAR, order_type=OrderType.MARKET))
        row = await venue.settled(order.tag, S.COMPLETE)
        assert (row.filled_quantity, row.has_tag(order.tag), "mktp" in row.tags) == (1, True, True)

    async def test_market_by_conversion_takes_its_percentage(self, venue: PaperVenue):
        await venue.exchange.set_liquidity("NSE:INFY", 0)
        order, order_id = await venue.resting()
        accepted(
            await venue.broker.replace(order_id, REGULAR, order_type=OrderType.MARKET, market_protection=Decimal(2))
        )
        row = await venue.when(order.tag, lambda row: "mktp:2.00" in row.tags)
        assert (row.status, row.order_type, row.price) == (S.OPEN, "LIMIT", Decimal("1479.00"))

    @pytest.mark.parametrize("kind", [OrderType.SL, OrderType.SL_M])
    async def test_stop_becomes_a_limit_order(self, venue: PaperVenue, kind: OrderType):
        tag, order_id = await self.stop(venue, kind)
        accepted(await venue.broker.replace(order_id, REGULAR, order_type=OrderType.LIMIT, price=venue.above(3)))
        row = await venue.settled(tag, S.OPEN)
        assert (row.order_type, row.price) == ("LIMIT", venue.above(3))

    @pytest.mark.parametrize("kind", [OrderType.SL, OrderType.SL_M])
    async def test_stop_becomes_a_market_order_and_fills(self, venue: PaperVenue, kind: OrderType):
        tag, order_id = await self.stop(venue, kind)
        accepted(await venue.broker.replace(order_id, REGULAR, order_type=OrderType.MARKET))
        assert (await venue.settled(tag, S.COMPLETE)).filled_quantity == 1

    async def test_limit_cannot_become_a_stop(self, venue: PaperVenue):
        order, order_id = await venue.resting()
        outcome = refused(
            await venue.broker.replace(
                order_id, REGULAR, order_type=OrderType.SL, trigger_price=venue.above(1), price=venue.above(2)
            )
        )
        assert "cannot be changed from LIMIT to SL" in outcome.message
        assert (await venue.row(order.tag)).price == order.price

    async def test_validity_becomes_immediate_and_ends_the_order(self, venue: PaperVenue):
        order, order_id = await venue.resting()
        accepted(await venue.broker.replace(order_id, REGULAR, validity=Validity.IOC))
        assert (await venue.settled(order.tag, S.CANCELLED)).filled_quantity == 0

    async def test_price_off_the_tick_and_quantity_that_has_filled_are_refused(self, venue: PaperVenue):
        await venue.exchange.set_liquidity("NSE:INFY", 3)
        order, order_id = await venue.place(price=venue.above(1), quantity=10)
        await venue.when(order.tag, lambda row: row.filled_quantity == 3)
        off = refused(await venue.broker.replace(order_id, REGULAR, price=venue.above(1) + Decimal("0.03")))
        assert off.code is RefusalCode.TICK_SIZE
        outcome = refused(await venue.broker.replace(order_id, REGULAR, quantity=3))
        assert "more than the filled quantity 3" in outcome.message
        assert (await venue.row(order.tag)).status is S.PARTIALLY_FILLED
        # the new quantity is the total, what has filled included (kite.md 5.4)
        accepted(await venue.broker.replace(order_id, REGULAR, quantity=5))
        await venue.exchange.set_liquidity("NSE:INFY", None)
        assert (await venue.settled(order.tag, S.COMPLETE)).filled_quantity == 5

    async def test_change_beyond_the_funds_is_refused_and_changes_nothing(self, venue: PaperVenue):
        order, order_id = await venue.resting()
        outcome = refused(await venue.broker.replace(order_id, REGULAR, quantity=100_000))
        assert outcome.code is RefusalCode.FUNDS
        row = await venue.row(order.tag)
        assert (row.status, row.quantity) == (S.OPEN, 1)

    async def test_change_on_its_way_makes_a_second_change_and_a_cancel_busy(self, venue: PaperVenue):
        order, order_id = await venue.resting()
        await venue.exchange.behave(latency={"validation_s": 5, "exchange_s": 5})
        accepted(await venue.broker.replace(order_id, REGULAR, price=venue.below(4)))
        for outcome in (
            await venue.broker.replace(order_id, REGULAR, price=venue.below(3)),
            await venue.broker.cancel(order_id, REGULAR),
        ):
            assert refused(outcome).code is RefusalCode.ORDER_BUSY
        row = await venue.row(order.tag)
        assert (row.raw_status, row.status.is_working, row.price) == ("MODIFY VALIDATION PENDING", True, order.price)
        await venue.later(seconds=11)
        assert (await venue.row(order.tag)).price == venue.below(4)

    async def test_cancel_on_its_way_may_still_fill(self, venue: PaperVenue):
        order, order_id = await venue.resting()
        await venue.exchange.behave(latency={"exchange_s": 5})
        accepted(await venue.broker.cancel(order_id, REGULAR))
        row = await venue.row(order.tag)
        assert row.raw_status == "CANCEL PENDING"
        assert row.status.is_working
        await venue.price("NSE:INFY", venue.below(5))
        assert (await venue.settled(order.tag, S.COMPLETE)).filled_quantity == 1

    async def test_change_refused_by_the_exchange_leaves_the_old_terms_and_says_why(self, venue: PaperVenue):
        order, order_id = await venue.resting()
        await venue.exchange.behave(modify_rejects={"NSE:INFY": "16448 : Order modification is not allowed"})
        accepted(await venue.broker.replace(order_id, REGULAR, price=venue.below(4)))
        row = await venue.when(order.tag, lambda row: row.status_message is not None)
        assert (row.status, row.price) == (S.OPEN, order.price)
        assert row.status_message == "16448 : Order modification is not allowed"

    async def test_twenty_sixth_change_is_refused_by_name_and_the_order_can_be_cancelled(self, venue: PaperVenue):
        order, order_id = await venue.resting()
        for number in range(25):
            accepted(await venue.broker.replace(order_id, REGULAR, quantity=2 + number))
        outcome = refused(await venue.broker.replace(order_id, REGULAR, quantity=99))
        assert (outcome.code, outcome.rate_limited) == (RefusalCode.MODIFICATION_CAP, False)
        assert (await venue.row(order.tag)).quantity == 26
        accepted(await venue.broker.cancel(order_id, REGULAR))
        await venue.settled(order.tag, S.CANCELLED)

    async def test_change_of_a_finished_order_is_refused(self, venue: PaperVenue):
        order, order_id = await venue.place(price=venue.above(1))
        await venue.settled(order.tag, S.COMPLETE)
        assert refused(await venue.broker.replace(order_id, REGULAR, quantity=2)).code is RefusalCode.ORDER_BUSY

    async def test_order_is_not_found_under_another_variety(self, venue: PaperVenue):
        order, order_id = await venue.resting()
        for outcome in (
            await venue.broker.replace(order_id, Variety.AMO, quantity=2),
            await venue.broker.cancel(order_id, Variety.ICEBERG),
        ):
            assert refused(outcome).code is RefusalCode.ORDER_NOT_FOUND
        assert (await venue.row(order.tag)).status is S.OPEN

    async def test_cancel_of_a_part_filled_order_keeps_the_part(self, venue: PaperVenue):
        await venue.exchange.set_liquidity("NSE:INFY", 4)
        order, order_id = await venue.place(price=venue.above(1), quantity=10)
        await venue.when(order.tag, lambda row: row.filled_quantity == 4)
        assert (await venue.row(order.tag)).status is S.PARTIALLY_FILLED
        accepted(await venue.broker.cancel(order_id, REGULAR))
        row = await venue.settled(order.tag, S.CANCELLED)
        assert (row.quantity, row.filled_quantity) == (10, 4)
        assert sum(trade.quantity for trade in await venue.broker.order_trades(order_id)) == 4

    @pytest.mark.parametrize("pending", ["kept", "zero"])
    @pytest.mark.parametrize("counted", ["counted", "zero"])
    async def test_what_a_cancelled_row_says_of_its_rest_is_not_taken_for_a_fill(self, venue, pending, counted):
        await venue.exchange.behave(cancelled_pending=pending, cancelled_quantity=counted)
        order, order_id = await venue.resting()
        accepted(await venue.broker.cancel(order_id, REGULAR))
        assert (await venue.settled(order.tag, S.CANCELLED)).filled_quantity == 0

    @pytest.mark.parametrize(
        ("words", "code"), [("busy", RefusalCode.ORDER_BUSY), ("does_not_exist", RefusalCode.ORDER_NOT_FOUND)]
    )
    async def test_cancel_of_a_finished_order_is_refused_in_either_words(self, venue, words, code):
        await venue.exchange.behave(finished_cancel=words)
        order, order_id = await venue.place(price=venue.above(1))
        await venue.settled(order.tag, S.COMPLETE)
        assert refused(await venue.broker.cancel(order_id, REGULAR)).code is code

    async def test_cancel_of_a_stop_that_waits_ends_it(self, venue: PaperVenue):
        tag, order_id = await self.stop(venue, OrderType.SL_M)
        accepted(await venue.broker.cancel(order_id, REGULAR))
        await venue.settled(tag, S.CANCELLED)
