"""/broker/kite/postback: Kite tells that an order has changed. Believed is only that somebody should look."""

from collections.abc import Iterable
from uuid import UUID

from engine.actors.feeds import Feeds
from engine.broker.kite.postback import Postback, parse_postback
from engine.domain.directory import Account
from engine.errors import BadRequestError, BrokerUnavailable, RateLimitError, UnauthorizedError
from engine.http.client_ip import rate_key
from engine.http.doors import KITE
from engine.http.endpoint import ApiRequest, endpoint
from engine.http.permissions import Permission
from engine.http.services import Services
from engine.http.webhook_auth import record_refusal

_FEEDS = "feeds"
# With more accounts than this, only those that wait for an order's id are asked about an unknown one.
_FEW = 100


@endpoint(
    "POST",
    "/broker/kite/postback",
    permission=Permission.WEBHOOK,
    summary="Take a postback of Kite about an order",
    door=KITE,
    errors=(BadRequestError, UnauthorizedError, RateLimitError),
    raw_body=True,
    tags=("executions",),
)
async def kite_postback(request: ApiRequest) -> dict[str, str]:
    """Needs the checksum that Kite makes with the app's secret; an account without a secret has no door here.

    Nothing in the body is taken over: the order book is read soon, and that is believed. One of another Zerodha
    user than the account's is refused, as far as that one is known. A repeated postback is answered like the
    first and changes nothing. 401 says nothing of whether an order exists.
    """
    services: Services = request.services
    services.rate_limits.webhook(f"postback:{rate_key(request.client_ip)}")
    try:
        postback = parse_postback(request.raw)
    except BrokerUnavailable as error:
        raise BadRequestError(str(error), code="POSTBACK_UNREADABLE") from error
    signed = [account for account in _candidates(services, postback) if _is_signed(postback, account)]
    if not signed:
        record_refusal(request, "BAD_CHECKSUM", None)
        raise UnauthorizedError("the checksum is of no account of this engine", code="BAD_CHECKSUM")
    told = [account.id for account in signed if _is_of(postback, account)]
    if not told:
        record_refusal(request, "WRONG_BROKER_USER", None)
        raise UnauthorizedError("user_id is not the Zerodha user of the account", code="WRONG_BROKER_USER")
    feeds: Feeds = services.extras[_FEEDS]
    for account_id in told:
        feeds.order_update(account_id, postback.order_id)
    return {}


def _is_signed(postback: Postback, account: Account) -> bool:
    return account.api_secret is not None and postback.is_signed_with(account.api_secret.reveal())


def _is_of(postback: Postback, account: Account) -> bool:
    """Whether the order may be the account's: one app may have several users, and its secret signs for each."""
    known = None if account.login is None else account.login.broker_user_id
    return known is None or postback.user_id == known


def _candidates(services: Services, postback: Postback) -> Iterable[Account]:
    """Return the accounts that an order may be of: its own if it is known, else those that it may be new to."""
    executors = services.crew.executors
    owners: list[UUID] = [a for a, executor in executors.items() if executor.knows(postback.order_id)]
    accounts = services.directory.accounts
    if owners:
        return [accounts[account_id] for account_id in owners if account_id in accounts]
    if len(accounts) <= _FEW:
        return list(accounts.values())
    return [accounts[a] for a, executor in executors.items() if executor.in_flight and a in accounts]
