"""Whether an order only reduces what is held, from the state as it stands.

What the rules say is in `engine.domain.risk_rules`, what they look at in `engine.domain.risk_inputs`.
"""

from engine.domain.enums import TransactionType
from engine.domain.limits import OrderRequest
from engine.domain.position import PositionKey
from engine.domain.risk_rules import reduces
from engine.domain.risk_state import RiskState


def is_reducing(request: OrderRequest, state: RiskState) -> bool:
    """Return whether the order can only make its position smaller, whatever else fills.

    Only what has filled is there to be reduced, and live orders of the same side have first claim on it.
    """
    position = state.position(request.key)
    held = 0 if position is None else position.quantity
    claimed = state.reserved_quantity(request.key, request.transaction_type)
    return reduces(held, request.transaction_type, request.quantity, claimed=claimed)


def may_be_exit(state: RiskState, key: PositionKey, side: TransactionType, quantity: int) -> bool:
    """Return whether an order would only reduce what is held, or what orders under way may come to hold.

    Generous, for deciding whether a person must hear of an order that will not be sent: an order whose
    outcome is not known counts as filled, and what other exits claim is left to them and to this one.
    """
    position = state.position(key)
    held = 0 if position is None else position.quantity
    coming = state.reserved_quantity(key, side.opposite) * side.opposite.sign
    return reduces(held, side, quantity) or reduces(held + coming, side, quantity)
