"""The table of triggers (GTT): writing a row as it stands, and reading rows back."""

from collections.abc import Sequence
from datetime import date
from typing import Any
from uuid import UUID

from engine.domain.enums import Exchange, ProductType, TransactionType
from engine.domain.gtt import Gtt, GttStatus
from engine.domain.options import OrderRole
from engine.store.ledger import Write

COLUMNS = (
    "id",
    "entry_id",
    "account_id",
    "user_id",
    "strategy_id",
    "exchange",
    "symbol",
    "transaction_type",
    "product_type",
    "quantity",
    "stop_trigger",
    "stop_price",
    "target_trigger",
    "target_price",
    "last_price",
    "status",
    "status_message",
    "trigger_id",
    "unit",
    "unit_quantity",
    "attempt",
    "fired_role",
    "broker_order_id",
    "submitting_at",
    "expires_at",
    "created_at",
    "updated_at",
)
# what may change of a row; the rest says what was asked for
CHANGES = (
    "quantity",
    "stop_trigger",
    "stop_price",
    "target_trigger",
    "target_price",
    "status",
    "status_message",
    "trigger_id",
    "fired_role",
    "broker_order_id",
    "expires_at",
    "updated_at",
)
LIVE = "('SUBMITTING', 'UNKNOWN', 'ACTIVE')"

INSERT = (
    f"INSERT INTO gtts ({', '.join(COLUMNS)}) "  # noqa: S608 -- constants
    f"VALUES ({', '.join(f'${i}' for i in range(1, len(COLUMNS) + 1))})"
)
UPDATE = (
    f"UPDATE gtts SET {', '.join(f'{name} = ${i}' for i, name in enumerate(CHANGES, 2))} "  # noqa: S608 -- constants
    "WHERE id = $1"
)
_OF_ACCOUNTS = (
    "SELECT * FROM gtts WHERE account_id = ANY($1::uuid[]) AND (entry_id = ANY($2::uuid[]) "  # noqa: S608 -- constants
    f"OR entry_id IN (SELECT entry_id FROM gtts WHERE account_id = ANY($1::uuid[]) AND status IN {LIVE})) "
    "ORDER BY created_at, id"
)
# The order that a trigger placed was adopted as a stranger's: this says whose exit it is.
LINK = (
    "UPDATE orders SET role = $1, parent_id = $2 "
    "WHERE account_id = $3 AND broker_order_id = $4 AND origin = 'EXTERNAL' AND trading_day >= $5"
)


def insert(gtt: Gtt) -> Write:
    """Return the write of a new row, which the store refuses when it has the id already: it is the write-ahead."""
    return Write(sql=INSERT, args=tuple(getattr(gtt, name) for name in COLUMNS))


def save(gtt: Gtt) -> Write:
    """Return the write of what may change of *gtt*; repeating it changes nothing."""
    return Write(sql=UPDATE, args=(gtt.id, *(getattr(gtt, name) for name in CHANGES)))


def link(gtt: Gtt, day: date) -> Write | None:
    """Return the write that ties the order of a fired trigger to its entry; *day* is the earliest of its day (IST).

    None when the broker has placed none.
    """
    if gtt.broker_order_id is None or gtt.fired_role is None:
        return None
    return Write(sql=LINK, args=(gtt.fired_role, gtt.entry_id, gtt.account_id, gtt.broker_order_id, day))


def row_to_gtt(row: Any) -> Gtt:
    """Return the trigger of a row."""
    return Gtt(
        id=row["id"],
        entry_id=row["entry_id"],
        account_id=row["account_id"],
        user_id=row["user_id"],
        strategy_id=row["strategy_id"],
        exchange=Exchange(row["exchange"]),
        symbol=row["symbol"],
        transaction_type=TransactionType(row["transaction_type"]),
        product_type=ProductType(row["product_type"]),
        quantity=row["quantity"],
        stop_trigger=row["stop_trigger"],
        stop_price=row["stop_price"],
        target_trigger=row["target_trigger"],
        target_price=row["target_price"],
        last_price=row["last_price"],
        status=GttStatus(row["status"]),
        status_message=row["status_message"],
        trigger_id=row["trigger_id"],
        unit=row["unit"],
        unit_quantity=row["unit_quantity"],
        attempt=row["attempt"],
        fired_role=None if row["fired_role"] is None else OrderRole(row["fired_role"]),
        broker_order_id=row["broker_order_id"],
        submitting_at=row["submitting_at"],
        expires_at=row["expires_at"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


async def rows_of_accounts(connection: Any, account_ids: Sequence[UUID], entry_ids: Sequence[UUID]) -> Sequence[Any]:
    """Return the rows of all triggers of *entry_ids*, and of every entry that has a live one, however old it is."""
    found: Sequence[Any] = await connection.fetch(_OF_ACCOUNTS, list(account_ids), list(entry_ids))
    return found
