"""From a bearer token, a person's or a program's, to a principal; every answer that refuses one looks alike."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache

from engine.domain.audit import AuditDraft
from engine.domain.enums import Role
from engine.domain.grants import NOTHING
from engine.errors import ForbiddenError, UnauthorizedError
from engine.http.client_ip import Network, is_in, parse_address, parse_networks
from engine.http.permissions import Principal, role_within
from engine.http.ports import CoreServices
from engine.security.api_tokens import PREFIX, ApiToken, Use
from engine.security.tokens import AccessClaims, TokenInvalid

STEP_UP_S = 300
"""How long after a password or a code was given dangerous changes may be made (contract section 6, SEC-012)."""

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


def bearer_token(authorization: str | None) -> str:
    """Return the token of an Authorization header. Raises UnauthorizedError."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise UnauthorizedError("sign in first: send Authorization: Bearer <access token>")
    return token.strip()


def authenticate(
    services: CoreServices, authorization: str | None, now: datetime, client_ip: str = "unknown"
) -> Principal:
    """Return who sends *authorization*: an access token of a person or an API token of a program.

    Role, token epoch and whether the user is disabled are those of now, not those of the token's
    making. Raises UnauthorizedError.
    """
    token = bearer_token(authorization)
    if token.startswith(PREFIX):
        return authenticate_api_token(services, token, now=now, client_ip=client_ip)
    try:
        claims = services.tokens.verify(token, now=now)
    except TokenInvalid as exc:
        raise UnauthorizedError(str(exc)) from None
    return _principal(services, claims)


def authenticate_api_token(services: CoreServices, token: str, *, now: datetime, client_ip: str) -> Principal:
    """Return the program that *token*, as it was handed out, stands for.

    What it may do is for `permissions.require` to say.

    One that is unknown, revoked, expired, of a disabled owner or not for this address gets the same answer. A
    refusal of a known one goes on record, at a bounded pace. Raises UnauthorizedError.
    """
    record = services.api_tokens.find(token)
    owner = None if record is None else services.users.get(record.user_id)
    why = "unknown" if record is None else fault_of_token(services, record, now, client_ip)
    if record is None or owner is None or why is not None:
        _put_refusal_on_record(services, record, why or "unknown", now, client_ip)
        raise UnauthorizedError("the API token is not valid here: make a new one with POST /auth/tokens")
    services.api_tokens.used(record.id, Use(at=now, ip=client_ip))
    granted = services.users.grants.of(owner.id) if owner.role is Role.VIEWER else NOTHING
    return Principal(
        user_id=owner.id,
        email=owner.email,
        name=owner.name,
        role=role_within(owner.role, record.scopes),
        session_id=record.id,
        signed_in_at=_NEVER,
        scopes=record.scopes,
        mfa=owner.mfa,
        granted_users=granted.users,
        granted_accounts=granted.accounts,
    )


def fault_of_token(services: CoreServices, token: ApiToken, now: datetime, client_ip: str) -> str | None:
    """Return why *token* is refused to a program at *client_ip*, in words for the record; None when it is good."""
    owner = services.users.get(token.user_id)
    if owner is None or owner.disabled:
        return "owner disabled"
    if token.expires_at <= now:
        return "expired"
    return None if is_listed(token, client_ip) else "address not allowed"


def is_listed(token: ApiToken, client_ip: str) -> bool:
    """Tell whether *token* may be used from *client_ip*; without a list from anywhere."""
    if not token.ip_allowlist:
        return True
    address = parse_address(client_ip)
    return address is not None and is_in(address, _networks(token.ip_allowlist))


def is_fresh(principal: Principal, now: datetime) -> bool:
    """Tell whether the caller is a person that gave its password or a code within the last five minutes."""
    return principal.scopes is None and now - principal.signed_in_at <= timedelta(seconds=STEP_UP_S)


def require_fresh(principal: Principal, now: datetime) -> None:
    """Raise ForbiddenError with STEP_UP_REQUIRED unless `is_fresh`: for what an old or stolen token must not do."""
    if is_fresh(principal, now):
        return
    if principal.scopes is not None:
        text = "a program's token is not enough for this: a person must sign in"
    else:
        text = "this needs a sign-in of the last 5 minutes: sign in again, or send the password to POST /auth/step-up"
    raise ForbiddenError(text, code="STEP_UP_REQUIRED")


def _principal(services: CoreServices, claims: AccessClaims) -> Principal:
    user = services.users.get(claims.sub)
    if user is None or user.disabled or user.token_epoch != claims.tep or services.sessions.is_revoked(claims.sid):
        raise UnauthorizedError("the session has ended; sign in again")
    granted = services.users.grants.of(user.id) if user.role is Role.VIEWER else NOTHING
    return Principal(
        user_id=user.id,
        email=user.email,
        name=user.name,
        role=user.role,
        session_id=claims.sid,
        signed_in_at=claims.signed_in_at,
        mfa=user.mfa,
        granted_users=granted.users,
        granted_accounts=granted.accounts,
    )


@lru_cache(maxsize=1024)
def _networks(entries: tuple[str, ...]) -> tuple[Network, ...]:
    return parse_networks(entries, key="ipAllowlist")


def _put_refusal_on_record(
    services: CoreServices, token: ApiToken | None, why: str, now: datetime, client_ip: str
) -> None:
    key = client_ip if token is None else str(token.id)
    kept_back = services.refusals.let(f"api token {key}", services.clock.boottime_ns() / 1e9)
    if kept_back is None:
        return
    subject = "api_token:unknown" if token is None else f"api_token:{token.id}"
    content = {"why": why, "ip": client_ip, **({"keptBackBefore": kept_back} if kept_back else {})}
    services.ledger.record(
        AuditDraft(at=now, actor="system", action="API_TOKEN_REFUSED", subject=subject, content=content)
    )
