"""Freeze quantities in the store: those of whoever runs the engine and those learned; built-in ones are not kept."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from engine.domain.enums import Exchange
from engine.domain.freeze import FreezeOrigin, FreezeQuantity
from engine.store.ledger import Write

_PUT = """
INSERT INTO freeze_quantities (exchange, symbol, quantity, origin, as_of, updated_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (exchange, symbol) DO UPDATE SET
    quantity = excluded.quantity, origin = excluded.origin, as_of = excluded.as_of, updated_at = excluded.updated_at"""


def put_freeze(row: FreezeQuantity, *, at: datetime) -> Write:
    """Return the statement that keeps *row*, in place of that of the same exchange and symbol."""
    return Write(sql=_PUT, args=(row.exchange.value, row.symbol, row.quantity, row.origin.value, row.as_of, at))


def replace_freeze(rows: Iterable[FreezeQuantity], *, at: datetime) -> tuple[Write, ...]:
    """Return the statements that keep *rows* as the user's list; what was learned stays unless it is in it."""
    cleared = Write(sql="DELETE FROM freeze_quantities WHERE origin = $1", args=(FreezeOrigin.USER.value,))
    return (cleared, *(put_freeze(row, at=at) for row in rows))


async def freeze_quantities(connection: Any) -> list[FreezeQuantity]:
    """Return every row that is kept (asyncio-flavoured unit)."""
    rows = await connection.fetch(
        "SELECT exchange, symbol, quantity, origin, as_of FROM freeze_quantities ORDER BY exchange, symbol"
    )
    return [
        FreezeQuantity(
            exchange=Exchange(row["exchange"]),
            symbol=row["symbol"],
            quantity=row["quantity"],
            origin=FreezeOrigin(row["origin"]),
            as_of=row["as_of"],
        )
        for row in rows
    ]
