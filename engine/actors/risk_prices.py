"""The last prices that a user's verdicts need, before they are made."""

from uuid import UUID

import structlog
import trio

from engine.actors.decision import limits_for
from engine.actors.intake import Passage
from engine.actors.prices import Prices
from engine.actors.risk_messages import RiskContext
from engine.domain.directory import Directory
from engine.domain.risk_state import RiskState
from engine.domain.signal import Signal

_log = structlog.get_logger(__name__)

_PRICES_S = 3.0
_NO_PRICE_S = 10.0


class RiskPrices:
    """Puts prices into one user's risk state."""

    def __init__(self, user_id: UUID, context: RiskContext) -> None:
        self._user_id = user_id
        self._context = context
        self._directory: Directory = context.directory
        self._prices: Prices = context.prices
        self._unpriced: dict[str, float] = {}

    async def know(self, passage: Passage, state: RiskState) -> None:
        """Have a last price of every instrument of the delivery.

        The live one if there is one, else the master's, else the first delivery of an instrument waits for
        a quote; one that had none does not hold up the next.
        """
        try:
            missing = self._take(passage, state)
            if not missing:
                return
            with trio.move_on_after(_PRICES_S):
                for key in missing:
                    await self._prices.ensure(key)
            until = trio.current_time() + _NO_PRICE_S
            for key in self._take(passage, state):
                self._unpriced[key] = until
        except Exception:
            # the verdict says what a missing price means; the delivery must not be lost for it
            _log.exception("prices.fault", key=passage.delivery.idempotency_key)

    def _take(self, passage: Passage, state: RiskState) -> list[str]:
        """Take over the prices known of a delivery's instruments; return those of which none is to be had."""
        missing: list[str] = []
        for signal in {(i.signal.exchange, i.signal.symbol): i.signal for i in passage.intents.values()}.values():
            instrument = self._context.instruments().get(signal.exchange, signal.symbol)
            if instrument is None:
                continue
            price = self._prices.get(instrument.key)
            if price is None:
                self._prices.watch(instrument.key)
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
            limits is not None and limits.price_band_pct is not None
            for account in self._directory.accounts_of(self._user_id)
            for limits in limits_for(self._directory, self._context.defaults, self._user_id, account.id)
        )
