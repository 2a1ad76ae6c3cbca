"""What the ledger is told of a decision: timeline, order events, audit records; and of an intent's end."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

import msgspec

from engine.actors.ledger_entry import LedgerEntry
from engine.clock import trading_day
from engine.domain.audit import AuditDraft
from engine.domain.decided import Decision
from engine.domain.enums import IntentStatus, OrderStatus, OrderType
from engine.domain.intent import Intent, IntentEvent
from engine.domain.limits import OrderRequest
from engine.domain.options import OrderOptions
from engine.domain.order import Order, OrderEvent
from engine.domain.verdict import IntentVerdict, VerdictRow, row_of
from engine.ids import order_id, retry_id
from engine.store.ledger import Write

_AUTO_PROTECTION = Decimal(-1)


class Verdicts:
    """What the decision about a delivery comes to, as it is made: rows, records, and what people are told."""

    def __init__(self) -> None:
        self.intents: list[Intent] = []
        self.orders: list[Order] = []
        self.alerts: list[tuple[str, str]] = []
        self.letters: list[Write] = []
        self._verdicts: list[VerdictRow] = []
        self._events: list[IntentEvent] = []
        self._audit: list[AuditDraft] = []

    def add(
        self,
        intent: Intent,
        orders: list[Order],
        reasons: list[str],
        now: datetime,
        *,
        resolved: str = "",
        notes: Sequence[str] = (),
    ) -> None:
        """Take in the verdict on one intent; *reasons* are those against accounts left out.

        *resolved* says how the symbol was chosen, where it was not the exchange's own; *notes* what a person shall
        know of the quantities.
        """
        self.intents.append(intent)
        self.orders += orders
        self._events += timeline(intent, orders, reasons, now, resolved=resolved, notes=notes)
        self._audit += audit_of(intent, orders, now, resolved=resolved)

    def keep(self, verdict: IntentVerdict | None) -> None:
        """Take in the verdict itself, every rule with its numbers: encoded here, and nowhere again."""
        if verdict is not None:
            self._verdicts.append(row_of(verdict))

    def tell(self, intent: Intent, text: str) -> None:
        """Have a person told, once it is on disk."""
        self.alerts.append((f"intent:{intent.id}", text))

    def entry(self, intents: Sequence[Intent], now: datetime) -> LedgerEntry:
        """Return the one ledger entry; *intents* are all of the delivery."""
        return LedgerEntry(
            new_intents=intents,
            intent_events=self._events,
            new_orders=self.orders,
            order_events=[created(order, now) for order in self.orders],
            verdicts=self._verdicts,
            writes=self.letters,
            audit=self._audit,
        )


def order_of(
    intent: Intent,
    request: OrderRequest,
    *,
    tag: Callable[[UUID, int], str],
    epoch: int,
    max_age_s: float,
    at: datetime,
    quantity: int,
    leg: int = 0,
    iceberg_quantity: int = 0,
    protection: Decimal = _AUTO_PROTECTION,
    attaches: bool = True,
    of: UUID | None = None,
) -> Order:
    """Return the order that an approved request becomes, in PENDING: slice *leg* of it, of *quantity* units.

    With *of*, the id of an order that ended with nothing filled, it is that one tried again. Without *attaches* the
    signal's stop loss and target are not its.

    *protection* is the market protection of the account, in percent or -1; the signal's own goes before it.
    """
    signal = intent.signal
    new_id = order_id(intent.id, request.account_id, leg) if of is None else retry_id(of)
    is_market = signal.order_type in (OrderType.MARKET, OrderType.SL_M)
    return Order(
        id=new_id,
        intent_id=intent.id,
        account_id=request.account_id,
        user_id=intent.user_id,
        strategy_id=intent.strategy_id,
        exchange=signal.exchange,
        symbol=signal.symbol,
        transaction_type=request.transaction_type,
        quantity=quantity,
        order_type=signal.order_type,
        product_type=signal.product_type,
        price=signal.price,
        trigger_price=signal.trigger_price,
        market_protection=(signal.options.market_protection or protection) if is_market else None,
        validity=signal.validity,
        variety=signal.variety,
        status=OrderStatus.PENDING,
        tag=tag(new_id, 1),
        attempt=1,
        epoch=epoch,
        trading_day=trading_day(at),
        deadline=intent.began_at + timedelta(seconds=max_age_s),
        created_at=at,
        updated_at=at,
        parent_id=of,
        stop_loss=signal.stop_loss if attaches else None,
        target=signal.target if attaches else None,
        options=_with_leg(signal.options, iceberg_quantity),
        source_id=intent.source_id,
    )


def _with_leg(options: OrderOptions, iceberg_quantity: int) -> OrderOptions:
    return msgspec.structs.replace(options, iceberg_quantity=iceberg_quantity) if iceberg_quantity else options


def timeline(
    intent: Intent,
    orders: list[Order],
    reasons: list[str],
    now: datetime,
    *,
    resolved: str = "",
    notes: Sequence[str] = (),
) -> list[IntentEvent]:
    """Return the timeline of an intent up to its decision; *reasons* are those against accounts left out."""

    def event(name: str, detail: str = "", at: datetime = now) -> IntentEvent:
        return IntentEvent(intent_id=intent.id, at=at, event=name, detail=detail)

    events = [event("RECEIVED", at=intent.received_at)]
    if resolved:
        events.append(event("RESOLVED", resolved))
    if orders:
        events.append(event("APPROVED", f"{len(orders)} order(s)" if len(orders) > 1 else ""))
    if orders or len(reasons) > 1:
        # of a single account the reason of the intent says it all
        events += [event("ACCOUNT_LEFT_OUT", reason) for reason in reasons]
    events += [event("ACCOUNT_NOTE", note) for note in notes]
    until = "" if intent.expires_at is None else f"until {intent.expires_at:%Y-%m-%dT%H:%M:%SZ}"
    events.append(event(intent.status.value, intent.reason or until))
    return events


def audit_of(intent: Intent, orders: list[Order], now: datetime, *, resolved: str = "") -> list[AuditDraft]:
    """Return the audit records of a decision and of the orders that it made."""
    signal = intent.signal
    drafts = [
        AuditDraft(
            at=now,
            actor=f"source:{intent.source_id}",
            action=f"INTENT_{intent.status}",
            subject=f"intent:{intent.id}",
            content={
                "symbol": signal.symbol,
                "exchange": signal.exchange.value,
                "transactionType": signal.transaction_type.value,
                "quantity": signal.quantity,
                "price": signal.price,
                "orderType": signal.order_type.value,
                "productType": signal.product_type.value,
                "receivedAt": intent.received_at,
                "bodySha256": intent.body_sha256.hex(),
                "requestId": intent.request_id,
                "reason": intent.reason,
                **({"writtenSymbol": intent.written_symbol, "resolved": resolved} if resolved else {}),
            },
        )
    ]
    return drafts + order_drafts(orders, now)


def order_drafts(orders: Sequence[Order], now: datetime) -> list[AuditDraft]:
    """Return the audit records of new orders."""
    return [
        AuditDraft(
            at=now,
            actor="system",
            action=f"ORDER_{order.status}",
            subject=f"order:{order.id}",
            content={
                "intentId": order.intent_id,
                "accountId": order.account_id,
                "quantity": order.quantity,
                "tag": order.tag,
            },
        )
        for order in orders
    ]


def notes_of(decision: Decision) -> list[str]:
    """Return what a person shall know of the quantities that were approved, ``label: note`` each."""
    return [f"{each.account.label}: {each.note}" for each in decision.approved if each.note is not None]


def left_out(decision: Decision) -> list[str]:
    """Return why accounts were left out, ``label: reasons`` each."""
    return [f"{denied.label}: {'; '.join(map(str, denied.denials))}" for denied in decision.denied]


def created(order: Order, now: datetime) -> OrderEvent:
    """Return the first event of an order."""
    return OrderEvent(
        order_id=order.id,
        at=now,
        from_status=OrderStatus.PENDING,
        to_status=order.status,
        filled_quantity=0,
        detail=f"attempt 1, tag {order.tag}",
    )


def parking(intent: Intent, reason: str, letters: Sequence[Write], now: datetime) -> LedgerEntry:
    """Return the entry by which an exit waits for a person: its dead letter, on the record."""
    return LedgerEntry(
        writes=letters,
        audit=(
            AuditDraft(
                at=now,
                actor="system",
                action="EXIT_PARKED",
                subject=f"intent:{intent.id}",
                content={"reason": reason},
            ),
        ),
    )


def conclusion(intent: Intent, now: datetime) -> LedgerEntry:
    """Return the entry that ends an intent which is in the ledger already."""
    detail = intent.reason or ""
    if intent.status is IntentStatus.EXPIRED:
        detail = f"{detail} ({(now - intent.received_at).total_seconds():.1f} s old)".strip()
    return LedgerEntry(
        can_wait=True,
        intent_updates=(intent,),
        intent_events=(IntentEvent(intent_id=intent.id, at=now, event=intent.status.value, detail=detail),),
        audit=(
            AuditDraft(
                at=now,
                actor="system",
                action=f"INTENT_{intent.status}",
                subject=f"intent:{intent.id}",
                content={"reason": intent.reason},
            ),
        ),
    )
