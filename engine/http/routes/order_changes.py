"""/executions/orders: cancelling one, changing one, cancelling all."""

from decimal import Decimal
from uuid import UUID

import trio

from engine.actors.modifying import Terms, with_terms
from engine.domain.enums import OrderStatus, OrderType, Validity
from engine.domain.gtt import GttStatus
from engine.domain.order import Order
from engine.errors import (
    ConflictError,
    KillSwitchError,
    NotFoundError,
    OrderExecutionError,
    RiskViolationError,
    UnavailableError,
    ValidationError,
)
from engine.http.endpoint import ApiBody, ApiRequest, ApiStruct, Once, endpoint
from engine.http.open_books import parted
from engine.http.permissions import Permission
from engine.http.ratelimit import RateClass
from engine.http.routes.execution import Symbol, find_order, shown_order, upper
from engine.http.services import Services
from engine.http.views.ownership import may_reach
from engine.http.views.trading import OrderView

_TAGS = ("executions",)
_CANCEL_ALL_S = 15.0
_READY_S = 3.0


@endpoint(
    "POST",
    "/executions/orders/{id}/cancel",
    permission=Permission.TRADE,
    summary="Cancel an order",
    once=Once.REPEATABLE,
    response=OrderView,
    errors=(NotFoundError, ConflictError, OrderExecutionError, UnavailableError),
    rate=RateClass.CANCEL,
    tags=_TAGS,
)
async def cancel_order(request: ApiRequest) -> OrderView:
    """Takes an order back that was not sent yet, or asks the broker to cancel it and waits up to 2 s for its word.

    An order may still fill while the broker cancels it: the state in the answer is what counts.
    """
    services: Services = request.services
    order = (await find_order(request)).order
    await cancel(services, order, by=f"user:{request.user.user_id}")
    return shown_order(request.services, await find_order(request))


async def cancel(services: Services, order: Order, *, by: str) -> Order:
    """Cancel *order* for *by* and return it as it is then.

    Raises ConflictError for one that is not open, OrderExecutionError, UnavailableError.
    """
    if order.status.is_terminal:
        raise ConflictError(f"the order is {order.status} already", code="ORDER_FINISHED")
    try:
        return await services.crew.executor(order.account_id).cancel(order.id, by=by)
    except NotFoundError:
        # it exists: its books have closed it, or have not been opened again after a start
        raise ConflictError("the order is not open; read it again", code="ORDER_NOT_OPEN") from None


class OrderChange(ApiBody, frozen=True, kw_only=True):
    """What to change of an open order; what is left out stays.

    ``quantity`` is the new total in units, the filled part included; prices are rupees.
    """

    quantity: int | None = None
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    order_type: OrderType | None = None
    validity: Validity | None = None


@endpoint(
    "PATCH",
    "/executions/orders/{id}",
    permission=Permission.TRADE,
    summary="Change an order",
    body=OrderChange,
    response=OrderView,
    errors=(NotFoundError, ConflictError, RiskViolationError, KillSwitchError, OrderExecutionError, UnavailableError),
    tags=_TAGS,
)
async def change_order(request: ApiRequest) -> OrderView:
    """Asks the broker to change an order that works there, and waits up to 2 s until its order book shows it.

    The broker takes 25 changes of one order; after them it is cancelled and what is left of it is placed anew,
    and the answer is the new order, whose ``parentId`` is the old one (of an attached exit: still its entry). A
    change passes the same limits as an order. The order may fill meanwhile: the state in the answer is what counts.
    """
    services: Services = request.services
    order = (await find_order(request)).order
    if order.status.is_terminal:
        raise ConflictError(f"the order is {order.status} already", code="ORDER_FINISHED")
    terms = _terms(request.body)
    changed = await change(services, order, terms, by=f"user:{request.user.user_id}")
    return shown_order(services, await find_order(request, changed.id))


async def change(services: Services, order: Order, terms: Terms, *, by: str) -> Order:
    """Change *order* to *terms* for *by*, and return it as it is then, or the one that replaces it.

    Raises KillSwitchError, RiskViolationError, ConflictError for one that is not open, OrderExecutionError,
    UnavailableError.
    """
    if order.status.is_terminal:
        raise ConflictError(f"the order is {order.status} already", code="ORDER_FINISHED")
    killed = services.guardian.switches.covering_order(order)
    if killed is not None:
        raise KillSwitchError(f"{killed.scope} is blocked: {killed.reason}")
    executor = services.crew.executor(order.account_id)
    order = executor.desk.orders.get(order.id, order)
    wanted = with_terms(order, terms)
    denials = services.crew.risk(order.user_id).judge_change(order, wanted)
    if denials:
        raise RiskViolationError("; ".join(map(str, denials)), code=denials[0].code)
    try:
        return await executor.modify(order.id, terms, by=by)
    except NotFoundError:
        raise ConflictError("the order is not open; read it again", code="ORDER_NOT_OPEN") from None


class CancelAllBody(ApiBody, frozen=True, kw_only=True):
    """Which orders to cancel: all that the caller owns, or those of one account, symbol or strategy."""

    account_id: UUID | None = None
    symbol: Symbol | None = None
    strategy_id: UUID | None = None


class CancelledView(ApiStruct, frozen=True, kw_only=True):
    """What became of one order: its state at the end, and why it is not cancelled, or null."""

    order_id: UUID
    account_id: UUID
    symbol: str
    status: OrderStatus
    problem: str | None


class EndedGttView(ApiStruct, frozen=True, kw_only=True):
    """What became of one trigger (GTT): its state at the end, and why it stands, or null."""

    gtt_id: UUID
    account_id: UUID
    symbol: str
    status: GttStatus
    problem: str | None


class CancelAllView(ApiStruct, frozen=True, kw_only=True):
    """Every live order and trigger that was asked for; ``remaining`` counts those not at their end yet."""

    orders: tuple[CancelledView, ...]
    gtts: tuple[EndedGttView, ...]
    remaining: int


@endpoint(
    "POST",
    "/executions/orders/cancel-all",
    permission=Permission.TRADE,
    summary="Cancel every open order",
    once=Once.REPEATABLE,
    body=CancelAllBody,
    body_required=False,
    response=CancelAllView,
    errors=(NotFoundError, UnavailableError),
    rate=RateClass.CANCEL,
    tags=_TAGS,
)
async def cancel_all_orders(request: ApiRequest) -> CancelAllView:
    """Cancels live orders of the caller in whatever state they are, attached exits and orders by hand included.

    Triggers that the broker keeps (GTT) end too, unless one strategy's orders are asked for. Positions stay.
    Everything is ended at the same time; the answer comes within 15 s and says of each what it is now.
    """
    services: Services = request.services
    body: CancelAllBody = request.body or CancelAllBody()
    accounts = [
        account
        for account in services.directory.accounts.values()
        if may_reach(request.user, account.user_id) and body.account_id in (None, account.id)
    ]
    if body.account_id is not None and not accounts:
        raise NotFoundError("there is no such account")
    symbol = upper(body.symbol)
    by = f"user:{request.user.user_id}"
    running = [services.crew.executors[account.id] for account in accounts if account.id in services.crew.executors]
    ready, blind = await parted(running, within_s=_READY_S)
    asked = [executor.start_cancel_all(by=by, symbol=symbol, strategy_id=body.strategy_id) for executor in ready]
    done: list[CancelledView] = []
    triggers: list[EndedGttView] = []
    with trio.move_on_after(_CANCEL_ALL_S):
        for reply in asked:
            ended = await reply.wait()
            done += [
                CancelledView(
                    order_id=end.order.id,
                    account_id=end.order.account_id,
                    symbol=end.order.symbol,
                    status=end.order.status,
                    problem=end.problem,
                )
                for end in ended.orders
            ]
            triggers += [
                EndedGttView(
                    gtt_id=end.gtt.id,
                    account_id=end.gtt.account_id,
                    symbol=end.gtt.symbol,
                    status=end.gtt.status,
                    problem=end.problem,
                )
                for end in ended.gtts
            ]
    if blind:
        labels = ", ".join(account.label for account in accounts if account.id in {each.account_id for each in blind})
        raise UnavailableError(
            f"the orders of {labels} are still being read, those of other accounts were cancelled; try again",
            code="BOOKS_NOT_OPEN",
            retry_after_s=2,
        )
    live = sum(not end.status.is_terminal for end in done) + sum(end.status.is_live for end in triggers)
    return CancelAllView(orders=tuple(done), gtts=tuple(triggers), remaining=live)


def _terms(body: OrderChange) -> Terms:
    faults: dict[str, str] = {}
    if body.quantity is not None and body.quantity < 1:
        faults["quantity"] = "must be a number above 0"
    for name, price in (("price", body.price), ("triggerPrice", body.trigger_price)):
        if price is not None and (not price.is_finite() or not 0 < price < 10**9 or price != round(price, 4)):
            faults[name] = "must be rupees above 0 with at most 4 decimals"
    if body.validity is Validity.TTL:
        faults["validity"] = "can be changed to DAY or IOC only"
    terms = Terms(
        quantity=body.quantity,
        price=body.price,
        trigger_price=body.trigger_price,
        order_type=body.order_type,
        validity=body.validity,
    )
    if not terms.given():
        faults["quantity"] = "give at least one thing to change"
    if faults:
        raise ValidationError("the change is not usable", details={"fields": faults})
    return terms
