"""Rows for tests of the ledger: a trader with an account, a strategy and a source, and what they cause."""

import hashlib
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from engine.domain.audit import AuditDraft, AuditRecord, verify
from engine.domain.delivery import Delivery, Item
from engine.domain.enums import Exchange, IntentStatus, OrderStatus, OrderType, ProductType, TransactionType
from engine.domain.fill import Fill
from engine.domain.intent import Intent, IntentEvent
from engine.domain.order import Order, OrderEvent
from engine.domain.signal import Signal
from engine.runtime.asyncio_bridge import run_aio

NOW = datetime(2026, 11, 23, 4, 30, 15, 123456, tzinfo=UTC)
SIGNAL = Signal(
    symbol="INFY",
    exchange=Exchange.NSE,
    transaction_type=TransactionType.BUY,
    quantity=10,
    order_type=OrderType.MARKET,
    product_type=ProductType.MIS,
)


async def sql(url: str, statement: str, *args: Any) -> list[Any]:
    """Run one statement on a connection of its own and return the rows as tuples."""

    async def unit() -> list[Any]:
        connection = await asyncpg.connect(url)
        try:
            return [tuple(row) for row in await connection.fetch(statement, *args)]
        finally:
            await connection.close()

    return await run_aio(unit, timeout_s=20)


async def audit_chain(url: str) -> list[AuditRecord]:
    """Return the whole audit log of a database, which must verify."""
    rows = await sql(url, "SELECT seq, at, actor, action, subject, content, prev_hash, hash FROM audit_logs ORDER BY 1")
    fields = ("seq", "at", "actor", "action", "subject", "content", "prev_hash", "hash")
    records = [AuditRecord(**dict(zip(fields, row, strict=True))) for row in rows]
    assert verify(records) is None
    return records


def draft(text: str = "x") -> AuditDraft:
    """Return an audit draft that bears *text* as its subject."""
    return AuditDraft(at=NOW, actor="system", action="TESTED", subject=text, content={"n": 1})


class Trader:
    """A user with one account, strategy and source; `seed` puts them into a database."""

    def __init__(self) -> None:
        self.user_id, self.account_id, self.strategy_id, self.source_id = uuid4(), uuid4(), uuid4(), uuid4()

    async def seed(self, url: str) -> "Trader":
        """Insert the trader's rows."""
        await sql(
            url,
            "INSERT INTO users (id, email, role, password_hash, created_at, updated_at)"
            " VALUES ($1, $2, 'TRADER', 'x', $3, $3)",
            self.user_id,
            f"{self.user_id}@example.org",
            NOW,
        )
        await sql(
            url,
            "INSERT INTO kite_accounts (id, user_id, label, broker, capital, status, api_key, created_at, updated_at)"
            " VALUES ($1, $2, 'a', 'paper', 1000000, 'ACTIVE', $3, $4, $4)",
            self.account_id,
            self.user_id,
            self.account_id.hex,
            NOW,
        )
        await sql(
            url,
            "INSERT INTO strategies (id, user_id, name, created_at, updated_at) VALUES ($1, $2, 's', $3, $3)",
            self.strategy_id,
            self.user_id,
            NOW,
        )
        await sql(
            url,
            "INSERT INTO signal_sources (id, user_id, strategy_id, type, name, created_at, updated_at)"
            " VALUES ($1, $2, $3, 'sheets', 's', $4, $4)",
            self.source_id,
            self.user_id,
            self.strategy_id,
            NOW,
        )
        return self

    def delivery(self, key: str, **changes: Any) -> Delivery:
        """Return a delivery of one signal."""
        return Delivery(
            **{
                "source_id": self.source_id,
                "strategy_id": self.strategy_id,
                "user_id": self.user_id,
                "idempotency_key": key,
                "body_sha256": hashlib.sha256(key.encode()).digest(),
                "received_at": NOW,
                "request_id": "req-1",
                "items": (Item(position=0, signal=SIGNAL),),
            }
            | changes
        )

    def intent(self, **changes: Any) -> Intent:
        """Return a new intent."""
        number = uuid4()
        return Intent(
            **{
                "id": number,
                "source_id": self.source_id,
                "strategy_id": self.strategy_id,
                "user_id": self.user_id,
                "signal": SIGNAL,
                "status": IntentStatus.EXECUTING,
                "received_at": NOW,
                "updated_at": NOW,
                "idempotency_key": number.hex,
                "body_sha256": number.bytes * 2,
            }
            | changes
        )

    def order(self, intent: Intent | None = None, **changes: Any) -> Order:
        """Return a new order, PENDING unless told otherwise."""
        number = uuid4()
        return Order(
            **{
                "id": number,
                "account_id": self.account_id,
                "user_id": self.user_id,
                "strategy_id": self.strategy_id,
                "intent_id": None if intent is None else intent.id,
                "exchange": Exchange.NSE,
                "symbol": "INFY",
                "transaction_type": TransactionType.BUY,
                "quantity": 10,
                "order_type": OrderType.MARKET,
                "product_type": ProductType.MIS,
                "status": OrderStatus.PENDING,
                "tag": number.hex[:20],
                "attempt": 1,
                "epoch": 1,
                "trading_day": NOW.date(),
                "deadline": NOW + timedelta(seconds=60),
                "created_at": NOW,
                "updated_at": NOW,
            }
            | changes
        )

    def fill(self, order: Order, trade_id: str, price: str, quantity: int = 1, **changes: Any) -> Fill:
        """Return a fill of *order*."""
        return Fill(
            **{
                "trade_id": trade_id,
                "order_id": order.id,
                "account_id": order.account_id,
                "broker_order_id": "2411",
                "exchange": order.exchange,
                "symbol": order.symbol,
                "product_type": order.product_type,
                "transaction_type": order.transaction_type,
                "quantity": quantity,
                "price": Decimal(price),
                "filled_at": NOW,
            }
            | changes
        )


def order_event(order: Order, to: OrderStatus) -> OrderEvent:
    """Return the event of a move of *order*."""
    return OrderEvent(
        order_id=order.id, at=NOW, from_status=order.status, to_status=to, filled_quantity=order.filled_quantity
    )


def intent_event(intent_id: UUID, event: str = "RECEIVED") -> IntentEvent:
    """Return an entry of an intent's timeline."""
    return IntentEvent(intent_id=intent_id, at=NOW, event=event)
