"""Fills: how much of an order trades now, and the trade."""

from datetime import datetime
from decimal import Decimal

from engine.domain.instruments import Instrument
from engine.exchange import ids, matching
from engine.exchange.config import ExchangeConfig
from engine.exchange.events import Traded
from engine.exchange.orders import COMPLETE, BookEntry, Stage, Trade
from engine.exchange.state import State


class Filler:
    """Fills orders. ``liquidity`` bounds how many units of a key may still trade, where set."""

    def __init__(self, state: State, config: ExchangeConfig) -> None:
        self._state = state
        self._config = config
        self.liquidity: dict[str, int] = {}

    def fill(self, entry: BookEntry, instrument: Instrument, price: Decimal, now: datetime) -> None:
        """Trade what there is to trade of a marketable order, at *price* rupees."""
        quantity = self._available(entry, instrument)
        if quantity:
            self._trade(entry, instrument, quantity, price, now)

    def _available(self, entry: BookEntry, instrument: Instrument) -> int:
        quantity = entry.order.remaining
        if self._config.partial_fills:
            quantity = matching.part_to_fill(entry.order, instrument.lot_size, self._config.seed, len(entry.trades))
        return min(quantity, self.liquidity.get(entry.order.key, quantity))

    def _trade(self, entry: BookEntry, instrument: Instrument, quantity: int, price: Decimal, now: datetime) -> None:
        order = entry.order
        if order.key in self.liquidity:
            self.liquidity[order.key] -= quantity
        trade = Trade(
            trade_id=ids.trade_id(self._state.trades + 1),
            order_id=order.order_id,
            user_id=order.user_id,
            exchange=order.exchange,
            tradingsymbol=order.tradingsymbol,
            instrument_token=order.instrument_token,
            product=order.product,
            transaction_type=order.transaction_type,
            quantity=quantity,
            price=price,
            multiplier=instrument.multiplier,
            exchange_order_id=order.exchange_order_id or "",
            order_timestamp=order.order_timestamp,
            at=now,
        )
        filled = order.filled_quantity + quantity
        stage = Stage(
            at=now,
            status=COMPLETE if filled == order.quantity else order.status,
            filled_quantity=filled,
            filled_value=order.filled_value + quantity * price,
            exchange_update_timestamp=now,
        )
        self._state.record(Traded(at=now, order_id=order.order_id, trade=trade, stage=stage))
