"""The suite against the stand-in: the adapter's own share of the behaviour."""

from decimal import Decimal

import pytest

from engine.broker.kite.adapter import KiteBroker
from engine.clock import SystemClock
from tests.conformance.broker_suite import BrokerSuite, Venue
from tests.support.kite_stub import running_stub


@pytest.fixture
async def venue():
    async with running_stub() as stub:
        broker = KiteBroker(stub.base_url, stub.api_key, stub.access_token, SystemClock())
        yield Venue(
            broker=broker,
            last_price=Decimal(1450),
            placements=lambda: sum(request.method == "POST" for request in stub.requests),
            set_token=broker.set_access_token,
        )
        await broker.aclose()


class TestKiteStub(BrokerSuite):
    pass
