"""A second administrator for what must not be one person's: asked for where ``[security] two_admins`` says so."""

from collections.abc import Hashable
from datetime import datetime, timedelta
from uuid import UUID

from engine.errors import ConflictError
from engine.http.permissions import Principal
from engine.http.services import Services

_WITHIN = timedelta(minutes=10)
_FIRST = "first_admins"
_MOST = 100


def ask_second_admin(services: Services, caller: Principal, subject: str, change: Hashable) -> None:
    """Let *change* of *subject* pass when another administrator asked for the very same within 10 minutes.

    The word of the first counts once, and for nothing else of the subject any more once it was used. Raises
    ConflictError with SECOND_ADMIN_REQUIRED, and notes that *caller* asked.
    """
    if not services.config.security.two_admins:
        return
    now = services.clock.now()
    asked: dict[tuple[str, Hashable], tuple[UUID, datetime]] = services.extras.setdefault(_FIRST, {})
    first = asked.get((subject, change))
    if first is not None and first[0] != caller.user_id and now - first[1] <= _WITHIN:
        for key in [key for key in asked if key[0] == subject]:
            del asked[key]
        return
    asked[subject, change] = (caller.user_id, now)
    while len(asked) > _MOST:
        del asked[next(iter(asked))]
    raise ConflictError("a second administrator must ask for the same within 10 minutes", code="SECOND_ADMIN_REQUIRED")
