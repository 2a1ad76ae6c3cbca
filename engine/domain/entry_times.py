"""When positions may be opened: in the hours of the strategy, and not after the square-off by the clock.

Pure. What only reduces a position is never asked about here.
"""

from collections.abc import Mapping
from datetime import datetime, time, tzinfo

from engine.clock import IST
from engine.domain.calendar import Calendar, parse_hhmm
from engine.domain.denial import Denial
from engine.domain.denial_codes import Code
from engine.domain.directory import Strategy
from engine.domain.enums import Exchange, ProductType
from engine.domain.limits import OrderRequest
from engine.domain.risk_rules import reduces
from engine.domain.risk_state import RiskState
from engine.domain.square_off_times import INTRADAY, squared_off_since
from engine.domain.strategy_book import held_by


def outside_window(strategy: Strategy, now: datetime, zone: tzinfo) -> list[Denial]:
    """Return why *strategy* enters nothing at *now* (aware), by its hours in *zone*."""
    window = strategy.entry_window
    if window is None:
        return []
    local = now.astimezone(zone)
    if parse_hhmm(window.start) <= local.time() < parse_hhmm(window.end):
        return []
    text = f"{local:%H:%M} is not within {window.start} to {window.end}, the hours in which {strategy.name} enters"
    return [Denial(code=Code.ENTRY_WINDOW, text=text)]


def after_square_off(
    exchange: Exchange, product: ProductType, now: datetime, calendar: Calendar, times: Mapping[Exchange, time]
) -> list[Denial]:
    """Return why no intraday position is opened at *now* (aware): those of *exchange* were squared off today.

    *times* (IST) are those of the exchanges, empty when nothing is squared off by the clock.
    """
    configured = times.get(exchange)
    if configured is None or product.value not in INTRADAY:
        return []
    since = squared_off_since(exchange, now, calendar, configured)
    if since is None:
        return []
    text = (
        f"{product} positions on {exchange} are squared off since {since.astimezone(IST):%H:%M} IST; none is opened "
        "until the next trading day"
    )
    return [Denial(code=Code.AFTER_SQUARE_OFF, text=text)]


def after_own_square_off(
    strategy: Strategy, request: OrderRequest, state: RiskState, now: datetime, calendar: Calendar
) -> list[Denial]:
    """Return why *strategy* opens nothing at *now* (aware): it was squared off today.

    What other strategies hold is not its to reduce: an order that does would open a position of its own.
    """
    if strategy.square_off_at is None:
        return []
    since = squared_off_since(request.exchange, now, calendar, parse_hhmm(strategy.square_off_at))
    if since is None or _reduces_own(strategy, request, state):
        return []
    text = (
        f"{strategy.name} is squared off on {request.exchange} since {since.astimezone(IST):%H:%M} IST "
        f"(squareOffAt {strategy.square_off_at}); it opens nothing until the next trading day"
    )
    return [Denial(code=Code.AFTER_SQUARE_OFF, text=text)]


def _reduces_own(strategy: Strategy, request: OrderRequest, state: RiskState) -> bool:
    # positions from before there were books are in that of the hand
    held = held_by(state, strategy.id, request.key) + state.closable(None, request.key)
    claimed = state.reserved_quantity(request.key, request.transaction_type, strategy.id)
    return reduces(held, request.transaction_type, request.quantity, claimed=claimed)
