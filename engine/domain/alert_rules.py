"""Where an alert goes and when: how severe it is, which channels are told, and what waits for the end of quiet hours.

Whatever is critical is told at once, at every hour, and to every channel when no route names it: a mistake in the
routes must not silence it.
"""

from collections.abc import Mapping, Sequence
from datetime import time
from enum import StrEnum

import msgspec


class Severity(StrEnum):
    """How soon a person must look: now, today, or when there is time."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """A number that grows with it."""
        return _RANKS[self]


_RANKS = {Severity.INFO: 0, Severity.WARNING: 1, Severity.CRITICAL: 2}

# money is at risk, or something that protects it does not work
_CRITICAL = frozenset(
    {
        "ACTOR_FAILED", "AUDIT_CHAIN", "BOOK_UNREADABLE", "BROKER_UNREACHABLE", "CLOCK_SUSPECT", "EXIT_NOT_DONE",
        "EXIT_NOT_FILLED", "EXIT_NOT_PLACED", "EXIT_UNCLEAR", "FLAT_FAILED", "GTT_DOUBLED", "KILL_NOT_STORED",
        "KILL_STATE_UNREADABLE", "KILL_SWITCH_ON", "LATE_FOUND", "LEASE_LOST", "LEDGER_REFUSED", "NOT_UNWOUND",
        "ORPHAN", "OVERFILLED", "OVER_FLATTEN", "PARKED", "PARKED_EXITS", "SECOND_AT_BROKER", "SQUARE_OFF_FAILED",
        "UNKNOWN_ORDERS",
    }
)  # fmt: skip
_INFO = frozenset({"EXTERNAL_ADOPTED"})

ENDS: Mapping[str, tuple[str, ...]] = {
    "STORE_BACK": ("STORE_AWAY",),
    "PRICE_FRESH": ("PRICE_STALE",),
    "BOOK_READABLE": ("BOOK_UNREADABLE",),
    "LOGS_WRITTEN": ("LOGS_LOST",),
    "HEARTBEAT_BACK": ("HEARTBEAT_FAILED",),
    "KILL_STORED": ("KILL_NOT_STORED",),
    "KILL_SWITCH_OFF": ("KILL_SWITCH_ON", "FLAT_FAILED"),
}
"""Codes that say that another alert of the same subject is over."""

DEFAULT_CODE = "ALERT"
_KILL = "the kill switch of "


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Alerts of ``codes`` (none: of all) and at least ``min_severity`` go to ``channels``.

    With ``after_s`` they go there once they have not been acknowledged for so many seconds.
    """

    channels: tuple[str, ...]
    min_severity: Severity = Severity.INFO
    codes: tuple[str, ...] = ()
    after_s: int = 0

    def covers(self, code: str, severity: Severity) -> bool:
        """Whether alerts like this one take the route."""
        return severity.rank >= self.min_severity.rank and (not self.codes or code in self.codes)


class QuietHours(msgspec.Struct, frozen=True, kw_only=True):
    """Clock times (IST) between which only what is critical is told; past midnight when the end is the earlier one."""

    start: time
    end: time

    def holds(self, at: time) -> bool:
        """Whether it is quiet at the clock time *at*; the start is, the end is not."""
        if self.start <= self.end:
            return self.start <= at < self.end
        return at >= self.start or at < self.end


class AlertRules(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of alerts; times in seconds.

    One alert that comes again within ``coalesce_s`` is counted, not told. What is critical is told again every
    ``repeat_s`` until it is acknowledged or over, never with 0.
    """

    coalesce_s: int = 900
    repeat_s: int = 900
    quiet: QuietHours | None = None
    routes: tuple[Route, ...] = ()
    severities: Mapping[str, Severity] = {}

    def severity_of(self, code: str) -> Severity:
        """Return how severe alerts of *code* are: as configured, else as the engine has it."""
        stated = self.severities.get(code)
        if stated is not None:
            return stated
        if code in _CRITICAL:
            return Severity.CRITICAL
        return Severity.INFO if code in _INFO or code in ENDS else Severity.WARNING

    def is_held(self, severity: Severity, at: time) -> bool:
        """Whether an alert of *severity* waits for the end of quiet hours at the clock time *at* (IST)."""
        return severity is not Severity.CRITICAL and self.quiet is not None and self.quiet.holds(at)

    def channels_for(
        self, code: str, severity: Severity, channels: Sequence[str], *, from_s: float = -1.0, age_s: float = 0.0
    ) -> tuple[str, ...]:
        """Return those of the configured *channels* that are told of an alert of this *age_s*, in their order.

        Routes count whose ``after_s`` is above *from_s* and not above *age_s*: each is taken once as the alert ages.
        """
        named = {
            name
            for route in self.routes
            if from_s < route.after_s <= age_s and route.covers(code, severity)
            for name in route.channels
        }
        if from_s < 0 <= age_s and not named & set(channels):
            at_once = any(route.after_s == 0 and route.covers(code, severity) for route in self.routes)
            if not self.routes or severity is Severity.CRITICAL or (at_once and not named):
                return tuple(channels)
        return tuple(name for name in channels if name in named)


def code_of(text: str) -> str:
    """Return the code that the text of an alert begins with, a made one for a kill switch, else ``ALERT``."""
    head, mark, _ = text.partition(":")
    if mark and head.isascii() and head.replace("_", "").isalpha() and head.isupper():
        return head
    if text.startswith(_KILL):
        said = text.removeprefix(_KILL).partition(" ")[2]
        if said.startswith(("is ON", "tripped")):
            return "KILL_SWITCH_ON"
        if said.startswith("is off"):
            return "KILL_SWITCH_OFF"
    return "CIRCUIT_BREAKER" if text.startswith("the circuit breaker of ") else DEFAULT_CODE
