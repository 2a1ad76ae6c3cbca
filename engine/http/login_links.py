"""Login links: the broker's login page of one account, with a one-time state that brings the answer back."""

from datetime import datetime
from uuid import UUID

import msgspec

from engine.broker.kite.session import login_url
from engine.domain.directory import Account
from engine.errors import ConflictError
from engine.http.endpoint import BASE_PATH
from engine.http.services import Services
from engine.security.login_states import LoginStates

CALLBACK_PATH = "/accounts/callback"
CONSOLE_PATH = "/console/login"


class LoginLink(msgspec.Struct, frozen=True, kw_only=True):
    """Where a person logs in, until when the link is good, and the address that the app must send back to."""

    url: str
    expires_at: datetime
    callback: str


def states_of(services: Services) -> LoginStates:
    """Return the states that are out."""
    states: LoginStates = services.extras["login_states"]
    return states


def make_link(services: Services, account: Account, *, user_id: UUID, via: str, base: str) -> LoginLink:
    """Make a link for *account* on behalf of *user_id*; *base* is where the engine is reached from a browser.

    Raises ConflictError for a paper account.
    """
    if account.broker != "kite" or account.api_secret is None:
        raise ConflictError("paper accounts log in by themselves", code="NOT_A_KITE_ACCOUNT")
    state, intent = states_of(services).issue(account_id=account.id, user_id=user_id, via=via, now=services.clock.now())
    url = login_url(account.api_key, base=services.config.broker.kite.login_url, redirect_params={"state": state})
    return LoginLink(url=url, expires_at=intent.expires_at, callback=f"{base}{BASE_PATH}{CALLBACK_PATH}")
