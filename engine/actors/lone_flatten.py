"""Flattening accounts when no engine runs: the hands that a flattener has in a command.

No store, no books, no budget of calls but a pace: what the broker shows is all there is. Every order is written
ahead to ``state/flatten.wal`` before it leaves, so that the next start of the engine looks for it; what an earlier
command left there is looked for here. The engine is dead, but what it sent last may still come up: the account is
flat only once two clean looks say so.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar
from uuid import UUID

import msgspec
import structlog
import trio

from engine.actors.broker_sight import book_row, held_rows
from engine.actors.flatten_file import FlattenFile
from engine.actors.flattener import Flattener, StillWanted
from engine.broker.base import Broker, NotSent, PlaceOutcome, WriteOutcome
from engine.clock import Clock, trading_day
from engine.domain.enums import Exchange
from engine.domain.flatten import BookRow, Demand, Held, NotFlat, Place, Stage, Standing, Ticket, may_flatten_now
from engine.domain.flatten_world import Surroundings
from engine.domain.gtt import GttStatus
from engine.domain.order import Order
from engine.domain.tickets import order_of, ticket_of
from engine.errors import BrokerUnavailable
from engine.security.creds_file import Credentials

_log = structlog.get_logger(__name__)

T = TypeVar("T")

NAME = "command:flatten"
"""The name of what the command demands."""

_READ_TIMEOUT_S = 10.0
_PACE_S = 0.125
_LOOK_S = 0.2
_GTTS_AGAIN_S = 2.0
# the first may have begun to read before the triggers were seen to be gone
_LOOKS_AFTER_GTTS = 2


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one account: ``flat`` only when it is proven; ``why`` says what stands otherwise."""

    account_id: UUID
    label: str
    flat: bool
    took_s: float
    why: tuple[str, ...] = ()
    alarms: tuple[str, ...] = ()


class LoneHands:
    """What flattening one account needs, over its broker alone; *earlier* was written ahead before."""

    def __init__(
        self,
        broker: Broker,
        account: Credentials,
        *,
        file: FlattenFile,
        clock: Clock,
        earlier: Sequence[Order],
    ) -> None:
        self._broker = broker
        self._account = account
        self._file = file
        self._clock = clock
        self._earlier = [order for order in earlier if order.account_id == account.account_id]
        self._next_call = 0.0
        self._ends_gtts = False
        self.resting_gtts: int | None = None
        # looks that must follow the end of the triggers: one of them may have fired meanwhile
        self.looks_owed = 0
        self.look_soon: Callable[[], None] = _nobody
        self.alarms: list[str] = []
        self.standing: Standing | None = None

    async def orders(self) -> Sequence[BookRow]:
        """Return the order book. Raises BrokerUnavailable."""
        return [book_row(row, strategy_id=None) for row in await self._read(self._broker.orders)]

    async def positions(self) -> Sequence[Held]:
        """Return the net positions. Raises BrokerUnavailable."""
        found = await self._read(self._broker.positions)
        return held_rows(found.net)

    async def _read(self, call: Callable[[], Awaitable[T]]) -> T:
        try:
            with trio.fail_after(_READ_TIMEOUT_S):
                return await call()
        except trio.TooSlowError:
            raise BrokerUnavailable("the broker does not answer") from None

    async def drain(self, timeout_s: float) -> tuple[int, int]:
        """Nothing of this process is on the wire."""
        return 0, 0

    def unresolved(self) -> Sequence[tuple[Ticket, float]]:
        """Return what earlier commands of today wrote ahead, and how many seconds ago."""
        now = self._clock.now()
        return [
            (ticket_of(order), (now - order.created_at).total_seconds())
            for order in self._earlier
            if order.trading_day == trading_day(now)
        ]

    def used(self) -> frozenset[UUID]:
        """Return the ids of everything that earlier commands wrote ahead."""
        return frozenset(order.id for order in self._earlier)

    def carried(self) -> Mapping[Place, int]:
        """Return nothing: there are no books."""
        return {}

    def end_resting(self, demands: Sequence[Demand]) -> None:
        """Have the triggers ended; `end_gtts` does it."""
        self._ends_gtts = bool(demands)

    async def end_gtts(self) -> None:
        """End every trigger that rests at the broker, again and again, until cancelled."""
        while True:
            if self._ends_gtts:
                try:
                    active = [gtt for gtt in await self._broker.gtts() if gtt.status is GttStatus.ACTIVE]
                    for gtt in active:
                        await self._turn()
                        await self._broker.cancel_gtt(gtt.trigger_id)
                    if active:
                        self.looks_owed = _LOOKS_AFTER_GTTS
                    self.resting_gtts = len(active)
                    if not active and self.looks_owed:
                        self.look_soon()
                except BrokerUnavailable as error:
                    _log.warning("flatten.gtts_unreadable", account=str(self._account.account_id), error=str(error))
            await trio.sleep(_GTTS_AGAIN_S)

    async def cancel(self, row: BookRow) -> WriteOutcome:
        """Ask the broker to cancel an order."""
        await self._turn()
        return await self._broker.cancel(row.order_id, row.variety, parent_order_id=row.parent_id)

    async def place(self, ticket: Ticket, still_wanted: StillWanted) -> PlaceOutcome:
        """Write *ticket* ahead and send it, once."""
        now = self._clock.now()
        order = order_of(
            ticket,
            account_id=self._account.account_id,
            user_id=self._account.user_id,
            epoch=0,
            trading_day=trading_day(now),
            now=now,
        )
        try:
            await trio.to_thread.run_sync(self._file.append, order, abandon_on_cancel=False)
        except OSError as error:
            return NotSent(reason=f"NOT_RECORDED: state/flatten.wal: {error}")
        await self._turn()
        return await self._broker.place(order, still_wanted)

    async def _turn(self) -> None:
        """Take a call of the broker's ten a second."""
        now = trio.current_time()
        at = max(now, self._next_call)
        self._next_call = at + _PACE_S
        await trio.sleep_until(at)

    def told(self, standings: Sequence[Standing]) -> None:
        """Keep how it stands."""
        if self.resting_gtts == 0 and self.looks_owed:
            self.looks_owed -= 1
            self.look_soon()
        self.standing = next((standing for standing in standings if standing.name == NAME), self.standing)

    def alarm(self, text: str) -> None:
        """Keep what a person must hear."""
        self.alarms.append(text)


class LoneFlatten:
    """Flattens one account from a command.

    *is_open* tells whether an exchange takes orders at an instant; positions for delivery are kept unless
    *delivery*. Gives up after *timeout_s*, and says what is not flat.
    """

    def __init__(
        self,
        hands: LoneHands,
        account: Credentials,
        *,
        clock: Clock,
        tag: Callable[[UUID], str],
        is_open: Callable[[Exchange, datetime], bool],
        delivery: bool = False,
        timeout_s: float = 120.0,
    ) -> None:
        self._hands = hands
        self._account = account
        self._clock = clock
        self._is_open = is_open
        self._delivery = delivery
        self._timeout_s = timeout_s
        world = Surroundings(
            account_id=account.account_id,
            tag=tag,
            freeze=lambda _place: None,
            lot=lambda _place: 1,
            protection=lambda: account.market_protection,
            share=lambda _strategy, _place: 0,
            shut=self._shut,
            doubts=lambda: (),
        )
        self._flattener = Flattener(hands, world, now=clock.now)
        hands.look_soon = self._flattener.look_soon

    def _shut(self, demand: Demand, exchange: str) -> str | None:
        if exchange not in Exchange.__members__.values():
            return None
        now = self._clock.now()
        return may_flatten_now(
            demand.since,
            is_open=self._is_open(Exchange(exchange), now),
            was_open=True,
            same_day=True,
            at_open=True,
        )

    async def run(self) -> Result:
        """Work until the account is proven flat or the time is over."""
        began, now = trio.current_time(), self._clock.now()
        self._flattener.want(
            Demand(name=NAME, version=int(now.timestamp() * 1000), since=now, by="cli", delivery=self._delivery)
        )
        with trio.move_on_after(self._timeout_s):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hands.end_gtts)
                nursery.start_soon(self._flattener.run)
                while not self._is_flat:  # noqa: ASYNC110 -- bounded by the caller's patience
                    await trio.sleep(_LOOK_S)
                nursery.cancel_scope.cancel()
        return Result(
            account_id=self._account.account_id,
            label=self._account.label,
            flat=self._is_flat,
            took_s=round(trio.current_time() - began, 3),
            why=() if self._is_flat else self._why(),
            alarms=tuple(self._hands.alarms),
        )

    @property
    def _is_flat(self) -> bool:
        standing = self._hands.standing
        return (
            standing is not None
            and standing.stage is Stage.DONE
            and not standing.failed
            and self._hands.resting_gtts == 0
            and not self._hands.looks_owed
        )

    def _why(self) -> tuple[str, ...]:
        standing = self._hands.standing
        if standing is None:
            return ("the broker could not be read",)
        found = [_said(place) for place in standing.not_flat]
        if self._hands.resting_gtts != 0:
            left = "an unknown number of" if self._hands.resting_gtts is None else self._hands.resting_gtts
            found.append(f"{left} trigger(s) rest at the broker")
        return tuple(found) or (f"it is {standing.stage} and not proven",)


def _nobody() -> None:
    return None


def _said(not_flat: NotFlat) -> str:
    units = "an unknown number of" if not_flat.quantity is None else not_flat.quantity
    return f"{':'.join(not_flat.place)}: {units} units, {not_flat.open_orders} open order(s): {not_flat.why}"
