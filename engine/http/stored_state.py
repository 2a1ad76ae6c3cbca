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
    stored = (found["positions"], found["books"], found["trips"], found["peaks"])
    state.take_stored_day(*stored, price=services.prices.get)
    for account, at, strategy in found["orders_today"]:
        state.count_order(account, at, strategy)
    return state
