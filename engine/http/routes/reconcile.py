"""/accounts/{id}/reconcile: an account compared with its broker, now."""

from uuid import UUID

import trio

from engine.broker.base import BrokerAuthError
from engine.domain.directory import Account
from engine.errors import BrokerUnavailable, ConflictError, NotFoundError, UnavailableError
from engine.http.endpoint import ApiRequest, Once, endpoint
from engine.http.permissions import Permission
from engine.http.services import Services
from engine.http.views.ownership import reachable
from engine.http.views.reconcile import ReconciliationView, reconciliation_view

# Two passes of three reads, with the rests between them.
_TIMEOUT_S = 20.0


@endpoint(
    "POST",
    "/accounts/{id}/reconcile",
    permission=Permission.TRADE,
    summary="Compare an account with its broker",
    once=Once.REPEATABLE,
    response=ReconciliationView,
    errors=(NotFoundError, ConflictError, UnavailableError),
    tags=("accounts",),
)
async def reconcile(request: ApiRequest) -> ReconciliationView:
    """Reads orders, trades and positions at the broker and takes over what the account does not know yet.

    Orders of somebody else, and positions that differ, are taken over once two reads agree on them: then it reads
    twice, a few seconds apart.
    """
    services: Services = request.services
    account_id: UUID = request.path["id"]
    account: Account = reachable(request.user, services.directory.accounts.get(account_id), "account")
    try:
        with trio.fail_after(_TIMEOUT_S):
            report = await services.crew.executor(account.id).reconcile()
    except BrokerAuthError as error:
        raise ConflictError(str(error), code="LOGIN_REQUIRED") from None
    except (BrokerUnavailable, trio.TooSlowError):
        raise UnavailableError("the broker cannot be read now; try again", retry_after_s=5) from None
    await services.read_your_writes()
    return reconciliation_view(account.id, report)
