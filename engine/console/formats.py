"""Figures as people in India read them: rupees in crores and lakhs, times in IST. Pure; filters of the templates."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

IST = ZoneInfo("Asia/Kolkata")
NOTHING = "\N{EN DASH}"
_MINUS = "\N{MINUS SIGN}"

Number = Decimal | int


def rupees(amount: Number | None, *, signed: bool = False, places: int = 2) -> str:
    """Return *amount* (rupees) in Indian grouping, as 12,34,567.89; a dash for None.

    It is rounded half to even to *places* digits, like every other figure of the engine. *signed* shows a plus too.
    """
    if amount is None:
        return NOTHING
    rounded = Decimal(amount).quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_EVEN)
    whole, _, part = f"{abs(rounded):f}".partition(".")
    text = grouped(whole) + (f".{part}" if part else "")
    if rounded < 0:
        return _MINUS + text
    return f"+{text}" if signed and rounded > 0 else text


def grouped(digits: str) -> str:
    """Return a row of digits with commas before the last three and then before every two."""
    head, tail = digits[:-3], digits[-3:]
    pairs: list[str] = []
    while head:
        pairs.insert(0, head[-2:])
        head = head[:-2]
    return ",".join([*pairs, tail])


def units(quantity: Number | None, *, signed: bool = False) -> str:
    """Return a quantity in Indian grouping, without decimals where it has none."""
    if quantity is None:
        return NOTHING
    exact = Decimal(quantity)
    places = 0 if exact == exact.to_integral_value() else min(4, -int(exact.as_tuple().exponent))
    return rupees(exact, signed=signed, places=places)


def percent(share: Number | None) -> str:
    """Return *share*, in percent, with two decimals."""
    return NOTHING if share is None else f"{rupees(share)} %"


def direction(amount: Number | None) -> str:
    """Return the class of a figure by its sign: up, down or level."""
    if amount is None or amount == 0:
        return "level"
    return "up" if amount > 0 else "down"


def instant(at: datetime | str | None) -> datetime | None:
    """Return an instant of the API, ISO 8601 text or already read, in UTC."""
    if at is None:
        return None
    found = datetime.fromisoformat(at) if isinstance(at, str) else at
    return found.astimezone(UTC)


def ist(at: datetime | str | None, form: str = "%H:%M:%S") -> str:
    """Return an instant by the clock of India, in the *form* of strftime (%f is milliseconds); a dash for None."""
    found = instant(at)
    if found is None:
        return NOTHING
    return found.astimezone(IST).strftime(form.replace("%f", f"{found.microsecond // 1000:03d}"))


def utc(at: datetime | str | None) -> str:
    """Return an instant by UTC, to the millisecond, as the hover text shows it."""
    found = instant(at)
    return NOTHING if found is None else found.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + " UTC"


def milliseconds(start: datetime | str | None, end: datetime | str | None) -> str:
    """Return how long it was from *start* to *end*: 7 ms, 1.24 s, 2 min 5 s; a dash when one is not known."""
    first, last = instant(start), instant(end)
    if first is None or last is None:
        return NOTHING
    seconds = max(0.0, (last - first).total_seconds())
    return duration(seconds)


def duration(seconds: float | Decimal | None) -> str:
    """Return a span of *seconds* in the units that suit it."""
    if seconds is None:
        return NOTHING
    exact = float(seconds)
    if exact < 1:
        return f"{exact * 1000:.0f} ms"
    if exact < 60:
        return f"{exact:.2f} s" if exact < 10 else f"{exact:.0f} s"
    minutes, rest = divmod(int(exact), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


TONES: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(("COMPLETE", "EXECUTED", "ACTIVE", "RUNNING", "FLAT_VERIFIED", "ARMED", "PASSED", "ok"), "good")
    | dict.fromkeys(("REJECTED", "FAILED", "UNKNOWN", "FLAT_FAILED", "ORDERS_BLOCKED", "BACKOFF", "down"), "bad")
    | dict.fromkeys(
        ("PARTIALLY_FILLED", "PARTIAL", "LOGIN_REQUIRED", "PENDING_APPROVAL", "BLOCKED", "CANCELLING", "FLATTENING"),
        "warn",
    )
    | dict.fromkeys(("OPEN", "TRIGGER_PENDING", "SUBMITTED", "SUBMITTING", "PENDING", "EXECUTING", "QUEUED"), "live")
)
"""The colour of a state's badge; one that is not here is quiet."""


def tone(state: str) -> str:
    """Return the class of a state's badge."""
    return TONES.get(state, "quiet")


def words(state: str) -> str:
    """Return a state of the API in words: PARTIALLY_FILLED is Partially filled."""
    return state.replace("_", " ").capitalize()


def seen(value: object) -> str:
    """Return what a rule saw or allows: numbers grouped, yes and no, several with commas, words as they are."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | Decimal):
        return units(value)
    if isinstance(value, list | tuple):
        return ", ".join(map(seen, value)) or NOTHING
    return str(value)


def short(subject: str) -> str:
    """Return the subject of a record with its number cut to its last eight characters."""
    kind, colon, number = subject.partition(":")
    return f"{kind} …{number[-8:]}" if colon and len(number) > 12 else subject


def pairs(values: Sequence[str]) -> list[tuple[str, str]]:
    """Return choices whose words are their values: what an exchange writes in capitals stays so."""
    return [(value, value) for value in values]


FILTERS: Mapping[str, Any] = MappingProxyType(
    {
        "rupees": rupees,
        "units": units,
        "percent": percent,
        "direction": direction,
        "ist": ist,
        "utc": utc,
        "duration": duration,
        "tone": tone,
        "words": words,
        "seen": seen,
        "short": short,
        "pairs": pairs,
    }
)
"""What templates call these by."""
