"""A change of keys in the store, step by step: each step is one transaction, and may be done again.

Whatever step a crash follows, everything opens: a new key is wrapped before it seals, an old one goes only when no
record needs it. The steps in order: `renew` (every key wrapped under the new key-encryption key, fresh data keys that
seal from now on), `reseal` until nothing is left (a few rows at a time, each only if it still is what was read),
`retire` (the old data keys and what was wrapped under the old key-encryption keys).
"""

from typing import Any
from uuid import UUID

import msgspec

from engine.errors import EngineError
from engine.security.envelope import KeyRing, Place, SecretUnreadable
from engine.security.wrapping import DEPLOYMENT
from engine.store import data_keys
from engine.store.data_keys import Settled
from engine.store.sealed_columns import NOT_SEALED, SEALED_COLUMNS, SealedColumn

ROWS = 50
"""Records that one transaction seals anew."""


class KeyRow(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A key of the store, without the key: ``kek_ids`` wrap it, ``records`` name it; ``age_s`` is seconds."""

    id: str
    user_id: UUID
    purpose: str
    is_active: bool
    uses: int
    records: int
    age_s: int
    kek_ids: list[str]


async def renew(connection: Any, ring: KeyRing, root: bytes, *, uses: int) -> Settled:
    """Give everybody a data key made under the newest key-encryption key of *ring*, and wrap all keys under that one.

    The old ones stay for opening. *uses* of each new key are set aside. Raises StartupError.
    """
    settled = await data_keys.settle(connection, ring, root, (), uses=uses)
    newest = ring.keks[0].id
    rows = await connection.fetch(
        "SELECT user_id FROM data_keys WHERE purpose = 'data' AND is_active AND made_under <> $1", newest
    )
    if not rows:
        return settled
    for row in rows:
        await data_keys.make_key(connection, ring, row["user_id"])
    return await data_keys.settle(connection, ring, root, (), uses=uses)


async def waiting(connection: Any) -> int:
    """Return how many records are sealed under another key than the one that seals now, or in an older form."""
    total = 0
    for column in SEALED_COLUMNS:
        total += await connection.fetchval(f"SELECT count(*) {_stale(column)}")  # of constants alone
    return total


async def reseal(connection: Any, ring: KeyRing, *, limit: int = ROWS) -> int:
    """Seal up to *limit* records anew under the keys that seal now; return how many were.

    Row versions stay: who holds a row in memory goes on with it. Raises EngineError that names a record that does
    not open.
    """
    done = 0
    for column in SEALED_COLUMNS:
        done += await _reseal(connection, ring, column, limit - done)
        if done >= limit:
            break
    return done


async def _reseal(connection: Any, ring: KeyRing, column: SealedColumn, limit: int) -> int:
    table, name = column.table, column.column
    rows = await connection.fetch(  # of constants alone
        f"SELECT {column.row_id} AS id, {column.version} AS version, {column.user} AS user_id, {name} AS record"
        f" {_stale(column)} ORDER BY {column.row_id} LIMIT $1 FOR UPDATE",
        limit,
    )
    for row in rows:
        place = Place(table=table, column=name, row_id=row["id"], version=row["version"], user_id=row["user_id"])
        try:
            plain = ring.open(row["record"], place)
        except SecretUnreadable as error:
            raise EngineError(
                f"{table}.{name} of {row['id']} does not open, so no key is retired: {error}; or set that secret anew"
            ) from None
        await connection.execute(
            f"UPDATE {table} SET {name} = $2 WHERE {column.row_id} = $1 AND {name} = $3",  # noqa: S608
            row["id"],
            ring.seal(plain, place),
            row["record"],
        )
    return len(rows)


def _stale(column: SealedColumn) -> str:
    # the deployment's key is right only for a user who has none of his own
    active = "SELECT FROM data_keys AS k WHERE k.is_active AND k.purpose = 'data'"
    return (
        f"FROM {column.table} AS held WHERE {column.column} IS NOT NULL AND NOT EXISTS ({active}"
        f" AND k.id = data_key_of(held.{column.column}) AND (k.user_id = held.{column.user}"
        f" OR k.user_id = '{DEPLOYMENT}' AND NOT EXISTS ({active} AND k.user_id = held.{column.user})))"
    )


async def retire(connection: Any, ring: KeyRing) -> int:
    """Remove what only the old keys are good for; return how many keys went.

    Raises EngineError, and nothing is removed, while a record is sealed under one of them: in a column that this
    program knows, or in one that it does not.
    """
    await data_keys.lock(connection)
    for table in sorted({column.table for column in SEALED_COLUMNS}):
        # writers wait for the moment; readers do not
        await connection.execute(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")  # of constants alone
    left = await waiting(connection)
    if left:
        raise EngineError(f"{left} secrets are still sealed under the old keys: run `engine keys rotate` again")
    rows = await connection.fetch("SELECT id FROM data_keys WHERE purpose = 'data' AND NOT is_active")
    old = [row["id"] for row in rows]
    await _refuse_unknown(connection, old)
    bare = await connection.fetchval(
        "SELECT count(*) FROM data_keys AS k WHERE NOT EXISTS"
        " (SELECT FROM data_key_wraps WHERE key_id = k.id AND kek_id = $1) AND NOT k.id = ANY($2::bytea[])",
        ring.keks[0].id,
        old,
    )
    if bare:
        raise EngineError(f"{bare} keys are not wrapped under the new master key: run `engine keys rotate` again")
    await connection.execute("DELETE FROM data_keys WHERE id = ANY($1::bytea[])", old)
    await connection.execute("DELETE FROM data_key_wraps WHERE kek_id <> $1", ring.keks[0].id)
    return len(old)


async def _refuse_unknown(connection: Any, old: list[bytes]) -> None:
    known = {(column.table, column.column) for column in SEALED_COLUMNS} | NOT_SEALED
    columns = await connection.fetch(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = current_schema()"
        " AND data_type = 'bytea' AND is_generated = 'NEVER'"
    )
    for table, column in ((row["table_name"], row["column_name"]) for row in columns):
        if (table, column) in known:
            continue
        found = await connection.fetchval(
            f'SELECT EXISTS (SELECT FROM "{table}" WHERE data_key_of("{column}") = ANY($1::bytea[]))',  # noqa: S608
            old,
        )
        if found:
            raise EngineError(f"{table}.{column} holds secrets that this command does not know: no key is retired")


async def keys(connection: Any) -> list[KeyRow]:
    """Return what there is to know of every key of the store."""
    names = " UNION ALL ".join(
        f"SELECT data_key_of({column.column}) AS id FROM {column.table}"  # noqa: S608 -- names are constants
        for column in SEALED_COLUMNS
    )
    rows = await connection.fetch(
        "SELECT k.id, k.user_id, k.purpose, k.is_active, k.uses,"  # noqa: S608
        " extract(epoch FROM now() - k.created_at)::bigint AS age_s,"
        f" (SELECT count(*) FROM ({names}) AS named WHERE named.id = k.id) AS records,"
        " ARRAY(SELECT kek_id FROM data_key_wraps WHERE key_id = k.id ORDER BY kek_id) AS kek_ids"
        " FROM data_keys AS k ORDER BY k.purpose DESC, k.user_id, k.created_at"
    )
    return [
        KeyRow(
            id=row["id"].hex(),
            user_id=row["user_id"],
            purpose=row["purpose"],
            is_active=row["is_active"],
            uses=row["uses"],
            records=row["records"],
            age_s=row["age_s"],
            kek_ids=[kek.hex() for kek in row["kek_ids"]],
        )
        for row in rows
    ]


async def foreign_keks(connection: Any, ring: KeyRing) -> bool:
    """Whether a key is wrapped under another key-encryption key than the newest of *ring*: a change has not ended."""
    return bool(
        await connection.fetchval(
            "SELECT EXISTS (SELECT FROM data_key_wraps WHERE kek_id <> $1)"
            " OR EXISTS (SELECT FROM data_keys WHERE made_under <> $1 AND purpose = 'data')",
            ring.keks[0].id,
        )
    )
