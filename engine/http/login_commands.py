"""What ``engine login`` asks of the running engine over the control socket."""

from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

from engine.actors.broker_logins import BrokerLogins
from engine.domain.audit import AuditDraft
from engine.domain.directory import Account
from engine.errors import EngineError
from engine.http.login_links import make_link
from engine.http.services import Services
from engine.secret import Secret


def link(services: Services, request: dict[str, Any], *, base: str) -> dict[str, Any]:
    """Return the login URL of the account that *request* names. Raises EngineError that names the mend."""
    account = find_account(services, str(request.get("account") or ""))
    made = make_link(services, account, user_id=account.user_id, via="cli", base=base)
    services.ledger.record(
        AuditDraft(
            at=services.clock.now(),
            actor="cli",
            action="BROKER_LOGIN_STARTED",
            subject=f"account:{account.id}",
            content={"via": "cli"},
        )
    )
    return {
        "account": account.label,
        "url": made.url,
        "expiresAt": made.expires_at.isoformat().replace("+00:00", "Z"),
        "callbackUrl": made.callback,
    }


async def complete(services: Services, request: dict[str, Any]) -> dict[str, Any]:
    """Exchange the request token that *request* brings. Raises EngineError."""
    account = find_account(services, str(request.get("account") or ""))
    token = token_of(str(request.get("requestToken") or ""))
    logins: BrokerLogins = services.extras["broker_logins"]
    account = await logins.complete(account.id, Secret(token), by="cli", via="cli")
    login = account.login
    return {
        "account": account.label,
        "status": account.status.value,
        "brokerUserId": None if login is None else login.broker_user_id,
    }


def find_account(services: Services, wanted: str) -> Account:
    """Return the kite account of that id or label, or the only one. Raises EngineError that lists those there are."""
    kite = [account for account in services.directory.accounts.values() if account.broker == "kite"]
    if not kite:
        raise EngineError("there is no kite account; add one with POST /api/v1/accounts")
    found = [a for a in kite if a.label == wanted or str(a.id) == _id(wanted)] if wanted else kite
    if len(found) == 1:
        return found[0]
    names = ", ".join(sorted(f"{account.label} ({account.id})" for account in kite))
    why = "name the account" if not wanted else "no account, or more than one, is called that"
    raise EngineError(f"{why}; kite accounts: {names}")


def token_of(given: str) -> str:
    """Return the request token in *given*: the token itself, or the address that the browser was sent to."""
    text = given.strip()
    if "request_token=" in text:
        text = parse_qs(urlsplit(text).query).get("request_token", [""])[0]
    elif "://" in text:
        raise EngineError("--request-token: that address holds none: the login was not finished, begin again")
    if not text or len(text) > 200 or not text.isascii() or not text.isprintable() or " " in text:
        raise EngineError("--request-token: give the request_token, or the whole address that the browser was sent to")
    return text


def _id(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        return ""
