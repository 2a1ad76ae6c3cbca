"""What one filled signal hands to the ledger, made with the engine's own words: decision, acknowledgement, fill."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from uuid import uuid4

import msgspec

from engine.actors.ledger_entry import LedgerEntry
from engine.actors.order_desk import _audit as order_audit
from engine.actors.position_desk import _fill_audit as fill_audit
from engine.actors.risk_records import Verdicts, conclusion
from engine.clock import trading_day
from engine.domain.books import Book
from engine.domain.enums import IntentStatus, OrderStatus
from engine.domain.order import Order, move
from engine.domain.position import Position
from engine.domain.verdict import VerdictRow
from engine.store.books import write_books
from tests.support.ledger_rows import Trader

# about what 20 rules with their numbers take
_RULE = '{"name":"max_order_value","seen":"24500.00","limit":"100000.00","ok":true},'
VERDICT = '{"intentId":"%s","accounts":[' + _RULE * 20


class SignalEntries:
    """The entries of one filled signal of *trader* at *at* (UTC), in the order in which they come."""

    def __init__(self, trader: Trader, number: int, at: datetime) -> None:
        day = trading_day(at)
        intent = trader.intent(received_at=at, updated_at=at, status=IntentStatus.EXECUTING)
        pending = trader.order(intent, created_at=at, updated_at=at, trading_day=day)
        # of one instrument only one order may be unresolved
        pending = msgspec.structs.replace(pending, symbol=f"S{number}", price=Decimal("2450.05"))
        verdicts = Verdicts()
        verdicts.add(intent, [pending], [], at)
        verdicts._verdicts.append(VerdictRow(intent_id=intent.id, at=at, body=VERDICT % intent.id))
        self.decision = verdicts.entry([intent], at)
        sent, self.ahead = _moved(pending, OrderStatus.SUBMITTING, at, submitting_at=at)
        acked, self.ack = _moved(sent, OrderStatus.SUBMITTED, at, broker_order_id=f"26{uuid4().int % 10**13:013d}")
        done, self.complete = _moved(
            acked, OrderStatus.COMPLETE, at, filled_quantity=10, average_price=Decimal("2450.0500")
        )
        fill = trader.fill(done, f"t{number}", "2450.05", 10, filled_at=at)
        position = Position(
            account_id=trader.account_id,
            exchange=done.exchange,
            symbol=done.symbol,
            product_type=done.product_type,
            quantity=number,
            buy_quantity=10,
            buy_value=Decimal("24500.50"),
            last_price=Decimal("2450.05"),
        )
        book = Book(position=msgspec.structs.replace(position, strategy_id=trader.strategy_id))
        self.fill = LedgerEntry(
            fills=[fill],
            positions=[(position, day, at)],
            writes=[write_books([book], day=day, at=at)],
            audit=[fill_audit(fill, at, "FILL")],
        )
        ended = msgspec.structs.replace(intent, status=IntentStatus.EXECUTED, updated_at=at)
        self.end = conclusion(ended, at)

    @property
    def on_the_path(self) -> Sequence[LedgerEntry]:
        """What has to be on disk before the order may leave."""
        return (self.decision, self.ahead)

    @property
    def afterwards(self) -> Sequence[LedgerEntry]:
        """What the broker's answer and the trade bring."""
        return (self.ack, self.complete, self.fill, self.end)


def _moved(order: Order, to: OrderStatus, at: datetime, **changes: object) -> tuple[Order, LedgerEntry]:
    moved, event = move(order, to, at=at, **changes)
    entry = LedgerEntry(
        order_updates=(moved,), order_events=(event,), audit=(order_audit(moved, event, f"ORDER_{moved.status}"),)
    )
    return moved, entry
