"""Prices on their way: from one account's ticker to `Prices`, and from there to the users who need them.

One feed with market data serves all accounts; when it is lost another takes over. Risk actors are told the
price of what their users hold or have an order in, the newest of each instrument at most four times a second
and a bounded number in all, so that one instrument held by thousands cannot crowd out signals.
"""

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import partial
from typing import Protocol
from uuid import UUID

import structlog
import trio

from engine.actors.prices import Prices
from engine.actors.risk import PricesWait, RiskActor
from engine.domain.enums import Exchange
from engine.domain.instruments import InstrumentBook
from engine.domain.marks import Priced
from engine.errors import MailboxFull

_log = structlog.get_logger(__name__)

Key = tuple[Exchange, str]

_FLUSH_S = 0.25
# In one flush, over all users: 2,000 a second. Those of one user go together: two may be the legs of a hedge.
_FLUSH_PRICES = 500
# A risk actor that is behind with its work is not given more of what is only a newer price.
_BUSY_DEPTH = 100


class Source(Protocol):
    """A feed, as far as prices go."""

    @property
    def is_open(self) -> bool:
        """Whether prices come now."""

    def want(self, tokens: list[int]) -> None:
        """Have the prices of *tokens*, and no others."""


class MarketData:
    """Carries prices; *listener* returns the risk actor of a user, None for one that does not run."""

    def __init__(
        self,
        prices: Prices,
        *,
        book: Callable[[], InstrumentBook],
        listener: Callable[[UUID], RiskActor | None],
    ) -> None:
        self._prices = prices
        self._book = book
        self._listener = listener
        self._source: Source | None = None
        self._subscribed: tuple[int, InstrumentBook] | None = None
        self._keys: dict[int, str] = {}
        self._users: Mapping[Key, set[UUID]] = {}
        self._dirty: dict[str, None] = {}
        # of each user what has changed and was not taken yet; and who was told that something has
        self._pending: dict[UUID, dict[Key, None]] = {}
        self._told: set[UUID] = set()
        self._some = trio.Event()
        self.told = 0

    # who needs what

    def interest(self, users: Mapping[Key, set[UUID]]) -> None:
        """Keep fresh, and tell the *users* of it, the price of each instrument that somebody needs."""
        self._users = users
        for exchange, symbol in users:
            self._prices.watch(f"{exchange}:{symbol}")

    @property
    def polled(self) -> int:
        """Instruments whose price is polled."""
        return self._prices.polled_count

    @property
    def live(self) -> int:
        """Instruments whose price a ticker keeps."""
        return self._prices.live_count

    # from a feed

    @property
    def source(self) -> Source | None:
        """The feed that prices come from, None while all are polled."""
        return self._source

    def choose(self, feeds: Iterable[Source]) -> None:
        """Take prices from the feed that has told them so far, else from the first of *feeds* that is open."""
        if self._source is None or not self._source.is_open:
            self.lose(self._source)
            self._source = next((feed for feed in feeds if feed.is_open), None)
        self._subscribe()

    def _subscribe(self) -> None:
        if self._source is None:
            return
        book = self._book()
        version = self._prices.version
        if self._subscribed is not None and self._subscribed[0] == version and self._subscribed[1] is book:
            return
        self._keys = {}
        for key in self._prices.watched:
            exchange, _, symbol = key.partition(":")
            instrument = book.get(Exchange(exchange), symbol)
            if instrument is not None:
                self._keys[instrument.token] = key
        self._source.want(list(self._keys))
        self._subscribed = (version, book)

    def lose(self, feed: Source | None) -> None:
        """*feed* tells no prices now; if they came from it, all are asked for until another does."""
        if feed is None or feed is not self._source:
            return
        self._prices.lost()
        if not feed.is_open:
            feed.want([])
            self._source = None
            self._subscribed = None

    def take(self, feed: Source, prices: Mapping[int, Decimal]) -> None:
        """Take prices by instrument token."""
        if feed is not self._source:
            return
        for token, price in prices.items():
            key = self._keys.get(token)
            if key is not None:
                self._prices.tick(key, price)

    # to the users

    def changed(self, key: str, _price: Decimal) -> None:
        """A price is new."""
        self._dirty[key] = None
        self._some.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Tell users until cancelled."""
        task_status.started()
        while True:
            await self._some.wait()
            self._some = trio.Event()
            self.flush()
            if self._pending:
                self._some.set()
            await trio.sleep(_FLUSH_S)

    def flush(self) -> None:
        """Tell whose prices have changed, those first that have waited longest; what is too much waits for later."""
        for key in self._dirty:
            exchange, _, symbol = key.partition(":")
            instrument = (Exchange(exchange), symbol)
            for user in self._users.get(instrument, ()):
                self._pending.setdefault(user, {})[instrument] = None
        self._dirty.clear()
        told = 0
        for user, instruments in list(self._pending.items()):
            if told >= _FLUSH_PRICES:
                break
            if self._tell(user):
                told += len(instruments)

    def _tell(self, user: UUID) -> bool:
        listener = self._listener(user)
        if listener is None:
            del self._pending[user]
            return False
        depth = listener.mailbox.depth
        if depth >= _BUSY_DEPTH or (depth and user in self._told):
            return False  # what it has not read yet will have the newest
        try:
            listener.tell(PricesWait(take=partial(self._take, user)))
        except MailboxFull as error:
            _log.warning("price.not_told", user=str(user), error=str(error))
            return False
        self._told.add(user)
        return True

    def _take(self, user: UUID) -> list[Priced]:
        """Return all that has changed for a user, at the prices of now."""
        self._told.discard(user)
        prices: list[Priced] = []
        for exchange, symbol in self._pending.pop(user, ()):
            if (price := self._prices.get(f"{exchange}:{symbol}")) is not None:
                prices.append((exchange, symbol, price))
        self.told += len(prices)
        return prices
