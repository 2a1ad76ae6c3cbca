"""The broker's risk checks of an order: circuit limits, funds, holdings (kite.md 17.3, the last of the order)."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from engine.domain.instruments import Instrument
from engine.exchange import errors, margin
from engine.exchange.forms import OrderForm
from engine.exchange.instruments import Master
from engine.exchange.market import Market, circuit_limits
from engine.exchange.orders import Lane, Order
from engine.exchange.state import Account, State


class RiskChecks:
    """Judges orders against the market and the account; changes nothing."""

    def __init__(self, state: State, market: Market) -> None:
        self._state = state
        self._market = market

    def circuit(self, wanted: OrderForm, instrument: Instrument, account: Account) -> None:
        """Raise KiteRefusal when a price or trigger of *wanted* lies outside the day's range."""
        lower, upper = circuit_limits(instrument)
        if wanted.price and not lower <= wanted.price <= upper and wanted.order_type in ("LIMIT", "SL"):
            raise errors.outside_circuit(wanted.price, lower, upper, account.user_id)
        if wanted.trigger_price and not lower <= wanted.trigger_price <= upper:
            raise errors.trigger_outside_circuit(wanted.transaction_type, lower, upper)

    def funds(self, account: Account, order: Order, master: Master, now: datetime, before: Order | None = None) -> None:
        """Raise KiteRefusal when money or shares do not reach for *order*, which replaces *before*."""
        portfolio, book = self._state.portfolios[account.user_id], self._state.books[account.user_id]
        lanes = book.lanes if before is None else _without(book.lanes, before)
        queued = lanes[order.lane].remaining if order.lane in lanes else 0
        if order.product == "CNC" and order.sign < 0:
            if order.remaining > portfolio.sellable(order.key) - queued:
                raise errors.short_of_holdings(account.user_id)
            return
        capacity = margin.exit_capacity(order, portfolio, queued)
        required = max(0, order.remaining - capacity) * order.unit_margin
        if required:
            available = self.money(account, lanes, master, now).net
            if required > available:
                raise errors.short_of_funds(required, available, account.user_id)

    def money(
        self, account: Account, lanes: Mapping[tuple[str, str, int], Lane], master: Master, now: datetime
    ) -> margin.Funds:
        """Return the account's money at *now*, with working orders that add up to *lanes*."""

        def last_price(key: str) -> Decimal:
            instrument = master.by_key.get(key)
            return self._market.last_price(instrument, now) if instrument else Decimal(0)

        portfolio = self._state.portfolios[account.user_id]
        return margin.funds_of(account.capital, portfolio, lanes, master.by_key.get, last_price)


def _without(lanes: Mapping[tuple[str, str, int], Lane], order: Order) -> dict[tuple[str, str, int], Lane]:
    """Return *lanes* as if *order* were not working."""
    lane = lanes[order.lane]
    rest = Lane(lane.remaining - order.remaining, lane.blocked - order.remaining * order.unit_margin)
    others = {name: other for name, other in lanes.items() if name != order.lane}
    return {**others, order.lane: rest} if rest.remaining else others
