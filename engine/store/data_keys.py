"""Data keys in the store: wrapped, each with how many records were sealed under it.

Reads and writes are units of work (asyncio-flavoured). Uses are set aside in blocks before they are made, so
that a crash can only count too many. Whatever changes keys does so under one lock of the database.
"""

import secrets
from collections import defaultdict
from collections.abc import Iterable
from typing import Any
from uuid import UUID

import msgspec

from engine.errors import StartupError
from engine.security.envelope import MAX_USES, KeyRing, WrappedKey
from engine.security.root_key import root_name, unwrap_root
from engine.security.wrapping import DEPLOYMENT, KEY_BYTES, KEY_ID_BYTES, Kek, KeyName

BLOCK = 4096
"""Uses that are set aside at once for each key that seals."""

_LOCK = 0x6B657973  # "keys"

KEYS_DO_NOT_FIT = (
    "this engine's keys do not open what the stores hold: give it those of the engine that leads, its data directory's "
    "keys folder or the same [security] master_key; after `engine keys rotate` that is the new one, and the one before "
    "it is master_key_previous"
)


async def lock(connection: Any) -> None:
    """Keep every other program from changing keys until the end of the transaction."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)


async def read(connection: Any, *, purpose: str = "data") -> list[WrappedKey]:
    """Return every key of *purpose*; none from a schema that has no such table yet."""
    if await connection.fetchval("SELECT to_regclass('data_keys')") is None:
        return []
    wraps: defaultdict[bytes, dict[bytes, bytes]] = defaultdict(dict)
    for row in await connection.fetch("SELECT key_id, kek_id, wrapped FROM data_key_wraps"):
        wraps[row["key_id"]][row["kek_id"]] = row["wrapped"]
    rows = await connection.fetch("SELECT id, user_id, is_active FROM data_keys WHERE purpose = $1", purpose)
    return [
        WrappedKey(
            name=KeyName(key_id=row["id"], user_id=row["user_id"], purpose=purpose),
            wraps=wraps[row["id"]],
            is_active=row["is_active"],
        )
        for row in rows
    ]


async def load(connection: Any, ring: KeyRing) -> None:
    """Have *ring* hold the data keys of the store. A key that it cannot open shows when a record needs it."""
    ring.load(await read(connection))


async def stored_root(connection: Any, keks: Iterable[Kek]) -> bytes | None:
    """Return the root key of the store, None when it has none yet. Raises StartupError when it does not open."""
    for found in await read(connection, purpose="root"):
        root = unwrap_root(found.name.key_id, found.wraps, keks)
        if root is None:
            raise StartupError(KEYS_DO_NOT_FIT)
        return root
    return None


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """The keys as a transaction left them, and the uses that it set aside: for the ring once it is committed."""

    keys: list[WrappedKey]
    uses: dict[bytes, int]

    def give_to(self, ring: KeyRing) -> None:
        """Have *ring* hold them. Raises StartupError when one does not open."""
        if ring.load(self.keys):
            raise StartupError(KEYS_DO_NOT_FIT)
        for key_id, uses in self.uses.items():
            ring.set_aside(key_id, uses)


async def settle(connection: Any, ring: KeyRing, root: bytes, users: Iterable[UUID], *, uses: int = BLOCK) -> Settled:
    """See that the root and the deployment and every one of *users* have a key, wrapped under every key of *ring*.

    What is there already stays. Of each key that seals and is low on them *uses* more are set aside; one that comes to
    its bound is replaced by a fresh one. The ring itself changes only with what is returned, after the commit.
    Raises StartupError when a key of the store does not open, or its root is another than *root*.
    """
    await lock(connection)
    held = await stored_root(connection, ring.keks)
    if held is not None and held != root:
        raise StartupError("the stores and this data directory are of two deployments: their root keys differ")
    if held is None:
        await _add(connection, ring, root, root_name(root))
    await wrap_again(connection, ring)
    active = {key.name.user_id for key in await read(connection) if key.is_active}
    for user_id in {DEPLOYMENT, *users} - active:
        await make_key(connection, ring, user_id)
    counted = await _count(connection, ring, uses)
    return Settled(keys=await read(connection), uses=counted)


async def _count(connection: Any, ring: KeyRing, uses: int) -> dict[bytes, int]:
    counted = {}
    for key in await read(connection):
        key_id = key.name.key_id
        if not key.is_active or ring.uses_left(key_id) > uses // 2:
            continue
        if not await _use(connection, key_id, uses):
            key_id = await make_key(connection, ring, key.name.user_id)
            await _use(connection, key_id, uses)
        counted[key_id] = uses
    return counted


async def _use(connection: Any, key_id: bytes, uses: int) -> bool:
    done = await connection.execute(
        "UPDATE data_keys SET uses = uses + $2 WHERE id = $1 AND uses + $2 <= $3", key_id, uses, MAX_USES
    )
    return bool(done == "UPDATE 1")


async def make_key(connection: Any, ring: KeyRing, user_id: UUID) -> bytes:
    """Add a fresh data key that seals for *user_id* from now on, and return its id; the one before it only opens."""
    await connection.execute(
        "UPDATE data_keys SET is_active = false WHERE user_id = $1 AND purpose = 'data' AND is_active", user_id
    )
    name = KeyName(key_id=secrets.token_bytes(KEY_ID_BYTES), user_id=user_id)
    await _add(connection, ring, secrets.token_bytes(KEY_BYTES), name)
    return name.key_id


async def _add(connection: Any, ring: KeyRing, key: bytes, name: KeyName) -> None:
    await connection.execute(
        "INSERT INTO data_keys (id, user_id, purpose, made_under) VALUES ($1, $2, $3, $4)",
        name.key_id,
        name.user_id,
        name.purpose,
        ring.keks[0].id,
    )
    await _add_wraps(connection, name, ring.wrap(key, name))


async def _add_wraps(connection: Any, name: KeyName, wraps: dict[bytes, bytes]) -> None:
    for kek_id, wrapped in wraps.items():
        await connection.execute(
            "INSERT INTO data_key_wraps (key_id, kek_id, wrapped) VALUES ($1, $2, $3)", name.key_id, kek_id, wrapped
        )


async def wrap_again(connection: Any, ring: KeyRing) -> None:
    """Add what is missing so that every key opens with the newest key-encryption key of *ring*. Raises StartupError."""
    newest = ring.keks[0]
    for found in (*await read(connection, purpose="root"), *await read(connection)):
        if newest.id in found.wraps:
            continue
        key = ring.unwrap(found.name, found.wraps)
        if key is None:
            raise StartupError(KEYS_DO_NOT_FIT)
        await _add_wraps(connection, found.name, {newest.id: newest.wrap(key, found.name)})
