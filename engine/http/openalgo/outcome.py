"""What a caller is told of a signal that it sent: pure, from what the ledger has of its intent and orders."""

import re
from collections.abc import Mapping
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from engine.domain.enums import IntentStatus, OrderStatus
from engine.domain.order import Order
from engine.errors import ApiError, BadRequestError, ConflictError, KillSwitchError, RiskViolationError
from engine.http.openalgo.answers import AccountOrder, PlacedAnswer, PlacedData
from engine.store.queries.placed import Placed

MATCHED = "Positions Already Matched. No Action needed."
"""OpenAlgo's words for a smart order that has nothing to do."""

_CODE = re.compile(r"(?:^|; )([A-Z][A-Z0-9_]+): ")
_NOTHING = {"NOTHING_TO_DO"}
_REFUSED = (OrderStatus.REJECTED, OrderStatus.FAILED, OrderStatus.EXPIRED, OrderStatus.CANCELLED)


class Fate(msgspec.Struct, frozen=True, kw_only=True):
    """How a signal has ended for its sender: an ``orderid`` and ``message`` (None: nothing to say), or an ``error``.

    Without ``data`` it was never taken in.
    """

    data: PlacedData | UnsetType
    orderid: str | None = None
    message: str | None = None
    error: ApiError | None = None

    def answer(self) -> PlacedAnswer:
        """Return the answer to a call of one order. Raises the error of one that was refused."""
        if self.error is not None:
            raise self.error
        assert isinstance(self.data, PlacedData)  # noqa: S101 -- only what was refused has none
        orderid, message = self.orderid or UNSET, self.message or UNSET
        return PlacedAnswer(status="success", orderid=orderid, message=message, data=self.data)


def is_settled(placed: Placed | None) -> bool:
    """Whether waiting any longer would not tell the sender more: every order has a broker's id or an end."""
    if placed is None:
        return False
    if placed.status is IntentStatus.PENDING_APPROVAL or placed.status.is_terminal:
        return True
    return bool(placed.orders) and all(order.broker_order_id or order.status.is_terminal for order in placed.orders)


def fate(intent_id: UUID, placed: Placed | None, labels: Mapping[UUID, str], *, duplicate: bool) -> Fate:
    """Return what the sender of the signal of *intent_id* is told; *placed* is None while nothing is known of it."""
    status = IntentStatus.RECEIVED if placed is None else placed.status
    orders = () if placed is None else placed.orders
    data = PlacedData(
        intent_id=intent_id,
        intent_status=status.value,
        duplicate=duplicate,
        orders=tuple(account_order(order, labels) for order in orders),
    )
    error = None if placed is None else _error(placed, labels)
    if error is not None:
        if error is _MATCHED:
            return Fate(data=data, message=MATCHED)
        details = msgspec.to_builtins(data)
        return Fate(data=data, error=type(error)(error.message, code=error.code, details=details))
    if status is IntentStatus.PENDING_APPROVAL:
        return Fate(data=data, orderid=str(intent_id), message="the order waits for a person to approve it")
    if not orders:
        return Fate(data=data, orderid=str(intent_id), message="accepted; it is not with the broker yet")
    bad = [order for order in orders if _is_refused(order)]
    waiting = [order for order in orders if not order.broker_order_id and not _is_refused(order)]
    notes = [
        f"{labels.get(order.account_id, '?')}: {order.status} {order.status_message or ''}".strip() for order in bad
    ]
    notes += [text for text in (() if placed is None else placed.left_out) if "NOTHING_TO_DO" not in text]
    if waiting:
        notes.append("accepted; the broker has not given an id yet")
    only = orders[0].broker_order_id if len(orders) == 1 else None
    return Fate(data=data, orderid=only or str(intent_id), message="; ".join(notes) or None)


def account_order(order: Order, labels: Mapping[UUID, str]) -> AccountOrder:
    """Return an order as an answer lists it."""
    return AccountOrder(
        account=labels.get(order.account_id, "?"),
        orderid=order.broker_order_id or str(order.id),
        id=order.id,
        status=order.status.value,
        quantity=order.quantity,
        message=order.status_message or UNSET,
    )


_MATCHED = ConflictError(MATCHED, code="NOTHING_TO_DO")


def _error(placed: Placed, labels: Mapping[UUID, str]) -> ApiError | None:
    reason = placed.reason or ""
    if placed.status is IntentStatus.REJECTED:
        codes = _CODE.findall(reason)
        if codes and set(codes) <= _NOTHING:
            return _MATCHED
        if "KILL_SWITCH" in codes:
            return KillSwitchError(reason)
        code = next((code for code in codes if code not in _NOTHING), None)
        return RiskViolationError(reason or "refused", code=code)
    if placed.orders and all(_is_refused(order) for order in placed.orders):
        said = "; ".join(
            f"{labels.get(order.account_id, '?')}: {order.status} {order.status_message or ''}".strip()
            for order in placed.orders
        )
        return BadRequestError(said, code="ORDER_REJECTED")
    if not placed.orders and placed.status.is_terminal:
        code = f"INTENT_{placed.status.value}"
        return ConflictError(reason or f"the signal is {placed.status}", code=code)
    return None


def _is_refused(order: Order) -> bool:
    return order.status in _REFUSED and not order.filled_quantity
