"""What is changed in the rows of a backup before an engine may start on them.

The engine that made the backup may have gone on: orders that waited may have been sent since, sessions ended,
leases taken. So nothing may be sent until a person has looked (the global kill switch), an order that may have
been sent meanwhile is in doubt until the broker's book has settled it, and nobody is signed in.
"""

from datetime import datetime
from typing import Any

import msgspec

from engine.domain.audit import GENESIS, AuditDraft, verify
from engine.domain.enums import OrderStatus
from engine.domain.killswitch import KillRecord
from engine.errors import StartupError
from engine.store.audit_append import append
from engine.store.audit_pages import page
from engine.store.ledger import Head

LEASES_AHEAD = 1_000_000
"""By how much the lease's epoch, the fencing token, is raised: beyond every one that the lost engine can have taken."""
DOUBT = "RESTORED: it waited when the backup was made; the engine that was lost may have sent it since"
GIVEN_UP = f"UNPLACED: {DOUBT}; it is not sent from here and looked for at the broker"

_WAITING = """
SELECT id, account_id, exchange, symbol, product_type, origin, filled_quantity, status FROM orders
WHERE status IN ('PENDING', 'SUBMITTING') ORDER BY created_at, id"""
_UNRESOLVED = """
SELECT account_id, exchange, symbol, product_type FROM orders
WHERE status IN ('SUBMITTING', 'UNKNOWN') AND origin <> 'SQUARE_OFF'"""
_DOUBT = """
UPDATE orders SET status = $2, status_message = $3, submitting_at = $4, updated_at = $4 WHERE id = $1"""
_EVENT = """
INSERT INTO order_events (order_id, at, from_status, to_status, filled_quantity, detail, anomaly)
VALUES ($1, $2, $3, $4, $5, $6, false)"""
_FLAG = """
INSERT INTO system_flags (name, value, version, updated_at) VALUES ($1, $2::text::jsonb, $3, $4)
ON CONFLICT (name) DO UPDATE SET value = excluded.value, version = excluded.version, updated_at = excluded.updated_at"""
_KILL = "SELECT value::text AS value FROM system_flags WHERE name = $1"


class Restored(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What was found and changed: orders now in doubt, given up, and working at the broker; sessions that ended."""

    in_doubt: int
    given_up: int
    working: int
    sessions_ended: int
    audit_records: int


async def held_kill(connection: Any, scope: str) -> KillRecord | None:
    """Return the kill record of *scope* (asyncio-flavoured unit)."""
    value = await connection.fetchval(_KILL, f"killswitch:{scope}")
    return None if value is None else msgspec.json.decode(value, type=KillRecord)


async def make_safe(connection: Any, *, kill: KillRecord, head: Head, at: datetime, told: dict[str, Any]) -> Restored:
    """Verify the audit chain up to *head* and make the rows safe to start on, at *at* (UTC); *told* goes on record.

    Asyncio-flavoured unit, for the transaction that brings the rows. Raises StartupError for a broken chain.
    """
    await _verify(connection, head)
    in_doubt, given_up = await _doubt(connection, at)
    working = await connection.fetchval(
        "SELECT count(*) FROM orders "
        "WHERE status IN ('SUBMITTED', 'OPEN', 'TRIGGER_PENDING', 'PARTIALLY_FILLED') AND origin <> 'EXTERNAL'"
    )
    ended = await connection.execute("UPDATE refresh_tokens SET revoked_at = $1 WHERE revoked_at IS NULL", at)
    if await connection.fetchval("SELECT to_regclass('api_tokens')") is not None:
        # one that was revoked since the backup must not live again, and nobody knows which
        await connection.execute("UPDATE api_tokens SET revoked_at = $1 WHERE revoked_at IS NULL", at)
    # an access token of the lost engine, which may have raised the epoch since, must open nothing here
    await connection.execute("UPDATE users SET token_epoch = token_epoch + $1", LEASES_AHEAD)
    await connection.execute(
        "UPDATE engine_lease SET epoch = epoch + $1, holder = 'restored', renewed_at = clock_timestamp(), "
        "released = true",
        LEASES_AHEAD,
    )
    value = msgspec.json.encode(kill).decode()
    await connection.execute(_FLAG, f"killswitch:{kill.scope}", value, kill.version, kill.at)
    restored = Restored(
        in_doubt=in_doubt,
        given_up=given_up,
        working=working,
        sessions_ended=int(ended.rpartition(" ")[2]),
        audit_records=head.seq,
    )
    content = told | msgspec.to_builtins(restored) | {"auditHead": head.hash.hex()}
    await append(connection, AuditDraft(at=at, actor="cli", action="RESTORED", subject="engine", content=content))
    return restored


async def _verify(connection: Any, head: Head) -> None:
    count, last = 0, GENESIS
    while records := await page(connection, after_seq=count):
        broken = verify(records, prev=last, first_seq=count + 1)
        if broken is not None:
            raise StartupError(f"the audit log of the backup is broken at record {broken}: use another backup")
        count += len(records)
        last = records[-1].hash
    if (count, last) != (head.seq, head.hash or GENESIS):
        raise StartupError(f"the audit log of the backup has {count} records and should have {head.seq}")


async def _doubt(connection: Any, at: datetime) -> tuple[int, int]:
    """Put every order in doubt that may have been sent since; of those that wait in line only the first can be."""
    taken = {tuple(row) for row in await connection.fetch(_UNRESOLVED)}
    in_doubt = given_up = 0
    for row in await connection.fetch(_WAITING):
        place = (row["account_id"], row["exchange"], row["symbol"], row["product_type"])
        was_sent = row["status"] == OrderStatus.SUBMITTING.value
        if was_sent or row["origin"] == "SQUARE_OFF" or place not in taken:
            status, message = OrderStatus.UNKNOWN, DOUBT
            taken.add(place)
            in_doubt += 1
        else:
            # the ledger holds one order of an instrument in doubt; this state is looked for at the broker just as well
            status, message = OrderStatus.EXPIRED, GIVEN_UP
            given_up += 1
        await connection.execute(_DOUBT, row["id"], status.value, message, at)
        await connection.execute(_EVENT, row["id"], at, row["status"], status.value, row["filled_quantity"], message)
    return in_doubt, given_up
