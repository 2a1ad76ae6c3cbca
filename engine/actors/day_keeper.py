"""What a user's risk actor does because time passes: the day turns, prices go stale, and the day's results are kept.

Owned by the risk actor, whose state it works on. Prices are stale when none was confirmed for so long while the
exchange is open: the figures, and the loss limits on them, then stand on the last one known, and a person is told,
once when it begins and once when it is over. What was confirmed counts, not what changed: a quiet share is not stale.
"""

from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import islice
from uuid import UUID

import structlog

from engine.actors.ledger_entry import LedgerEntry
from engine.actors.risk_messages import RiskContext, UserHistory
from engine.clock import Clock, trading_day
from engine.domain.calendar import is_open
from engine.domain.day_pnl import Part
from engine.domain.enums import Exchange
from engine.domain.risk_state import RiskState
from engine.errors import MailboxFull
from engine.runtime.beat import beat
from engine.store.books import write_results
from engine.store.pnl_points import KEEP_DAYS, forget_points, write_point

_log = structlog.get_logger(__name__)

_TICK_S = 1.0
# with nothing held no price can be missed
_IDLE_S = 5.0
# A new peak is what a restart must not forget; all else of a day under way can be worked out again.
_PEAK_NS = 3_000_000_000
_FIGURES_NS = 60_000_000_000
# Rows at once: with a thousand accounts all of them would hold up what is decided meanwhile. Most are for what limits
# stand on: the user, the accounts, the strategies.
_MOST_WIDE, _MOST_NARROW = 150, 50
_NAMED = 5
_WHOLE: Part = (None, None)

Instrument = tuple[Exchange, str]


class DayKeeper:
    """Keeps the day of one user; *state* returns the risk state as it is now."""

    def __init__(self, user_id: UUID, context: RiskContext, state: Callable[[], RiskState]) -> None:
        self._user_id = user_id
        self._context = context
        self._clock: Clock = context.clock
        self._state = state
        # since when (boot time) the price of what is held is waited for
        self._waiting: dict[Instrument, int] = {}
        self._is_told = False
        # what has changed and is not with the ledger yet; and when (boot time) changes were last looked for
        self._owed_wide: dict[Part, None] = {}
        self._owed_narrow: dict[Part, None] = {}
        self._peaks_ns = 0
        self._figures_ns = 0
        self._swept: date | None = None

    def restore(self, history: UserHistory, state: RiskState) -> None:
        """Take what the ledger holds of positions, books and the day into *state*, at the prices of now."""
        self._waiting.clear()
        self._forget_owed()
        stored = (history.positions, history.books, history.trips, history.peaks)
        state.take_stored_day(*stored, price=self._context.prices.get)

    async def run(self) -> None:
        """Look every second, less often while nothing is held, until cancelled."""
        while True:
            self.tick()
            await beat(_TICK_S if self._waiting or self._owed_wide or self._owed_narrow else _IDLE_S)

    def tick(self) -> None:
        """Do what is due."""
        state = self._state()
        self.roll(state)
        self._mind_prices(state)
        self._keep(state)

    # the day

    def roll(self, state: RiskState) -> None:
        """Begin the new day if there is one; before anything of it is taken in, and not by a clock in doubt."""
        today = trading_day(self._clock.now())
        if state.day == today or self._context.clock_suspect() is not None:
            return
        if state.day is not None and today > state.day:
            self._forget_owed()
            self._write(state, state.pnl.all_figures())
        state.roll_day(today)

    def _keep(self, state: RiskState) -> None:
        now_ns = self._clock.boottime_ns()
        if now_ns - self._figures_ns >= _FIGURES_NS and (moved := state.pnl.take_moved()):
            self._owe(moved)
            self._figures_ns = now_ns
        if now_ns - self._peaks_ns >= _PEAK_NS and (peaked := state.pnl.take_peaked()):
            self._owe(peaked)
            self._peaks_ns = now_ns
        # of the whole there is one, and it never waits
        first = (_WHOLE,) if _WHOLE in self._owed_wide else ()
        turn = (*first, *islice(self._owed_wide, _MOST_WIDE), *islice(self._owed_narrow, _MOST_NARROW))
        if self._write(state, turn):
            for part in turn:
                self._owed(part).pop(part, None)

    def _owe(self, parts: Iterable[Part]) -> None:
        """Keep *parts*, each in its turn."""
        for part in parts:
            self._owed(part).setdefault(part)

    def _owed(self, part: Part) -> dict[Part, None]:
        return self._owed_wide if None in part else self._owed_narrow

    def _forget_owed(self) -> None:
        self._owed_wide.clear()
        self._owed_narrow.clear()

    def _write(self, state: RiskState, parts: Iterable[Part]) -> bool:
        """Keep the figures of *parts*; False when there is no room for them now."""
        figures = {part: state.pnl.figures(part) for part in parts}
        if not figures or state.day is None:
            return True
        if not self._context.ledger.mailbox.has_room:
            return False
        capital: dict[Part, Decimal] = {(None, None): Decimal(0)}
        for account in self._context.directory.accounts_of(self._user_id):
            capital[account.id, None] = account.capital
            capital[None, None] += account.capital
        now = self._clock.now()
        writes = [write_results(self._user_id, state.day, figures, capital, at=now)]
        # a day that is written when the next has begun has no minute left of its own
        if (None, None) in figures and trading_day(now) == state.day:
            writes.append(write_point(self._user_id, now, figures[None, None].net))
        if self._swept != state.day:
            writes.append(forget_points(self._user_id, now - timedelta(days=KEEP_DAYS)))
        try:
            self._context.ledger.append(LedgerEntry(writes=tuple(writes), can_wait=True))
        except MailboxFull as error:
            _log.warning("day.not_kept", user=str(self._user_id), error=str(error))
            return False
        self._swept = state.day
        return True

    # prices

    def _mind_prices(self, state: RiskState) -> None:
        now, now_ns = self._clock.now(), self._clock.boottime_ns()
        held = {found for found in state.pnl.open_instruments() if self._is_due(found[0], now)}
        self._waiting = {found: self._waiting.get(found, now_ns) for found in held}
        for exchange, symbol in list(state.pnl.stale):
            if (exchange, symbol) not in held:
                state.pnl.set_stale(exchange, symbol, None)
        patience_ns = int(self._context.rules.price_stale_s * 1_000_000_000)
        for (exchange, symbol), since_ns in self._waiting.items():
            confirmed_ns = self._context.prices.confirmed_ns(f"{exchange}:{symbol}")
            silent_ns = now_ns - max(since_ns, confirmed_ns or 0)
            is_stale = silent_ns >= patience_ns
            if is_stale != ((exchange, symbol) in state.pnl.stale):
                began = now - timedelta(microseconds=silent_ns // 1000)
                state.pnl.set_stale(exchange, symbol, began if is_stale else None)
        self._tell(state)

    def _is_due(self, exchange: Exchange, now: datetime) -> bool:
        rules = self._context.rules
        return not rules.enforce_hours or is_open(exchange, now, rules.calendar)

    def _tell(self, state: RiskState) -> None:
        stale = [f"{exchange}:{symbol}" for exchange, symbol in state.pnl.stale]
        if bool(stale) is self._is_told:
            return
        self._is_told = bool(stale)
        text = "PRICE_FRESH: what is held has prices again"
        if stale:
            named = ", ".join(stale[:_NAMED]) + (" and others" if len(stale) > _NAMED else "")
            text = (
                f"PRICE_STALE: no price of {named} for {self._context.rules.price_stale_s:g} s; "
                "loss limits stand on the last ones known"
            )
        self._context.alert(f"user:{self._user_id}", text)
