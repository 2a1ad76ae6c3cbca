"""Last prices: what MARKET orders are valued at, price bands measured from and positions marked with.

Owns the price of every instrument that somebody asked for. A price comes from a ticker where one is
connected and has told it, and from the broker's quotes where not (Kite allows one call a second, up to
1000 instruments). No mailbox: `watch` only marks. Restart: permanent; prices are asked for again.
"""

from collections.abc import Awaitable, Callable, Iterable
from decimal import Decimal
from math import inf

import structlog
import trio

from engine.broker.base import Broker, BrokerAuthError, BrokerNotPermitted
from engine.clock import Clock, SystemClock
from engine.domain.live_units import NO_BOUNDS, Bounds
from engine.errors import BrokerUnavailable, EngineError

_log = structlog.get_logger(__name__)

_REFRESH_S = 2.0
_GAP_S = 1.1
_WAIT_S = 3.0
_FETCH_TIMEOUT_S = 5.0
_MAX_KEYS = 3000
_KEYS_PER_CALL = 1000
_BOUNDS_PER_CALL = 500
_BOUNDS_EVERY_S = 60.0
_BOUNDS_LIFE_S = 180.0
# The call under way may have been made without the key.
_CALLS_TO_WAIT = 2


def _nobody(_key: str, _price: Decimal) -> None:
    return None


def _nobody_else(_broker: Broker, _error: BrokerUnavailable) -> None:
    return None


class Prices:
    """Prices by ``EXCHANGE:SYMBOL``, in rupees; *changed* is told each new one and must not wait.

    *refused* is told of a broker that denied them. *bounds_of* asks a broker between which prices the exchange takes
    orders in up to 500 keys; it is asked once a minute, in the gaps between price calls, and what is older than
    three minutes is not known any more: exchanges widen them during the day. Without it none are known.
    """

    def __init__(
        self,
        *,
        any_broker: Callable[[], Awaitable[Broker | None]],
        changed: Callable[[str, Decimal], None] = _nobody,
        refused: Callable[[Broker, BrokerUnavailable], None] = _nobody_else,
        clock: Clock | None = None,
        bounds_of: Callable[[Broker, list[str]], Awaitable[dict[str, Bounds]]] | None = None,
    ) -> None:
        self._any_broker = any_broker
        self._changed = changed
        self._refused = refused
        self._clock = clock or SystemClock()
        self._prices: dict[str, Decimal] = {}
        # when the price was last told, by whomever, the same as before or another (boot time)
        self._confirmed: dict[str, int] = {}
        self._watched: dict[str, None] = {}
        # told by a ticker that is connected still: such a price is the last one however old it is
        self._live: set[str] = set()
        self._wanted = trio.Event()
        self._news = trio.Event()
        self._calls = 0
        self._asked: dict[str, int] = {}
        self.version = 0
        self._bounds_of = bounds_of
        self._bounds: dict[str, tuple[Bounds, float]] = {}
        self._bounds_asked: dict[str, float] = {}

    @property
    def watched(self) -> Iterable[str]:
        """The keys that are kept fresh; `version` grows when they change."""
        return self._watched.keys()

    @property
    def polled_count(self) -> int:
        """How many keys are kept fresh by quotes, for want of a ticker."""
        return len(self._watched) - len(self._live)

    @property
    def live_count(self) -> int:
        """How many keys a ticker keeps."""
        return len(self._live)

    def get(self, key: str) -> Decimal | None:
        """Return the last price known of *key*, or None."""
        if key in self._watched:
            self._watched[key] = self._watched.pop(key)
        return self._prices.get(key)

    def bounds(self, key: str) -> Bounds:
        """Return between which prices the exchange takes orders in *key*, as far as a quote has told it lately."""
        found = self._bounds.get(key)
        return NO_BOUNDS if found is None or found[1] < trio.current_time() - _BOUNDS_LIFE_S else found[0]

    def live(self, key: str) -> Decimal | None:
        """Return the price of *key* if a ticker keeps it, or None."""
        return self._prices.get(key) if key in self._live else None

    def confirmed_ns(self, key: str) -> int | None:
        """Return when the price of *key* was last confirmed (boot time, ns), None for one that never was.

        A ticker that is connected tells what changes: as long as it is, what it has told stands confirmed.
        """
        return self._clock.boottime_ns() if key in self._live else self._confirmed.get(key)

    def watch(self, key: str) -> None:
        """Keep the price of *key* fresh from now on."""
        if key in self._watched:
            self._watched[key] = self._watched.pop(key)
            return
        if len(self._watched) >= _MAX_KEYS:
            # the one asked for longest ago makes room; a price that nobody keeps fresh is none
            oldest = next(iter(self._watched))
            del self._watched[oldest]
            self._live.discard(oldest)
            self._prices.pop(oldest, None)
            self._confirmed.pop(oldest, None)
        self._watched[key] = None
        self.version += 1
        self._wanted.set()

    async def ensure(self, key: str) -> Decimal | None:
        """Return the price of *key*, waiting for the next quote call or tick when it is not known.

        None when the broker does not say within three seconds: the caller decides what that means.
        """
        self.watch(key)
        until = self._calls + _CALLS_TO_WAIT
        with trio.move_on_after(_WAIT_S):
            while key not in self._prices and self._calls < until:
                await self._news.wait()
        return self._prices.get(key)

    # the ticker

    def tick(self, key: str, price: Decimal) -> None:
        """Take the price of *key* from a ticker, which keeps it until `lost`."""
        if key not in self._watched or price <= 0:
            return
        self._live.add(key)
        is_first = key not in self._prices
        self._put(key, price)
        if is_first:
            self._announce()

    def lost(self) -> None:
        """No ticker tells prices any more: ask for all of them."""
        if self._live:
            now_ns = self._clock.boottime_ns()
            self._confirmed.update(dict.fromkeys(self._live, now_ns))
            self._live.clear()
            self._wanted.set()

    # quotes

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the watched prices fresh until cancelled: one call for all of them, no two within a second."""
        task_status.started()
        while True:
            keys = [key for key in self._watched if key not in self._live]
            if not keys:
                await self._ask_bounds()
                with trio.move_on_after(_BOUNDS_EVERY_S if self._bounds_of is not None else inf):
                    await self._wanted.wait()
                    self._wanted = trio.Event()
                continue
            self._wanted = trio.Event()
            with trio.move_on_after(_FETCH_TIMEOUT_S):
                await self._fetch(self._next(keys))
            self._calls += 1
            self._announce()
            await trio.sleep(_GAP_S)
            await self._ask_bounds()
            if len(keys) <= _KEYS_PER_CALL:
                with trio.move_on_after(_REFRESH_S - _GAP_S):
                    await self._wanted.wait()

    def _next(self, keys: list[str]) -> list[str]:
        """Return what the next call asks for: all, or those that were asked for longest ago."""
        if len(keys) > _KEYS_PER_CALL:
            keys = sorted(keys, key=lambda key: self._asked.get(key, -1))[:_KEYS_PER_CALL]
        self._asked = {key: call for key, call in self._asked.items() if key in self._watched}
        self._asked.update(dict.fromkeys(keys, self._calls))
        return keys

    async def _ask_bounds(self) -> None:
        """Ask for bounds that are due, one call, and leave the gap after it; not while a price is waited for."""
        if self._bounds_of is None or not all(key in self._asked or key in self._live for key in self._watched):
            return
        now = trio.current_time()
        due = [key for key in self._watched if self._bounds_asked.get(key, -inf) <= now - _BOUNDS_EVERY_S]
        if not due:
            return
        due = due[:_BOUNDS_PER_CALL]
        self._bounds_asked = {key: at for key, at in self._bounds_asked.items() if key in self._watched}
        self._bounds_asked.update(dict.fromkeys(due, now))
        try:
            with trio.move_on_after(_FETCH_TIMEOUT_S):
                broker = await self._any_broker()
                if broker is not None:
                    found = await self._bounds_of(broker, due)
                    self._bounds = {key: held for key, held in self._bounds.items() if key in self._watched}
                    self._bounds.update((key, (bounds, now)) for key, bounds in found.items())
        except EngineError as error:
            # no verdict then: the broker judges the price itself
            _log.debug("prices.no_bounds", error=str(error))
        await trio.sleep(_GAP_S)

    async def _fetch(self, keys: list[str]) -> None:
        broker: Broker | None = None
        try:
            broker = await self._any_broker()
            if broker is not None:
                found = await broker.last_prices(keys)
                for key, price in found.items():
                    # a ticker that has spoken meanwhile is the newer witness
                    if price > 0 and key in self._watched and key not in self._live:
                        self._put(key, price)
        except (BrokerNotPermitted, BrokerAuthError) as error:
            _log.warning("prices.denied", error=str(error))
            if broker is not None:
                self._refused(broker, error)
        except EngineError as error:
            _log.debug("prices.unavailable", error=str(error))

    def _put(self, key: str, price: Decimal) -> None:
        self._confirmed[key] = self._clock.boottime_ns()
        if self._prices.get(key) != price:
            self._prices[key] = price
            self._changed(key, price)

    def _announce(self) -> None:
        self._news.set()
        self._news = trio.Event()
