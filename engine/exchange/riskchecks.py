"""The broker's risk checks of an order: circuit limits, funds, holdings (kite.md 17.3, the last of the order)."""

from collections.abc import Mapping
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from engine.domain.instruments import Instrument
from engine.exchange import errors, margin
from engine.exchange.forms import OrderForm
from engine.exchange.instruments import Master, round_to_tick
from engine.exchange.market import Market, circuit_limits
from engine.exchange.orders import Lane, Order
from engine.exchange.portfolio import Portfolio
from engine.exchange.spare_money import SpareMoney
from engine.exchange.state import Account, State

_COVER = Decimal("0.10")
_CHEAP_PREMIUM = Decimal(50)
_CHEAP_ROOM = Decimal(20)
_PROTECTED_SHARE = Decimal("0.40")


class RiskChecks:
    """Judges orders against the market and the account; changes nothing."""

    def __init__(self, state: State, market: Market) -> None:
        self._state = state
        self._market = market
        self._spare: dict[str, SpareMoney] = {}

    def prices(self, wanted: OrderForm, instrument: Instrument, account: Account, now: datetime) -> None:
        """Raise KiteRefusal when a price or trigger of *wanted* lies outside the day's range or too far away."""
        lower, upper = circuit_limits(instrument)
        last = self._market.last_price(instrument, now)
        is_limit = wanted.price and wanted.order_type in ("LIMIT", "SL")
        if is_limit and not lower <= wanted.price <= upper:
            raise errors.outside_circuit(wanted.price, lower, upper, account.user_id)
        if wanted.trigger_price and not lower <= wanted.trigger_price <= upper:
            raise errors.trigger_outside_circuit(wanted.transaction_type, lower, upper)
        is_entry = wanted.order_type in ("LIMIT", "MARKET")
        if wanted.variety == "co" and is_entry:
            reference = wanted.price or last
            least, most = cover_range(wanted.transaction_type, reference, instrument)
            if not least <= wanted.trigger_price <= most:
                raise errors.trigger_outside_cover(least, most)
        if is_limit and _is_beyond_protection(wanted, instrument, last):
            raise errors.beyond_price_protection()
        far = self._state.behaviour.far_limit_percent
        if far is not None and wanted.order_type == "LIMIT" and abs(wanted.price - last) > last * far / 100:
            raise errors.far_limit()

    def auction(self, account: Account, wanted: OrderForm, instrument: Instrument) -> None:
        """Raise KiteRefusal when *wanted* names an auction that is not held for shares of the account."""
        if wanted.auction_number is None:
            return
        holdings = self._state.portfolios[account.user_id].holdings
        if wanted.key not in holdings or wanted.auction_number != auction_number(instrument):
            raise errors.invalid("auction_number")

    def funds(self, account: Account, order: Order, master: Master, now: datetime, before: Order | None = None) -> None:
        """Raise KiteRefusal when money or shares do not reach for *order*, which replaces *before*."""
        portfolio, book = self._state.portfolios[account.user_id], self._state.books[account.user_id]
        lanes = book.lanes if before is None else _without(book.lanes, before)
        queued = lanes[order.lane].remaining if order.lane in lanes else 0
        if order.product == "CNC" and order.sign < 0:
            if order.remaining > portfolio.sellable(order.key) - queued:
                raise errors.short_of_holdings(account.user_id)
            if self._state.behaviour.needs_authorisation:
                beyond = portfolio.unauthorised(order.key, order.remaining + queued)
                if beyond:
                    raise errors.unauthorised(min(beyond, order.quantity))
            return
        capacity = margin.exit_capacity(order, portfolio, queued)
        required = max(0, order.remaining - capacity) * order.unit_margin
        if required and not self._surely_covers(required, account, portfolio, lanes, master):
            available = self.money(account, lanes, master, now).net
            if required > available:
                raise errors.short_of_funds(required, available, account.user_id)

    def _surely_covers(
        self,
        required: Decimal,
        account: Account,
        portfolio: Portfolio,
        lanes: Mapping[tuple[str, str, int], Lane],
        master: Master,
    ) -> bool:
        if not self._market.keeps_to_limits:
            return False
        spare = self._spare.get(account.user_id)
        if spare is None:
            spare = self._spare[account.user_id] = SpareMoney()
        return spare.surely_covers(required, account.capital, portfolio, lanes, master)

    def money(
        self, account: Account, lanes: Mapping[tuple[str, str, int], Lane], master: Master, now: datetime
    ) -> margin.Funds:
        """Return the account's money at *now*, with working orders that add up to *lanes*."""

        def last_price(key: str) -> Decimal:
            instrument = master.by_key.get(key)
            return self._market.last_price(instrument, now) if instrument else Decimal(0)

        portfolio = self._state.portfolios[account.user_id]
        return margin.funds_of(account.capital, portfolio, lanes, master.by_key.get, last_price)


def cover_range(transaction_type: str, price: Decimal, instrument: Instrument) -> tuple[Decimal, Decimal]:
    """Return the lowest and highest trigger of the stop of a cover order whose entry is at *price* rupees."""
    lower, upper = circuit_limits(instrument)
    if transaction_type == "BUY":
        return max(lower, round_to_tick(price * (1 - _COVER), instrument.tick_size, ROUND_CEILING)), price
    return price, min(upper, round_to_tick(price * (1 + _COVER), instrument.tick_size, ROUND_FLOOR))


def auction_number(instrument: Instrument) -> str:
    """Return the number of today's auction of an instrument."""
    return str(instrument.token // 256 % 90 + 10)


def _is_beyond_protection(wanted: OrderForm, instrument: Instrument, last: Decimal) -> bool:
    """Whether an option's limit is too aggressive: by 40 %, or 20 rupees of a premium up to 50 (kite.md 4.2)."""
    if instrument.instrument_type not in ("CE", "PE") or instrument.exchange not in ("NFO", "BFO"):
        return False
    room = last * _PROTECTED_SHARE if last > _CHEAP_PREMIUM else _CHEAP_ROOM
    return wanted.price > last + room if wanted.transaction_type == "BUY" else wanted.price < last - room


def _without(lanes: Mapping[tuple[str, str, int], Lane], order: Order) -> dict[tuple[str, str, int], Lane]:
    """Return *lanes* as if *order* were not working."""
    lane = lanes[order.lane]
    rest = Lane(lane.remaining - order.remaining, lane.blocked - order.remaining * order.unit_margin)
    others = {name: other for name, other in lanes.items() if name != order.lane}
    return {**others, order.lane: rest} if rest.remaining else others
