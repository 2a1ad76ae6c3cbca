"""/accounts/…: logging in to the broker, whether an account could trade, and letting it order again."""

from uuid import UUID

import msgspec
import trio

from engine.actors.account_readiness import ReadinessCheck
from engine.actors.broker_logins import BrokerLogins
from engine.domain.directory import Account
from engine.domain.enums import AccountStatus
from engine.errors import (
    ApiError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    RateLimitError,
    UnavailableError,
    ValidationError,
)
from engine.http.console_page import result_page
from engine.http.endpoint import ApiBody, ApiRequest, Raw, endpoint
from engine.http.errors import to_api_error
from engine.http.login_links import make_link, states_of
from engine.http.permissions import Permission
from engine.http.routes.sources import base_url
from engine.http.services import Services
from engine.http.sign_in import audit
from engine.http.views.ownership import reachable
from engine.http.views.readiness import (
    LoginLinkView,
    ReadinessView,
    login_link_view,
    readiness_view,
)
from engine.http.views.resources import AccountView, Text, account_view, credential
from engine.http.webhook_auth import record_paced
from engine.secret import Secret
from engine.security.login_states import LoginIntent

_TAGS = ("accounts",)
_EXAMINE_S = 25.0


class SessionBody(ApiBody, frozen=True, kw_only=True):
    """The one-time token that the broker's login page sent back."""

    request_token: Text


class CallbackQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What the broker's login page sends along; what else it may send is not read."""

    request_token: str = ""
    status: str = ""
    state: str = ""


@endpoint(
    "GET",
    "/accounts/{id}/login-url",
    permission=Permission.TRADE,
    summary="Where to log a kite account in",
    response=LoginLinkView,
    errors=(NotFoundError, ConflictError),
    tags=_TAGS,
)
async def login_link(request: ApiRequest) -> LoginLinkView:
    """A link to the broker's login page, good for one login within ten minutes."""
    services: Services = request.services
    account = _find(request)
    link = make_link(services, account, user_id=request.user.user_id, via="api", base=base_url(request))
    audit(request, "BROKER_LOGIN_STARTED", actor=_by(request), subject=f"account:{account.id}", content={"via": "api"})
    return login_link_view(link)


@endpoint(
    "GET",
    "/accounts/callback",
    permission=Permission.PUBLIC,
    summary="Where the broker's login page sends the browser back to",
    query=CallbackQuery,
    response=AccountView,
    errors=(ForbiddenError, ConflictError, NotFoundError, RateLimitError, ValidationError, UnavailableError),
    tags=_TAGS,
)
async def login_callback(request: ApiRequest) -> AccountView | Raw:
    """The state of the login link is the proof, and good once; a browser is shown a page, a program JSON."""
    try:
        account = await _finish(request)
    except Exception as error:
        if not _is_browser(request):
            raise
        refused = to_api_error(error, request_id=request.request_id)
        return result_page(title="Not logged in", text=refused.message, is_good=False, status=refused.status_code)
    if not _is_browser(request):
        return account_view(account)
    user = account.login.broker_user_id if account.login is not None else None
    text = f"Account {account.label} is logged in as Zerodha user {user or 'unknown'}. This page can be closed."
    return result_page(title="Logged in", text=text, is_good=True, status=200)


async def _finish(request: ApiRequest) -> Account:
    services: Services = request.services
    query: CallbackQuery = request.query
    intent = states_of(services).take(query.state, now=services.clock.now())
    if intent is None:
        # only guesses are counted: any page in a person's browser can make them, from that person's address
        services.rate_limits.login_state(request.client_ip)
        _note_refused(request, "LOGIN_STATE_INVALID", "account:unknown")
        text = "this login link was used already, is too old or is not this engine's; ask for a new one"
        raise ValidationError(text, code="LOGIN_STATE_INVALID", details={"fields": {"state": "is not good any more"}})
    subject = f"account:{intent.account_id}"
    account = _still_allowed(services, intent)
    if account is None:
        _note_refused(request, "LOGIN_NOT_ALLOWED", subject)
        raise ForbiddenError("who asked for this login may not log the account in any more", code="LOGIN_NOT_ALLOWED")
    if query.status != "success" or not query.request_token:
        _note_refused(request, "BROKER_LOGIN_NOT_DONE", subject)
        raise ConflictError("the login was not finished at the broker; begin again", code="BROKER_LOGIN_NOT_DONE")
    try:
        token = Secret(credential(query.request_token, "request_token"))
        by = f"user:{intent.user_id}"
        return await logins_of(services).complete(account.id, token, by=by, via=intent.via)
    except ApiError as error:
        _note_refused(request, error.code, subject)
        raise


def _still_allowed(services: Services, intent: LoginIntent) -> Account | None:
    """Return the account if who asked for the link may still trade it."""
    account = services.directory.accounts.get(intent.account_id)
    user = services.users.get(intent.user_id)
    if account is None or user is None or user.disabled:
        return None
    may = user.role == "ADMIN" or (user.role == "TRADER" and account.user_id == user.id)
    return account if may else None


def _note_refused(request: ApiRequest, code: str, subject: str) -> None:
    key = subject if subject != "account:unknown" else request.client_ip
    record_paced(request, f"login {key}", "BROKER_LOGIN_REFUSED", subject=subject, content={"code": code})


@endpoint(
    "POST",
    "/accounts/{id}/session",
    permission=Permission.TRADE,
    summary="Log a kite account in",
    body=SessionBody,
    response=AccountView,
    errors=(NotFoundError, ConflictError, ForbiddenError, UnavailableError),
    tags=_TAGS,
)
async def open_session(request: ApiRequest) -> AccountView:
    """Exchanges the request token of the broker's login page for the day's session."""
    services: Services = request.services
    body: SessionBody = request.body
    account = _find(request)
    token = Secret(credential(body.request_token, "requestToken"))
    return account_view(await logins_of(services).complete(account.id, token, by=_by(request), via="api"))


@endpoint(
    "GET",
    "/accounts/{id}/readiness",
    permission=Permission.READ,
    summary="Could the account trade now",
    response=ReadinessView,
    errors=(NotFoundError, UnavailableError),
    tags=_TAGS,
)
async def readiness(request: ApiRequest) -> ReadinessView:
    """Looks at session, funds, instruments, clock and right to order; the address cannot be seen without an order."""
    services: Services = request.services
    check: ReadinessCheck = services.extras["readiness"]
    account = _find(request)
    with trio.move_on_after(_EXAMINE_S):
        return readiness_view(await check.examine(account))
    raise UnavailableError("the broker does not answer; try again", retry_after_s=5)


@endpoint(
    "POST",
    "/accounts/{id}/unblock",
    permission=Permission.TRADE,
    summary="Let an account order again",
    response=AccountView,
    errors=(NotFoundError, ConflictError),
    tags=_TAGS,
)
async def unblock(request: ApiRequest) -> AccountView:
    """For an account in ORDERS_BLOCKED, once what the broker objected to is mended; the next order shows whether."""
    services: Services = request.services
    async with services.registrar.changing(_find(request).user_id):
        account = _find(request)
        if account.status is not AccountStatus.ORDERS_BLOCKED:
            text = f"the account is {account.status}; only ORDERS_BLOCKED is lifted in this way"
            raise ConflictError(text, code="ACCOUNT_NOT_BLOCKED")
        account = msgspec.structs.replace(account, status=AccountStatus.ACTIVE, status_reason=None)
        return account_view(await services.registrar.put_account(account, by=_by(request), action="ACCOUNT_UNBLOCKED"))


def logins_of(services: Services) -> BrokerLogins:
    """Return the actor that completes logins."""
    logins: BrokerLogins = services.extras["broker_logins"]
    return logins


def _is_browser(request: ApiRequest) -> bool:
    return "text/html" in (request.header("accept") or "").lower()


def _find(request: ApiRequest) -> Account:
    services: Services = request.services
    account_id: UUID = request.path["id"]
    return reachable(request.user, services.directory.accounts.get(account_id), "account", account_id=account_id)


def _by(request: ApiRequest) -> str:
    return f"user:{request.user.user_id}"
