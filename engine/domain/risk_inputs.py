"""The numbers that a verdict is made of: everything the rules look at, as a value that can be stored and judged again.

Built from the state by `inputs_of` and judged by `engine.domain.risk_rules`; what is not in here no rule sees.
"""

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

import msgspec

from engine.clock import trading_day
from engine.domain.day_figures import DayFigures
from engine.domain.limits import OrderRequest
from engine.domain.risk_state import AnyScope, RiskState

_ZERO = Decimal(0)
_NO_FIGURES = DayFigures()

USER, ACCOUNT, STRATEGY, BOTH = "user", "account", "strategy", "strategy on account"
"""Whose limits: all of a user, one account, one strategy, or one strategy on one account."""


class ScopeInputs(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel", gc=False):
    """What one scope stood at; rupees, units and counts.

    ``orders…`` and ``messages…`` are before the order in question, except that its own message counts. ``units``
    are what the scope can come to hold of the instrument if the order is approved; ``occupied`` are its positions
    that are not flat or may soon not be, and ``opens`` whether the order would add one.
    """

    scope: str
    capital: Decimal | None = None
    net: Decimal = _ZERO
    peak: Decimal = _ZERO
    trades: int = 0
    losing_streak: int = 0
    last_loss_at: datetime | None = None
    orders_in_minute: int = 0
    orders_in_day: int = 0
    messages_in_minute: int = 0
    occupied: int = 0
    opens: bool = False
    units: int = 0


class RiskInputs(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """What a request was judged by.

    ``at`` is the instant in the time zone of trading windows. ``orders`` is how many orders the request becomes.
    ``increase`` is None for a new order, else by how many units a live one would grow (0: not). ``held`` is the
    account's position in instrument and product and ``claimed`` what live orders of the same side already close of
    it. Prices are rupees; ``lowest`` and ``highest`` are the exchange's circuit limits, ``lpp_…`` its limit price
    protection, None where no quote gave them. ``repeated_at`` is when an order like this was made last, by the
    intent ``repeated_by``; ``opposed_by`` the strategy of a live order on the other side, ``by hand`` without one.
    ``probing`` names the scope whose circuit breaker is half open while another entry is being tried.
    """

    request: OrderRequest
    at: datetime
    scopes: tuple[ScopeInputs, ...]
    orders: int = 1
    increase: int | None = None
    held: int = 0
    claimed: int = 0
    last_price: Decimal | None = None
    lowest: Decimal | None = None
    highest: Decimal | None = None
    lpp_lowest: Decimal | None = None
    lpp_highest: Decimal | None = None
    repeated_at: datetime | None = None
    repeated_by: UUID | None = None
    opposed_by: str | None = None
    probing: str | None = None
    segment: str = ""


class ScopeCapital(msgspec.Struct, frozen=True):
    """A scope that has limits, by its name here and in the state, and its capital in rupees."""

    scope: str
    key: AnyScope
    capital: Decimal | None


def inputs_of(
    request: OrderRequest,
    state: RiskState,
    scopes: Sequence[ScopeCapital],
    *,
    at: datetime,
    orders: int = 1,
    increase: int | None = None,
    segment: str = "",
) -> RiskInputs:
    """Return what *request* is judged by as *state* stands; *at* is now in the time zone of trading windows."""
    more = request if increase is None else msgspec.structs.replace(request, quantity=max(increase, 0))
    today = trading_day(at)
    own = request.strategy_id
    position = state.position(request.key)
    repeated = state.last_like(request)
    bounds = state.bounds(request.exchange, request.symbol)
    return RiskInputs(
        request=request,
        at=at,
        scopes=tuple([_scope(more, state, each, at, today, own) for each in scopes]),
        orders=orders,
        increase=increase,
        held=0 if position is None else position.quantity,
        claimed=state.reserved_quantity(request.key, request.transaction_type),
        last_price=state.last_price(request.exchange, request.symbol),
        lowest=bounds.lowest,
        highest=bounds.highest,
        lpp_lowest=bounds.lpp_lowest,
        lpp_highest=bounds.lpp_highest,
        repeated_at=None if repeated is None else repeated[0],
        repeated_by=None if repeated is None else repeated[1],
        opposed_by=state.opposed_by(request),
        probing=_probing(request, state) if state.has_half_open else None,
        segment=segment,
    )


def _probing(request: OrderRequest, state: RiskState) -> str | None:
    if state.trial(request.account_id) is not None:
        return ACCOUNT
    return STRATEGY if state.trial(request.strategy_id) is not None else None


def _scope(
    request: OrderRequest, state: RiskState, of: ScopeCapital, at: datetime, today: date, strategy_id: UUID
) -> ScopeInputs:
    key = of.key
    # a strategy on one account has no result of its own
    figures = _NO_FIGURES if isinstance(key, tuple) else state.figures(key)
    return ScopeInputs(
        scope=of.scope,
        capital=of.capital,
        net=figures.net,
        peak=figures.peak,
        trades=figures.trades,
        losing_streak=figures.losing_streak,
        last_loss_at=figures.last_loss_at,
        orders_in_minute=state.orders_in_minute(at, key),
        orders_in_day=state.orders_in_day(today, key),
        messages_in_minute=state.messages_in_minute(at, key),
        occupied=state.occupied_positions(key),
        opens=not state.is_occupied(request.key, strategy_id if of.scope in (STRATEGY, BOTH) else None),
        units=state.exposure_after(request, key),
    )
