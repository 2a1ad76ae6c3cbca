"""The suite against the paper exchange: adapter and exchange must agree on what Kite is."""

from datetime import timedelta
from decimal import Decimal

import pytest

from engine.broker.base import Accepted, BrokerAuthError, RefusalCode, Refused, always_open
from engine.broker.kite.adapter import KiteBroker
from engine.broker.kite.session import paper_login
from engine.clock import SystemClock
from engine.errors import BrokerUnavailable
from engine.exchange.events import OrderRequested
from tests.conformance.broker_suite import BrokerSuite, Venue
from tests.support.broker_orders import committed_order
from tests.support.exchange import running_exchange


@pytest.fixture(
    params=[{}, {"order_ids": "dated", "rejection": "async", "partial_fills": True}], ids=["plain", "asynchronous"]
)
async def exchange(tmp_path, request):
    async with running_exchange(tmp_path, **request.param) as exchange:
        await exchange.set_price("NSE:INFY", "1450.00")
        yield exchange


@pytest.fixture
async def venue(exchange):
    broker = KiteBroker(exchange.base_url, exchange.api_key, exchange.access_token, SystemClock())
    yield Venue(
        broker=broker,
        last_price=Decimal(1450),
        placements=lambda: sum(is_placement(event) for event in exchange.record()),
        set_token=broker.set_access_token,
    )
    await broker.aclose()


def is_placement(event) -> bool:
    return isinstance(event, OrderRequested) and event.action == "place"


class TestPaperExchange(BrokerSuite):
    pass


async def test_paper_login_gives_a_session_that_trades(exchange):
    session = await paper_login(exchange.base_url, api_key=exchange.api_key, api_secret=exchange.api_secret)
    assert session.user_id == exchange.user_id
    broker = KiteBroker(exchange.base_url, exchange.api_key, session.access_token, SystemClock())
    assert (await broker.profile()).user_id == exchange.user_id
    assert isinstance(await broker.place(committed_order(), always_open), Accepted)
    await broker.aclose()


async def test_paper_login_with_a_wrong_secret_is_refused(exchange):
    with pytest.raises(BrokerUnavailable):
        await paper_login(exchange.base_url, api_key=exchange.api_key, api_secret="wrong")


async def test_session_that_ended_blocks_writes_and_reads(exchange, venue):
    await exchange.flush_sessions()
    outcome = await venue.broker.place(committed_order(), always_open)
    assert isinstance(outcome, Refused)
    assert (outcome.code, outcome.auth_blocked) == (RefusalCode.TOKEN_DEAD, True)
    with pytest.raises(BrokerAuthError):
        await venue.broker.orders()


async def test_order_time_is_the_instant_and_not_shifted_by_a_zone(venue):
    order, _ = await venue.resting()
    row = await venue.row(order.tag)
    assert abs(row.order_timestamp - SystemClock().now()) < timedelta(hours=1)
