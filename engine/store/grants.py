"""Grants of reading in the store: reads are units of work, writes statements that go with an audit record."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from engine.domain.grants import ReadGrant
from engine.store.ledger import Write

_ALL = "SELECT id, viewer_id, owner_id, account_id, granted_by, granted_at FROM read_grants ORDER BY id"


async def list_grants(connection: Any) -> list[ReadGrant]:
    """Return every grant (asyncio-flavoured unit)."""
    return [ReadGrant(**dict(row)) for row in await connection.fetch(_ALL)]


def write_grant(grant: ReadGrant) -> Write:
    """Return the statement that adds *grant*; a second one for the same is refused by its unique key."""
    return Write(
        sql="INSERT INTO read_grants (id, viewer_id, owner_id, account_id, granted_by, granted_at)"
        " VALUES ($1, $2, $3, $4, $5, $6)",
        args=(grant.id, grant.viewer_id, grant.owner_id, grant.account_id, grant.granted_by, grant.granted_at),
    )


def delete_grants(grant_ids: Sequence[UUID]) -> Write:
    """Return the statement that takes grants back."""
    return Write(sql="DELETE FROM read_grants WHERE id = ANY($1::uuid[])", args=(list(grant_ids),))
