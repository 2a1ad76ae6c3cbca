"""Kill records, and the days of the last rounds over the accounts, in system_flags."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from engine.domain.killswitch import KillRecord
from engine.domain.readiness_gate import Gate
from engine.store.ledger import Write

_PUT = """
INSERT INTO system_flags (name, value, version, updated_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (name) DO UPDATE SET value = excluded.value, version = excluded.version, updated_at = excluded.updated_at
WHERE system_flags.version < excluded.version
    OR (system_flags.version = excluded.version AND excluded.value ->> 'state' <> 'ARMED')"""


def write_kill_record(record: KillRecord) -> Write:
    """Return the statement that keeps *record*; an older version never replaces a newer one,
    and of two equal ones the one that blocks stays."""
    value = msgspec.to_builtins(record)
    return Write(sql=_PUT, args=(f"killswitch:{record.scope}", value, record.version, record.at))


async def kill_records(connection: Any) -> list[KillRecord]:
    """Return the kill records of the store (asyncio-flavoured unit)."""
    rows = await connection.fetch("SELECT value FROM system_flags WHERE name LIKE 'killswitch:%'")
    return [msgspec.convert(row["value"], KillRecord) for row in rows]


async def all_flags(connection: Any) -> list[dict[str, Any]]:
    """Return every flag, by name (asyncio-flavoured unit)."""
    rows = await connection.fetch("SELECT name, value, version, updated_at FROM system_flags ORDER BY name")
    return [dict(row) for row in rows]


_PUT_LATEST = """
INSERT INTO system_flags (name, value, version, updated_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (name) DO UPDATE SET value = excluded.value, version = excluded.version, updated_at = excluded.updated_at"""
_ROUNDS = "broker-rounds"


def write_latest(name: str, value: Mapping[str, Any], *, at: datetime) -> Write:
    """Return the statement that keeps *value* as the flag *name*, whatever stood there; *at* is now (UTC)."""
    return Write(sql=_PUT_LATEST, args=(name, dict(value), int(at.timestamp() * 1000), at))


def write_rounds(done: Mapping[str, str], *, at: datetime) -> Write:
    """Return the statement that keeps the IST date on which each round over the accounts was last made."""
    return Write(sql=_PUT, args=(_ROUNDS, dict(done), int(at.timestamp() * 1000), at))


async def rounds(connection: Any) -> dict[str, str]:
    """Return the dates of the last rounds by their names (asyncio-flavoured unit)."""
    held = await connection.fetchval("SELECT value FROM system_flags WHERE name = $1", _ROUNDS)
    return {str(name): str(day) for name, day in (held or {}).items()}


_SQUARED_OFF = "squared-off"


def write_squared_off(done: Mapping[str, list[str]], *, at: datetime) -> Write:
    """Return the statement that keeps which accounts each square-off by the clock is done for."""
    return write_latest(_SQUARED_OFF, done, at=at)


async def squared_off(connection: Any) -> dict[str, list[str]]:
    """Return the accounts that are done by the names of the square-offs (asyncio-flavoured unit)."""
    held = await connection.fetchval("SELECT value FROM system_flags WHERE name = $1", _SQUARED_OFF)
    return {str(name): [str(account) for account in accounts] for name, accounts in (held or {}).items()}


_GATE = "readiness-gate"


def write_gate(gate: Gate, *, at: datetime) -> Write:
    """Return the statement that keeps what the morning's checks said."""
    return write_latest(_GATE, msgspec.to_builtins(gate), at=at)


async def gate(connection: Any) -> Gate:
    """Return what the morning's checks said last (asyncio-flavoured unit)."""
    held = await connection.fetchval("SELECT value FROM system_flags WHERE name = $1", _GATE)
    return Gate() if held is None else msgspec.convert(held, Gate)
