"""What a PostgreSQL server must be and be set to before the ledger may rely on it."""

from typing import Any

import asyncpg
import msgspec

from engine.store.database import APP_ROLE

OLDEST = 120000


class DatabaseSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Version and durability settings of a server, and what the login may do on this database."""

    version_number: int
    fsync: str
    synchronous_commit: str
    full_page_writes: str
    schema_version: int
    has_role: bool

    def problems(self) -> list[str]:
        """Return what must be mended before the engine may rely on this server."""
        found = []
        if self.version_number < OLDEST:
            found.append(f"it is version {self.version_number // 10000}: use PostgreSQL 12 or newer")
        if self.fsync != "on":
            found.append("fsync is off, so a power cut can destroy the ledger: set fsync = on")
        if self.synchronous_commit == "off":
            found.append("synchronous_commit is off, so committed orders can be lost: set synchronous_commit = on")
        if self.full_page_writes != "on":
            found.append("full_page_writes is off, so a power cut can tear pages: set full_page_writes = on")
        return found


async def database_settings(connection: Any) -> DatabaseSettings:
    """Read them (asyncio-flavoured unit)."""

    async def show(name: str) -> str:
        return str(await connection.fetchval("SELECT current_setting($1)", name))

    return DatabaseSettings(
        version_number=int(await show("server_version_num")),
        fsync=await show("fsync"),
        synchronous_commit=await show("synchronous_commit"),
        full_page_writes=await show("full_page_writes"),
        schema_version=int(await connection.fetchval("SELECT coalesce(max(version), 0) FROM schema_migrations")),
        has_role=await _may_work_as_role(connection),
    )


async def owns_schema(connection: Any) -> bool:
    """Whether the login itself could alter tables and change audit records, whatever role it has set."""
    return bool(
        await connection.fetchval(
            "SELECT r.rolsuper OR pg_has_role(r.oid, t.relowner, 'MEMBER') FROM pg_roles AS r, pg_class AS t"
            " WHERE r.rolname = session_user AND t.oid = to_regclass('audit_logs')"
        )
    )


async def _may_work_as_role(connection: Any) -> bool:
    # membership alone says too little: since PostgreSQL 16 it can come without the right to SET ROLE, and a
    # role made after the migrations has no rights on their tables
    try:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL ROLE {APP_ROLE}")
            granted = await connection.fetchval(
                "SELECT has_table_privilege('audit_logs', 'INSERT') AND has_table_privilege('orders', 'UPDATE')"
            )
            await connection.execute("SET LOCAL ROLE NONE")
            return bool(granted)
    except (asyncpg.InsufficientPrivilegeError, asyncpg.InvalidParameterValueError, asyncpg.UndefinedTableError):
        return False
