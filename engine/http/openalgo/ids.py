"""Which orders an ``orderid`` means: the broker's id, ours of an order, or ours of an intent with all its orders."""

import re
from datetime import timedelta
from uuid import UUID

from engine.clock import trading_day
from engine.domain.signal import Refusal
from engine.errors import NotFoundError
from engine.http.endpoint import ApiRequest
from engine.http.openalgo.door import Fields, refused
from engine.http.services import Services
from engine.signals.openalgo import word
from engine.store.queries.placed import Named, named

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_LOOK_BACK = timedelta(days=7)


async def orders_named(request: ApiRequest, fields: Fields) -> tuple[str, Named]:
    """Take ``orderid`` out of *fields*, and ``strategy``, which says nothing more; return what it names of the caller.

    Raises BadRequestError, NotFoundError: the same for what is not there and what is somebody else's.
    """
    services: Services = request.services
    text = word(fields, "orderid")
    fields.pop("orderid", None)
    fields.pop("strategy", None)
    if isinstance(text, Refusal):
        raise refused(text)
    return text, await find_named(request, services, text)


async def find_named(request: ApiRequest, services: Services, text: str) -> Named:
    """Return what *text* names among the caller's own. Raises NotFoundError."""
    user_id = request.user.user_id
    found = Named()
    if _ID.fullmatch(text):
        mine = [account.id for account in services.directory.accounts_of(user_id)]
        since = trading_day(services.clock.now()) - _LOOK_BACK
        await services.read_your_writes()
        found = await services.database.run(
            lambda connection: named(connection, user_id, text, _as_uuid(text), account_ids=mine, since=since)
        )
    if found.intent is None and not found.orders:
        raise NotFoundError(f"Order not found: you have no order {text[:64]!r}")
    return found


def _as_uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
