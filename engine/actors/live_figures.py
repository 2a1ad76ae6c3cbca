"""The keeper of live figures: positions and profit and loss for the event stream, a few times in a second.

Positions that the ledger has taken are told within half a second, each key in its latest form only. What moves with
the prices is worked out once a second, and only for users that somebody watches: a stream that begins is told
everything of its users at once. Off the path of orders: it reads what other actors hold. Restart: permanent.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

import msgspec
import trio

from engine.actors.crew import Crew
from engine.actors.event_hub import EventHub, Watcher
from engine.clock import Clock, trading_day
from engine.domain.day_figures import DayFigures
from engine.domain.day_pnl import Part
from engine.domain.position import Position, PositionKey
from engine.domain.stream_event import StreamEvent, StreamType
from engine.runtime.beat import beat

_TICK_S = 0.5
_FIGURES_EVERY = 2

Priced = tuple[Position, Decimal | None]


class DayFigure(msgspec.Struct, frozen=True, kw_only=True):
    """What the IST *day* made for a user, by part; ``at`` (UTC) is when the figures are of."""

    user_id: UUID
    day: date
    at: datetime
    figures: Mapping[Part, DayFigures]


class LiveFigures:
    """Publishes to *hub*; *price* returns the last price (rupees) of an instrument's key."""

    def __init__(
        self,
        hub: EventHub,
        *,
        crew: Crew,
        price: Callable[[str], Decimal | None],
        owner_of_account: Callable[[UUID], UUID | None],
        clock: Clock,
    ) -> None:
        self._hub = hub
        self._crew = crew
        self._price = price
        self._owner_of_account = owner_of_account
        self._clock = clock
        self._told: dict[PositionKey, Priced] = {}
        self._figures: dict[UUID, Mapping[Part, DayFigures]] = {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until cancelled."""
        task_status.started()
        ticks = 0
        while True:
            await beat(_TICK_S)
            self.tell_positions()
            ticks += 1
            if ticks % _FIGURES_EVERY == 0:
                await self.tell_figures()

    def tell_positions(self) -> None:
        """Publish the positions that changed."""
        for position, at in self._hub.take_positions():
            self._tell(position, at, self._owner_of_account(position.account_id))

    async def tell_figures(self) -> None:
        """Publish what has moved with the prices, for users that somebody watches."""
        newcomers = self._hub.take_newcomers()
        if not self._hub.watchers:
            # nobody has heard of what moves meanwhile
            self._told.clear()
            self._figures.clear()
            return
        now = self._clock.now()
        for executor in list(self._crew.executors.values()):
            user_id = executor.user_id
            if not _any(self._hub.watchers, user_id, executor.account_id):
                continue
            is_new = _any(newcomers, user_id, executor.account_id)
            for position in list(executor.desk.holdings.positions.values()):
                priced = (position, self._price_of(position))
                if is_new or (position.quantity and self._told.get(position.key) != priced):
                    self._tell(position, now, user_id)
            # many accounts must not hold up an order
            await trio.lowlevel.checkpoint()
        for user_id, actor in list(self._crew.risk_actors.items()):
            if not actor.is_ready or not _any(self._hub.watchers, user_id, None):
                continue
            figures = actor.state.pnl.all_figures()
            if _any(newcomers, user_id, None) or self._figures.get(user_id) != figures:
                self._figures[user_id] = figures
                about = DayFigure(user_id=user_id, day=trading_day(now), at=now, figures=figures)
                self._hub.publish(StreamEvent(StreamType.PNL, about, owner=user_id))
            await trio.lowlevel.checkpoint()

    def _price_of(self, position: Position) -> Decimal | None:
        return self._price(f"{position.exchange}:{position.symbol}")

    def _tell(self, position: Position, at: datetime, owner: UUID | None) -> None:
        price = self._price_of(position)
        self._told[position.key] = (position, price)
        self._hub.publish(
            StreamEvent(StreamType.POSITION, position, owner=owner, account_id=position.account_id, parts=(at, price))
        )


def _any(watchers: Sequence[Watcher], user_id: UUID, account_id: UUID | None) -> bool:
    return any(watcher(user_id, account_id) for watcher in watchers)
