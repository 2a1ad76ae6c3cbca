"""Orders that an executor makes itself: exits attached to a fill, what replaces an order, slices of a refused one.

They take the road of every order: written ahead, in their turn on the instrument, through the gate. The same
order made twice is made once, because its id follows from what it is for.
"""

from collections.abc import Callable
from datetime import timedelta

import msgspec
import structlog

from engine.actors.executor_context import ExecutorContext
from engine.actors.ledger_entry import LedgerEntry
from engine.actors.order_desk import OrderDesk
from engine.clock import trading_day
from engine.domain.audit import AuditDraft
from engine.domain.enums import OrderStatus
from engine.domain.order import Order, OrderEvent

_log = structlog.get_logger(__name__)

_LIFE_S = 30.0


class Spawner:
    """Enters new orders of one account into its books, queue and ledger.

    *admit*, *committed* and *withdraw* are the executor's own, as the risk actor uses them.
    """

    def __init__(
        self,
        context: ExecutorContext,
        desk: OrderDesk,
        *,
        admit: Callable[..., Order],
        committed: Callable[[Order], None],
        withdraw: Callable[[Order], None],
    ) -> None:
        self._context = context
        self._desk = desk
        self._admit = admit
        self._committed = committed
        self._withdraw = withdraw

    def spawn(self, order: Order, *, action: str, detail: str, in_place: bool = False) -> Order:
        """Enter *order*, whose status, tag and times are set here; return it as it was admitted.

        It may be sent for 30 seconds (less where signals live shorter). One that goes *in_place* of the order
        that it is a copy of, was accepted when that was, and lives no longer. Raises MailboxFull when the ledger
        takes nothing more; the books are then as before.
        """
        now = self._context.clock.now()
        deadline = now + timedelta(seconds=min(_LIFE_S, self._context.max_age_s))
        order = msgspec.structs.replace(
            order,
            status=OrderStatus.PENDING,
            status_message=None,
            tag=self._context.tag(order.id, 1),
            attempt=1,
            epoch=self._context.epoch,
            trading_day=trading_day(now),
            deadline=order.deadline if in_place else deadline,
            created_at=order.created_at if in_place else now,
            updated_at=now,
            submitting_at=None,
            broker_order_id=None,
            modifications=0,
        )
        admitted = self._admit(order, in_place=in_place)
        event = OrderEvent(
            order_id=order.id,
            at=now,
            from_status=OrderStatus.PENDING,
            to_status=admitted.status,
            filled_quantity=0,
            detail=f"{detail}; attempt 1, tag {order.tag}",
        )
        draft = AuditDraft(
            at=now,
            actor="system",
            action=action,
            subject=f"order:{order.id}",
            content={
                "parentId": order.parent_id,
                "intentId": order.intent_id,
                "accountId": order.account_id,
                "role": order.role.value,
                "quantity": order.quantity,
                "tag": order.tag,
                "detail": detail,
            },
        )

        def refused(error: Exception) -> None:
            _log.error("ledger.refused_spawned", order=str(order.id), error=str(error))
            self._withdraw(admitted)
            self._desk.unmade(admitted)

        entry = LedgerEntry(new_orders=(admitted,), order_events=(event,), audit=(draft,))
        entry.on_commit, entry.on_fail = lambda: self._committed(admitted), refused
        try:
            self._context.ledger.append(entry)
        except Exception:
            self._withdraw(admitted)
            raise
        self._desk.made(admitted)
        return admitted
