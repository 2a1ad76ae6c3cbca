"""What a strategy holds in one position of an account, and what its orders under way may still make of it."""

from uuid import UUID

from engine.domain.enums import TransactionType
from engine.domain.position import PositionKey
from engine.domain.risk_state import RiskState
from engine.domain.wanted import Book


def held_by(state: RiskState, strategy_id: UUID, key: PositionKey) -> int:
    """Return the signed units of the position that are the strategy's own; what a person has closed is not."""
    return state.closable(strategy_id, key)


def book_of(state: RiskState, strategy_id: UUID, key: PositionKey) -> Book:
    """Return what the strategy holds and its live orders, one of unknown outcome counting as one that works."""
    return Book(
        held=held_by(state, strategy_id, key),
        buys=state.reserved_quantity(key, TransactionType.BUY, strategy_id),
        sells=state.reserved_quantity(key, TransactionType.SELL, strategy_id),
    )
