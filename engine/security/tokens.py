"""Access tokens (JWT, HS256) and refresh tokens (opaque).

The verifier decides everything itself (RFC 8725): one algorithm, one header, typed claims, a bounded
life. Nothing in a token chooses how it is checked. Times come from the caller.
"""

import base64
import hashlib
import hmac
import re
import secrets
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import jwt
import msgspec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from engine.domain.enums import Role
from engine.errors import EngineError
from engine.ids import uuid7

ALGORITHM = "HS256"
ACCESS_TYPE = "at+jwt"
MAX_TOKEN_CHARS = 4096
LEEWAY_S = 5
# the box's clock may be set back a little under people who are signed in (reliability.md F36)
SET_BACK_S = 30
MIN_KEY_BYTES = 32
_HEADER = {"alg": ALGORITHM, "typ": ACCESS_TYPE}
_COMPACT = re.compile(r"[A-Za-z0-9_-]{1,200}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{43}", re.ASCII)
_REFRESH = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


class TokenInvalid(EngineError):
    """The token is not one of ours, or not valid now; the message says no more than that."""


class AccessClaims(msgspec.Struct, frozen=True, kw_only=True):
    """The claims of an access token.

    ``sid`` is the session (the family of refresh tokens), ``tep`` the user's token epoch,
    ``auth_time`` when the user signed in; times are whole Unix seconds.
    """

    iss: str
    aud: str
    sub: UUID
    role: Role
    sid: UUID
    tep: int
    auth_time: int
    iat: int
    nbf: int
    exp: int
    jti: UUID

    @property
    def signed_in_at(self) -> datetime:
        """When the user gave its password."""
        return datetime.fromtimestamp(self.auth_time, UTC)


class TokenIssuer:
    """Issues and verifies access tokens under one key of at least 32 bytes."""

    def __init__(
        self,
        key: bytes,
        *,
        ttl_s: int = 900,
        issuer: str = "trading-engine",
        audience: str = "trading-engine-api",
    ) -> None:
        if len(key) < MIN_KEY_BYTES:
            raise EngineError(f"the token key has {len(key)} bytes; at least {MIN_KEY_BYTES} are needed")
        self._key = key
        self.ttl_s = ttl_s
        self._issuer = issuer
        self._audience = audience

    def issue(
        self, *, user_id: UUID, role: Role, session_id: UUID, epoch: int, signed_in_at: datetime, now: datetime
    ) -> str:
        """Return a signed access token that lives ``ttl_s`` seconds from *now*."""
        issued = int(now.timestamp())
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": str(user_id),
            "role": role.value,
            "sid": str(session_id),
            "tep": epoch,
            "auth_time": int(signed_in_at.timestamp()),
            "iat": issued,
            "nbf": issued,
            "exp": issued + self.ttl_s,
            "jti": str(uuid7()),
        }
        return jwt.encode(claims, self._key, algorithm=ALGORITHM, headers={"typ": ACCESS_TYPE})

    def verify(self, token: str, *, now: datetime) -> AccessClaims:
        """Return the claims of a token that is genuine and valid at *now*. Raises TokenInvalid."""
        if len(token) > MAX_TOKEN_CHARS or not _COMPACT.fullmatch(token):
            raise TokenInvalid("not an access token")
        header, _, rest = token.partition(".")
        if _decode_part(header) != _HEADER or not _is_canonical(rest.rpartition(".")[2]):
            raise TokenInvalid("not an access token")
        try:
            payload = jwt.decode(
                token,
                self._key,
                algorithms=[ALGORITHM],
                audience=self._audience,
                issuer=self._issuer,
                options={"verify_exp": False, "verify_nbf": False, "verify_iat": False, "strict_aud": True},
            )
            claims = msgspec.convert(payload, AccessClaims)
        except (jwt.PyJWTError, msgspec.ValidationError, ValueError, TypeError, RecursionError):
            raise TokenInvalid("the access token is not valid") from None
        self._check_times(claims, int(now.timestamp()))
        return claims

    def _check_times(self, claims: AccessClaims, now: int) -> None:
        if now >= claims.exp + LEEWAY_S:
            raise TokenInvalid("the access token has expired")
        if claims.nbf > now + SET_BACK_S or claims.iat > now + SET_BACK_S or claims.auth_time > claims.iat + LEEWAY_S:
            raise TokenInvalid("the access token is not valid yet")
        if not 0 < claims.exp - claims.iat <= self.ttl_s or claims.tep < 0 or claims.auth_time < 0:
            raise TokenInvalid("the access token is not valid")


class RefreshTokens:
    """Opaque refresh tokens of 256 bits, known to the store only by their SHA-256.

    The token that follows another is derived from it under a key, so that a repeated refresh within
    the grace can be answered with the very same child although no token is ever stored.
    """

    def __init__(self, key: bytes) -> None:
        self._key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"engine refresh child v1").derive(key)

    def new(self) -> str:
        """Return a fresh random token."""
        return secrets.token_urlsafe(32)

    def child_of(self, token: str) -> str:
        """Return the one token that may follow *token*."""
        digest = hmac.digest(self._key, self.hash(token), "sha256")
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    @staticmethod
    def hash(token: str) -> bytes:
        """Return what the store keeps of *token*."""
        return hashlib.sha256(token.encode()).digest()

    @staticmethod
    def is_wellformed(token: str) -> bool:
        """Tell whether *token* can be one of ours at all."""
        return _REFRESH.fullmatch(token) is not None


def _decode_part(part: str) -> Any:
    try:
        return msgspec.json.decode(base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True))
    except (ValueError, msgspec.DecodeError):
        return None


def _is_canonical(signature: str) -> bool:
    raw = base64.urlsafe_b64decode(signature + "=")
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode() == signature
