"""The suite's part on the account: positions, holdings, margins, prices, instruments, sessions, limits."""

from datetime import date
from decimal import Decimal

import pytest

from engine.broker.base import (
    Accepted,
    BrokerAuthError,
    BrokerUnavailable,
    RefusalCode,
    always_open,
)
from engine.broker.kite.reads import ReadRateLimited
from engine.domain.enums import Exchange, OrderStatus, OrderType, ProductType, TransactionType, Variety
from tests.conformance.broker_suite import accepted, refused
from tests.conformance.paper_venue import MORNING, PaperVenue
from tests.support.broker_orders import committed_order

S = OrderStatus
CNC = ProductType.CNC
SELL = TransactionType.SELL
PACED = {"orders_per_second": 3, "orders_per_minute": 9, "orders_per_day": 12}


class AccountSuite:
    """Subclass it and give the fixture ``venue``, a `PaperVenue`."""

    # positions, holdings, money

    async def test_round_trip_leaves_a_flat_row_with_its_profit(self, venue: PaperVenue):
        bought, _ = await venue.place(price=venue.above(1), quantity=10)
        await venue.settled(bought.tag, S.COMPLETE)
        await venue.price("NSE:INFY", venue.above(2))
        sold, _ = await venue.place(price=venue.above(1), quantity=10, transaction_type=SELL)
        await venue.settled(sold.tag, S.COMPLETE)
        positions = await venue.broker.positions()
        (row,) = positions.net
        assert (row.quantity, row.buy_quantity, row.sell_quantity, row.average_price) == (0, 10, 10, 0)
        assert row.pnl == row.sell_value - row.buy_value == 10 * (venue.above(2) - venue.last_price)
        assert positions.day == positions.net
        assert len(await venue.broker.trades()) >= 2

    async def test_position_carried_overnight_is_in_net_and_not_in_day(self, venue: PaperVenue):
        gold = await venue.contract("MCX", name="GOLDGUINEA", instrument_type="FUT")
        mcx = {"exchange": Exchange.MCX, "symbol": gold.symbol, "product_type": ProductType.NRML}
        order, _ = await venue.place(**mcx, order_type=OrderType.MARKET, price=None, quantity=3)
        await venue.settled(order.tag, S.COMPLETE)
        await venue.later(days=3)
        positions = await venue.broker.positions()
        (row,) = positions.net
        assert (row.symbol, row.quantity, row.overnight_quantity, row.day_buy_quantity) == (gold.symbol, 3, 3, 0)
        assert not any(row.quantity for row in positions.day)
        assert await venue.broker.trades() == []
        out, _ = await venue.place(**mcx, order_type=OrderType.MARKET, price=None, quantity=2, transaction_type=SELL)
        await venue.settled(out.tag, S.COMPLETE)
        (row,) = (await venue.broker.positions()).net
        assert (row.quantity, row.overnight_quantity, row.day_sell_quantity) == (1, 3, 2)

    async def test_shares_bought_for_delivery_are_holdings_the_next_day_and_sold_from_there(self, venue: PaperVenue):
        bought, _ = await venue.place(product_type=CNC, price=venue.above(1), quantity=5)
        await venue.settled(bought.tag, S.COMPLETE)
        assert await venue.broker.holdings() == []
        await venue.later(days=1)
        (held,) = await venue.broker.holdings()
        assert (held.exchange, held.symbol, held.quantity, held.t1_quantity) == ("NSE", "INFY", 0, 5)
        assert held.average_price == venue.last_price
        await venue.later(days=3)
        (held,) = await venue.broker.holdings()
        assert (held.quantity, held.t1_quantity) == (5, 0)
        sold, _ = await venue.place(product_type=CNC, price=venue.below(1), quantity=2, transaction_type=SELL)
        await venue.settled(sold.tag, S.COMPLETE)
        # a sale from holdings is a negative position for the day (kite.md 9.1)
        assert [row.quantity for row in (await venue.broker.positions()).net] == [-2]
        too_many = committed_order(product_type=CNC, price=venue.below(1), quantity=4, transaction_type=SELL)
        outcome = await venue.broker.place(too_many, always_open)
        if isinstance(outcome, Accepted):
            assert "holding" in str((await venue.settled(too_many.tag, S.REJECTED)).status_message)
        else:
            assert refused(outcome).code is RefusalCode.HOLDINGS

    async def test_sale_that_needs_authorisation_is_refused_with_its_own_status(self, venue: PaperVenue):
        bought, _ = await venue.place(product_type=CNC, price=venue.above(1), quantity=5)
        await venue.settled(bought.tag, S.COMPLETE)
        await venue.later(days=3)
        await venue.exchange.behave(needs_authorisation=True)
        sale = committed_order(product_type=CNC, price=venue.below(1), quantity=5, transaction_type=SELL)
        outcome = refused(await venue.broker.place(sale, always_open))
        assert (outcome.code, outcome.status) == (RefusalCode.HOLDINGS, 428)
        assert outcome.message == "5 quantity needs authorisation at depository."

    async def test_margin_is_blocked_by_an_open_order_and_freed_by_its_cancel(self, venue: PaperVenue):
        before = (await venue.broker.margins()).equity
        order, order_id = await venue.place(quantity=100)
        await venue.settled(order.tag, S.OPEN)
        during = (await venue.broker.margins()).equity
        assert during.net < before.net
        assert during.available - during.used == during.net
        accepted(await venue.broker.cancel(order_id, Variety.REGULAR))
        await venue.settled(order.tag, S.CANCELLED)
        assert (await venue.broker.margins()).equity.net == before.net

    async def test_positions_may_lag_behind_trades(self, venue: PaperVenue):
        await venue.exchange.behave(positions_lag_s=60)
        order, order_id = await venue.place(price=venue.above(1))
        await venue.settled(order.tag, S.COMPLETE)
        assert len(await venue.broker.order_trades(order_id)) == 1
        assert not any(row.quantity for row in (await venue.broker.positions()).net)
        await venue.later(seconds=61)
        assert [row.quantity for row in (await venue.broker.positions()).net] == [1]

    # instruments and prices

    async def test_instruments_of_every_segment_are_read_as_the_exchange_has_them(self, venue: PaperVenue):
        everything = await venue.broker.instruments()
        master = venue.exchange.server.exchange.roll(venue.clock.now()).by_key
        found = {row.key: row for row in everything}
        assert found.keys() == master.keys()
        for key, row in found.items():
            told = master[key]
            assert (row.token, row.tick_size, row.lot_size, row.multiplier, row.expiry, row.segment, row.name) == (
                told.token, told.tick_size, told.lot_size, told.multiplier, told.expiry, told.segment, told.name,
            )  # fmt: skip
            assert (row.strike or 0) == (told.strike or 0)
            assert row.freeze_quantity is None
        assert {row.segment for row in everything} >= {
            "NSE", "BSE", "NFO-FUT", "NFO-OPT", "BFO-FUT", "BFO-OPT", "CDS-FUT", "BCD-FUT", "MCX-FUT", "INDICES",
        }  # fmt: skip
        assert {row.tick_size for row in everything} >= {Decimal(t) for t in ("0.01", "0.05", "0.1", "0.0025", "1")}
        assert all(row.expiry >= date(2026, 11, 20) for row in everything if row.expiry is not None)

    async def test_instruments_of_one_exchange_are_its_own(self, venue: PaperVenue):
        for exchange in Exchange:
            found = await venue.broker.instruments(exchange)
            assert {row.exchange for row in found} == {exchange}
            assert any(row.is_tradable for row in found)

    async def test_last_prices_of_more_than_a_call_takes_come_whole(self, venue: PaperVenue):
        keys = [row.key for row in await venue.broker.instruments("NFO")][:1200]
        prices = await venue.broker.last_prices([*keys, "NSE:NIFTY 50", "NSE:M&M", "NSE:NOPE"])
        assert prices.keys() == {*keys, "NSE:NIFTY 50", "NSE:M&M"}
        assert all(price > 0 for price in prices.values())

    async def test_last_price_is_the_one_that_orders_meet(self, venue: PaperVenue):
        await venue.price("NSE:INFY", Decimal("1433.30"))
        assert await venue.broker.last_prices(["NSE:INFY"]) == {"NSE:INFY": Decimal("1433.3")}

    async def test_book_in_no_order_is_read_the_same(self, venue: PaperVenue):
        placed = {(await venue.place())[1] for _ in range(8)}
        await venue.exchange.behave(shuffle_orders=True)
        for _ in range(3):
            assert {row.broker_order_id for row in await venue.broker.orders()} == placed

    async def test_order_ids_are_kept_digit_by_digit(self, venue: PaperVenue):
        _, order_id = await venue.place()
        assert len(order_id) in (15, 19)
        (row,) = await venue.broker.orders()
        assert row.broker_order_id == order_id
        assert row.order_timestamp is not None
        assert 0 <= (row.order_timestamp - MORNING).total_seconds() < 3600

    # sessions, addresses, limits

    async def test_session_that_is_flushed_ends_reads_and_writes_and_a_login_mends_it(self, venue: PaperVenue):
        _, order_id = await venue.resting()
        await venue.exchange.flush_sessions()
        for read in (venue.broker.orders, venue.broker.positions, venue.broker.profile, venue.broker.margins):
            with pytest.raises(BrokerAuthError):
                await read()
        for outcome in (
            await venue.broker.place(committed_order(), always_open),
            await venue.broker.replace(order_id, Variety.REGULAR, quantity=2),
            await venue.broker.cancel(order_id, Variety.REGULAR),
        ):
            assert (refused(outcome).code, refused(outcome).auth_blocked) == (RefusalCode.TOKEN_DEAD, True)
        # the master asks nobody who they are (kite.md 2)
        assert await venue.broker.instruments("NSE")
        venue.set_token(await venue.exchange.login())
        assert [row.broker_order_id for row in await venue.broker.orders()] == [order_id]
        accepted(await venue.broker.cancel(order_id, Variety.REGULAR))

    async def test_address_that_is_not_registered_may_read_and_not_order(self, venue: PaperVenue):
        order, order_id = await venue.resting()
        await venue.control("static-ip", {"addresses": ["203.0.113.9"]})
        for outcome in (
            await venue.broker.place(committed_order(), always_open),
            await venue.broker.replace(order_id, Variety.REGULAR, quantity=2),
            await venue.broker.cancel(order_id, Variety.REGULAR),
        ):
            said = refused(outcome)
            assert (said.code, said.status) == (RefusalCode.STATIC_IP, 403)
            assert (said.orders_blocked, said.auth_blocked) == (True, False)
            assert said.message.startswith("IP (127.0.0.1) is not allowed to place orders for this app.")
        row = await venue.row(order.tag)
        assert (row.status, row.quantity) == (S.OPEN, 1)
        await venue.control("static-ip", {"addresses": ["127.0.0.1"]})
        accepted(await venue.broker.cancel(order_id, Variety.REGULAR))

    async def test_too_many_orders_in_a_second_are_refused_and_stay_so_for_the_penalty(self, venue: PaperVenue):
        # to the start of a calendar second, for that is what is counted
        await self.to_second(venue)
        await venue.control("limits", {**PACED, "orders_per_minute": 400, "orders_per_day": 5000})
        outcomes = [await venue.broker.place(committed_order(), always_open) for _ in range(4)]
        assert [type(outcome) for outcome in outcomes[:3]] == [Accepted] * 3
        said = refused(outcomes[3])
        assert (said.code, said.status, said.rate_limited) == (RefusalCode.RATE_LIMITED, 429, True)
        assert len(await venue.broker.orders()) == 3
        order_id = (await venue.broker.orders())[0].broker_order_id
        await venue.later(seconds=5)
        # modify and cancel count with the placements (kite.md 4.1)
        assert refused(await venue.broker.cancel(order_id, Variety.REGULAR)).code is RefusalCode.RATE_LIMITED
        assert refused(await venue.broker.replace(order_id, Variety.REGULAR, quantity=2)).rate_limited
        await venue.later(seconds=6)
        accepted(await venue.broker.cancel(order_id, Variety.REGULAR))

    async def test_caps_of_the_minute_and_the_day_are_told_by_their_words(self, venue: PaperVenue):
        await self.to_second(venue, minute=True)
        await venue.control("limits", {**PACED, "orders_per_second": 100})
        for number in range(10):
            outcome = await venue.broker.place(committed_order(), always_open)
            assert isinstance(outcome, Accepted) is (number < 9), outcome
        assert (refused(outcome).code, refused(outcome).rate_limited) == (RefusalCode.ORDER_CAP, True)
        await venue.later(seconds=60)
        codes = []
        for _ in range(4):
            outcome = await venue.broker.place(committed_order(), always_open)
            codes.append(None if isinstance(outcome, Accepted) else refused(outcome).code)
        assert codes[-1] is RefusalCode.ORDER_CAP
        await venue.later(seconds=120)
        assert refused(await venue.broker.place(committed_order(), always_open)).code is RefusalCode.ORDER_CAP
        await venue.later(days=1)
        accepted(await venue.broker.place(committed_order(), always_open))

    async def test_too_many_reads_are_told_apart_from_a_broker_that_is_down(self, venue: PaperVenue):
        await self.to_second(venue)
        await venue.control("limits", {"quotes_per_second": 1, "reads_per_second": 2})
        await venue.broker.last_prices(["NSE:INFY"])
        with pytest.raises(ReadRateLimited):
            await venue.broker.last_prices(["NSE:INFY"])
        # a quote too many shuts quotes alone
        await venue.broker.orders()
        await venue.broker.positions()
        with pytest.raises(ReadRateLimited):
            await venue.broker.trades()
        await venue.later(seconds=11)
        await venue.broker.trades()

    async def test_read_of_what_the_app_may_not_see_is_no_dead_session(self, venue: PaperVenue):
        await venue.exchange.set_faults({"on": "quotes", "takes": "never", "answer": "permission"})
        with pytest.raises(BrokerUnavailable, match="Insufficient permission") as caught:
            await venue.broker.last_prices(["NSE:INFY"])
        assert not isinstance(caught.value, BrokerAuthError)
        assert await venue.broker.orders() == []

    async def to_second(self, venue: PaperVenue, *, minute: bool = False) -> None:
        """Move the exchange's clock to the start of its next second, or minute."""
        now = venue.clock.now()
        rest = (60 - now.second if minute else 1) - now.microsecond / 1e6
        await venue.later(seconds=rest)
