"""Last prices: what MARKET orders are valued at and price bands are measured from.

Owns the price of every instrument that somebody asked for, and keeps them fresh with one quote call
for all of them (Kite allows one a second, up to 1000 instruments). No mailbox: `watch` only marks.
Restart: permanent; prices are asked for again.
"""

from collections.abc import Awaitable, Callable
from decimal import Decimal

import structlog
import trio

from engine.broker.base import Broker, BrokerAuthError, BrokerNotPermitted
from engine.errors import BrokerUnavailable, EngineError

_log = structlog.get_logger(__name__)

_REFRESH_S = 2.0
_GAP_S = 1.1
_WAIT_S = 3.0
_FETCH_TIMEOUT_S = 5.0
_MAX_KEYS = 1000


def _nobody_else(_broker: Broker, _error: BrokerUnavailable) -> None:
    return None


class Prices:
    """Prices by ``EXCHANGE:SYMBOL``, in rupees; *refused* is told of a broker that denied them."""

    def __init__(
        self,
        *,
        any_broker: Callable[[], Awaitable[Broker | None]],
        refused: Callable[[Broker, BrokerUnavailable], None] = _nobody_else,
    ) -> None:
        self._any_broker = any_broker
        self._refused = refused
        self._prices: dict[str, Decimal] = {}
        self._watched: dict[str, None] = {}
        self._wanted = trio.Event()
        self._fetched = trio.Event()

    def get(self, key: str) -> Decimal | None:
        """Return the last price known of *key*, or None."""
        if key in self._watched:
            self._watched[key] = self._watched.pop(key)
        return self._prices.get(key)

    def watch(self, key: str) -> None:
        """Keep the price of *key* fresh from now on."""
        if key in self._watched:
            return
        if len(self._watched) >= _MAX_KEYS:
            # the one asked for longest ago makes room; a price that nobody keeps fresh is none
            oldest = next(iter(self._watched))
            del self._watched[oldest]
            self._prices.pop(oldest, None)
        self._watched[key] = None
        self._wanted.set()

    async def ensure(self, key: str) -> Decimal | None:
        """Return the price of *key*, waiting for the next quote call when it is not known.

        None when the broker does not say within three seconds: the caller decides what that means.
        """
        self.watch(key)
        with trio.move_on_after(_WAIT_S):
            # the call under way may have been made without the key
            for _ in range(2):
                if key in self._prices:
                    break
                await self._fetched.wait()
        return self._prices.get(key)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the watched prices fresh until cancelled: one call for all of them, no two within a second."""
        task_status.started()
        while True:
            if not self._watched:
                await self._wanted.wait()
            self._wanted = trio.Event()
            with trio.move_on_after(_FETCH_TIMEOUT_S):
                await self._fetch(list(self._watched))
            self._fetched.set()
            self._fetched = trio.Event()
            await trio.sleep(_GAP_S)
            with trio.move_on_after(_REFRESH_S - _GAP_S):
                await self._wanted.wait()

    async def _fetch(self, keys: list[str]) -> None:
        broker: Broker | None = None
        try:
            broker = await self._any_broker()
            if broker is not None:
                found = await broker.last_prices(keys)
                self._prices.update((k, price) for k, price in found.items() if price > 0 and k in self._watched)
        except (BrokerNotPermitted, BrokerAuthError) as error:
            _log.warning("prices.denied", error=str(error))
            if broker is not None:
                self._refused(broker, error)
        except EngineError as error:
            _log.debug("prices.unavailable", error=str(error))
