"""The second wall: what serves a request of somebody who does not administer reaches the store as that caller.

The queries have their conditions, and PostgreSQL holds the rows apart as well (migration 0016): one that forgot its
condition returns nothing of others. What the engine does of itself is not affected.
"""

import copy

from engine.http.permissions import Principal
from engine.http.ports import CoreServices


def seen_by(services: CoreServices, caller: Principal) -> CoreServices:
    """Return *services* with the store as *caller* may see it; an ADMIN sees all of it."""
    narrowed = copy.copy(services)
    users = None if caller.is_admin else (caller.user_id, *caller.granted_users)
    store = services.database.for_request(users, caller.granted_accounts)
    # the composition root's object is frozen for everybody else
    object.__setattr__(narrowed, "database", store)
    return narrowed
