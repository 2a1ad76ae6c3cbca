"""The suite's part on placing: every variety, product, order type and validity, and what becomes of each."""

from decimal import Decimal

import pytest
import trio

from engine.broker.base import Accepted, RefusalCode, always_open
from engine.broker.icebergs import join_legs, live_leg
from engine.domain.enums import Exchange, OrderStatus, OrderType, ProductType, TransactionType, Validity, Variety
from engine.domain.freeze import freeze_from_refusal
from engine.domain.options import OrderOptions
from tests.conformance.broker_suite import accepted, refused
from tests.conformance.paper_venue import PaperVenue
from tests.support.broker_orders import committed_order

S = OrderStatus
BUY, SELL = TransactionType.BUY, TransactionType.SELL
TTL_OF_TWO = OrderOptions(validity_ttl=2)


class OrderSuite:
    """Subclass it and give the fixture ``venue``, a `PaperVenue`."""

    # products and exchanges

    @pytest.mark.parametrize("product", ["CNC", "MIS", "MTF"])
    async def test_share_is_bought_in_each_product(self, venue: PaperVenue, product: str):
        order, _ = await venue.place(product_type=ProductType(product), price=venue.above(1), quantity=4)
        row = await venue.settled(order.tag, S.COMPLETE)
        assert (row.product, row.filled_quantity) == (product, 4)
        positions = await venue.broker.positions()
        assert {(row.product, row.quantity) for row in positions.net} == {(product, 4)}
        assert {(row.product, row.quantity) for row in positions.day} == {(product, 4)}

    @pytest.mark.parametrize(
        ("exchange", "underlying", "kind"),
        [
            ("NFO", "NIFTY", "CE"),
            ("BFO", "SENSEX", "PE"),
            ("CDS", "USDINR", "FUT"),
            ("BCD", "USDINR", "FUT"),
            ("MCX", "GOLDGUINEA", "FUT"),
        ],
    )
    async def test_contract_of_each_segment_is_bought_for_carrying(self, venue, exchange, underlying, kind):
        contract = await venue.contract(exchange, name=underlying, instrument_type=kind)
        order, order_id = await venue.place(
            exchange=Exchange(exchange),
            symbol=contract.symbol,
            product_type=ProductType.NRML,
            quantity=contract.lot_size,
            order_type=OrderType.MARKET,
            price=None,
        )
        await venue.settled(order.tag, S.COMPLETE)
        trades = await venue.broker.order_trades(order_id)
        assert sum(trade.quantity for trade in trades) == contract.lot_size
        assert all(trade.price % contract.tick_size == 0 for trade in trades)
        (held,) = (await venue.broker.positions()).net
        assert (held.exchange, held.symbol, held.product) == (exchange, contract.symbol, "NRML")
        assert held.multiplier == contract.multiplier
        # values contain the multiplier (kite.md 9.1)
        assert held.buy_value == sum(trade.price * trade.quantity for trade in trades) * contract.multiplier

    async def test_product_that_does_not_fit_the_exchange_is_refused(self, venue: PaperVenue):
        order = committed_order(product_type=ProductType.NRML, price=venue.below(5))
        outcome = refused(await venue.broker.place(order, always_open))
        assert (outcome.code, outcome.message) == (RefusalCode.OTHER, "Invalid `product`.")

    async def test_index_and_unknown_symbol_are_refused(self, venue: PaperVenue):
        for symbol, words in (("NIFTY 50", "not tradable"), ("NOSUCH", "expired or does not exist")):
            outcome = refused(await venue.broker.place(committed_order(symbol=symbol), always_open))
            assert words in outcome.message

    # order types

    @pytest.mark.parametrize("side", [BUY, SELL])
    @pytest.mark.parametrize("kind", [OrderType.SL, OrderType.SL_M])
    async def test_stop_goes_live_at_its_trigger_and_fills(self, venue: PaperVenue, kind, side):
        away, limit = (venue.above, venue.above(4)) if side is BUY else (venue.below, venue.below(4))
        order, _ = await venue.place(
            order_type=kind,
            transaction_type=side,
            trigger_price=away(2),
            price=limit if kind is OrderType.SL else None,
        )
        await venue.settled(order.tag, S.TRIGGER_PENDING)
        await venue.price("NSE:INFY", away(2))
        row = await venue.settled(order.tag, S.COMPLETE)
        assert row.average_price == away(2)

    @pytest.mark.parametrize(
        ("protection", "price"), [(None, "1457.20"), (Decimal(-1), "1457.20"), (Decimal("1.5"), "1471.70")]
    )
    async def test_market_order_rests_at_the_limit_of_its_protection(self, venue, protection, price):
        """Nothing trades, so that the rest of a protected MARKET order is seen: LIMIT, and not IOC (kite.md 0.2)."""
        await venue.exchange.set_liquidity("NSE:INFY", 0)
        order, order_id = await venue.place(order_type=OrderType.MARKET, price=None, market_protection=protection)
        row = await venue.settled(order.tag, S.OPEN)
        assert (row.order_type, row.price, row.market_protection) == ("LIMIT", Decimal(price), 0)
        assert {"mktp", f"mktp:{protection if protection and protection > 0 else Decimal('0.5'):.2f}"} <= set(row.tags)
        assert accepted(await venue.broker.cancel(order_id, Variety.REGULAR)) == order_id
        await venue.settled(order.tag, S.CANCELLED)

    async def test_stop_market_order_becomes_a_protected_limit_with_its_own_tag(self, venue: PaperVenue):
        await venue.exchange.set_liquidity("NSE:INFY", 0)
        order, _ = await venue.place(
            order_type=OrderType.SL_M, price=None, trigger_price=venue.above(2), market_protection=Decimal(2)
        )
        await venue.settled(order.tag, S.TRIGGER_PENDING)
        await venue.price("NSE:INFY", venue.above(2))
        row = await venue.settled(order.tag, S.OPEN)
        assert (row.order_type, "mktp:2.00" in row.tags) == ("LIMIT", True)
        assert row.price > venue.above(3)

    # validities and terms

    async def test_immediate_or_cancel_that_finds_nothing_is_cancelled(self, venue: PaperVenue):
        order, _ = await venue.place(validity=Validity.IOC)
        row = await venue.settled(order.tag, S.CANCELLED)
        assert (row.filled_quantity, row.validity) == (0, "IOC")

    async def test_immediate_or_cancel_keeps_what_it_got(self, venue: PaperVenue):
        await venue.exchange.set_liquidity("NSE:INFY", 3)
        order, order_id = await venue.place(validity=Validity.IOC, price=venue.above(1), quantity=10)
        row = await venue.settled(order.tag, S.CANCELLED)
        assert 0 < row.filled_quantity <= 3
        assert sum(trade.quantity for trade in await venue.broker.order_trades(order_id)) == row.filled_quantity

    async def test_order_with_a_time_to_live_ends_with_it(self, venue: PaperVenue):
        order, order_id = await venue.place(validity=Validity.TTL, options=TTL_OF_TWO)
        assert (await venue.settled(order.tag, S.OPEN)).validity == "TTL"
        assert (await venue.wire_row(order_id))["validity_ttl"] == 2
        await venue.later(seconds=100)
        assert (await venue.row(order.tag)).status is S.OPEN
        await venue.later(seconds=21)
        assert (await venue.settled(order.tag, S.CANCELLED)).filled_quantity == 0

    async def test_time_to_live_beyond_two_hours_is_refused(self, venue: PaperVenue):
        order = committed_order(validity=Validity.TTL, options=OrderOptions(validity_ttl=121))
        assert refused(await venue.broker.place(order, always_open)).message == "Invalid `validity_ttl`."

    async def test_immediate_or_cancel_on_mcx_is_refused(self, venue: PaperVenue):
        gold = await venue.contract("MCX", name="GOLDGUINEA", instrument_type="FUT")
        order = committed_order(
            exchange=Exchange.MCX,
            symbol=gold.symbol,
            product_type=ProductType.NRML,
            validity=Validity.IOC,
            price=gold.last_price,
        )
        assert refused(await venue.broker.place(order, always_open)).message == "Invalid `validity`."

    async def test_disclosed_quantity_is_shown_and_bounded(self, venue: PaperVenue):
        _, order_id = await venue.place(quantity=50, options=OrderOptions(disclosed_quantity=10))
        assert (await venue.wire_row(order_id))["disclosed_quantity"] == 10
        too_small = committed_order(quantity=50, options=OrderOptions(disclosed_quantity=4), price=venue.below(5))
        assert refused(await venue.broker.place(too_small, always_open)).message == "Invalid `disclosed_quantity`."

    async def test_quantity_beyond_the_freeze_is_refused_with_a_text_to_learn_from(self, venue: PaperVenue):
        found = await venue.broker.instruments("NFO")
        options = [row for row in found if row.name == "NIFTY" and row.instrument_type == "CE" and row.strike]
        cheap = min(options, key=lambda row: row.last_price)
        lots = {"exchange": Exchange.NFO, "symbol": cheap.symbol, "product_type": ProductType.NRML}
        order = committed_order(**lots, quantity=100 * cheap.lot_size, price=cheap.last_price)
        outcome = refused(await venue.broker.place(order, always_open))
        assert outcome.code is RefusalCode.FREEZE_QUANTITY
        freeze = freeze_from_refusal(outcome.message)
        assert freeze is not None
        assert freeze % cheap.lot_size == 0
        one_more = committed_order(**lots, quantity=freeze + cheap.lot_size, price=cheap.last_price)
        assert refused(await venue.broker.place(one_more, always_open)).code is RefusalCode.FREEZE_QUANTITY
        most = committed_order(**lots, quantity=freeze, price=cheap.last_price)
        taken = await venue.broker.place(most, always_open)
        # as much as the exchange takes: it may only be dear
        assert isinstance(taken, Accepted) or refused(taken).code is RefusalCode.FUNDS

    async def test_quantity_off_the_lot_is_refused(self, venue: PaperVenue):
        future = await venue.contract("NFO", name="INFY", instrument_type="FUT")
        order = committed_order(
            exchange=Exchange.NFO,
            symbol=future.symbol,
            product_type=ProductType.NRML,
            quantity=future.lot_size + 1,
            price=future.last_price,
        )
        assert "lot size" in refused(await venue.broker.place(order, always_open)).message

    # after-market orders

    async def test_after_market_order_waits_is_changed_and_goes_with_the_market(self, venue: PaperVenue):
        await venue.exchange.set_market_open(False)
        order, order_id = await venue.place(variety=Variety.AMO)
        row = await venue.row(order.tag)
        assert (row.status, row.raw_status, row.variety) == (S.SUBMITTED, "AMO REQ RECEIVED", "amo")
        accepted(await venue.broker.replace(order_id, Variety.AMO, price=venue.below(4)))
        row = await venue.row(order.tag)
        assert (row.raw_status, row.price) == ("AMO REQ RECEIVED", venue.below(4))
        await venue.exchange.set_market_open(True)
        await venue.exchange.release_amo()
        assert (await venue.settled(order.tag, S.OPEN)).price == venue.below(4)

    async def test_after_market_order_can_be_cancelled_before_the_market_opens(self, venue: PaperVenue):
        await venue.exchange.set_market_open(False)
        order, order_id = await venue.place(variety=Variety.AMO)
        accepted(await venue.broker.cancel(order_id, Variety.AMO))
        row = await venue.settled(order.tag, S.CANCELLED)
        assert row.raw_status.startswith("CANCELLED")

    async def test_after_market_order_at_the_market_is_priced_when_it_goes(self, venue: PaperVenue):
        await venue.exchange.set_market_open(False)
        order, _ = await venue.place(variety=Variety.AMO, order_type=OrderType.MARKET, price=None)
        assert (await venue.row(order.tag)).raw_status == "AMO REQ RECEIVED"
        await venue.price("NSE:INFY", venue.above(2))
        await venue.exchange.set_market_open(True)
        await venue.exchange.release_amo()
        assert (await venue.settled(order.tag, S.COMPLETE)).average_price == venue.above(2)

    async def test_regular_order_while_the_market_is_closed_is_refused_or_rejected(self, venue: PaperVenue):
        await venue.exchange.set_market_open(False)
        order = committed_order()
        outcome = await venue.broker.place(order, always_open)
        if isinstance(outcome, Accepted):
            assert "markets are not open" in str((await venue.settled(order.tag, S.REJECTED)).status_message)
        else:
            assert refused(outcome).code is RefusalCode.MARKET_CLOSED

    # cover, iceberg, auction

    async def test_cover_order_has_a_stop_that_is_moved_and_exited(self, venue: PaperVenue):
        order, entry_id = await venue.place(
            variety=Variety.CO, price=venue.above(1), trigger_price=venue.below(3), quantity=4
        )
        with trio.fail_after(5):
            while len(rows := await venue.rows_of(order.tag)) < 2 or rows[0].status is not S.COMPLETE:
                await trio.sleep(0.01)
        entry, stop = rows
        assert (entry.broker_order_id, entry.product) == (entry_id, "CO")
        assert (stop.parent_order_id, stop.status, stop.transaction_type) == (entry_id, S.TRIGGER_PENDING, "SELL")
        assert stop.trigger_price == venue.below(3)
        accepted(await venue.broker.replace(stop.broker_order_id, Variety.CO, trigger_price=venue.below(2)))
        assert (await venue.rows_of(order.tag))[1].trigger_price == venue.below(2)
        accepted(await venue.broker.cancel(stop.broker_order_id, Variety.CO, parent_order_id=entry_id))
        with trio.fail_after(5):
            while (rows := await venue.rows_of(order.tag))[1].status is not S.COMPLETE:
                await trio.sleep(0.01)
        (held,) = (await venue.broker.positions()).net
        assert (held.product, held.quantity) == ("CO", 0)

    async def test_cover_order_needs_its_stop_before_the_wire(self, venue: PaperVenue):
        outcome = refused(await venue.broker.place(committed_order(variety=Variety.CO), always_open))
        assert (outcome.code, venue.placements()) == (RefusalCode.NOT_ENCODABLE, 0)

    async def test_iceberg_shows_one_leg_after_the_other_under_one_tag(self, venue: PaperVenue):
        order, first_id = await venue.place(
            variety=Variety.ICEBERG, quantity=31, options=OrderOptions(iceberg_legs=2, iceberg_quantity=16)
        )
        await venue.settled(order.tag, S.OPEN)
        (first,) = await venue.rows_of(order.tag)
        assert (first.broker_order_id, first.quantity, first.variety) == (first_id, 16, "iceberg")
        meta = (await venue.wire_row(first_id))["meta"]["iceberg"]
        assert (meta["leg"], meta["legs"], meta["total_quantity"], meta["remaining_quantity"]) == (1, 2, 31, 15)
        whole = join_legs(order, [first])
        assert (whole.status, whole.quantity, whole.filled_quantity) == (S.OPEN, 31, 0)
        await venue.price("NSE:INFY", venue.below(5))
        with trio.fail_after(5):
            while (whole := join_legs(order, await venue.rows_of(order.tag))).status is not S.COMPLETE:
                await trio.sleep(0.01)
        legs = await venue.rows_of(order.tag)
        assert [leg.quantity for leg in legs] == [16, 15]
        assert (whole.broker_order_id, whole.filled_quantity) == (first_id, 31)

    async def test_iceberg_is_cancelled_by_the_leg_that_works(self, venue: PaperVenue):
        order, _ = await venue.place(
            variety=Variety.ICEBERG, quantity=30, options=OrderOptions(iceberg_legs=3, iceberg_quantity=10)
        )
        await venue.settled(order.tag, S.OPEN)
        await venue.exchange.set_liquidity("NSE:INFY", 10)
        await venue.price("NSE:INFY", venue.below(5))
        with trio.fail_after(5):
            while len(legs := await venue.rows_of(order.tag)) < 2 or not (leg := live_leg(legs)):
                await trio.sleep(0.01)
        accepted(await venue.broker.cancel(leg, Variety.ICEBERG))
        with trio.fail_after(5):
            while (whole := join_legs(order, await venue.rows_of(order.tag))).status is not S.CANCELLED:
                await trio.sleep(0.01)
        assert (whole.filled_quantity, len(await venue.rows_of(order.tag))) == (10, 2)

    async def test_iceberg_whose_leg_is_wrong_is_refused(self, venue: PaperVenue):
        order = committed_order(
            variety=Variety.ICEBERG, quantity=31, options=OrderOptions(iceberg_legs=2, iceberg_quantity=15)
        )
        assert refused(await venue.broker.place(order, always_open)).message == "Invalid `iceberg_quantity`."

    async def test_shares_held_are_sold_in_an_auction(self, venue: PaperVenue):
        bought, _ = await venue.place(product_type=ProductType.CNC, price=venue.above(1), quantity=5)
        await venue.settled(bought.tag, S.COMPLETE)
        await venue.later(days=3)
        async with venue.exchange.client() as rest:
            (auction,) = (await rest.get("/portfolio/holdings/auctions")).json()["data"]
        sale = {
            "variety": Variety.AUCTION,
            "transaction_type": SELL,
            "product_type": ProductType.CNC,
            "quantity": 5,
            "price": venue.above(1),
        }
        order, order_id = await venue.place(**sale, options=OrderOptions(auction_number=str(auction["auction_number"])))
        row = await venue.row(order.tag)
        assert (row.variety, row.transaction_type, row.status) == ("auction", "SELL", S.OPEN)
        assert (await venue.wire_row(order_id))["auction_number"] == str(auction["auction_number"])
        another = committed_order(**sale, options=OrderOptions(auction_number="9999"))
        assert refused(await venue.broker.place(another, always_open)).message == "Invalid `auction_number`."

    # what comes back later

    @pytest.mark.parametrize(
        "text",
        [
            "RMS:Rule: Check circuit limit including square off order exceeds  for entity account-XX",
            "16387 : Security is not allowed to trade in this market",
            "The exchange connection (adapter) did not accept the order. Please retry.",
        ],
    )
    async def test_order_rejected_later_has_the_brokers_words(self, venue: PaperVenue, text: str):
        await venue.exchange.behave(order_rejects={"NSE:INFY": text})
        order, order_id = await venue.place()
        row = await venue.settled(order.tag, S.REJECTED)
        assert (row.status_message, row.filled_quantity) == (text, 0)
        assert (await venue.broker.order_history(order_id))[0].raw_status == "PUT ORDER REQ RECEIVED"

    async def test_interim_states_are_live_and_in_their_order(self, venue: PaperVenue):
        await venue.exchange.behave(latency={"received_s": 10, "validation_s": 10, "exchange_s": 10})
        order, order_id = await venue.place()
        seen = []
        for _ in range(4):
            row = await venue.row(order.tag)
            seen.append((row.raw_status, row.status))
            await venue.later(seconds=10)
        assert seen == [
            ("PUT ORDER REQ RECEIVED", S.SUBMITTED),
            ("VALIDATION PENDING", S.SUBMITTED),
            ("OPEN PENDING", S.SUBMITTED),
            ("OPEN", S.OPEN),
        ]
        history = await venue.broker.order_history(order_id)
        assert [row.raw_status for row in history] == [raw for raw, _ in seen]
        assert history[0].exchange_order_id is None
        assert history[-1].exchange_order_id is not None

    async def test_order_left_open_ends_with_the_day_and_its_book_is_gone(self, venue: PaperVenue):
        order, order_id = await venue.place()
        await venue.settled(order.tag, S.OPEN)
        await venue.later(days=1)
        assert await venue.broker.orders() == []
        assert refused(await venue.broker.cancel(order_id, Variety.REGULAR)).code is RefusalCode.ORDER_NOT_FOUND
