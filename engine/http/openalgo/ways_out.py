"""cancelallorder, closeposition: OpenAlgo's ways out.

Success is said of what was done and no more: an order that may still fill is not cancelled, a position that the broker
still shows is not closed.
"""

from collections.abc import Sequence
from uuid import uuid4

import msgspec
import trio

from engine.actors.executor import Executor
from engine.domain.directory import Strategy
from engine.domain.enums import Exchange, OrderStatus
from engine.domain.flatten import DELIVERY, Demand
from engine.domain.openalgo_symbols import known_as
from engine.errors import OrderExecutionError
from engine.http.endpoint import ApiRequest
from engine.http.openalgo.answers import CancelAllAnswer, CloseAnswer, FailedCancellation, KeptPosition
from engine.http.openalgo.bodies import StrategyBody
from engine.http.openalgo.door import enter, only, openalgo
from engine.http.openalgo.whose import executors_of, labels_of, strategy_of
from engine.http.permissions import Permission
from engine.http.ratelimit import RateClass
from engine.http.routes.square_off import close, held
from engine.http.services import Services

_CANCEL_ALL_S = 15.0


@openalgo(
    "/cancelallorder",
    needs=Permission.TRADE,
    summary="Cancel every order of a strategy (OpenAlgo)",
    body=StrategyBody,
    response=CancelAllAnswer,
)
async def cancel_all(request: ApiRequest) -> CancelAllAnswer:
    """Cancels the strategy's live orders on all accounts, within 15 s; those of other strategies and by hand stay."""
    fields = enter(request, Permission.TRADE, rate=RateClass.KILL_SWITCH)
    services: Services = request.services
    strategy = strategy_of(request, fields)
    only(fields)
    by = f"user:{request.user.user_id}"
    executors, blind = await executors_of(services, strategy)
    asked = [executor.start_cancel_all(by=by, strategy_id=strategy.id) for executor in executors]
    done: list[str] = []
    failed: list[FailedCancellation] = []
    answered = 0
    with trio.move_on_after(_CANCEL_ALL_S):
        for reply in asked:
            for end in (await reply.wait()).orders:
                orderid = end.order.broker_order_id or str(end.order.id)
                if (
                    end.problem is None
                    and end.order.status.is_terminal
                    and end.order.status is not OrderStatus.COMPLETE
                ):
                    done.append(orderid)
                else:
                    reason = end.problem or f"the order is {end.order.status}"
                    failed.append(FailedCancellation(orderid=orderid, reason=reason))
            answered += 1
    silent = [executor.account_id for executor in executors[answered:]]
    labels = labels_of(services)
    text = f"Canceled {len(done)} orders. Failed to cancel {len(failed)} orders."
    answer = CancelAllAnswer(
        status="success", message=text, canceled_orders=tuple(done), failed_cancellations=tuple(failed)
    )
    if blind or silent or (failed and not done):
        why = [blind] if blind else []
        why += [f"account {labels.get(account, account)}: no answer in time" for account in silent]
        why += [f"{end.orderid}: {end.reason}" for end in failed[:5]]
        raise OrderExecutionError(f"{text} {'; '.join(why)}", code="NOT_CANCELLED", details=msgspec.to_builtins(answer))
    return answer


@openalgo(
    "/closeposition",
    needs=Permission.TRADE,
    summary="Close every position of a strategy (OpenAlgo)",
    body=StrategyBody,
    response=CloseAnswer,
)
async def close_position(request: ApiRequest) -> CloseAnswer:
    """Cancels the strategy's orders and closes what they made at the market, on all accounts, never more than is held.

    Success means that the broker's positions prove it; what is not closed within 15 s is an error that names it, while
    the engine goes on with it. Shares for delivery (CNC, MTF) are left, and listed.
    """
    fields = enter(request, Permission.TRADE, rate=RateClass.KILL_SWITCH)
    services: Services = request.services
    strategy = strategy_of(request, fields)
    only(fields)
    executors, blind = await executors_of(services, strategy)
    kept = _kept(services, executors, strategy)
    now = services.clock.now()
    demand = Demand(
        name=f"request:{uuid4()}",
        version=int(now.timestamp() * 1000),
        since=now,
        by=f"user:{request.user.user_id}",
        once=True,
        strategy_id=strategy.id,
    )
    view, is_done = await close(services, executors, demand)
    labels = labels_of(services)
    left = [
        f"{labels.get(row.account_id, '?')} {row.symbol} {row.product_type}"
        f" {'?' if row.quantity is None else row.quantity}: {row.problem}"
        for row in view.positions
        if row.problem is not None
    ]
    if blind or not is_done or left:
        text = "; ".join([*([blind] if blind else []), *left]) or "the broker's positions could not be read twice"
        raise OrderExecutionError(
            f"Not all positions are closed: {text}",
            code="POSITIONS_REMAIN",
            details=msgspec.to_builtins({"open": left}),
        )
    message = "All Open Positions Squared Off" if view.positions else "No open positions to close"
    if kept:
        message += f"; {len(kept)} positions of shares for delivery are left: sell them by symbol"
    return CloseAnswer(status="success", message=message, closed=len(view.positions), kept=tuple(kept))


def _kept(services: Services, executors: Sequence[Executor], strategy: Strategy) -> list[KeptPosition]:
    labels = labels_of(services)
    whole = Demand(
        name="", version=0, since=services.clock.now(), by="", strategy_id=strategy.id, delivery=True
    )  # of the products that are left alone otherwise
    found = []
    for executor in executors:
        for place, units in held(executor, whole).items():
            exchange, symbol, product = place
            if product in DELIVERY:
                name = known_as(services.master.book, next(e for e in Exchange if e == exchange), symbol)
                label = labels.get(executor.account_id, "?")
                found.append(
                    KeptPosition(
                        account=label, symbol=name.symbol, exchange=name.exchange, product=product, quantity=str(units)
                    )
                )
    return found
