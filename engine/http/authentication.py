"""From an Authorization header to a principal; every answer it refuses looks alike."""

from datetime import datetime

from engine.errors import UnauthorizedError
from engine.http.permissions import Principal
from engine.http.ports import CoreServices
from engine.security.tokens import AccessClaims, TokenInvalid


def bearer_token(authorization: str | None) -> str:
    """Return the token of an Authorization header. Raises UnauthorizedError."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise UnauthorizedError("sign in first: send Authorization: Bearer <access token>")
    return token.strip()


def authenticate(services: CoreServices, authorization: str | None, now: datetime) -> Principal:
    """Return who sends *authorization*.

    Role, token epoch and whether the user is disabled are those of now, not those of the token's
    making. Raises UnauthorizedError.
    """
    try:
        claims = services.tokens.verify(bearer_token(authorization), now=now)
    except TokenInvalid as exc:
        raise UnauthorizedError(str(exc)) from None
    return _principal(services, claims)


def _principal(services: CoreServices, claims: AccessClaims) -> Principal:
    user = services.users.get(claims.sub)
    if user is None or user.disabled or user.token_epoch != claims.tep or services.sessions.is_revoked(claims.sid):
        raise UnauthorizedError("the session has ended; sign in again")
    return Principal(
        user_id=user.id,
        email=user.email,
        name=user.name,
        role=user.role,
        session_id=claims.sid,
        signed_in_at=claims.signed_in_at,
    )
