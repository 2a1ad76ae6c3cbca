"""What trips by itself: limits that a user's state is past, and the circuit breakers of accounts and strategies.

Owned by the user's risk actor, which tells it what changed. Trips the kill switch of the scope through the context;
a block that a breaker set itself it lifts again after the cool-down, any other it leaves alone.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import msgspec
import structlog
import trio

from engine.actors.limit_scopes import Capitals, limits_for
from engine.actors.risk_messages import RiskContext
from engine.clock import trading_day
from engine.domain.breaker import (
    CLOSED,
    Breaker,
    BreakerState,
    Outcome,
    heard,
    is_rested,
    opened,
    outcome,
    rested,
)
from engine.domain.denial import Denial
from engine.domain.denial_codes import Code
from engine.domain.enums import KillMode
from engine.domain.killswitch import KillRecord
from engine.domain.limits import RiskLimits, tightest
from engine.domain.order import Order
from engine.domain.risk_inputs import ACCOUNT, STRATEGY, USER, ScopeInputs
from engine.domain.risk_rules import TRIP_MODES, breaches
from engine.domain.risk_state import RiskState, Scope
from engine.errors import EngineError

_log = structlog.get_logger(__name__)

BREAKER = "risk:breaker"
"""The actor of a block that a circuit breaker set; it alone may lift it by itself."""

LIMIT = "risk:limit"
"""The actor of a block that a limit set: it is a person's to lift."""

_RETRY_S = 5.0
# Orders of which the outcome was counted; more than are told of within a day.
_REMEMBERED = 20_000
_LONGEST_SLEEP_S = 60.0


class RiskWatch:
    """Watches one user; *state* returns the risk state of now."""

    def __init__(self, user_id: UUID, context: RiskContext, state: Callable[[], RiskState]) -> None:
        self._user_id = user_id
        self._context = context
        self._state = state
        self._breakers: dict[str, Breaker] = {}
        self._versions: dict[str, int] = {}
        self._counted: dict[UUID, Outcome] = {}
        self._seen: dict[str, tuple[object, ...]] = {}
        self._past: dict[str, frozenset[str]] = {}
        self._news = trio.Event()

    # the limits

    def restore(self, orders: Iterable[Order] = ()) -> None:
        """Begin from the state as rebuilt: what it is past trips now; a block of a breaker is taken over.

        What the broker made of the day's *orders*, oldest first, is counted as if it had just been told; nothing
        opens by it alone, for what opened a breaker then has left a block.
        """
        self._breakers.clear()
        self._versions.clear()
        self._counted.clear()
        self._seen.clear()
        self._past.clear()
        for scope, key in self._breaker_scopes():
            record = self._record(scope)
            if record is not None and record.enabled and record.actor == BREAKER:
                _, cooldown_s = self._breaker_limits(scope, key)
                self._breakers[scope] = opened(cooldown_s=cooldown_s, now=record.at)
                self._versions[scope] = record.version
        now = self._context.clock.now()
        for order in orders:
            said = outcome(order)
            if said is None:
                continue
            self._counted[order.id] = said
            for scope, _ in self._scopes_of(order):
                record = self._record(scope)
                if record is not None and (record.enabled or order.created_at <= record.at):
                    continue  # whoever lifted the block began the row anew
                before = self._breakers.get(scope, CLOSED)
                self._breakers[scope] = heard(before, said, limit=None, cooldown_s=None, now=now)
        self.changed(account.id for account in self._context.directory.accounts_of(self._user_id))

    def changed(self, accounts: Iterable[UUID]) -> None:
        """Positions or prices of *accounts* changed: trip what is now past a limit, once for each crossing."""
        directory, capitals = self._context.directory, None
        held = directory.limits_of(self._user_id)
        self._look(f"user:{self._user_id}", None, limits_for(directory, self._context.defaults, self._user_id)[USER])
        if not held:
            return
        for account_id in accounts:
            limits = held.get((account_id, None))
            if limits is not None:
                self._look(f"account:{account_id}", account_id, limits.limits)
        for (account, strategy_id), limits in held.items():
            if account is None and strategy_id is not None:
                capitals = Capitals(directory, self._user_id, strategy_id)
                self._look(f"strategy:{strategy_id}", strategy_id, limits.limits, capitals)

    def _look(self, scope: str, key: Scope, limits: RiskLimits, capitals: Capitals | None = None) -> None:
        state = self._state()
        figures, positions = state.figures(key), state.open_positions(key)
        seen = (figures.net, figures.peak, positions, limits)
        if self._seen.get(scope) == seen:
            return
        is_first = scope not in self._seen
        self._seen[scope] = seen
        kind, capital = self._capital(key, capitals)
        inputs = ScopeInputs(scope=kind, capital=capital, net=figures.net, peak=figures.peak)
        found = breaches(inputs, limits, open_positions=positions)
        before = self._past.get(scope, frozenset())
        self._past[scope] = frozenset(denial.code for denial in found)
        crossed = [denial for denial in found if denial.code not in before]
        if is_first:
            crossed = [denial for denial in crossed if not self._was_lifted_today(scope, denial)]
        if crossed:
            self._trip(scope, crossed)

    def _capital(self, key: Scope, capitals: Capitals | None) -> tuple[str, Decimal | None]:
        directory = self._context.directory
        if key is None:
            return USER, Capitals(directory, self._user_id, None).user
        if capitals is not None:
            return STRATEGY, capitals.strategy
        account = directory.accounts.get(key)
        return ACCOUNT, None if account is None else account.capital

    def _was_lifted_today(self, scope: str, denial: Denial) -> bool:
        """Whether somebody let the scope trade again today although *denial*: a restart must not take that back.

        One that was blocked for another reason has not been let pass a loss that came later.
        """
        record = self._record(scope)
        today = trading_day(self._context.clock.now())
        if record is None or record.enabled or record.actor == BREAKER:
            return False
        is_of_day = TRIP_MODES[denial.code] is KillMode.SQUARE_OFF
        return (record.day if is_of_day else trading_day(record.at)) == today

    def _trip(self, scope: str, crossed: list[Denial]) -> None:
        worst = max(crossed, key=lambda denial: TRIP_MODES[denial.code].rank)
        mode = TRIP_MODES[worst.code]
        record = self._record(scope)
        if record is not None and record.enabled and record.mode.rank >= mode.rank:
            return
        reason = "; ".join(str(denial) for denial in (worst, *(d for d in crossed if d is not worst)))
        self._context.trip(scope, reason, mode, LIMIT)
        self._context.alert(scope, f"the kill switch of {scope} tripped by itself: {reason}")

    def _record(self, scope: str) -> KillRecord | None:
        found: KillRecord | None = self._context.kill.records.get(scope)
        return found

    # the breakers

    def breaker(self, scope: str) -> Breaker:
        """Return the breaker of ``account:ID`` or ``strategy:ID``."""
        return self._current(scope, UUID(scope.partition(":")[2]))

    def order_changed(self, order: Order) -> None:
        """An order stands as given: count what the broker made of it, once for each thing it made."""
        if order.is_external:
            return
        said = outcome(order)
        if said is None and order.status.is_terminal:
            self._state().end_trial(order.id)
        if said is None or self._counted.get(order.id) is said:
            return
        # kept beyond its end: an order is told of more than once
        self._counted[order.id] = said
        if len(self._counted) > _REMEMBERED:
            del self._counted[next(iter(self._counted))]
        for scope, key in self._scopes_of(order):
            self._count(scope, key, order, said)

    def _count(self, scope: str, key: UUID, order: Order, said: Outcome) -> None:
        before = self._current(scope, key)
        state = self._state()
        if before.state is BreakerState.HALF_OPEN and state.trial(key) != order.id:
            return  # sent before it opened, or an exit: not what is tried
        limit, cooldown_s = self._breaker_limits(scope, key)
        after = heard(before, said, limit=limit, cooldown_s=cooldown_s, now=self._context.clock.now())
        self._breakers[scope] = after
        if after.state is BreakerState.CLOSED and before.state is BreakerState.HALF_OPEN:
            state.close(key)
            _log.warning("breaker.closed", scope=scope)
        if after.state is BreakerState.OPEN and before.state is not BreakerState.OPEN:
            state.close(key)
            self._open(scope, after, order)

    def _open(self, scope: str, breaker: Breaker, order: Order) -> None:
        last = order.status_message or order.status.value
        rest = "" if breaker.until is None else f"; entries are tried again at {breaker.until:%H:%M:%S} UTC"
        reason = f"{Code.CIRCUIT_BREAKER_FAILURES}: {breaker.failures} in a row, the last: {last}{rest}"
        held = self._record(scope)
        if held is not None and held.enabled:
            # somebody else's block: it is not the breaker's to lift
            self._versions.pop(scope, None)
        else:
            record = self._context.trip(scope, reason, KillMode.BLOCK, BREAKER)
            if record is not None:
                self._versions[scope] = record.version
        self._context.alert(scope, f"the circuit breaker of {scope} opened: {reason}")
        self._news.set()

    def _current(self, scope: str, key: UUID) -> Breaker:
        """Return the breaker, closed if a person has lifted its block."""
        held = self._breakers.get(scope, CLOSED)
        if held.state is BreakerState.OPEN:
            record = self._record(scope)
            if record is not None and not record.enabled and record.version > self._versions.get(scope, 0):
                self._state().close(key)
                self._breakers[scope] = held = CLOSED
        return held

    def _scopes_of(self, order: Order) -> list[tuple[str, UUID]]:
        found = [(f"account:{order.account_id}", order.account_id)]
        if order.strategy_id is not None and self._has_breaker(order.strategy_id):
            found.append((f"strategy:{order.strategy_id}", order.strategy_id))
        return found

    def _breaker_scopes(self) -> list[tuple[str, UUID]]:
        directory = self._context.directory
        found = [(f"account:{account.id}", account.id) for account in directory.accounts_of(self._user_id)]
        found += [
            (f"strategy:{strategy}", strategy)
            for account, strategy in directory.limits_of(self._user_id)
            if account is None and strategy is not None
        ]
        return found

    def _has_breaker(self, strategy_id: UUID) -> bool:
        held = self._context.directory.limits_of(self._user_id).get((None, strategy_id))
        return held is not None and held.limits.circuit_breaker_failures is not None

    def _breaker_limits(self, scope: str, key: UUID) -> tuple[int | None, int | None]:
        """Return after how many failures in a row the breaker opens, and for how many seconds."""
        directory, defaults = self._context.directory, self._context.defaults
        if scope.startswith("account:"):
            both = tuple(limits_for(directory, defaults, self._user_id, key).values())
            return tightest("circuit_breaker_failures", *both), tightest("circuit_breaker_cooldown_s", *both)
        limits = limits_for(directory, defaults, self._user_id, None, key)
        own = limits.get(STRATEGY, RiskLimits())
        return own.circuit_breaker_failures, tightest("circuit_breaker_cooldown_s", *limits.values())

    async def run(self) -> None:
        """Half-open what has cooled down, until cancelled."""
        while True:
            now = self._context.clock.now()
            for scope, breaker in list(self._breakers.items()):
                if is_rested(breaker, now):
                    await self._try_again(scope, breaker, now)
            with trio.move_on_after(self._sleep_s()):
                await self._news.wait()
                self._news = trio.Event()

    def _sleep_s(self) -> float:
        now = self._context.clock.now()
        due = [(b.until - now).total_seconds() for b in self._breakers.values() if b.until is not None]
        # the wall clock may be set meanwhile, and an open breaker may be lifted by a person
        return max(min(due, default=_LONGEST_SLEEP_S), 0.05) if due else float("inf")

    async def _try_again(self, scope: str, breaker: Breaker, now: datetime) -> None:
        key = UUID(scope.partition(":")[2])
        if self._current(scope, key).state is not BreakerState.OPEN:
            return
        version = self._versions.get(scope)
        record = self._record(scope)
        if version is None or record is None or record.version != version or record.actor != BREAKER:
            # another's block came on top of it: a person lifts it, and the breaker with it
            self._breakers[scope] = msgspec.structs.replace(breaker, until=None)
            return
        # one entry alone may go from the first instant on
        self._state().half_open(key)
        try:
            reason = "the circuit breaker is half open: one entry is tried"
            lifted = await self._context.rearm(scope, version, reason, BREAKER)
        except EngineError as error:
            _log.warning("breaker.not_rearmed", scope=scope, error=str(error))
            self._breakers[scope] = opened(cooldown_s=int(_RETRY_S), now=now)
            held = self._record(scope)
            if held is not None and held.enabled and held.actor == BREAKER:
                # a release that did not come about is followed by the block anew
                self._versions[scope] = held.version
            return
        if lifted:
            self._breakers[scope] = rested(breaker)
            _log.warning("breaker.half_open", scope=scope)
