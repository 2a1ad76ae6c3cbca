"""The feed of one account: its ticker, which tells of orders and prices.

Order updates are wake-ups: a fold decides which of them are news, the account's executor then reads the
order book (kite.trade, WebSocket: asynchronous, reordered, repeated, some missing). After every connect and
every loss the executor looks too, for what nobody told meanwhile. Prices wait, the newest of each
instrument, to be taken at most four times a second. An outage is told to a person once.

Mailbox: order updates, bounded; a full one holds up the connection's reading, and none is dropped.
Restart: permanent; nothing is kept that the next connect does not bring anew.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from math import inf
from uuid import UUID

import msgspec
import structlog
import trio

from engine.broker.kite.ticker import Ticker, Ticket
from engine.broker.kite.ticker_frames import Mode, Notice, Tick
from engine.broker.kite.ticker_pool import TickerPool
from engine.broker.values import BrokerOrder
from engine.domain.push import Push, PushFold
from engine.errors import BrokerUnavailable
from engine.observability.measures import NEWS_PUSH
from engine.runtime.mailbox import Mailbox, Overflow

_log = structlog.get_logger(__name__)

_MAILBOX = 1000
_TAKE_EVERY_S = 0.25
# A connection that is back within so long was no outage that a person need hear of.
_PATIENCE_S = 15.0
# An outage is over when a connection has held so long; a flapping one is one outage.
_STEADY_S = 60.0
_MAX_PRICES = 10_000


class FeedContext(msgspec.Struct, frozen=True, kw_only=True):
    """The world of a feed.

    ``ticket`` returns what opens an account's ticker, None while it has no session. ``order_update`` tells the
    account's executor to look, because of an order's id at the broker or of anything (None). ``prices`` takes
    the newest price of each instrument token and ``down`` is told that no more come; ``alert`` takes a subject
    and a text for a person.
    """

    ticket: Callable[[UUID], Ticket | None]
    order_update: Callable[[UUID, str | None], None]
    prices: Callable[["Feed", Mapping[int, Decimal]], None]
    down: Callable[["Feed"], None]
    alert: Callable[[str, str], None]
    rng: random.Random


class PriceBuffer:
    """The newest price of each instrument that waits; above its bound the one that waited longest goes."""

    def __init__(self, capacity: int = _MAX_PRICES) -> None:
        self._capacity = capacity
        self._waiting: dict[int, Decimal] = {}
        self._some = trio.Event()
        self.dropped = 0

    def put(self, ticks: Sequence[Tick]) -> None:
        """Let *ticks* replace what waits of their instruments."""
        for tick in ticks:
            self._waiting[tick.token] = tick.last_price
        while len(self._waiting) > self._capacity:
            del self._waiting[next(iter(self._waiting))]
            self.dropped += 1
        self._some.set()

    def clear(self) -> None:
        """Forget what waits: it is from before a loss."""
        self._waiting = {}

    async def take(self) -> Mapping[int, Decimal]:
        """Wait for prices and return all that wait."""
        await self._some.wait()
        self._some = trio.Event()
        taken, self._waiting = self._waiting, {}
        return taken


class Feed:
    """Feeds one account."""

    def __init__(self, account_id: UUID, context: FeedContext) -> None:
        self.account_id = account_id
        self.mailbox: Mailbox[BrokerOrder] = Mailbox(f"feed:{account_id}", capacity=_MAILBOX, overflow=Overflow.BLOCK)
        self._context = context
        self._fold = PushFold()
        self._pool = TickerPool(lambda: context.ticket(account_id), self, rng=context.rng)
        self._prices = PriceBuffer()
        self._down_since: float | None = None
        self._up_since: float | None = None
        self._told = False
        self.reason: str | None = "connecting"
        self.updates = 0
        self.news = 0
        self.heard_at = -inf
        """When (trio's clock) an order update came last."""

    @property
    def is_open(self) -> bool:
        """Whether the ticker is connected."""
        return self._pool.is_open

    @property
    def connects(self) -> int:
        """How often a connection was made."""
        return self._pool.connects

    def want(self, tokens: Sequence[int]) -> None:
        """Have the prices of *tokens*, and no others."""
        too_many = self._pool.want(dict.fromkeys(tokens, Mode.LTP))
        if too_many:
            _log.warning("feed.too_many_instruments", account=str(self.account_id), without_ticker=too_many)

    # what the ticker tells

    def opened(self, ticker: Ticker) -> None:
        """A connection is there."""
        if not self.is_open:
            return  # one that only brings more prices
        self._up_since = trio.current_time()
        self._down_since = None
        self.reason = None
        _log.info("feed.open", account=str(self.account_id), connects=self.connects)
        self._context.order_update(self.account_id, None)

    def lost(self, ticker: Ticker, error: BrokerUnavailable) -> None:
        """A connection is gone, or could not be made."""
        self._prices.clear()
        self._context.down(self)
        if self.is_open:
            return
        if self._down_since is None:
            self._down_since = trio.current_time()
            # what was told into the void is in the order book; and a read tells a dead token from a poor plan
            self._context.order_update(self.account_id, None)
        self.reason = str(error)

    def ticks(self, ticks: Sequence[Tick]) -> None:
        """Prices came."""
        self._prices.put(ticks)

    async def order(self, update: BrokerOrder) -> None:
        """An order update came."""
        await self.mailbox.tell(update)

    def notice(self, notice: Notice) -> None:
        """The broker says something."""
        _log.warning("feed.notice", account=str(self.account_id), kind=notice.kind, text=notice.text)

    def garbled(self, error: BrokerUnavailable) -> None:
        """Something came that cannot be read: it may have been an order update."""
        self._context.order_update(self.account_id, None)

    # the actor

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Be connected while the account has a session, until cancelled."""
        task_status.started()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pool.run)
                nursery.start_soon(self._take_updates)
                nursery.start_soon(self._take_prices)
        finally:
            self._context.down(self)

    async def _take_updates(self) -> None:
        async for update in self.mailbox:
            self.updates += 1
            self.heard_at = trio.current_time()
            push = self._fold.take(update.as_report(), update.exchange_update_timestamp)
            if push is not Push.ECHO:
                self.news += 1
                NEWS_PUSH.inc()
                self._context.order_update(self.account_id, update.broker_order_id)

    async def _take_prices(self) -> None:
        while True:
            self._context.prices(self, await self._prices.take())
            await trio.sleep(_TAKE_EVERY_S)

    def mind_outage(self) -> None:
        """Tell of an outage that lasts: whoever keeps the feeds calls this every second."""
        now = trio.current_time()
        if self._context.ticket(self.account_id) is None:
            # nobody is logged in: that is told elsewhere, and no outage
            self._down_since = None
        elif self.is_open:
            if self._told and self._up_since is not None and now - self._up_since >= _STEADY_S:
                self._told = False
        elif self._down_since is None:
            self._down_since = now
        elif not self._told and now - self._down_since >= _PATIENCE_S:
            self._told = True
            text = f"FEED_DOWN: {self.reason}; orders and prices are polled meanwhile"
            self._context.alert(f"account:{self.account_id}", text)
