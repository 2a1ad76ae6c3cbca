"""A broker's session over the day: how long a login is trusted, and what is looked at when.

Kite's tokens end "at 6 AM on the next day"; its staff speaks of 06:45 to 07:30, and users have seen them
go from 05:20 on. So a session may vanish between 05:00 and 07:30 IST, and what was made before that
is not trusted for the day after it, even while it still answers. All clock times are IST.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from enum import StrEnum

from engine.clock import IST
from engine.domain.directory import BrokerLogin, Strategy

VANISHES_FROM = time(5, 0)
VANISHES_TO = time(7, 30)
FLUSH_AT = time(6, 0)
DAY_ENDS = time(15, 30)
"""After this nobody is told any more that an account was not ready in the morning."""
# Kite does not list MTF among the products of a session (Kite Connect v3, user).
_UNLISTED = frozenset({"MTF"})


def may_vanish(now: datetime) -> bool:
    """Whether a session may end at any moment at *now*."""
    return VANISHES_FROM <= now.astimezone(IST).time() < VANISHES_TO


def trusted_until(made_at: datetime) -> datetime:
    """Return when a login made at *made_at* stops to be trusted: the next 07:30 IST after it."""
    local = made_at.astimezone(IST)
    day = local.date() if local.time() < VANISHES_TO else local.date() + timedelta(days=1)
    return datetime.combine(day, VANISHES_TO, tzinfo=IST)


def is_trusted(made_at: datetime | None, now: datetime) -> bool:
    """Whether a login of *made_at* stands at *now*; one of unknown age does until the broker says otherwise."""
    return made_at is None or now < trusted_until(made_at)


class Round(StrEnum):
    """A look at the accounts that is made once on its day."""

    FLUSH_CHECK = "flush-check"
    DAY_CHECK = "day-check"
    READINESS = "readiness"
    REMINDER = "reminder"


def due(
    done: Mapping[str, str], now: datetime, *, readiness_at: time, remind_at: time, is_trading_day: bool
) -> list[Round]:
    """Return the rounds to make at *now*, in their order.

    *done* holds the ISO date of the last time of each. A start in the middle of the day makes up for what
    still makes sense: sessions are looked at in any case, readiness while the market is open or about to.
    """
    local = now.astimezone(IST)
    today, clock = local.date().isoformat(), local.time()
    spans: list[tuple[Round, time, time | None]] = [
        (Round.FLUSH_CHECK, FLUSH_AT, VANISHES_TO),
        (Round.DAY_CHECK, VANISHES_TO, None),
    ]
    if is_trading_day:
        spans += [(Round.READINESS, readiness_at, DAY_ENDS), (Round.REMINDER, remind_at, DAY_ENDS)]
    found = [
        name
        for name, start, end in spans
        if clock >= start and (end is None or clock < end) and done.get(name) != today
    ]
    if Round.READINESS in found and Round.REMINDER in found:
        # it is late already: one word is enough
        found.remove(Round.REMINDER)
    return found


def marks(rounds: Iterable[Round], now: datetime, *, remind_at: time) -> dict[str, str]:
    """Return what is to be remembered of *rounds* made at *now*; late readiness counts as the reminder too."""
    local = now.astimezone(IST)
    made = {name.value: local.date().isoformat() for name in rounds}
    if Round.READINESS in made and local.time() >= remind_at:
        made[Round.REMINDER.value] = local.date().isoformat()
    return made


def day_of(now: datetime) -> date:
    """Return the IST date of *now*."""
    return now.astimezone(IST).date()


def lacking(login: BrokerLogin | None, strategies: Sequence[Strategy]) -> list[str]:
    """Return what *strategies* use by default and the login says that the account may not.

    Nothing is known of a token that was only pasted in, and lists that the broker left empty say nothing.
    """
    if login is None:
        return []
    found: list[str] = []
    for strategy in strategies:
        exchange = str(strategy.defaults.get("exchange") or "")
        product = str(strategy.defaults.get("productType") or strategy.defaults.get("product_type") or "")
        if login.exchanges and exchange and exchange not in login.exchanges:
            found.append(f"strategy {strategy.name} trades on {exchange}, which the account may not")
        if login.products and product and product not in {*login.products, *_UNLISTED}:
            found.append(f"strategy {strategy.name} uses {product}, which the account may not")
    return found
