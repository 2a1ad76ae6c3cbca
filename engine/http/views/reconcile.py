"""A reconciliation of an account with its broker, as the API shows it."""

from datetime import datetime
from uuid import UUID

from engine.actors.reconcile_report import Found, ReconcileReport
from engine.domain.difference import DifferenceKind
from engine.domain.enums import Exchange, OrderStatus, ProductType, TransactionType
from engine.domain.order import Order
from engine.http.endpoint import ApiStruct


class AdoptedOrderView(ApiStruct, frozen=True, kw_only=True):
    """An order of somebody else that was taken into the books."""

    order_id: UUID
    broker_order_id: str | None
    exchange: Exchange
    symbol: str
    product_type: ProductType
    transaction_type: TransactionType
    quantity: int
    filled_quantity: int
    status: OrderStatus


class PositionDifferenceView(ApiStruct, frozen=True, kw_only=True):
    """A position whose net quantity here is not the broker's.

    ``kind`` is DIFFERS, ABSENT (the broker has no row of it) or DELIVERED (its shares went to the demat
    account). ``adopted`` when the broker's figures were taken over; else ``reason`` says what that waits for.
    """

    exchange: Exchange
    symbol: str
    product_type: ProductType
    kind: DifferenceKind
    quantity: int
    broker_quantity: int
    adopted: bool
    reason: str


class ReconciliationView(ApiStruct, frozen=True, kw_only=True):
    """What a comparison with the broker found.

    ``orders``, ``trades`` and ``positions`` count the broker's rows; null for what was not read. ``unknown`` are
    ids of orders whose outcome is not settled yet, ``unreadable`` rows in words that the engine does not have.
    """

    account_id: UUID
    read_at: datetime
    orders: int
    trades: int | None
    positions: int | None
    adopted: tuple[AdoptedOrderView, ...]
    differences: tuple[PositionDifferenceView, ...]
    unknown: tuple[UUID, ...]
    unreadable: tuple[str, ...]


def reconciliation_view(account_id: UUID, report: ReconcileReport) -> ReconciliationView:
    """Return a reconciliation as the API shows it."""
    return ReconciliationView(
        account_id=account_id,
        read_at=report.read_at,
        orders=report.orders,
        trades=report.trades,
        positions=report.positions,
        adopted=tuple(_adopted(order) for order in report.adopted),
        differences=tuple(_difference(found) for found in report.differences),
        unknown=tuple(report.unknown),
        unreadable=tuple(report.unreadable),
    )


def _adopted(order: Order) -> AdoptedOrderView:
    return AdoptedOrderView(
        order_id=order.id,
        broker_order_id=order.broker_order_id,
        exchange=order.exchange,
        symbol=order.symbol,
        product_type=order.product_type,
        transaction_type=order.transaction_type,
        quantity=order.quantity,
        filled_quantity=order.filled_quantity,
        status=order.status,
    )


def _difference(found: Found) -> PositionDifferenceView:
    ours, theirs = found.difference.ours, found.difference.theirs
    return PositionDifferenceView(
        exchange=ours.exchange,
        symbol=ours.symbol,
        product_type=ours.product_type,
        kind=found.difference.kind,
        quantity=ours.quantity,
        broker_quantity=theirs.quantity,
        adopted=found.is_adopted,
        reason=found.held,
    )
