"""The verdict on changing an order that works at the broker: a pure function, as that on a new one is."""

from datetime import datetime

from engine.actors.decision import Rules, inputs_for, not_ready
from engine.actors.limit_scopes import limited
from engine.domain.denial import Denial
from engine.domain.directory import Directory
from engine.domain.enums import OrderType
from engine.domain.instruments import Instrument, check_order
from engine.domain.limits import OrderRequest, RiskLimits
from engine.domain.order import Order
from engine.domain.risk import is_reducing
from engine.domain.risk_rules import evaluate
from engine.domain.risk_state import RiskState


def judge_change(
    order: Order,
    wanted: Order,
    *,
    directory: Directory,
    state: RiskState,
    instrument: Instrument | None,
    defaults: RiskLimits,
    rules: Rules,
    now: datetime,
    held: str | None = None,
) -> tuple[Denial, ...]:
    """Return every reason against changing *order*, which works at the broker, into *wanted*.

    *held* is why the checks of the morning hold entries of its account back.
    """
    if instrument is None:
        return (Denial(code="UNKNOWN_SYMBOL", text=f"{order.symbol} is not in the instrument master"),)
    if wanted.quantity <= order.filled_quantity:
        text = f"{order.filled_quantity} have filled already; the new total must be more, or cancel the order"
        return (Denial(code="QUANTITY_REQUIRED", text=text),)
    if order.is_attached and wanted.quantity > order.quantity:
        # exits are reserved nowhere, for they only reduce: one that grew would be seen by no limit
        text = f"an attached exit covers the {order.quantity} that have filled; make it smaller, or send another order"
        return (Denial(code="EXIT_QUANTITY", text=text),)
    static = check_order(
        instrument,
        quantity=wanted.quantity,
        price=wanted.price,
        trigger_price=wanted.trigger_price,
        order_type=wanted.order_type,
        product_type=wanted.product_type,
        variety=wanted.variety,
        transaction_type=wanted.transaction_type,
    )
    last = state.last_price(order.exchange, order.symbol) or (instrument.last_price or None)
    own = wanted.trigger_price if wanted.order_type is OrderType.SL_M else wanted.price
    request = OrderRequest(
        intent_id=order.intent_id or order.id,
        account_id=order.account_id,
        strategy_id=order.strategy_id or order.id,
        exchange=order.exchange,
        symbol=order.symbol,
        product_type=order.product_type,
        transaction_type=order.transaction_type,
        quantity=wanted.quantity,
        reference_price=last if wanted.order_type is OrderType.MARKET else own,
        multiplier=instrument.multiplier,
        at=now,
    )
    account = directory.accounts.get(order.account_id)
    found = limited(directory, defaults, order.user_id, account, order.strategy_id)
    increase = max(wanted.quantity - order.quantity, 0)
    inputs = inputs_for(request, state, found, instrument, rules, increase=increase)
    if held is not None and increase and not is_reducing(request, state):
        static = (*static, not_ready(held))
    against = (rule.denial for rule in evaluate(inputs, found.limits) if not rule.ok)
    return tuple(dict.fromkeys((*static, *against)))
