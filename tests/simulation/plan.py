"""What happens in a scenario, all of it drawn from the seed before anything runs."""

import random
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid5

import msgspec

from engine.domain.enums import OrderType, ProductType, TransactionType
from engine.domain.options import NO_OPTIONS, OrderOptions
from tests.simulation.scheduling import stream

START = datetime(2026, 11, 18, 4, 30, tzinfo=UTC)  # 10:00 IST on a Wednesday
_SPACE = UUID(int=0x51)
SYMBOLS = ("INFY", "SBIN", "TCS", "ITC")
PRICE = Decimal(100)
UNPRICED = "ITC"  # its price has to be asked for


def name_id(kind: str, number: int) -> UUID:
    """Return the id of the *number*-th thing of a kind."""
    return uuid5(_SPACE, f"{kind}{number}")


class Kind(StrEnum):
    """What goes wrong."""

    KILL = "kill -9"
    KILL_AT = "kill -9 at a point"
    KILL_TWICE = "kill -9, and again while it recovers"
    FREEZE = "SIGSTOP"
    TERM = "SIGTERM"
    DB_DOWN = "database down"
    DB_SLOW = "database slow"
    DB_LOSES = "database loses answers"
    DB_RENEW = "lease cannot be renewed"
    VALKEY_DOWN = "valkey down"
    VALKEY_HANG = "valkey hangs"
    VALKEY_LOSES = "valkey loses answers"
    VALKEY_WIPE = "valkey wiped"
    VALKEY_FORGED = "forged entry in the journal"
    POSTS = "order requests go wrong"
    BOOK_DOWN = "order book unreadable"
    BOOK_STALE = "order book stale"
    BOOK_PARTIAL = "order book partial"
    BOOK_SLOW = "order book slow"
    TROUBLE = "broker in trouble"
    TOKEN = "session dies"
    CLOCK = "clock steps"
    KILLSWITCH = "kill switch"
    HAND = "traded by hand"
    CONNECT = "broker refuses connections"


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One fault: when (seconds), for how long, and its particulars."""

    at: float
    kind: Kind
    lasts: float = 0.0
    number: int = 0
    text: str = ""


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """One signal of a sender."""

    at: float
    user: int
    key: str
    symbol: str
    side: TransactionType
    quantity: int
    order_type: OrderType
    price: Decimal | None
    product: ProductType
    again_at: float | None = None
    stop_loss: Decimal | None = None
    target: Decimal | None = None
    options: OrderOptions = NO_OPTIONS


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """The price of a symbol changes."""

    at: float
    symbol: str
    price: Decimal


class Deed(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a person does; ``number`` chooses to which order or account."""

    at: float
    what: str
    number: int


class Extras(msgspec.Struct, frozen=True, kw_only=True):
    """What a scenario with attached exits has (`tests.simulation.extras`).

    ``freeze`` are the largest orders by symbol, ``refuses`` the share of exits that the broker refuses,
    ``changes_fail`` the share of modify and cancel requests that go wrong in one of many ways.
    """

    moves: tuple[Move, ...]
    freeze: tuple[tuple[str, int], ...]
    deeds: tuple[Deed, ...]
    refuses: float
    changes_fail: float
    pushes: bool


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A scenario."""

    seed: int
    users: int
    accounts: tuple[int, ...]
    standby: bool
    max_age_s: int
    dedup_window_s: int
    max_per_minute: int
    only_tags: bool
    trade_lag: bool
    ends_at: float
    wishes: tuple[Wish, ...]
    faults: tuple[Fault, ...]
    extras: Extras | None = None

    @property
    def clock_steps(self) -> bool:
        """Whether the wall clock jumps."""
        return any(fault.kind is Kind.CLOCK for fault in self.faults)

    @property
    def by_hand(self) -> bool:
        """Whether somebody trades the accounts without the engine."""
        closes = self.extras is not None and any(deed.what == "close" for deed in self.extras.deeds)
        return closes or any(fault.kind is Kind.HAND for fault in self.faults)


_POINTS = (
    "S1.taken", "S2.before_append", "S2.append_written", "S2.after_append", "S4.decided", "S5.before_commit",
    "S5.after_commit", "S5.told", "S10.before_look", "S10.book_read", "S10.book_taken", "S11.cursor_noted",
    "K0.blocked", "K1.before_file", "K1.after_file", "K1.recorded", "R2.lease_taken", "R3.journal_placed",
    "R5.page_read", "R5.after_page", "R6.recovered", "db.applied", "db.sent", "post.left", "post.before",
    "post.answered", "journal.applied",
)  # fmt: skip

_SCOPES = ("global", "user", "account", "strategy")
_WEIGHTS = {
    Kind.KILL: 5, Kind.KILL_AT: 8, Kind.KILL_TWICE: 2, Kind.FREEZE: 4, Kind.TERM: 2,
    Kind.DB_DOWN: 3, Kind.DB_SLOW: 5, Kind.DB_LOSES: 3, Kind.DB_RENEW: 2,
    Kind.VALKEY_DOWN: 2, Kind.VALKEY_HANG: 3, Kind.VALKEY_LOSES: 3, Kind.VALKEY_WIPE: 1, Kind.VALKEY_FORGED: 1,
    Kind.POSTS: 14, Kind.BOOK_DOWN: 2, Kind.BOOK_STALE: 3, Kind.BOOK_PARTIAL: 3, Kind.BOOK_SLOW: 3,
    Kind.TROUBLE: 2, Kind.TOKEN: 2, Kind.CLOCK: 1, Kind.KILLSWITCH: 3, Kind.CONNECT: 2,
    Kind.HAND: 2,
}  # fmt: skip


def draw(seed: int) -> Plan:
    """Return the scenario of a seed."""
    dice = stream(seed, "plan")
    users = dice.choice((1, 1, 2))
    accounts = tuple(dice.choice((1, 1, 2)) for _ in range(users))
    length = dice.choice((40.0, 60.0, 90.0, 120.0))
    symbols = SYMBOLS[: dice.choice((1, 2, 3, 4))]
    wishes = []
    for number in range(dice.randint(15, 40)):
        order_type = dice.choice((OrderType.MARKET, OrderType.MARKET, OrderType.LIMIT))
        at = dice.uniform(0.5, length)
        if wishes and dice.random() < 0.4:
            at = min(length, wishes[-1].at + dice.choice((0.0, 0.001, 0.02, 0.3)))  # a burst
        wishes.append(
            Wish(
                at=round(at, 3),
                user=dice.randrange(users),
                key=f"k{number}",
                symbol=dice.choice(symbols),
                side=dice.choice((TransactionType.BUY, TransactionType.BUY, TransactionType.SELL)),
                quantity=dice.randint(1, 20),
                order_type=order_type,
                price=Decimal(dice.randint(1900, 2100)) / 20 if order_type is OrderType.LIMIT else None,
                product=dice.choice((ProductType.MIS, ProductType.MIS, ProductType.CNC)),
                again_at=round(at + dice.uniform(1, 100), 3) if dice.random() < 0.2 else None,
            )
        )
    standby = dice.random() < 0.35
    faults = [_fault(dice, length) for _ in range(dice.randint(3, 12))]
    for _ in range(dice.choice((0, 1, 1, 2))):
        faults += _together(dice, round(dice.choice(wishes).at + dice.choice((-0.5, 0.001, 0.01)), 3))
    return Plan(
        seed=seed,
        users=users,
        accounts=accounts,
        standby=standby,
        max_age_s=dice.choice((2, 3, 10, 60, 60, 119)),
        dedup_window_s=dice.choice((30, 86400, 86400)),
        max_per_minute=dice.choice((6, 12, 400, 400)),
        only_tags=dice.random() < 0.3,
        trade_lag=dice.random() < 0.3,
        ends_at=length,
        wishes=tuple(sorted(wishes, key=lambda wish: wish.at)),
        faults=tuple(sorted(faults, key=lambda fault: fault.at)),
    )


def _together(dice: random.Random, at: float) -> list[Fault]:
    """Faults that come together, as those of one cause do, or that make each other worse."""
    at = max(0.0, at)

    def fault(kind: Kind, after: float = 0.0, **particulars: Any) -> Fault:
        return Fault(at=round(at + after, 3), kind=kind, **particulars)

    ways: tuple[list[Fault], ...] = (
        # the switch is thrown while rows are on their way to disk
        [
            fault(Kind.DB_SLOW, lasts=8.0, number=dice.choice((8, 20, 40))),
            fault(Kind.KILLSWITCH, dice.uniform(0.1, 3), lasts=10.0, text=dice.choice(("global", "user"))),
        ],
        # the switch is on, and the engine dies
        [fault(Kind.KILLSWITCH, lasts=25.0, text=dice.choice(_SCOPES)), fault(Kind.KILL, dice.uniform(0.5, 3))],
        # what only the journal has when the engine dies
        [fault(Kind.DB_DOWN, lasts=dice.choice((4.0, 20.0))), fault(Kind.KILL, dice.uniform(0.05, 5))],
        [
            fault(Kind.DB_SLOW, lasts=10.0, number=dice.choice((20, 40))),
            fault(Kind.KILL_AT, text=dice.choice(("journal.applied", "S2.after_append", "S1.taken")), number=2),
        ],
        # neither store answers
        [
            fault(Kind.DB_DOWN, lasts=dice.choice((5.0, 10.0))),
            fault(Kind.VALKEY_HANG, dice.uniform(0, 2), lasts=dice.choice((0.3, 2.0))),
            fault(Kind.VALKEY_LOSES, number=3),
        ],
        # somebody writes into the journal, and it is read
        [fault(Kind.VALKEY_FORGED), fault(Kind.KILL, 0.001)],
        # an order comes into the book late, and the book is slow, stale or cut short meanwhile
        [
            fault(Kind.BOOK_SLOW, lasts=215.0, number=dice.choice((20, 28))),
            fault(Kind.POSTS, number=1, text="cut_late_170"),
        ],
        [fault(Kind.POSTS, number=1, text="late_30"), fault(Kind.POSTS, 0.0005, number=2, text="late_170")],
        [
            fault(Kind.BOOK_PARTIAL, lasts=230.0, number=20),
            fault(Kind.POSTS, dice.uniform(0, 1), number=2, text=dice.choice(("cut_after", "late_8", "late_83"))),
        ],
        [
            fault(Kind.POSTS, number=2, text="cut_after"),
            fault(Kind.BOOK_DOWN, lasts=dice.choice((5.0, 184.0, 196.0))),
        ],
        [fault(Kind.TROUBLE, lasts=dice.choice((184.0, 187.0, 190.0)), number=dice.choice((1, 2)))],
        # the leader cannot renew, and works on
        [fault(Kind.DB_RENEW, lasts=dice.choice((20.0, 30.0)))],
        # the process sleeps between the disk and the wire
        [fault(Kind.FREEZE, lasts=dice.choice((1.5, 3.0, 6.0)), text=dice.choice(("S5.after_commit", "post.before")))],
        [
            fault(Kind.CLOCK, lasts=0.0, number=dice.choice((-3600, 200, 3600))),
            fault(Kind.POSTS, number=2, text="late_83"),
        ],
    )  # fmt: skip
    return dice.choice(ways)


def _fault(dice: random.Random, length: float) -> Fault:
    kind = dice.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
    at = round(dice.uniform(0.0, length), 3)
    lasts, number, text = 0.0, 0, ""
    match kind:
        case Kind.KILL_AT:
            text = dice.choice(_POINTS)
            number = dice.choice((1, 1, 2, 3, 5, 8))
        case Kind.FREEZE:
            lasts = dice.choice((0.5, 1.5, 3.0, 6.0, 15.0, 30.0))
            # right behind a commit the row is on disk and nothing has left
            text = dice.choice(("", "db.applied", "post.before", "S5.after_commit", "post.answered"))
        case Kind.DB_DOWN:
            lasts = dice.choice((0.3, 2.0, 8.0, 20.0))
        case Kind.DB_SLOW:
            lasts = dice.choice((5.0, 15.0, 30.0))
            number = dice.choice((1, 3, 8, 20, 40, 70))  # tenths of a second
        case Kind.DB_LOSES | Kind.VALKEY_LOSES:
            number = dice.choice((1, 2, 5))
        case Kind.DB_RENEW:
            lasts = dice.choice((8.0, 20.0, 30.0))
        case Kind.VALKEY_DOWN | Kind.VALKEY_HANG:
            lasts = dice.choice((0.3, 2.0, 10.0, 30.0))
        case Kind.POSTS:
            number = dice.choice((1, 1, 2, 4))
            text = dice.choice(POST_WAYS)
        case Kind.BOOK_DOWN:
            lasts = dice.choice((3.0, 20.0, 220.0))
        case Kind.BOOK_STALE | Kind.BOOK_PARTIAL:
            lasts = dice.choice((2.0, 10.0, 60.0, 230.0))
            number = dice.choice((1, 3, 5, 20) if kind is Kind.BOOK_PARTIAL else (1, 3, 5))
        case Kind.BOOK_SLOW:
            lasts = dice.choice((10.0, 60.0, 200.0))
            number = dice.choice((1, 5, 20, 28))
        case Kind.TROUBLE:
            lasts = dice.choice((10.0, 60.0, 186.0, 190.0, 215.0))
            number = dice.choice((0, 1, 2))
        case Kind.CLOCK:
            number = dice.choice((-3600, -5, 5, 30, 3600))
            lasts = dice.choice((0.0, 10.0))
        case Kind.KILLSWITCH:
            lasts = dice.choice((2.0, 10.0, 25.0))
            text = dice.choice(_SCOPES)
        case Kind.HAND:
            number = dice.randint(0, 9)
            text = dice.choice(SYMBOLS)
        case Kind.TOKEN:
            lasts = dice.choice((0.0, 5.0))
        case Kind.CONNECT:
            lasts = dice.choice((0.3, 1.0, 5.0))
    return Fault(at=at, kind=kind, lasts=lasts, number=number, text=text)


POST_WAYS = (
    "refused", "order_exception_unplaced", "order_exception_rejected", "timeout_text_placed", "timeout_text_unplaced",
    "server_error_placed", "server_error_unplaced", "rate_limited", "rate_limited_lie", "rate_limited_lie",
    "cut_before", "cut_after", "cut_after", "cut_after", "silent_placed", "silent_unplaced", "late_8", "late_83",
    "late_170", "late_170",
    "late_600", "connect", "connect_slow", "token", "garbage", "slow", "false_refusal",
)  # fmt: skip
