"""/accounts: broker accounts, and what the broker says of them."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import msgspec
import trio
from msgspec import UNSET

from engine.actors.account_readiness import ReadinessCheck
from engine.actors.broker_logins import logged_in
from engine.actors.capital_keeper import capital_of
from engine.broker.base import Broker, BrokerAuthError, RefusalCode
from engine.broker.standing import login_reason
from engine.domain.directory import Account, BrokerLogin
from engine.domain.enums import AccountStatus, CapitalFrom
from engine.errors import BrokerUnavailable, ConflictError, ForbiddenError, NotFoundError, UnavailableError
from engine.http.authentication import require_fresh
from engine.http.endpoint import ApiRequest, Page, endpoint
from engine.http.json_body import invalid
from engine.http.login_links import states_of
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
from engine.http.views.ownership import may_end_limits, may_reach, reachable
from engine.http.views.refused import taken
from engine.http.views.resources import (
    AccountChange,
    AccountView,
    Deleted,
    NewAccount,
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
_LOGIN_REQUIRED = login_reason(RefusalCode.NO_LOGIN, "")
_TAKEN = "this label or API key is in use already"


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
    found = [a for a in services.directory.accounts.values() if may_reach(request.user, a.user_id, a.id)]
    return page_of(found, request.query.window()).map(account_view)


@endpoint(
    "POST",
    "/accounts",
    permission=Permission.TRADE,
    summary="Add a broker account",
    body=NewAccount,
    response=AccountView,
    status=201,
    errors=(ConflictError, ForbiddenError),
    tags=_TAGS,
)
async def add_account(request: ApiRequest) -> AccountView:
    """A paper account needs a label only; a kite account its API key and secret, and trades once logged in.

    Limits in percent are of the capital. So, of a TRADER's real accounts, it counts at most as the broker shows it, and
    only an ADMIN may add play money beside them.
    """
    services: Services = request.services
    body: NewAccount = request.body
    broker = services.config.broker.mode if body.broker is UNSET else body.broker
    is_bound = services.config.broker.mode == "kite" and not request.user.is_admin
    if is_bound and broker == "paper":
        raise ForbiddenError("only an ADMIN may add a paper account to an engine that trades real ones")
    account = _paper(request, body) if broker == "paper" else _kite(request, body)
    stated = account.capital if is_bound and account.capital_from is CapitalFrom.STATED else None
    if stated is not None:
        account = msgspec.structs.replace(account, capital=Decimal(0), capital_from=CapitalFrom.BROKER)
    with taken(_TAKEN):
        account = await services.registrar.put_account(account, by=_by(request), action="ACCOUNT_CREATED")
    if stated is not None and account.status is AccountStatus.ACTIVE:
        account = await _as_far_as_shown(request, account, stated)
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
    async with services.registrar.changing(_find(request).user_id):
        return account_view(await _change(request, _find(request)))


async def _change(request: ApiRequest, before: Account) -> Account:
    services: Services = request.services
    body: AccountChange = request.body
    account = _changed(before, body, services.clock.now())
    was_stated = before.capital > 0 and before.capital_from is CapitalFrom.STATED
    may_rise = account.capital > before.capital or (was_stated and account.capital_from is CapitalFrom.BROKER)
    if may_rise and not request.user.is_admin:
        raise ForbiddenError("only an ADMIN may raise the capital: it loosens every limit in percent")
    # a token of the day is no such change: it is proved to be the same person's, and pasted every morning
    if may_rise or (account.api_key, account.api_secret) != (before.api_key, before.api_secret):
        require_fresh(request.user, services.clock.now())
    if account.access_token not in (None, before.access_token):
        await _refuse_anothers(services, account)
    if (account.api_key, account.api_secret) != (before.api_key, before.api_secret):
        states_of(services).forget(account.id)
    with taken(_TAKEN):
        return await services.registrar.put_account(account, by=_by(request), action="ACCOUNT_CHANGED")


@endpoint(
    "DELETE",
    "/accounts/{id}",
    permission=Permission.TRADE,
    summary="Delete a broker account",
    response=Deleted,
    errors=(NotFoundError, ConflictError, ForbiddenError),
    tags=_TAGS,
)
async def delete_account(request: ApiRequest) -> Deleted:
    """Refused while orders or positions of the account are open; its history stays.

    Strategies that traded it go on without it, and limits and grants that were for it end. For limits to end takes an
    ADMIN: the same account, added again, would be free of them.
    """
    services: Services = request.services
    account = _find(request)
    may_end_limits(request.user, services.directory, account_id=account.id)
    executor = services.crew.executors.get(account.id)
    if executor is not None and (
        executor.desk.holdings.has_open or any(not o.status.is_terminal for o in executor.desk.orders.values())
    ):
        raise ConflictError("orders or positions of the account are open; close them first", code="ACCOUNT_IN_USE")
    states_of(services).forget(account.id)
    async with services.registrar.changing(account.user_id):
        await _remove(request, account)
    return Deleted()


async def _remove(request: ApiRequest, account: Account) -> None:
    services: Services = request.services
    granted = [grant for grant in services.users.grants.all() if grant.account_id == account.id]
    if granted:
        await services.registrar.remove_grants(granted, services.users.grants, by=_by(request))
    await services.registrar.remove_account(account.id, by=_by(request))


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
    async with _reading(request) as broker:
        return margins_view(await broker.margins())
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
    async with _reading(request) as broker:
        held = await broker.holdings()
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
    async with _reading(request) as broker:
        net = (await broker.positions()).net
        return Page([broker_position_view(account.id, row) for row in net], MAX_LIMIT)
    raise _too_slow()


def _find(request: ApiRequest) -> Account:
    services: Services = request.services
    account_id: UUID = request.path["id"]
    return reachable(request.user, services.directory.accounts.get(account_id), "account", account_id=account_id)


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
        capital_from=CapitalFrom.BROKER if body.capital is None else CapitalFrom.STATED,
        status=AccountStatus.LOGIN_REQUIRED if token is None else AccountStatus.ACTIVE,
        status_reason=_LOGIN_REQUIRED if token is None else None,
        api_key=credential(body.api_key or "", "apiKey"),
        api_secret=Secret(credential(body.api_secret or "", "apiSecret")),
        access_token=token,
        market_protection=protection(body.market_protection),
        login=None if token is None else BrokerLogin(logged_in_at=request.services.clock.now()),
    )


async def _as_far_as_shown(request: ApiRequest, account: Account, stated: Decimal) -> Account:
    """Give an account the capital that its owner states, or what the broker shows where that is less.

    Where the broker cannot be asked now it stays the broker's to say.
    """
    services: Services = request.services
    broker: Broker | None = None
    with trio.move_on_after(_BROKER_TIMEOUT_S):
        try:
            broker = await services.extras["sessions"].open(account.id)
            shown = capital_of(await broker.margins())
        except BrokerAuthError as error:
            services.extras["session_refused"](account.id, broker, error)
            return account
        except BrokerUnavailable:
            return account
        source = CapitalFrom.STATED if stated <= shown else CapitalFrom.BROKER
        async with services.registrar.changing(account.user_id):
            # as it stands now: the broker took a while
            now_held = services.directory.accounts.get(account.id, account)
            changed = msgspec.structs.replace(now_held, capital=min(stated, shown), capital_from=source)
            return await services.registrar.put_account(changed, by=_by(request), action="ACCOUNT_CHANGED")
    return account


async def _refuse_anothers(services: Services, account: Account) -> None:
    """Refuse a pasted token that is not the account's Zerodha user's, as far as that one is known."""
    known = None if account.login is None else account.login.broker_user_id
    token = account.access_token
    if known is None or token is None:
        return
    check: ReadinessCheck = services.extras["readiness"]
    with trio.move_on_after(_BROKER_TIMEOUT_S):
        try:
            found = await check.user_of(account, token)
        except BrokerAuthError:
            raise invalid({"accessToken": "is refused by the broker; log in there again"}) from None
        if found != known:
            raise invalid({"accessToken": f"is of Zerodha user {found}; this account is {known}'s"})
        return
    raise _too_slow()


def _changed(account: Account, body: AccountChange, now: datetime) -> Account:
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
    if body.capital is None:
        if account.broker != "kite":
            raise invalid({"capital": "can be read from the broker for kite accounts only; give rupees"})
        # what is known holds until the broker has said something
        account = msgspec.structs.replace(account, capital_from=CapitalFrom.BROKER)
    elif body.capital is not UNSET:
        account = msgspec.structs.replace(
            account, capital=capital(body.capital), capital_from=CapitalFrom.STATED, capital_read_at=None
        )
    if body.market_protection is not UNSET:
        account = msgspec.structs.replace(account, market_protection=protection(body.market_protection))
    if body.api_key is not UNSET:
        api_key = credential(body.api_key, "apiKey")
        if api_key != account.api_key:
            # another app: whose it is, is not known, and what the old one was granted is worth nothing there
            account = logged_in(account, None, None)
        account = msgspec.structs.replace(account, api_key=api_key)
    if body.api_secret is not UNSET:
        account = msgspec.structs.replace(account, api_secret=Secret(credential(body.api_secret, "apiSecret")))
    if body.access_token is not UNSET:
        token = None if body.access_token is None else Secret(credential(body.access_token, "accessToken"))
        held = account.login or BrokerLogin()
        account = logged_in(account, token, msgspec.structs.replace(held, logged_in_at=now))
    return account


@asynccontextmanager
async def _reading(request: ApiRequest) -> AsyncIterator[Broker]:
    """Give the account's broker, for as long as a read may take; a session found dead is on record as that."""
    services: Services = request.services
    account = _find(request)
    broker: Broker | None = None
    with trio.move_on_after(_BROKER_TIMEOUT_S):
        try:
            broker = await services.extras["sessions"].open(account.id)
            yield broker
        except BrokerAuthError as error:
            services.extras["session_refused"](account.id, broker, error)
            raise ConflictError(str(error), code="LOGIN_REQUIRED") from None
    if broker is None:
        raise _too_slow()


def _too_slow() -> UnavailableError:
    return UnavailableError("the broker does not answer; try again", retry_after_s=5)
