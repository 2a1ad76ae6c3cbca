"""What a user's verdicts need before they are made: what the symbols mean, and last prices."""

from collections.abc import Callable
from uuid import UUID

import msgspec
import structlog
import trio

from engine.actors.intake import Passage
from engine.actors.limit_scopes import limits_for
from engine.actors.prices import Prices
from engine.actors.risk_messages import RiskContext
from engine.clock import Clock
from engine.domain.directory import Directory
from engine.domain.intent import Intent
from engine.domain.risk_state import RiskState
from engine.domain.signal import Signal
from engine.domain.symbols import Resolution, resolve

_log = structlog.get_logger(__name__)

_PRICES_S = 3.0
_NO_PRICE_S = 10.0


class RiskPrices:
    """Resolves the symbols of one user's deliveries, and puts prices into the user's risk state."""

    def __init__(self, user_id: UUID, context: RiskContext) -> None:
        self._user_id = user_id
        self._context = context
        self._directory: Directory = context.directory
        self._prices: Prices = context.prices
        self._clock: Clock = context.clock
        self._unpriced: dict[str, float] = {}

    async def know(self, passage: Passage, state: RiskState) -> None:
        """Choose the instrument of every intent of the delivery, and have its last price.

        The live price if there is one, else the master's, else the first delivery of an instrument waits for
        a quote; one that had none does not hold up the next.
        """
        try:
            if self.knows(passage, state):
                return
            await self._wait_for(self._spots_missing(passage), lambda: self._spots_missing(passage))
            passage.resolutions = {intent.id: self._resolve(intent) for intent in passage.intents.values()}
            await self._wait_for(self._take(passage, state), lambda: self._take(passage, state))
        except Exception:
            # the verdict says what a missing price means; the delivery must not be lost for it
            _log.exception("prices.fault", key=passage.delivery.idempotency_key)

    def knows(self, passage: Passage, state: RiskState) -> bool:
        """Choose the instruments and take their prices over, if that takes no waiting; tell whether it is done."""
        found = {intent.id: self._resolve(intent) for intent in passage.intents.values()}
        if any(resolution.spot_key is not None for resolution in found.values()):
            return False
        passage.resolutions = found
        return not self._take(passage, state)

    def resolved(self, passage: Passage, intent: Intent) -> tuple[Intent, Resolution]:
        """Return the intent with the symbol that is traded, and how that was chosen."""
        resolution = passage.resolutions.get(intent.id) or self._resolve(intent)
        if resolution.written is None:
            return intent, resolution
        chosen = msgspec.structs.replace(intent, signal=resolution.signal, written_symbol=resolution.written)
        return chosen, resolution

    def _resolve(self, intent: Intent) -> Resolution:
        rules = self._context.rules
        return resolve(
            intent.signal,
            book=self._context.instruments(),
            aliases=rules.aliases,
            calendar=rules.calendar,
            now=self._clock.now(),
            price=self._prices.get,
        )

    async def _wait_for(self, missing: list[str], still_missing: Callable[[], list[str]]) -> None:
        """Have quotes of *missing* asked for, once; what has none does not hold up the next delivery."""
        if not missing:
            return
        with trio.move_on_after(_PRICES_S):
            for key in missing:
                await self._prices.ensure(key)
        until = trio.current_time() + _NO_PRICE_S
        for key in still_missing():
            self._unpriced[key] = until

    def _spots_missing(self, passage: Passage) -> list[str]:
        """Return the prices that the choice of contracts depends on and that are not known."""
        missing: list[str] = []
        for intent in passage.intents.values():
            key = self._resolve(intent).spot_key
            if key is None:
                continue
            self._prices.watch(key)
            if self._prices.get(key) is None and self._unpriced.get(key, 0.0) <= trio.current_time():
                missing.append(key)
        return list(dict.fromkeys(missing))

    def _take(self, passage: Passage, state: RiskState) -> list[str]:
        """Take over the prices known of a delivery's instruments; return those of which none is to be had."""
        missing: list[str] = []
        signals = [self.resolved(passage, intent)[0].signal for intent in passage.intents.values()]
        for signal in {(signal.exchange, signal.symbol): signal for signal in signals}.values():
            instrument = self._context.instruments().get(signal.exchange, signal.symbol)
            if instrument is None:
                continue
            state.set_bounds(signal.exchange, signal.symbol, self._context.bounds(instrument.key))
            self._prices.watch(instrument.key)
            price = self._prices.get(instrument.key)
            if price is None:
                price = instrument.last_price
            if not price:
                if self._is_needed(signal) and self._unpriced.get(instrument.key, 0.0) <= trio.current_time():
                    missing.append(instrument.key)
            elif price != state.last_price(signal.exchange, signal.symbol):
                state.set_price(signal.exchange, signal.symbol, price)
                self._unpriced.pop(instrument.key, None)
        return missing

    def _is_needed(self, signal: Signal) -> bool:
        """Whether the verdict on a signal can depend on the last price: it carries none, or a band is set."""
        return not signal.order_type.needs_price or any(
            limits.price_band_pct is not None
            for limits in (
                *limits_for(self._directory, self._context.defaults, self._user_id).values(),
                *(held.limits for held in self._directory.limits_of(self._user_id).values()),
            )
        )
