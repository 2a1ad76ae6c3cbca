"""Units of work on second factors; each takes a connection inside a transaction.

The row of a factor is locked before its code is judged, so of two that bring the same code one is told no.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from engine.secret import Secret
from engine.security import recovery_codes, totp
from engine.store.database import Connection
from engine.store.directory import Vault

MAX_FAILURES = 100
"""Wrong codes in a row after which none of an app is believed any more but from an address that is known."""

_TABLE, _COLUMN = "user_factors", "seed"


class Factor(StrEnum):
    """What proved to be right beside the password."""

    CODE = "totp"
    RECOVERY = "recovery"


class Proof(msgspec.Struct, frozen=True):
    """A code that was right; ``left`` is how many recovery codes are unused, when it was one of them."""

    factor: Factor
    left: int | None = None


async def enrol(connection: Connection, user_id: UUID, seed: str, vault: Vault, *, now: datetime) -> bool:
    """Keep *seed* as the factor that is to be confirmed, in place of one that was not; False when there is one."""
    row = await connection.fetchrow(
        "SELECT confirmed_at, row_version FROM user_factors WHERE user_id = $1 FOR UPDATE", user_id
    )
    if row is not None and row["confirmed_at"] is not None:
        return False
    version = 1 if row is None else row["row_version"] + 1
    sealed = vault.seal(Secret(seed), table=_TABLE, column=_COLUMN, row_id=user_id, version=version, user_id=user_id)
    done = await connection.execute(
        "INSERT INTO user_factors (user_id, seed, row_version, created_at) VALUES ($1, $2, $3, $4) "
        "ON CONFLICT (user_id) DO UPDATE "
        "SET seed = $2, row_version = $3, created_at = $4, last_step = NULL, failures = 0 "
        "WHERE user_factors.confirmed_at IS NULL",
        user_id,
        sealed,
        version,
        now,
    )
    return bool(done == "INSERT 0 1")


async def confirm(
    connection: Connection, user_id: UUID, code: str, vault: Vault, *, hashes: Sequence[bytes], now: datetime
) -> bool | None:
    """Make the factor count from now on, with fresh recovery codes; False for a wrong code, None without a factor."""
    row = await connection.fetchrow(
        "SELECT seed, row_version FROM user_factors WHERE user_id = $1 AND confirmed_at IS NULL FOR UPDATE", user_id
    )
    if row is None:
        return None
    step = totp.matching_step(_seed(row, user_id, vault), code, at=now)
    if step is None:
        return False
    await connection.execute(
        "UPDATE user_factors SET confirmed_at = $2, last_step = $3, failures = 0 WHERE user_id = $1", user_id, now, step
    )
    await connection.execute("DELETE FROM recovery_codes WHERE user_id = $1", user_id)
    await connection.executemany(
        "INSERT INTO recovery_codes (user_id, code_hash, created_at) VALUES ($1, $2, $3)",
        [(user_id, each, now) for each in hashes],
    )
    return True


async def spend(
    connection: Connection, user_id: UUID, code: str, vault: Vault, *, now: datetime, is_known: bool
) -> Proof | None:
    """Use *code*, of the app or of recovery, for this once; None when it is wrong or was used before.

    After `MAX_FAILURES` wrong codes in a row those of the app are believed only where *is_known* says that the client
    is one that its user signed in from: guessing from everywhere must come to an end (SEC-011).
    """
    row = await connection.fetchrow(
        "SELECT seed, row_version, last_step, failures FROM user_factors "
        "WHERE user_id = $1 AND confirmed_at IS NOT NULL FOR UPDATE",
        user_id,
    )
    if row is None:
        return None
    if not totp.is_code(code):
        return await _spend_recovery(connection, user_id, code, now=now)
    if row["failures"] >= MAX_FAILURES and not is_known:
        return None
    step = totp.matching_step(_seed(row, user_id, vault), code, at=now)
    if step is None or (row["last_step"] is not None and step <= row["last_step"]):
        return None
    await connection.execute("UPDATE user_factors SET last_step = $2, failures = 0 WHERE user_id = $1", user_id, step)
    return Proof(Factor.CODE)


async def count_failure(connection: Connection, user_id: UUID) -> None:
    """Count one wrong code."""
    await connection.execute("UPDATE user_factors SET failures = failures + 1 WHERE user_id = $1", user_id)


async def forgive_failures(connection: Connection, user_id: UUID) -> None:
    """Begin the count of wrong codes anew."""
    await connection.execute("UPDATE user_factors SET failures = 0 WHERE user_id = $1", user_id)


async def remove(connection: Connection, user_id: UUID) -> bool:
    """Take the factor and its recovery codes away; tell whether there was one, confirmed or not."""
    await connection.execute("DELETE FROM recovery_codes WHERE user_id = $1", user_id)
    done = await connection.execute("DELETE FROM user_factors WHERE user_id = $1", user_id)
    return bool(done != "DELETE 0")


async def _spend_recovery(connection: Connection, user_id: UUID, code: str, *, now: datetime) -> Proof | None:
    digest = recovery_codes.digest(code, user_id)
    if digest is None:
        return None
    done = await connection.execute(
        "UPDATE recovery_codes SET used_at = $3 WHERE user_id = $1 AND code_hash = $2 AND used_at IS NULL",
        user_id,
        digest,
        now,
    )
    if done != "UPDATE 1":
        return None
    await connection.execute("UPDATE user_factors SET failures = 0 WHERE user_id = $1", user_id)
    left = await connection.fetchval(
        "SELECT count(*) FROM recovery_codes WHERE user_id = $1 AND used_at IS NULL", user_id
    )
    return Proof(Factor.RECOVERY, left)


def _seed(row: dict[str, object], user_id: UUID, vault: Vault) -> str:
    version = row["row_version"]
    sealed = row["seed"]
    assert isinstance(version, int) and isinstance(sealed, bytes)  # noqa: S101, PT018 -- column types
    seed = vault.open(sealed, table=_TABLE, column=_COLUMN, row_id=user_id, version=version, user_id=user_id)
    return "" if seed is None else seed.reveal()
