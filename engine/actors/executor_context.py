"""What every executor works with, and the message by which it tells itself to send."""

from collections.abc import Awaitable, Callable
from datetime import date, datetime
from decimal import Decimal
from math import inf
from typing import Any, Protocol
from uuid import UUID

import msgspec

from engine.actors.call_budget import CallBudgets
from engine.actors.flatten_file import FlattenFile
from engine.actors.order_desk import AccountHistory
from engine.actors.rush import Rush
from engine.broker.base import Broker, Refused
from engine.domain.enums import AccountStatus, Exchange
from engine.domain.instruments import Instrument
from engine.domain.killswitch import KillRecord, KillSwitches
from engine.domain.order import Order
from engine.observability.stages import NO_STAGES, StageClock


def _no_alert(_subject: str, _text: str) -> None:
    return None


def _nothing_to_see() -> None:
    """No file of a kill switch."""


def _keep(_account_id: UUID) -> None:
    return None


def _not_known(_account_id: UUID) -> AccountStatus | None:
    return None


def _nobodys(_tag: str) -> bool:
    return False


def _one() -> int:
    return 1


def _any_size(_exchange: Exchange, _symbol: str) -> int | None:
    return None


def _no_live_price(_key: str) -> Decimal | None:
    return None


def _steady(_account_id: UUID) -> str | None:
    return None


async def _leads() -> bool:
    return True


def _trusted() -> str | None:
    return None


def _no_instrument(_exchange: Exchange, _symbol: str) -> Instrument | None:
    return None


def _no_price(_exchange: Exchange, _symbol: str) -> Decimal | None:
    return None


def _broker_table(_account_id: UUID) -> Decimal:
    return Decimal(-1)


def _always_open(_exchange: Exchange, _instant: datetime) -> bool:
    return True


def _forget_freeze(_exchange: Exchange, _symbol: str, _quantity: int) -> bool:
    return False


class Turns(Protocol):
    """Whose turn it is on the account, as the sender sees it."""

    def stale(self, order: Order) -> str | None:
        """Return why an order is too old to be sent, or None."""

    def outlived(self, order: Order) -> KillRecord | None:
        """Return the kill switch that is on, or was turned off since *order* was made, or None."""

    def today(self) -> date:
        """Return the IST date of the order book that a request of now comes into."""

    def is_alone(self, order: Order) -> bool:
        """Whether *order* holds its instrument, and no other order does."""

    def take_slot(self, order: Order | None = None) -> bool:
        """Take a call of the account's budget for another attempt of *order*."""

    def departs(self, order: Order) -> bool:
        """The first byte of *order* leaves now; False when the call that it took has lapsed."""

    def landed(self, order: Order) -> None:
        """An attempt of *order* is over: if nothing of it left, its call is free again."""

    def short(self, order: Order) -> str | None:
        """Return why *order* must not go because of the day's budget, None for an exit."""

    def limited(self, refused: Refused) -> None:
        """The broker refused a call for its rate."""

    def free(self, order: Order) -> None:
        """The order does not hold its instrument any more."""


class Doubts(Protocol):
    """Looking at the order book, as the sender sees it."""

    def look_soon(self) -> None:
        """Read the order book in a moment."""

    def doubt(self, order: Order, why: str) -> None:
        """Make an order UNKNOWN until the order book settles it."""

    async def confirm_absent(self, order: Order, *, timeout_s: float) -> bool | None:
        """Read the order book once: True when the order is not in it, False when it is, None when nobody can tell.

        An order that is found is in the books as what it is when this returns.
        """


class Send(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The ledger has this SUBMITTING row.

    ``incarnation`` is that of the executor that wrote it ahead; ``written_ns`` is when it handed the row
    to the ledger and ``committed_ns`` when the ledger said that it is on disk (CLOCK_BOOTTIME).
    """

    order: Order
    incarnation: int
    written_ns: int
    committed_ns: int


class ExecutorContext(msgspec.Struct, frozen=True, kw_only=True):
    """The world of an executor: clock, ledger, switches, broker sessions, and whom it tells.

    ``alert`` takes a subject (``order:ID``, ``account:ID``) and a text for a person, ``pass_on`` the same without
    putting it on record. ``forget_broker`` makes the
    next ``open_broker`` log in anew. ``account_status_now`` is what the directory holds, None if not wired.
    ``is_ours`` tells a tag of this deployment; ``live_executors`` counts those that share the process.
    ``clock_suspect`` says why the wall clock cannot be trusted, None while it can. ``max_age_s`` is how long
    signals live. ``still_leads`` asks, after a sleep of the process, whether no other engine leads now: what only
    reduces risk goes by it, since it stays true while PostgreSQL is away and ``holds_lease`` does not.
    ``instrument`` and ``last_price`` (rupees) are what is known of an instrument now, ``protection`` is an
    account's market protection (percent, or -1), ``learn_freeze`` is told the largest order that an exchange takes.
    ``pacer_key`` names the Zerodha account that the broker counts order calls by, ``budgets`` are those of the
    process; ``freeze_quantity`` is the largest single order of an instrument, None if not known.
    ``live_price`` is the price of ``EXCHANGE:SYMBOL`` as a connected ticker keeps it, None without one.
    ``session_window`` says why only exits of an account may go now because its session may vanish, None otherwise.
    ``is_open`` tells whether an exchange takes orders at an instant; what flattening was asked for outside its hours
    is done when it opens only with ``flatten_at_open``. ``flatten_file`` takes write-ahead rows while the ledger is
    away. ``note_queued`` is told that an order of the account waits. ``rush`` counts the orders of the process that are
    on their way. ``look_at_kill_file`` takes over what another program has written to the kill switch's file.
    """

    clock: Any
    ledger: Any
    kill: KillSwitches
    holds_lease: Callable[[], bool]
    tag: Callable[[UUID, int], str]
    epoch: int
    open_broker: Callable[[UUID], Awaitable[Broker]]
    load: Callable[[UUID, date], Awaitable[AccountHistory]]
    tell_risk: Callable[[UUID, Any], None]
    account_status: Callable[[UUID, AccountStatus, str | None], None]
    multiplier: Callable[[Exchange, str], Decimal]
    note_queued: Callable[[UUID], None]
    orders_per_second: int
    orders_per_minute: int
    orders_per_day: int
    alert: Callable[[str, str], None] = _no_alert
    pass_on: Callable[[str, str], None] = _no_alert
    forget_broker: Callable[[UUID], None] = _keep
    account_status_now: Callable[[UUID], AccountStatus | None] = _not_known
    is_ours: Callable[[str], bool] = _nobodys
    live_executors: Callable[[], int] = _one
    clock_suspect: Callable[[], str | None] = _trusted
    max_age_s: float = inf
    still_leads: Callable[[], Awaitable[bool]] = _leads
    instrument: Callable[[Exchange, str], Instrument | None] = _no_instrument
    last_price: Callable[[Exchange, str], Decimal | None] = _no_price
    protection: Callable[[UUID], Decimal] = _broker_table
    learn_freeze: Callable[[Exchange, str, int], bool] = _forget_freeze
    pacer_key: Callable[[UUID], str] = str
    budgets: CallBudgets = msgspec.field(default_factory=CallBudgets)
    freeze_quantity: Callable[[Exchange, str], int | None] = _any_size
    live_price: Callable[[str], Decimal | None] = _no_live_price
    session_window: Callable[[UUID], str | None] = _steady
    is_open: Callable[[Exchange, datetime], bool] = _always_open
    flatten_at_open: bool = False
    flatten_file: FlattenFile | None = None
    rush: Rush = msgspec.field(default_factory=Rush)
    stages: StageClock = NO_STAGES
    look_at_kill_file: Callable[[], None] = _nothing_to_see
