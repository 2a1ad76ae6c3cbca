"""The order calls of one Zerodha account: one budget for all engine accounts that trade on it.

Kite counts by its own account, across API keys (kite.trade forum 52125): two accounts of this engine with
the same broker user id share a budget. Owned by no task: executors ask it in plain calls, and everything in
it lapses by itself, so that one that died keeps nothing.
"""

from collections.abc import Callable, Hashable
from datetime import date
from uuid import UUID

import msgspec
import trio

from engine.domain.lanes import Claims, Lane
from engine.domain.pacing import Cap, Pacer, Usage, against_entry


class BudgetView(msgspec.Struct, frozen=True, kw_only=True):
    """A budget as it is now: whose it is, what is used, who waits, and what flattening would take."""

    accounts: tuple[UUID, ...]
    usage: Usage
    waiting_exits: int
    waiting_cancels: int
    waiting_entries: int
    needed_to_flatten: int


class CallBudget:
    """Calls of one Zerodha account, by lane."""

    def __init__(self, pacer: Pacer) -> None:
        self.pacer = pacer
        self.claims = Claims()
        # cancels wait in line here, so that only the first of them looks for a call
        self.cancels = trio.Lock()
        self.needs: dict[UUID, Callable[[], int]] = {}

    def try_take(self, lane: Lane, day: date, *, slot: Hashable = None) -> bool:
        """Take a call for *lane* now, unless the budget has none or another lane comes first."""
        now = trio.current_time()
        held = self.pacer.is_held(now) or self.pacer.is_day_capped(day)
        if not self.claims.may_go(lane, now, entries_held=held):
            return False
        starved = self.claims.starved(now, entries_held=held) is lane
        if not self.pacer.try_take(now, day, lane, slot=slot, starved=starved):
            return False
        self.claims.called(lane, now)
        return True

    def against_entry(self, day: date) -> str | None:
        """Return why no entry may take a call of *day*, or None."""
        if self.pacer.is_day_capped(day):
            return "ORDER_BUDGET: the broker takes no more order calls of the account today"
        return against_entry(self.pacer.left(day), self.needed, self.pacer.per_day)

    @property
    def needed(self) -> int:
        """How many calls it takes to flatten every account on this budget."""
        return sum(need() for need in self.needs.values())

    def cap(self, day: date, minute_left_s: float) -> Cap | None:
        """The broker says that a cap is reached; return which, if that is news."""
        return self.pacer.cap(trio.current_time(), day, minute_left_s)

    def view(self, day: date) -> BudgetView:
        """Return the budget as it is now."""
        now = trio.current_time()
        return BudgetView(
            accounts=tuple(self.needs),
            usage=self.pacer.usage(now, day),
            waiting_exits=self.claims.waiting(Lane.EXIT, now),
            waiting_cancels=self.claims.waiting(Lane.CANCEL, now),
            waiting_entries=self.claims.waiting(Lane.ENTRY, now),
            needed_to_flatten=self.needed,
        )


class CallBudgets:
    """The budgets of a process by key, and which account is on which."""

    def __init__(self) -> None:
        self._budgets: dict[str, CallBudget] = {}
        self._keys: dict[UUID, str] = {}

    def of(self, account_id: UUID, key: str, limits: tuple[int, int, int], need: Callable[[], int]) -> CallBudget:
        """Return the budget of an account; *limits* are calls in a second, a minute and a day.

        *key* says whose Zerodha account it is and may become known late: what the account has used until then
        goes with it. *need* tells what flattening the account takes.
        """
        before = self._keys.get(account_id)
        if before == key:
            return self._budgets[key]
        self._keys[account_id] = key
        moved = None if before is None else self._leave(account_id, before)
        budget = self._budgets.get(key)
        if budget is None:
            budget = self._budgets[key] = moved or CallBudget(Pacer(*limits))
        elif moved is not None:
            budget.pacer.absorb(moved.pacer)
        budget.needs[account_id] = need
        return budget

    def _leave(self, account_id: UUID, key: str) -> CallBudget | None:
        """Take an account off the budget of *key*; return that budget when nobody else is on it."""
        budget = self._budgets[key]
        budget.needs.pop(account_id, None)
        if budget.needs:
            return None
        del self._budgets[key]
        return budget

    def all(self) -> list[CallBudget]:
        """Return the budgets in use."""
        return list(self._budgets.values())
