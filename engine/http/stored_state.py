"""The risk state of a user whose risk actor does not run: read from the store, at the prices of now."""

from uuid import UUID

from engine.clock import trading_day
from engine.domain.risk_state import RiskState
from engine.http.services import Services
from engine.store import history


async def stored_state(services: Services, user_id: UUID) -> RiskState:
    """Return positions, books, figures and order counts of a user as the ledger has them; no live orders."""
    today = trading_day(services.clock.now())
    found = await services.database.run(lambda connection: history.user(connection, user_id, today))
    state = RiskState(today)
    state.take_positions(found["positions"], found["books"], found["trips"])
    for part, peak in found["peaks"]:
        state.pnl.set_peak(part, peak)
    for exchange, symbol in state.pnl.open_instruments():
        price = services.prices.get(f"{exchange}:{symbol}")
        if price is not None:
            state.set_price(exchange, symbol, price)
    for account, at, strategy in found["orders_today"]:
        state.count_order(account, at, strategy)
    return state
