"""What trips the kill switch by itself, from what was observed (reliability.md 5.3).

Once a second everything is looked at. A condition trips when it begins to hold, and not again before it has been
gone for half a minute: so one that lingers at its threshold trips once, and one that persists does not trip
what a person has just let go on. Nothing here ever ends a block. Loss, drawdown, position counts and the
breaker are the risk actors'.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from enum import StrEnum
from uuid import UUID

import msgspec

from engine.domain.enums import KillMode
from engine.domain.killswitch import GLOBAL

CALM_S = 30.0
"""How long a condition must be gone before it can trip again."""
WINDOW_S = 60.0
"""The minute over which orders and refusals are counted."""


class Trigger(StrEnum):
    """The conditions; the name is the code that the reason of the block begins with."""

    ORDER_RATE = "ORDER_RATE"
    REJECT_RATE = "REJECT_RATE"
    RECONCILE_MISMATCH = "RECONCILE_MISMATCH"
    UNKNOWN_ORDERS = "UNKNOWN_ORDERS"
    PARKED_EXITS = "PARKED_EXITS"
    BROKER_UNREACHABLE = "BROKER_UNREACHABLE"
    AUDIT_CHAIN = "AUDIT_CHAIN"
    CLOCK_SUSPECT = "CLOCK_SUSPECT"
    LOOP_LAG = "LOOP_LAG"
    LEASE_LOST = "LEASE_LOST"
    JOURNAL_WIPED = "JOURNAL_WIPED"


class Reaction(StrEnum):
    """What a condition does: nothing, tell a person, or trip the kill switch of its scope in a mode."""

    OFF = "off"
    ALERT = "alert"
    BLOCK = "block"
    CANCEL = "cancel"
    SQUARE_OFF = "square_off"

    @property
    def mode(self) -> KillMode | None:
        """The mode to trip in, None when it does not trip."""
        return None if self in (Reaction.OFF, Reaction.ALERT) else KillMode(self.value.upper())


class TriggerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What each condition does (absent: nothing), and where it begins; seconds, percent, counts."""

    reactions: Mapping[Trigger, Reaction]
    order_rate_normal: int = 60
    order_rate_factor: int = 5
    reject_rate_pct: int = 50
    reject_rate_orders: int = 50
    mismatch_reads: int = 2
    unknown_orders: int = 25
    unknown_orders_s: float = 60.0
    broker_unreachable_s: float = 15.0
    loop_lag_s: float = 2.0


class AccountSight(msgspec.Struct, frozen=True, kw_only=True):
    """One account at one instant.

    ``sent`` and ``refused`` count orders handed to the broker, and refused by it, since the process began.
    ``mismatches`` counts the comparisons in a row that found positions to differ. ``unreachable_s`` is for how long
    its broker could not be read, 0 when it can; ``is_exposed`` whether it holds a position while its market is open.
    """

    account_id: UUID
    sent: int = 0
    refused: int = 0
    unknown: int = 0
    mismatches: int = 0
    unreachable_s: float = 0.0
    is_exposed: bool = False


class EngineSight(msgspec.Struct, frozen=True, kw_only=True):
    """The engine at one instant.

    ``loop_lag_s`` is the longest the event loop was held up since the last look; ``clock`` says why the wall clock
    is suspect; ``audit_broken`` is the number of the record at which the audit chain breaks; ``parked`` counts
    exits that wait for a person; ``journal_wipes`` counts since the process began.
    """

    loop_lag_s: float = 0.0
    clock: str | None = None
    audit_broken: int | None = None
    lease_lost: bool = False
    parked: int = 0
    journal_wipes: int = 0


class Trip(msgspec.Struct, frozen=True, kw_only=True):
    """A condition that began to hold: of which scope, what it does, and why (``CODE: text``)."""

    trigger: Trigger
    scope: str
    reaction: Reaction
    reason: str


class TriggerWatch:
    """The memory of what held before; *settings* say what trips."""

    def __init__(self, settings: TriggerSettings) -> None:
        self._settings = settings
        self._counts: dict[UUID, deque[tuple[float, int, int]]] = {}
        self._since: dict[tuple[Trigger, str], float] = {}
        # what has tripped, and when it was last seen to hold
        self._tripped: dict[tuple[Trigger, str], float] = {}
        self._wipes = 0
        # accounts of which something held at some time: what began then has to end
        self._remembered: set[UUID] = set()

    def look(self, now_s: float, engine: EngineSight, accounts: Iterable[AccountSight]) -> list[Trip]:
        """Return what begins to hold at *now_s* (monotonic seconds)."""
        trips: list[Trip] = []
        seen = list(accounts)
        for account in seen:
            trips += self._account(now_s, account)
        gone = self._counts.keys() - {account.account_id for account in seen}
        for account_id in gone:
            del self._counts[account_id]
        return trips + self._engine(now_s, engine)

    def _account(self, now_s: float, sight: AccountSight) -> list[Trip]:
        settings = self._settings
        sent, refused = self._last_minute(now_s, sight)
        most = settings.order_rate_normal * settings.order_rate_factor
        pct = 100 * refused / sent if sent else 0.0
        is_fast = sent > most
        is_refused = sent >= settings.reject_rate_orders and pct > settings.reject_rate_pct
        differs = sight.mismatches >= settings.mismatch_reads
        doubts = sight.unknown > settings.unknown_orders
        is_cut_off = sight.is_exposed and sight.unreachable_s > settings.broker_unreachable_s
        if is_fast or is_refused or differs or doubts or is_cut_off:
            self._remembered.add(sight.account_id)
        elif sight.account_id not in self._remembered:
            return []  # of thousands there is mostly nothing to say, and nothing was said before
        scope = f"account:{sight.account_id}"
        found = [
            self._check(now_s, Trigger.ORDER_RATE, scope, is_fast, f"{sent} orders in a minute, more than {most}"),
            self._check(
                now_s,
                Trigger.REJECT_RATE,
                scope,
                is_refused,
                f"the broker refused {refused} of the {sent} orders of a minute, "
                f"more than {settings.reject_rate_pct} percent",
            ),
            self._check(
                now_s,
                Trigger.RECONCILE_MISMATCH,
                scope,
                differs,
                f"positions differ from the broker's in {sight.mismatches} comparisons in a row",
            ),
            self._check(
                now_s,
                Trigger.UNKNOWN_ORDERS,
                scope,
                doubts,
                f"{sight.unknown} orders have an UNKNOWN outcome, more than {settings.unknown_orders}",
                for_s=settings.unknown_orders_s,
            ),
            self._check(
                now_s,
                Trigger.BROKER_UNREACHABLE,
                scope,
                is_cut_off,
                f"the broker has not answered for {sight.unreachable_s:.0f} s while positions are open",
            ),
        ]
        return [trip for trip in found if trip is not None]

    def _engine(self, now_s: float, sight: EngineSight) -> list[Trip]:
        wiped, self._wipes = sight.journal_wipes > self._wipes, sight.journal_wipes
        lag_s = self._settings.loop_lag_s
        found = [
            self._check(now_s, Trigger.PARKED_EXITS, GLOBAL, sight.parked > 0, f"{sight.parked} exits came too late"),
            self._check(
                now_s,
                Trigger.AUDIT_CHAIN,
                GLOBAL,
                sight.audit_broken is not None,
                f"record {sight.audit_broken} does not follow from the one before it",
            ),
            self._check(now_s, Trigger.CLOCK_SUSPECT, GLOBAL, sight.clock is not None, sight.clock or ""),
            self._check(
                now_s,
                Trigger.LOOP_LAG,
                GLOBAL,
                sight.loop_lag_s > lag_s,
                f"the event loop was held up for {sight.loop_lag_s:.1f} s, more than {lag_s:g}",
            ),
            self._check(now_s, Trigger.LEASE_LOST, GLOBAL, sight.lease_lost, "another engine may lead"),
            self._check(now_s, Trigger.JOURNAL_WIPED, GLOBAL, wiped, "the journal's server was emptied"),
        ]
        return [trip for trip in found if trip is not None]

    def _last_minute(self, now_s: float, sight: AccountSight) -> tuple[int, int]:
        counts = self._counts.setdefault(sight.account_id, deque())
        counts.append((now_s, sight.sent, sight.refused))
        while counts[0][0] < now_s - WINDOW_S:
            counts.popleft()
        _, sent, refused = counts[0]
        return sight.sent - sent, sight.refused - refused

    def _check(
        self, now_s: float, trigger: Trigger, scope: str, holds: bool, text: str, *, for_s: float = 0.0
    ) -> Trip | None:
        key, reaction = (trigger, scope), self._settings.reactions.get(trigger, Reaction.OFF)
        if reaction is Reaction.OFF:
            return None
        if not holds:
            self._since.pop(key, None)
            if now_s - self._tripped.get(key, now_s) >= CALM_S:
                del self._tripped[key]
            return None
        since = self._since.setdefault(key, now_s)
        has_tripped = key in self._tripped
        if has_tripped or now_s - since >= for_s:
            self._tripped[key] = now_s
        if has_tripped or now_s - since < for_s:
            return None
        return Trip(trigger=trigger, scope=scope, reaction=reaction, reason=f"{trigger}: {text}")
