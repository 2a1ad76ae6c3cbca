"""Which accounts have a feed: those with orders today or positions, and a session; one connection each.

Among thousands of accounts most are idle: they get no connection, and their orders are followed by reading
the order book as before. Every second it is looked who has business now, whose prices are needed by whom,
and which feed tells them. Feeds hang under a supervisor of their own, where one that keeps failing rests
alone; a feed is a convenience, so that its failure blocks nothing.
"""

import random
from collections import defaultdict
from collections.abc import Callable
from datetime import date
from uuid import UUID

import msgspec
import structlog
import trio

from engine.actors.crew import Crew
from engine.actors.feed import Feed, FeedContext
from engine.actors.market_data import Key, MarketData
from engine.broker.kite.ticker import Ticket
from engine.clock import Clock, trading_day
from engine.domain.directory import Directory
from engine.errors import EngineError
from engine.runtime.beat import beat
from engine.runtime.child import ChildSpec, Escalation, OnEscalate
from engine.runtime.supervisor import Strategy, Supervisor

_log = structlog.get_logger(__name__)

MAX_FEEDS = 300
"""Connections at most, well below the open files that a process may have; further accounts are polled."""

_LOOK_S = 1.0
# Executors looked at in one step: less than a millisecond.
_STRIDE = 200
_REST_S = 600.0


class FeedsState(msgspec.Struct, frozen=True, kw_only=True):
    """How the feeds stand: ``wanted`` accounts should have one, ``connected`` have, ``reasons`` why others lack it."""

    wanted: int
    connected: int
    reasons: tuple[str, ...]


class Feeds:
    """Opens and closes feeds. *ticket* returns what opens an account's ticker, None while it has no session."""

    def __init__(
        self,
        *,
        crew: Crew,
        directory: Directory,
        clock: Clock,
        market: MarketData,
        broker: str,
        ticket: Callable[[UUID], Ticket | None],
        alert: Callable[[str, str], None],
        rng: random.Random,
    ) -> None:
        self._crew = crew
        self._directory = directory
        self._clock = clock
        self._market = market
        self._broker = broker
        self._ticket = ticket
        self._alert = alert
        self._context = FeedContext(
            ticket=ticket, order_update=self.order_update, prices=market.take, down=market.lose, alert=alert, rng=rng
        )
        self.supervisor = Supervisor("feeds", Strategy.ONE_FOR_ONE, rng=rng)
        self.feeds: dict[UUID, Feed] = {}
        # the IST day on which each account had business last
        self._days: dict[UUID, date] = {}
        self._resting: dict[UUID, float] = {}
        self._left_out = 0

    def order_update(self, account_id: UUID, broker_order_id: str | None) -> None:
        """Have the account's executor read the order book soon, if it runs at all."""
        executor = self._crew.executors.get(account_id)
        if executor is not None:
            executor.order_update(broker_order_id)

    def state(self) -> FeedsState:
        """Return how the feeds stand now."""
        down = [feed for feed in self.feeds.values() if not feed.is_open and self._ticket(feed.account_id) is not None]
        reasons = [feed.reason or "not connected" for feed in down]
        if self._left_out:
            reasons.append(f"{self._left_out} accounts beyond the {MAX_FEEDS} that are connected at once")
        return FeedsState(
            wanted=len(self.feeds) + self._left_out,
            connected=sum(feed.is_open for feed in self.feeds.values()),
            reasons=tuple(dict.fromkeys(reasons)),
        )

    def counters(self) -> dict[str, int]:
        """Return what the feeds have done since they were opened."""
        feeds = self.feeds.values()
        return {
            "open": len(feeds),
            "connected": sum(feed.is_open for feed in feeds),
            "connects": sum(feed.connects for feed in feeds),
            "orderUpdates": sum(feed.updates for feed in feeds),
            "orderNews": sum(feed.news for feed in feeds),
            "pricesTold": self._market.told,
            "pricesPolled": self._market.polled,
            "pricesLive": self._market.live,
        }

    # the keeper

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Open and close feeds as business comes and goes, until cancelled."""
        task_status.started()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._market.run)
            while True:
                try:
                    await self.look()
                except EngineError as error:
                    # the supervisor is being restarted, or a feed overran its stop: the next look tells
                    _log.warning("feeds.not_kept", error=str(error))
                for feed in list(self.feeds.values()):
                    feed.mind_outage()
                await beat(_LOOK_S)

    async def look(self) -> None:
        """Look once who has business, and act on it."""
        today = trading_day(self._clock.now())
        users: defaultdict[Key, set[UUID]] = defaultdict(set)
        for number, (account_id, executor) in enumerate(list(self._crew.executors.items()), start=1):
            if executor.is_ready and executor.has_business:
                self._days[account_id] = today
                for key in executor.instruments():
                    users[key].add(executor.user_id)
            if not number % _STRIDE:
                await trio.lowlevel.checkpoint()
        self._market.interest(users)
        await self._keep(today)
        self._market.choose(feed for account_id, feed in self.feeds.items() if self._tells_prices(account_id))

    def _tells_prices(self, account_id: UUID) -> bool:
        # the paper exchange's prices are not the market's, and the other way round
        account = self._directory.accounts.get(account_id)
        return account is not None and account.broker == self._broker

    async def _keep(self, today: date) -> None:
        for account_id in [a for a, day in self._days.items() if day != today or a not in self._directory.accounts]:
            del self._days[account_id]
            await self._close(account_id)
        self._left_out = 0
        for account_id in self._days:
            if account_id in self.feeds:
                await self._wake(account_id)
            elif self._ticket(account_id) is None:
                continue
            elif len(self.feeds) < MAX_FEEDS:
                await self._open(account_id)
            else:
                self._left_out += 1

    async def _open(self, account_id: UUID) -> None:
        if (name := f"feed:{account_id}") in self.supervisor:
            # one that overran its stop, or was left by a look that was cut short
            await self.supervisor.remove_child(name)
        feed = Feed(account_id, self._context)
        self.feeds[account_id] = feed

        def trip(escalation: Escalation) -> None:
            self._resting[account_id] = trio.current_time() + _REST_S
            self._alert(f"account:{account_id}", f"FEED_FAILED: {escalation}; orders and prices are polled meanwhile")

        spec = ChildSpec(
            name=name,
            start=feed.run,
            mailbox=feed.mailbox,
            on_escalate=OnEscalate.TRIP,
            on_trip=trip,
            max_restarts=5,
            window_s=60,
        )
        try:
            await self.supervisor.add_child(spec)
        except BaseException:
            del self.feeds[account_id]
            raise

    async def _wake(self, account_id: UUID) -> None:
        """Start a feed again that has rested after failing too often."""
        until = self._resting.get(account_id)
        if until is not None and trio.current_time() >= until:
            del self._resting[account_id]
            await self.supervisor.restart_child(f"feed:{account_id}")

    async def _close(self, account_id: UUID) -> None:
        self._resting.pop(account_id, None)
        if self.feeds.pop(account_id, None) is not None:
            await self.supervisor.remove_child(f"feed:{account_id}")
