"""modifyorder, cancelorder: OpenAlgo's ways to change an order and to take it back."""

import contextlib
from collections.abc import Sequence
from functools import partial
from uuid import UUID

import trio
from msgspec import UNSET

from engine.actors.modifying import ON_ITS_WAY, Terms
from engine.domain.enums import IntentStatus, OrderStatus
from engine.domain.openalgo_symbols import find
from engine.domain.order import Order
from engine.domain.signal import Refusal
from engine.errors import ApiError, BadRequestError, ConflictError, OrderExecutionError, UnavailableError
from engine.http.endpoint import ApiRequest
from engine.http.openalgo.answers import DoneAnswer
from engine.http.openalgo.bodies import ModifyBody, OrderIdBody
from engine.http.openalgo.door import check_loaded, enter, only, openalgo, refused
from engine.http.openalgo.ids import find_named, orders_named
from engine.http.openalgo.outcome import account_order
from engine.http.openalgo.whose import labels_of
from engine.http.permissions import Permission
from engine.http.ratelimit import RateClass
from engine.http.routes.intents import cancel_orders
from engine.http.routes.order_changes import cancel, change
from engine.http.services import Services
from engine.signals import openalgo as parser
from engine.signals.openalgo import Change
from engine.store.queries.placed import Named, intent_quantity

_CHANGE_ALL_S = 25.0


@openalgo(
    "/modifyorder",
    needs=Permission.TRADE,
    summary="Change an order (OpenAlgo)",
    body=ModifyBody,
    response=DoneAnswer,
)
async def modify_order(request: ApiRequest) -> DoneAnswer:
    """Changes type, prices and quantity of an order that works at the broker, through the same limits as an order.

    Of a signal on several accounts its intent's id changes the prices of all of them; their quantities, which differ,
    are changed one order at a time.
    """
    fields = enter(request, Permission.TRADE)
    services: Services = request.services
    check_loaded(services)
    text, found = await orders_named(request, fields)
    wanted = parser.change(fields, partial(find, services.master.book))
    if isinstance(wanted, Refusal):
        raise refused(wanted)
    live = [order for order in found.orders if not order.status.is_terminal]
    if not live:
        raise _finished(found)
    asked = await _signal_quantity(services, found, live[0])
    terms = {order.id: _terms(order, wanted, asked, is_one=len(live) == 1) for order in live}
    by = f"user:{request.user.user_id}"
    changed: list[Order] = []
    try:
        with trio.move_on_after(_CHANGE_ALL_S):
            for order in live:
                new = terms[order.id]
                changed.append(await change(services, order, new, by=by) if new.given() else order)
        if len(changed) < len(live):
            raise UnavailableError("the broker does not answer; read the orders again", retry_after_s=5)
    except ApiError as error:
        raise _after(error, changed, "changed already") from None
    labels = labels_of(services)
    message = UNSET if any(terms[order.id].given() for order in live) else "the order is like that already"
    orderid = changed[0].broker_order_id if len(live) == 1 else None
    return DoneAnswer(
        status="success",
        orderid=orderid or text,
        message=message,
        orders=tuple(account_order(order, labels) for order in changed),
    )


async def _cancel(services: Services, order: Order, by: str) -> Order:
    """Cancel an order; one that the broker is still processing, which it refuses, once more when it is shown open."""
    try:
        return await cancel(services, order, by=by)
    except OrderExecutionError:
        latest = await services.crew.executor(order.account_id).shown(order)
        if order.status not in (OrderStatus.PENDING, *ON_ITS_WAY) or latest.status in ON_ITS_WAY:
            raise
        return latest if latest.status is OrderStatus.CANCELLED else await cancel(services, latest, by=by)


@openalgo(
    "/cancelorder",
    needs=Permission.TRADE,
    summary="Cancel an order (OpenAlgo)",
    body=OrderIdBody,
    response=DoneAnswer,
)
async def cancel_order(request: ApiRequest) -> DoneAnswer:
    """Takes an order back, or all orders of a signal by its intent's id; waits up to 2 s for the broker's word.

    An order that is cancelled already is answered like one that is cancelled now; one that has filled is refused.
    """
    fields = enter(request, Permission.TRADE, rate=RateClass.KILL_SWITCH)
    services: Services = request.services
    text, found = await orders_named(request, fields)
    only(fields)
    by = f"user:{request.user.user_id}"
    if found.intent is not None:
        found = await _cancel_intent(request, found, text, by)
    elif not found.orders[0].status.is_terminal:
        found = Named(orders=(await _cancel(services, found.orders[0], by),))
    labels = labels_of(services)
    ended = [o for o in found.orders if o.status.is_terminal and o.status is not OrderStatus.CANCELLED]
    if ended:
        others = [order for order in found.orders if order not in ended]
        raise _after(
            ConflictError(f"the order is {ended[0].status} already", code="ORDER_FINISHED"), others, "cancelled"
        )
    return DoneAnswer(
        status="success",
        orderid=text,
        message="; ".join(_what_is_left(order) for order in found.orders if _what_is_left(order)) or UNSET,
        orders=tuple(account_order(order, labels) for order in found.orders),
    )


def _what_is_left(order: Order) -> str:
    if not order.status.is_terminal:
        return f"the broker has taken the request; the order is {order.status} still"
    return f"{order.filled_quantity} of {order.quantity} had filled" if order.filled_quantity else ""


async def _cancel_intent(request: ApiRequest, found: Named, text: str, by: str) -> Named:
    """Cancel all of an intent, whatever it waits for, and return it as it is then."""
    services: Services = request.services
    intent = found.intent
    assert intent is not None  # noqa: S101 -- narrows the type
    if intent.status is IntentStatus.PENDING_APPROVAL:
        await services.crew.risk(intent.user_id).approvals.cancel(intent.id, by=by)
        found = await find_named(request, services, text)
        intent = found.intent or intent
    live = [order for order in found.orders if not order.status.is_terminal]
    if not found.orders and intent.status is not IntentStatus.CANCELLED:
        if intent.status.is_terminal:
            raise ConflictError(f"the order is {intent.status} already: {intent.reason}", code="ORDER_FINISHED")
        raise ConflictError("the order is being decided on; try again", code="ORDER_IN_FLIGHT")
    if live:
        await cancel_orders(services, intent, by=by)
        before = {order.id for order in found.orders} - {order.id for order in live}
        found = await find_named(request, services, text)
        for order in found.orders:
            if not order.status.is_terminal:
                # refused, or not answered yet: said here, one by one; one that ended meanwhile is read again
                with contextlib.suppress(ConflictError):
                    await _cancel(services, order, by)
        found = await find_named(request, services, text)
        # what had ended before was tried again, or is not what was asked for
        found = Named(intent=found.intent, orders=tuple(order for order in found.orders if order.id not in before))
    return found


def _finished(found: Named) -> ConflictError:
    if found.orders:
        return ConflictError(f"the order is {found.orders[0].status} already", code="ORDER_FINISHED")
    status = found.intent.status if found.intent is not None else "?"
    return ConflictError(f"the order cannot be changed: its signal is {status}", code="ORDER_NOT_OPEN")


def _after(error: ApiError, changed: Sequence[Order], what: str) -> ApiError:
    """Return *error* with what was done before it."""
    if not changed:
        return error
    ids = ", ".join(order.broker_order_id or str(order.id) for order in changed)
    return type(error)(f"{error.message} ({ids}: {what})", code=error.code, details=error.details)


async def _signal_quantity(services: Services, found: Named, order: Order) -> int | None:
    """Return the units that the signal behind an order asked for."""
    if found.intent is not None:
        return found.intent.signal.quantity
    intent_id: UUID | None = order.intent_id
    if intent_id is None:
        return None
    return await services.database.run(lambda connection: intent_quantity(connection, intent_id))


def _terms(order: Order, wanted: Change, asked: int | None, *, is_one: bool) -> Terms:
    """Return what of *order* is to change. Raises BadRequestError, where it is another order or not clear."""
    for name, has, given in (
        ("symbol", (order.exchange, order.symbol), (wanted.instrument.exchange, wanted.instrument.symbol)),
        ("action", order.transaction_type, wanted.transaction_type),
        ("product", order.product_type, wanted.product_type),
    ):
        if has != given:
            shown = ":".join(has) if isinstance(has, tuple) else has
            raise refused(
                Refusal(code="NOT_ALLOWED", message=f"{name} cannot be changed: the order is of {shown}", field=name)
            )
    quantity: int | None = wanted.quantity
    if not is_one:
        if wanted.quantity != asked:
            text = f"quantity {wanted.quantity}: the orders of several accounts differ; change them one at a time"
            raise BadRequestError(text, code="QUANTITY_AMBIGUOUS", details={"fields": {"quantity": text}})
        quantity = None
    elif wanted.quantity == order.quantity:
        quantity = None
    elif wanted.quantity == asked:
        text = (
            f"quantity {wanted.quantity} is what the signal asked for, and the order is for {order.quantity};"
            f" send {order.quantity} to leave it so, or cancel it and place another"
        )
        raise BadRequestError(text, code="QUANTITY_AMBIGUOUS", details={"fields": {"quantity": text}})
    return Terms(
        quantity=quantity,
        order_type=None if wanted.order_type is order.order_type else wanted.order_type,
        price=None if wanted.price == order.price else wanted.price,
        trigger_price=None if wanted.trigger_price == order.trigger_price else wanted.trigger_price,
    )
