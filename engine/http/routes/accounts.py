"""/accounts: broker accounts, and what the broker says of them."""

import secrets
from decimal import Decimal
from uuid import UUID

import msgspec
import trio
from msgspec import UNSET

from engine.broker.base import Broker, BrokerAuthError
from engine.broker.kite.origin import Origin
from engine.broker.kite.reads import KiteReads
from engine.broker.kite.session import exchange_token
from engine.domain.directory import Account
from engine.domain.enums import AccountStatus
from engine.errors import ConflictError, ForbiddenError, NotFoundError, UnavailableError
from engine.http.endpoint import ApiBody, ApiRequest, Page, endpoint
from engine.http.json_body import invalid
from engine.http.paging import MAX_LIMIT, PageQuery
from engine.http.permissions import Permission
from engine.http.services import Services
from engine.http.views.broker import (
    BrokerPositionView,
    HoldingView,
    MarginsView,
    broker_position_view,
    holding_view,
    margins_view,
)
from engine.http.views.listing import page_of
from engine.http.views.ownership import may_reach, reachable
from engine.http.views.refused import taken
from engine.http.views.resources import (
    AccountChange,
    AccountView,
    Deleted,
    NewAccount,
    Text,
    account_view,
    capital,
    credential,
    label,
    protection,
)
from engine.ids import uuid7
from engine.secret import Secret

_TAGS = ("accounts",)
_PAPER_CAPITAL = Decimal(1_000_000)
_BROKER_TIMEOUT_S = 10.0
_LOGIN_REQUIRED = "log in to the broker first"
_TAKEN = "this label or API key is in use already"


class SessionBody(ApiBody, frozen=True, kw_only=True):
    """The one-time token that the broker's login page sent back."""

    request_token: Text


@endpoint(
    "GET",
    "/accounts",
    permission=Permission.READ,
    summary="List broker accounts",
    query=PageQuery,
    list_of=AccountView,
    tags=_TAGS,
)
async def list_accounts(request: ApiRequest) -> Page[AccountView]:
    """Accounts of the caller, newest first; an ADMIN sees those of everybody."""
    services: Services = request.services
    found = [a for a in services.directory.accounts.values() if may_reach(request.user, a.user_id)]
    return page_of(found, request.query.window()).map(account_view)


@endpoint(
    "POST",
    "/accounts",
    permission=Permission.TRADE,
    summary="Add a broker account",
    body=NewAccount,
    response=AccountView,
    status=201,
    errors=(ConflictError,),
    tags=_TAGS,
)
async def add_account(request: ApiRequest) -> AccountView:
    """A paper account needs a label only; a kite account its API key and secret, and trades once logged in."""
    services: Services = request.services
    body: NewAccount = request.body
    broker = services.config.broker.mode if body.broker is UNSET else body.broker
    account = _paper(request, body) if broker == "paper" else _kite(request, body)
    with taken(_TAKEN):
        account = await services.registrar.put_account(account, by=_by(request), action="ACCOUNT_CREATED")
    return account_view(account)


@endpoint(
    "GET",
    "/accounts/{id}",
    permission=Permission.READ,
    summary="Show a broker account",
    response=AccountView,
    errors=(NotFoundError,),
    tags=_TAGS,
)
async def show_account(request: ApiRequest) -> AccountView:
    """One account, without its keys."""
    return account_view(_find(request))


@endpoint(
    "PATCH",
    "/accounts/{id}",
    permission=Permission.TRADE,
    summary="Change a broker account",
    body=AccountChange,
    response=AccountView,
    errors=(NotFoundError, ConflictError, ForbiddenError),
    tags=_TAGS,
)
async def change_account(request: ApiRequest) -> AccountView:
    """Changes what is sent and leaves the rest."""
    services: Services = request.services
    body: AccountChange = request.body
    before = _find(request)
    account = _changed(before, body)
    if account.capital > before.capital and not request.user.is_admin:
        raise ForbiddenError("only an ADMIN may raise the capital: it loosens every limit in percent")
    with taken(_TAKEN):
        account = await services.registrar.put_account(account, by=_by(request), action="ACCOUNT_CHANGED")
    return account_view(account)


@endpoint(
    "DELETE",
    "/accounts/{id}",
    permission=Permission.TRADE,
    summary="Delete a broker account",
    response=Deleted,
    errors=(NotFoundError, ConflictError),
    tags=_TAGS,
)
async def delete_account(request: ApiRequest) -> Deleted:
    """Refused while orders or positions of the account are open; its history stays."""
    services: Services = request.services
    account = _find(request)
    executor = services.crew.executors.get(account.id)
    if executor is not None and (
        executor.desk.holdings.has_open or any(not o.status.is_terminal for o in executor.desk.orders.values())
    ):
        raise ConflictError("orders or positions of the account are open; close them first", code="ACCOUNT_IN_USE")
    await services.registrar.remove("kite_accounts", account.id, by=_by(request))
    return Deleted()


@endpoint(
    "POST",
    "/accounts/{id}/session",
    permission=Permission.TRADE,
    summary="Log a kite account in",
    body=SessionBody,
    response=AccountView,
    errors=(NotFoundError, ConflictError, UnavailableError),
    tags=_TAGS,
)
async def open_session(request: ApiRequest) -> AccountView:
    """Exchanges the request token of the broker's login page for the day's session."""
    services: Services = request.services
    body: SessionBody = request.body
    account = _find(request)
    if account.broker != "kite" or account.api_secret is None:
        raise ConflictError("paper accounts log in by themselves", code="NOT_A_KITE_ACCOUNT")
    kite = services.config.broker.kite
    reads = KiteReads(Origin.parse(kite.root_url), timeout_s=kite.timeout_s, total_s=_BROKER_TIMEOUT_S)
    try:
        session = await exchange_token(
            reads,
            api_key=account.api_key,
            api_secret=account.api_secret.reveal(),
            request_token=credential(body.request_token, "requestToken"),
        )
    except BrokerAuthError:
        raise invalid({"requestToken": "is refused by the broker; log in there again"}) from None
    finally:
        with trio.move_on_after(1, shield=True):
            await reads.aclose()
    # as it stands now: the exchange took a while
    account = _logged_in(_find(request), Secret(session.access_token))
    account = await services.registrar.put_account(account, by=_by(request), action="ACCOUNT_LOGGED_IN")
    return account_view(account)


@endpoint(
    "GET",
    "/accounts/{id}/margins",
    permission=Permission.READ,
    summary="Show the funds of an account",
    response=MarginsView,
    errors=(NotFoundError, ConflictError, UnavailableError),
    tags=_TAGS,
)
async def margins(request: ApiRequest) -> MarginsView:
    """Funds as the broker states them now."""
    with trio.move_on_after(_BROKER_TIMEOUT_S):
        return margins_view(await (await _broker(request)).margins())
    raise _too_slow()


@endpoint(
    "GET",
    "/accounts/{id}/holdings",
    permission=Permission.READ,
    summary="List the holdings of an account",
    list_of=HoldingView,
    errors=(NotFoundError, ConflictError, UnavailableError),
    tags=_TAGS,
)
async def holdings(request: ApiRequest) -> Page[HoldingView]:
    """Shares in the demat account, as the broker states them now."""
    with trio.move_on_after(_BROKER_TIMEOUT_S):
        held = await (await _broker(request)).holdings()
        return Page([holding_view(row) for row in held], MAX_LIMIT)
    raise _too_slow()


@endpoint(
    "GET",
    "/accounts/{id}/positions",
    permission=Permission.READ,
    summary="List the positions of an account at the broker",
    list_of=BrokerPositionView,
    errors=(NotFoundError, ConflictError, UnavailableError),
    tags=_TAGS,
)
async def positions(request: ApiRequest) -> Page[BrokerPositionView]:
    """Net positions as the broker states them now, whoever made them; ours are under /executions/positions."""
    account = _find(request)
    with trio.move_on_after(_BROKER_TIMEOUT_S):
        net = (await (await _broker(request)).positions()).net
        return Page([broker_position_view(account.id, row) for row in net], MAX_LIMIT)
    raise _too_slow()


def _find(request: ApiRequest) -> Account:
    services: Services = request.services
    account_id: UUID = request.path["id"]
    return reachable(request.user, services.directory.accounts.get(account_id), "account")


def _by(request: ApiRequest) -> str:
    return f"user:{request.user.user_id}"


def _paper(request: ApiRequest, body: NewAccount) -> Account:
    return Account(
        id=uuid7(),
        user_id=request.user.user_id,
        label=label(body.label),
        broker="paper",
        capital=_PAPER_CAPITAL if body.capital is None else capital(body.capital),
        status=AccountStatus.ACTIVE,
        api_key="paper" + secrets.token_hex(6),
        api_secret=Secret(secrets.token_hex(16)),
        market_protection=protection(body.market_protection),
    )


def _kite(request: ApiRequest, body: NewAccount) -> Account:
    missing = {
        name: "is required for a kite account"
        for name, value in (("apiKey", body.api_key), ("apiSecret", body.api_secret))
        if not value
    }
    if missing:
        raise invalid(missing)
    token = None if body.access_token is None else Secret(credential(body.access_token, "accessToken"))
    return Account(
        id=uuid7(),
        user_id=request.user.user_id,
        label=label(body.label),
        broker="kite",
        capital=Decimal(0) if body.capital is None else capital(body.capital),
        status=AccountStatus.LOGIN_REQUIRED if token is None else AccountStatus.ACTIVE,
        status_reason=_LOGIN_REQUIRED if token is None else None,
        api_key=credential(body.api_key or "", "apiKey"),
        api_secret=Secret(credential(body.api_secret or "", "apiSecret")),
        access_token=token,
        market_protection=protection(body.market_protection),
    )


def _changed(account: Account, body: AccountChange) -> Account:
    credentials = {
        "apiKey": body.api_key,
        "apiSecret": body.api_secret,
        "accessToken": body.access_token,
    }
    given = [name for name, value in credentials.items() if value is not UNSET]
    if given and account.broker != "kite":
        raise invalid(dict.fromkeys(given, "is for kite accounts only"))
    if body.label is not UNSET:
        account = msgspec.structs.replace(account, label=label(body.label))
    if body.capital is not UNSET:
        account = msgspec.structs.replace(account, capital=capital(body.capital))
    if body.market_protection is not UNSET:
        account = msgspec.structs.replace(account, market_protection=protection(body.market_protection))
    if body.api_key is not UNSET:
        account = msgspec.structs.replace(account, api_key=credential(body.api_key, "apiKey"))
    if body.api_secret is not UNSET:
        account = msgspec.structs.replace(account, api_secret=Secret(credential(body.api_secret, "apiSecret")))
    if body.access_token is not UNSET:
        token = None if body.access_token is None else Secret(credential(body.access_token, "accessToken"))
        account = _logged_in(account, token)
    return account


def _logged_in(account: Account, token: Secret | None) -> Account:
    return msgspec.structs.replace(
        account,
        access_token=token,
        status=AccountStatus.LOGIN_REQUIRED if token is None else AccountStatus.ACTIVE,
        status_reason=_LOGIN_REQUIRED if token is None else None,
    )


async def _broker(request: ApiRequest) -> Broker:
    services: Services = request.services
    account = _find(request)
    try:
        broker: Broker = await services.extras["sessions"].open(account.id)
    except BrokerAuthError as error:
        raise ConflictError(str(error), code="LOGIN_REQUIRED") from None
    return broker


def _too_slow() -> UnavailableError:
    return UnavailableError("the broker does not answer; try again", retry_after_s=5)
