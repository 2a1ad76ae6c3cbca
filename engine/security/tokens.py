"""Access tokens (JWT, HS256) and refresh tokens (opaque).

The verifier decides everything itself (RFC 8725): one algorithm, one header, typed claims, a bounded
life. Nothing in a token chooses how it is checked. Times come from the caller.
"""

import base64
import hashlib
import hmac
import json
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
_HEADER_FIELDS = frozenset({"alg", "typ", "kid"})
_KEY_ID = re.compile(r"[0-9a-f]{16}", re.ASCII)
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
    """Issues and verifies access tokens under one key of at least 32 bytes, and verifies those of the key before it.

    The header names the key by its id, looked up among these two and nowhere else; a token without an id is held
    against the present key. *retires_at* is when the last token of *previous* has expired: from then on it opens
    nothing, whether it is still configured or not (SEC-022).
    """

    def __init__(
        self,
        key: bytes,
        *,
        ttl_s: int = 900,
        issuer: str = "trading-engine",
        audience: str = "trading-engine-api",
        previous: bytes | None = None,
        retires_at: datetime | None = None,
    ) -> None:
        for each in (key, *(() if previous is None else (previous,))):
            if len(each) < MIN_KEY_BYTES:
                raise EngineError(f"the token key has {len(each)} bytes; at least {MIN_KEY_BYTES} are needed")
        self._key = key
        self._kid = signing_key_id(key)
        self._keys = {self._kid: key}
        if previous is not None:
            self._keys.setdefault(signing_key_id(previous), previous)
        self._retires_at = retires_at
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
        return jwt.encode(claims, self._key, algorithm=ALGORITHM, headers={"typ": ACCESS_TYPE, "kid": self._kid})

    def verify(self, token: str, *, now: datetime) -> AccessClaims:
        """Return the claims of a token that is genuine and valid at *now*. Raises TokenInvalid."""
        if len(token) > MAX_TOKEN_CHARS or not _COMPACT.fullmatch(token):
            raise TokenInvalid("not an access token")
        header, _, rest = token.partition(".")
        payload, _, signature = rest.partition(".")
        if not all(_is_canonical(part) for part in (header, payload, signature)):
            raise TokenInvalid("not an access token")
        key = self._key_of(_decode_part(header), now)
        try:
            unchecked = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                audience=self._audience,
                issuer=self._issuer,
                options={"verify_exp": False, "verify_nbf": False, "verify_iat": False, "strict_aud": True},
            )
            # read once more, strictly: the library lets the last of two equal names win
            if _decode_part(payload) != unchecked:
                raise TokenInvalid("the access token is not valid")
            claims = msgspec.convert(unchecked, AccessClaims)
        except (jwt.PyJWTError, msgspec.ValidationError, ValueError, TypeError, RecursionError):
            raise TokenInvalid("the access token is not valid") from None
        self._check_times(claims, int(now.timestamp()))
        return claims

    def _key_of(self, header: Any, now: datetime) -> bytes:
        if not isinstance(header, dict) or header.keys() - _HEADER_FIELDS:
            raise TokenInvalid("not an access token")
        if {name: value for name, value in header.items() if name != "kid"} != _HEADER:
            raise TokenInvalid("not an access token")
        if "kid" not in header:
            return self._key
        kid = header["kid"]
        key = self._keys.get(kid) if isinstance(kid, str) and _KEY_ID.fullmatch(kid) else None
        if key is None or (key is not self._key and self._retires_at is not None and now >= self._retires_at):
            raise TokenInvalid("not an access token")
        return key

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

    def page_token(self, session_id: UUID) -> str:
        """Return what pages of a session show to prove that a request was made by one of them (against CSRF)."""
        digest = hmac.digest(self._key, b"page of " + session_id.bytes, "sha256")
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    @staticmethod
    def hash(token: str) -> bytes:
        """Return what the store keeps of *token*."""
        return hashlib.sha256(token.encode()).digest()

    @staticmethod
    def is_wellformed(token: str) -> bool:
        """Tell whether *token* can be one of ours at all."""
        return _REFRESH.fullmatch(token) is not None


def signing_key_id(key: bytes) -> str:
    """Return the public name of a signing key, as it stands in a token's ``kid``."""
    return hashlib.sha256(b"engine token key id\x00" + key).hexdigest()[:16]


def _decode_part(part: str) -> Any:
    try:
        return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)), object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands there twice")
    return found


def _is_canonical(part: str) -> bool:
    """Tell whether *part* is the one way to write its bytes, with no bits left over at its end (RFC 4648, 3.5)."""
    if len(part) % 4 == 1:
        return False
    raw = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode() == part
