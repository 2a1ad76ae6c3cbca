"""What is known of the last login of each account."""

from datetime import datetime
from typing import Any
from uuid import UUID

from engine.domain.directory import BrokerLogin
from engine.store.ledger import Write


async def all_logins(connection: Any) -> dict[UUID, BrokerLogin]:
    """Return the logins by account (asyncio-flavoured unit)."""
    rows = await connection.fetch(
        "SELECT account_id, broker_user_id, logged_in_at, exchanges, products FROM account_logins"
    )
    return {
        row["account_id"]: BrokerLogin(
            broker_user_id=row["broker_user_id"],
            logged_in_at=row["logged_in_at"],
            exchanges=tuple(row["exchanges"]),
            products=tuple(row["products"]),
        )
        for row in rows
    }


def write_login(account_id: UUID, login: BrokerLogin | None, *, at: datetime) -> Write:
    """Return the statement that keeps *login*, or forgets what was known when it is None."""
    if login is None:
        return Write(sql="DELETE FROM account_logins WHERE account_id = $1", args=(account_id,))
    return Write(
        sql="INSERT INTO account_logins (account_id, broker_user_id, logged_in_at, exchanges, products, updated_at)"
        " VALUES ($1, $2, $3, $4, $5, $6)"
        " ON CONFLICT (account_id) DO UPDATE SET broker_user_id = excluded.broker_user_id,"
        " logged_in_at = excluded.logged_in_at, exchanges = excluded.exchanges, products = excluded.products,"
        " updated_at = excluded.updated_at",
        args=(account_id, login.broker_user_id, login.logged_in_at, list(login.exchanges), list(login.products), at),
    )
