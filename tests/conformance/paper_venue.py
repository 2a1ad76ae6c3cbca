"""A venue whose other side can be turned by hand: price, liquidity, clock, limits, behaviour."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from engine.broker.base import BrokerOrder, always_open
from engine.clock import SystemClock
from engine.domain.instruments import Instrument
from engine.domain.order import Order
from tests.conformance.broker_suite import Venue, accepted
from tests.support.broker_orders import committed_order
from tests.support.exchange import RunningExchange

MORNING = datetime(2026, 11, 20, 4, 45, tzinfo=UTC)
"""A Friday, 10:15 IST: far from midnight, so that no test meets the end of a day that it did not ask for."""


class MovableClock(SystemClock):
    """Real time from `MORNING` on, and as much later as a test wants."""

    def __init__(self) -> None:
        self._zero = super().now()
        self.ahead = timedelta()

    def now(self) -> datetime:
        return MORNING + (super().now() - self._zero) + self.ahead


@dataclass
class PaperVenue(Venue):
    """The paper exchange behind the adapter, NSE:INFY pinned to 1450."""

    exchange: RunningExchange
    clock: MovableClock

    async def later(self, **amount: float) -> None:
        """Let time pass at the exchange, and what is due by then happen."""
        self.clock.ahead += timedelta(**amount)
        await self.price("NSE:INFY", self.last_price)

    async def price(self, key: str, price: Decimal) -> None:
        """Pin a last price."""
        await self.exchange.set_price(key, str(price))

    async def control(self, name: str, body: dict[str, Any]) -> None:
        """Turn a control of the exchange."""
        await self.exchange.control(name, body)

    async def wire_row(self, order_id: str) -> dict[str, Any]:
        """The row of the book as the wire has it, with what the engine does not read."""
        async with self.exchange.client() as rest:
            answer = await rest.get("/orders")
        (row,) = [row for row in msgspec.json.decode(answer.content)["data"] if row["order_id"] == order_id]
        return dict(row)

    async def place(self, **fields: Any) -> tuple[Order, str]:
        """Place an order that is taken; returns it and its broker id."""
        order = committed_order(**{"price": self.below(5)} | fields)
        return order, accepted(await self.broker.place(order, always_open))

    async def rows_of(self, tag: str) -> list[BrokerOrder]:
        """Every row with *tag*, in the order in which they came."""
        return [row for row in await self.broker.orders() if row.has_tag(tag)]

    async def contract(self, exchange: str, **wanted: Any) -> Instrument:
        """The first instrument of *exchange* whose fields are those *wanted*."""
        found = await self.broker.instruments(exchange)
        fitting = [row for row in found if all(getattr(row, name) == value for name, value in wanted.items())]
        assert fitting, f"{exchange} has no {wanted}"
        return fitting[0]
