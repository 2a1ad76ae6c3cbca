"""The whole of the suite against the paper exchange: every lever that the exchange has is turned."""

from decimal import Decimal

import pytest

from engine.broker.kite.adapter import KiteBroker
from tests.conformance.account_suite import AccountSuite
from tests.conformance.change_suite import ChangeSuite
from tests.conformance.order_suite import OrderSuite
from tests.conformance.paper_venue import MovableClock, PaperVenue
from tests.conformance.test_paper_exchange import is_placement
from tests.support.exchange import running_exchange

PLAIN = pytest.param({}, id="plain")
ASYNCHRONOUS = pytest.param({"order_ids": "dated", "rejection": "async", "partial_fills": True}, id="asynchronous")


@pytest.fixture
async def venue(tmp_path, request):
    clock = MovableClock()
    config = getattr(request, "param", {})
    async with running_exchange(tmp_path, clock=clock, token_expiry=False, **config) as exchange:
        await exchange.set_price("NSE:INFY", "1450.00")
        broker = KiteBroker(exchange.base_url, exchange.api_key, exchange.access_token, clock)
        yield PaperVenue(
            broker=broker,
            last_price=Decimal(1450),
            placements=lambda: sum(is_placement(event) for event in exchange.record()),
            set_token=broker.set_access_token,
            exchange=exchange,
            clock=clock,
        )
        await broker.aclose()


@pytest.mark.parametrize("venue", [PLAIN, ASYNCHRONOUS], indirect=True)
class TestOrders(OrderSuite):
    pass


@pytest.mark.parametrize("venue", [PLAIN, ASYNCHRONOUS], indirect=True)
class TestChanges(ChangeSuite):
    pass


# what fills in parts, and what is refused later, makes no difference here
class TestAccount(AccountSuite):
    pass
