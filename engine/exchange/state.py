"""The exchange's whole state, changed by events only, so that the record rebuilds it."""

import heapq
from collections.abc import Callable, Iterable
from datetime import date, datetime
from decimal import Decimal
from itertools import pairwise

import msgspec

from engine.clock import trading_day
from engine.exchange.config import Behaviour
from engine.exchange.events import (
    AccountOpened,
    Event,
    GttChanged,
    HoldingsAuthorised,
    OrderChanged,
    OrderRequested,
    PositionConverted,
    SessionClosed,
    SessionOpened,
    Traded,
)
from engine.exchange.gtts import ACTIVE, Gtt, GttResult, fired
from engine.exchange.orders import AMO_RECEIVED, AccountBook, BookEntry, Order, pushed_status
from engine.exchange.portfolio import Portfolio


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """An account with its one app; ``capital`` is rupees."""

    user_id: str
    api_key: str
    api_secret: str
    capital: Decimal
    redirect_url: str


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A valid login of an app."""

    api_key: str
    user_id: str
    access_token: str
    public_token: str
    opened_at: datetime


class State:
    """Accounts, sessions, books, portfolios. ``record`` is the only way to change it after a start.

    ``behaviour`` is how the exchange behaves from now on; it is no part of the record.
    """

    def __init__(self, behaviour: Behaviour | None = None) -> None:
        self.behaviour = behaviour or Behaviour()
        self.accounts: dict[str, Account] = {}
        self.apps: dict[str, Account] = {}
        self.sessions: dict[str, Session] = {}
        self.books: dict[str, AccountBook] = {}
        self.portfolios: dict[str, Portfolio] = {}
        # live orders by EXCHANGE:SYMBOL, which the ticker task looks through
        self.resting: dict[str, dict[str, BookEntry]] = {}
        # orders that wait for the market to open
        self.waiting: dict[str, BookEntry] = {}
        self.gtts: dict[int, Gtt] = {}
        self.active_gtts: dict[str, set[int]] = {}
        self.last_gtt = 0
        self.last_order_id = 0
        self.orders = 0
        self.trades = 0
        self.day: date | None = None
        # called for each change of an order that the broker tells its clients of, not while restoring
        self.order_listeners: list[Callable[[Account, Order, str], None]] = []
        self._owners: dict[str, str] = {}
        self._unsaved: list[Event] = []
        self._due: list[tuple[datetime, str]] = []

    def restore(self, events: Iterable[Event]) -> None:
        """Take up the events of a record."""
        for event in events:
            self._apply(event)

    def record(self, event: Event) -> None:
        """Apply *event* and queue it for the truth record."""
        self._apply(event)
        self._unsaved.append(event)
        if self.order_listeners:
            self._tell(event)

    def take_unsaved(self) -> list[Event]:
        """Return what was recorded since the last call."""
        unsaved, self._unsaved = self._unsaved, []
        return unsaved

    def entry(self, order_id: str) -> BookEntry | None:
        """Return the book entry of an order, of whatever account."""
        owner = self._owners.get(order_id)
        return self.books[owner].entries.get(order_id) if owner is not None else None

    def pop_due(self, now: datetime) -> BookEntry | None:
        """Return an order whose next stage is due at *now*, None when there is none left."""
        while self._due and self._due[0][0] <= now:
            _, order_id = heapq.heappop(self._due)
            entry = self.entry(order_id)
            if entry is not None and entry.due and entry.due[0].at <= now:
                return entry
        return None

    def start_day(self, now: datetime) -> None:
        """Forget finished orders of earlier days and settle every portfolio up to *now*'s IST day."""
        self.day = trading_day(now)
        for book in self.books.values():
            book.drop_earlier_days(now)
        for portfolio in self.portfolios.values():
            portfolio.roll_to(self.day)
        self._owners = {order_id: owner for owner, book in self.books.items() for order_id in book.entries}

    def _tell(self, event: Event) -> None:
        match event:
            case OrderRequested(accepted=True) | OrderChanged():
                changes = sum(stage.at <= event.at for stage in event.stages)
            case Traded():
                changes = 1
            case _:
                return
        entry = self.entry(event.order_id or "")
        if entry is None:
            return
        account = self.accounts[entry.order.user_id]
        for before, after in pairwise(entry.history[-changes - 1 :]):
            status = pushed_status(before, after)
            if status is not None:
                for listener in self.order_listeners:
                    listener(account, after, status)

    def _apply(self, event: Event) -> None:
        if self.day is None or trading_day(event.at) > self.day:
            self.start_day(event.at)
        match event:
            case AccountOpened():
                self._open_account(event)
            case SessionOpened():
                self.sessions[event.api_key] = Session(
                    api_key=event.api_key,
                    user_id=event.user_id,
                    access_token=event.access_token,
                    public_token=event.public_token,
                    opened_at=event.at,
                )
            case SessionClosed():
                self.sessions.pop(event.api_key, None)
            case OrderRequested():
                self._take_request(event)
            case OrderChanged():
                self._take_stages(event.order_id, event)
            case Traded():
                entry = self._take_stages(event.order_id, event)
                entry.trades.append(event.trade)
                self.books[event.trade.user_id].trades.append(event.trade)
                self.portfolios[event.trade.user_id].apply(event.trade)
                self.trades += 1
            case GttChanged():
                self._take_gtt(event.gtt)
            case PositionConverted():
                self.portfolios[event.user_id].convert(event)
            case HoldingsAuthorised():
                self.portfolios[event.user_id].authorise(event.quantities)

    def _open_account(self, event: AccountOpened) -> None:
        account = Account(
            user_id=event.user_id,
            api_key=event.api_key,
            api_secret=event.api_secret,
            capital=event.capital,
            redirect_url=event.redirect_url,
        )
        self.accounts[event.user_id] = self.apps[event.api_key] = account
        self.books.setdefault(event.user_id, AccountBook())
        self.portfolios.setdefault(event.user_id, Portfolio())

    def _take_request(self, event: OrderRequested) -> None:
        if event.order is not None:
            self._take_order(event.order)
        if event.accepted and event.order_id is not None and event.order_id in self._owners:
            self._take_stages(event.order_id, event)

    def _take_order(self, order: Order) -> None:
        entries = self.books[order.user_id].entries
        entries[order.order_id] = BookEntry(order)
        self.books[order.user_id].weigh(None, order)
        self._owners[order.order_id] = order.user_id
        self.orders += 1
        self.last_order_id = max(self.last_order_id, int(order.order_id))
        leader = order.follows or order.parent_order_id
        if leader is not None and leader in entries:
            entries[leader].follower = order.order_id
        gtt = self.gtts.get(order.gtt) if order.gtt is not None else None
        if gtt is not None:
            # one line of the record fires a trigger and makes its order: after a crash it cannot fire again
            result = GttResult(
                at=order.order_timestamp, price=gtt.trigger_values[order.gtt_leg], order_id=order.order_id
            )
            self._take_gtt(fired(gtt, order.gtt_leg, result))

    def _take_gtt(self, gtt: Gtt) -> None:
        self.gtts[gtt.trigger_id] = gtt
        self.last_gtt = max(self.last_gtt, gtt.trigger_id)
        active = self.active_gtts.setdefault(gtt.key, set())
        active.discard(gtt.trigger_id)
        if gtt.status == ACTIVE:
            active.add(gtt.trigger_id)
        if not active:
            del self.active_gtts[gtt.key]

    def _take_stages(self, order_id: str, event: OrderRequested | OrderChanged | Traded) -> BookEntry:
        entry = self.books[self._owners[order_id]].entries[order_id]
        before = entry.order
        if isinstance(event, Traded):
            entry.take([event.stage])
        else:
            if isinstance(event, OrderChanged):
                for _ in range(min(event.due, len(entry.due))):
                    entry.due.popleft()
            entry.take(stage for stage in event.stages if stage.at <= event.at)
            for stage in event.stages:
                if stage.at > event.at:
                    entry.due.append(stage)
                    heapq.heappush(self._due, (stage.at, order_id))
        order = entry.order
        self.books[order.user_id].weigh(before, order)
        self._file(entry)
        return entry

    def _file(self, entry: BookEntry) -> None:
        """Keep the order where those look for it that it concerns."""
        order = entry.order
        if order.status == AMO_RECEIVED:
            self.waiting[order.order_id] = entry
            return
        self.waiting.pop(order.order_id, None)
        if not order.is_terminal:
            self.resting.setdefault(order.key, {})[order.order_id] = entry
            return
        resting = self.resting.get(order.key)
        if resting is not None and resting.pop(order.order_id, None) is not None and not resting:
            del self.resting[order.key]
