"""What a risk actor is told, what it starts from, and what it works with."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Protocol
from uuid import UUID

import msgspec

from engine.actors.decision import Rules
from engine.domain.books import Book, RoundTrip
from engine.domain.day_pnl import Part
from engine.domain.enums import KillMode, OrderStatus
from engine.domain.instruments import InstrumentBook
from engine.domain.intent import Intent
from engine.domain.killswitch import KillRecord
from engine.domain.limits import RiskLimits
from engine.domain.live_units import NO_BOUNDS, Bounds
from engine.domain.marks import Priced
from engine.domain.order import Order
from engine.domain.position import Position
from engine.observability.stages import NO_STAGES, StageClock
from engine.store.ledger import Write


# commands (to me)
class Decide(msgspec.Struct, frozen=True, kw_only=True):
    """Decide about every intent of a delivery."""

    passage: Any  # a Passage; not a struct, so msgspec shall not look inside


# events (to me)
class OrderChanged(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An order of one of the user's accounts stands as given.

    ``larger`` is the quantity (units) that it may already have at the broker, because a change of it to that was
    asked for; 0 when none was.
    """

    order: Order
    larger: int = 0


class PositionsChanged(msgspec.Struct, frozen=True, kw_only=True):
    """Positions of one of the user's accounts stand as given, and so do the strategy books that they are made of.

    ``trips`` are the round trips that ended with it.
    """

    positions: tuple[Position, ...]
    books: tuple[Book, ...] = ()
    trips: tuple[RoundTrip, ...] = ()


class PricesChanged(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Last prices of instruments, as one read showed them.

    Together, for of two legs of a hedge none is judged at the new price beside the other's old one.
    """

    prices: tuple[Priced, ...]


class PricesWait(msgspec.Struct, frozen=True, kw_only=True):
    """Prices have moved; *take* returns them as they are by then, so that one such message is enough."""

    take: Callable[[], Sequence[Priced]]


Message = Decide | OrderChanged | PositionsChanged | PricesChanged | PricesWait


IntentOrder = tuple[UUID, OrderStatus, int, int, str | None]
"""Id, status, quantity, filled quantity and message of an order of an intent."""


class UserHistory(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger knows of a user: the start of the risk state.

    ``trips`` are the round trips of the day in order, ``peaks`` the highest profit (rupees) that parts of it had.
    ``order_accounts`` are the accounts of the orders of ``live_intents``. ``latest_orders`` are those of the day as
    they stand, oldest first; ``latest_signals`` when (UTC) and for which strategy the latest minute's signals came.
    """

    positions: Sequence[Position]
    live_orders: Sequence[Order]
    orders_today: Sequence[tuple[UUID, datetime, UUID | None]]
    live_intents: Sequence[tuple[Intent, Sequence[IntentOrder]]]
    books: Sequence[Book] = ()
    trips: Sequence[RoundTrip] = ()
    peaks: Sequence[tuple[Part, Decimal]] = ()
    order_accounts: Mapping[UUID, UUID] = {}
    latest_orders: Sequence[Order] = ()
    latest_signals: Sequence[tuple[datetime, UUID]] = ()


class Orders(Protocol):
    """The executors, as risk sees them."""

    def admit(self, order: Order) -> Order:
        """Take an approved order in: SUBMITTING when it may go at once, PENDING when it must wait."""

    def committed(self, orders: Sequence[Order]) -> None:
        """The ledger has these orders."""

    def withdraw(self, orders: Sequence[Order]) -> None:
        """The ledger never will have these orders: forget them."""

    def cancel_intent(self, account_id: UUID, intent_id: UUID, *, by: str) -> Any:
        """Begin to cancel what an account still has of an intent's own orders; return the reply to come."""


class Parked(msgspec.Struct, frozen=True, kw_only=True):
    """An exit that came too late, for a person to decide about.

    ``account`` is the label of the one account that it did not go to, None when it went to none of its
    strategy's; ``at`` is now (UTC). The same exit may be parked twice: after a crash, with the same content.
    """

    intent: Intent
    account: str | None
    reason: str
    at: datetime


def _no_letter(_parked: Parked) -> Sequence[Write]:
    return ()


def _given_up(passage: Any, error: Exception) -> None:
    passage.fail(error)


def _nobody(_intent: Intent) -> None:
    return None


def _no_alert(_subject: str, _text: str) -> None:
    return None


def _trusted() -> str | None:
    return None


async def _none_late(_user_id: UUID, _day: date) -> Sequence[Any]:
    return ()


def _no_trip(_scope: str, _reason: str, _mode: KillMode, _actor: str) -> None:
    return None


async def _no_rearm(_scope: str, _version: int, _reason: str, _actor: str) -> bool:
    return False


def _not_held(_account_id: UUID) -> None:
    return None


def _no_bounds(_key: str) -> Bounds:
    return NO_BOUNDS


class RiskContext(msgspec.Struct, frozen=True, kw_only=True):
    """What every risk actor works with.

    ``park`` returns the writes by which an exit becomes a dead letter; ``alert`` takes a subject and a text
    for a person; ``unrecorded`` ends a passage of which the store took not even the failure;
    ``clock_suspect`` says why the wall clock cannot be trusted, None while it can; ``load_late`` returns a
    user's intents that ended short though something of them filled on a day; ``ask_person`` is told of an intent
    that waits for approval, and never waits itself. ``trip`` blocks a scope at once, for a
    reason, in a mode, as an actor; ``rearm`` lifts a block that is still of the version given, and says whether it
    did (raises EngineError when it cannot be recorded); ``bounds`` returns between which prices the exchange takes
    orders in ``EXCHANGE:SYMBOL``; ``held`` says why the checks of the morning hold an account's entries back, or None.
    """

    clock: Any
    ledger: Any
    directory: Any
    instruments: Callable[[], InstrumentBook]
    kill: Any
    defaults: RiskLimits
    rules: Rules
    orders: Any
    prices: Any
    tag: Callable[[UUID, int], str]
    epoch: int
    load: Callable[[UUID, date], Any]
    alert: Callable[[str, str], None] = _no_alert
    park: Callable[[Parked], Sequence[Write]] = _no_letter
    unrecorded: Callable[[Any, Exception], None] = _given_up
    clock_suspect: Callable[[], str | None] = _trusted
    load_late: Callable[[UUID, date], Any] = _none_late
    ask_person: Callable[[Intent], None] = _nobody
    trip: Callable[[str, str, KillMode, str], KillRecord | None] = _no_trip
    rearm: Callable[[str, int, str, str], Awaitable[bool]] = _no_rearm
    bounds: Callable[[str], Bounds] = _no_bounds
    held: Callable[[UUID], str | None] = _not_held
    stages: StageClock = NO_STAGES
