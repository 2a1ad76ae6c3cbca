"""What stands against letting a scope trade again (reliability.md 5.6), from what was observed."""

from collections.abc import Iterable
from datetime import date, timedelta
from uuid import UUID

import msgspec

from engine.domain.calendar import REGULAR, Calendar, is_trading_day
from engine.domain.directory import Directory
from engine.domain.enums import KillState
from engine.domain.killswitch import KillRecord, scopes_of

UNFINISHED = frozenset({KillState.CANCELLING, KillState.FLATTENING, KillState.FLAT_FAILED})
"""States in which the guardian still works on the scope."""

_LONGEST_BREAK_DAYS = 30


class Obstacle(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that stands against it: ``code`` is UPPER_SNAKE, ``text`` says it with its numbers."""

    code: str
    text: str


def accounts_of(scope: str, directory: Directory) -> frozenset[UUID]:
    """Return the accounts that *scope* covers as the directory has them now."""
    kind, _, number = scope.partition(":")
    match kind:
        case "global":
            return frozenset(directory.accounts)
        case "user":
            return frozenset(account.id for account in directory.accounts.values() if str(account.user_id) == number)
        case "account":
            return frozenset(account_id for account_id in directory.accounts if str(account_id) == number)
        case _:
            return strategy_accounts(scope, directory)


def strategy_accounts(scope: str, directory: Directory) -> frozenset[UUID]:
    """Return the accounts that a ``strategy:ID`` or ``source:ID`` scope trades; none for other scopes."""
    kind, _, number = scope.partition(":")
    strategy_id = UUID(number) if kind == "strategy" else None
    if kind == "source":
        source = directory.sources.get(UUID(number))
        strategy_id = None if source is None else source.strategy_id
    strategy = None if strategy_id is None else directory.strategies.get(strategy_id)
    return frozenset() if strategy is None else frozenset(target.account_id for target in strategy.targets)


def covers_intent(scope: str, user_id: UUID, strategy_id: UUID, source_id: UUID, directory: Directory) -> bool:
    """Whether *scope* covers an intent of these, on any of the accounts of its strategy."""
    accounts = strategy_accounts(f"strategy:{strategy_id}", directory) or {UUID(int=0)}
    return any(scope in scopes_of(user_id, account, strategy_id, source_id) for account in accounts)


def next_trading_day(day: date, calendar: Calendar = REGULAR, *, every_day: bool = False) -> date:
    """Return the first day after *day* (IST) on which the exchange trades; *every_day* it does in paper mode."""
    for number in range(1, _LONGEST_BREAK_DAYS):
        following = day + timedelta(days=number)
        if every_day or is_trading_day(following, calendar):
            return following
    return day + timedelta(days=1)


def standing(
    record: KillRecord,
    *,
    today: date,
    reopens: date | None,
    unknown_orders: int,
    parked: int,
    unclean: Iterable[str],
    stores: Iterable[str],
    clock: str | None,
    two_admins: bool,
) -> list[Obstacle]:
    """Return everything that stands against letting the scope of *record* trade again.

    *reopens* is the first trading day after the day whose loss tripped it, *unclean* says of each account why its
    reconciliation is not clean, *stores* names those that are away, *clock* is why the clock is suspect.
    """
    found: list[Obstacle] = []

    def against(code: str, text: str) -> None:
        found.append(Obstacle(code=code, text=text))

    scope = record.scope
    if record.state in UNFINISHED:
        against("FLATTENING_UNFINISHED", f"the flattening of {scope} is unfinished ({record.state})")
    if unknown_orders:
        against("ORDERS_UNKNOWN", f"{unknown_orders} order(s) of {scope} have an UNKNOWN outcome")
    if parked:
        against("EXITS_PARKED", f"{parked} exit(s) of {scope} came too late and wait in the dead letters")
    for text in unclean:
        against("RECONCILE_NOT_CLEAN", text)
    for store in stores:
        against("STORE_UNAVAILABLE", f"the {store} is away")
    if clock is not None:
        against("CLOCK_SUSPECT", clock)
    if record.day is not None and reopens is not None and today < reopens and not two_admins:
        against("DAY_LOSS", f"{scope} was stopped by the loss of {record.day}; it trades again on {reopens}")
    return found
