"""Order updates on their way out: kept until they are on the disk, then told to the ticker and the postbacks.

The core calls `Updates` from within a change (`Exchange.subscribe_orders`); nothing is sent from there. The task
`run` waits until the record has what happened and only then hands the updates on, in order.
"""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import trio

from engine.exchange.orders import Order
from engine.exchange.state import Account
from engine.exchange.web import Gateway


class Update(NamedTuple):
    """A change of an order that the broker tells of, under the status it is told with."""

    account: Account
    order: Order
    status: str


class Updates:
    """Hands order updates on to *receivers*, which must not wait and must not raise."""

    def __init__(self, gateway: Gateway, *receivers: Callable[[Update], None]) -> None:
        self._gateway = gateway
        self._receivers = receivers
        # bounded by the requests at hand: `run` empties it at the next write of the record
        self._waiting: deque[Update] = deque()
        self._arrived = trio.Event()

    def note(self, account: Account, order: Order, status: str) -> None:
        """Take note of an update; the listener of `Exchange.subscribe_orders`."""
        self._waiting.append(Update(account, order, status))
        self._arrived.set()

    async def run(self) -> None:
        """Hand updates on until cancelled."""
        while True:
            await self._arrived.wait()
            self._arrived = trio.Event()
            due, self._waiting = self._waiting, deque()
            await self._gateway.settle()
            for update in due:
                for receive in self._receivers:
                    receive(update)
