"""Signing in with a password, and with a code where the user has a second factor."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec

from engine.errors import UnauthorizedError, UnavailableError
from engine.http.client_ip import rate_key
from engine.http.endpoint import ApiRequest
from engine.http.ports import CoreServices
from engine.http.sign_in import WRITE_TIMEOUT_S, TokenView, audit, token_view
from engine.ids import uuid7
from engine.security import passwords
from engine.security.sessions import UserRecord, normalise_email
from engine.store import factors, user_sessions
from engine.store import users as store

MAX_FAILURES = 100
"""Failed sign-ins in a row, from everywhere, after which a password alone is not enough (SP 800-63B-4, 3.2.2)."""
_DEVICE_CHARS = 200
_NOBODY = UUID(int=0)


def refuse_while_suspect(services: CoreServices) -> None:
    """Raise UnavailableError while the wall clock cannot be trusted: a session begun now has no times (SEC-109)."""
    reason = services.clock_suspect()
    if reason is not None:
        raise UnavailableError(f"no new sessions now: {reason}", code="CLOCK_SUSPECT", retry_after_s=30)


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One try to sign in; ``device_token`` is a refresh token that the device has from before, dead or alive."""

    email: str
    password: str
    otp: str | None = None
    device_token: str | None = None


class _Found(msgspec.Struct, frozen=True, kw_only=True):
    """Who an attempt is about, and whether it comes from where that person signed in before."""

    user: UserRecord | None
    failures: int
    is_known: bool

    @property
    def is_guarded(self) -> bool:
        """Whether a password alone is not enough from here: it may be the last of a hundred guesses (SEC-006)."""
        return self.failures >= MAX_FAILURES and not self.is_known


async def sign_in(request: ApiRequest, attempt: Attempt) -> TokenView:
    """Check the password, and the code of a user that enrolled one, and begin a session.

    An unknown user, a disabled one and a wrong password get the same answer after the same work; so does a right
    password after `MAX_FAILURES` failures in a row, unless it comes with a code, from an address its user signed in
    from before, or from a device that did. Raises UnauthorizedError, RateLimitError, UnavailableError,
    StoreUnavailable.
    """
    services: CoreServices = request.services
    refuse_while_suspect(services)
    key, limits = normalise_email(attempt.email), services.rate_limits
    device = await _device(request, attempt.device_token, key)
    limits.login(request.client_ip, key, device=device)
    known_before = services.users.version
    found = await _find(services, key, client_ip=request.client_ip, is_known=device is not None)
    usable = None if found.user is None or found.user.disabled else found.user
    stored = None if usable is None else usable.password_hash
    matches = await services.passwords.verify(stored, attempt.password, is_known=found.is_known)
    if usable is None or not matches or (found.is_guarded and not (usable.mfa and attempt.otp)):
        raise await _failed(request, found)
    if usable.mfa and not attempt.otp:
        limits.login_undecided(request.client_ip, key, device=device)
        raise UnauthorizedError("send the one-time code of your app as otp, or a recovery code", code="OTP_REQUIRED")
    user = await _with_current_hash(services, usable, attempt.password)
    tokens, proof = await _begin_session(request, user, attempt.otp, is_known=found.is_known)
    if tokens is None:
        raise await _failed(request, found, code_is_wrong=True)
    limits.login_succeeded(request.client_ip, key, device=device)
    services.users.put(user, read_after=known_before)
    subject = f"user:{user.id}"
    audit(request, "LOGIN", actor=subject, subject=subject, content={"factor": proof.factor} if proof else None)
    if proof is not None and proof.left is not None:
        audit(request, "RECOVERY_CODE_USED", actor=subject, subject=subject, content={"left": proof.left})
    return tokens


async def _device(request: ApiRequest, token: str | None, email: str) -> UUID | None:
    """Return the session that the device of *token* once had as *email*, None when that is not so."""
    services: CoreServices = request.services
    if token is None or not services.refresh_tokens.is_wellformed(token):
        return None
    services.rate_limits.session(request.client_ip)
    digest, now = services.refresh_tokens.hash(token), services.clock.now()

    async def unit(connection: Any) -> tuple[UUID, str] | None:
        return await user_sessions.device_of(connection, token_hash=digest, now=now)

    known: tuple[UUID, str] | None = await services.database.run(unit)
    if known is None or normalise_email(known[1]) != email:
        return None
    services.rate_limits.session_known(request.client_ip)
    return known[0]


async def _find(services: CoreServices, email: str, *, client_ip: str, is_known: bool) -> _Found:
    now = services.clock.now()

    async def unit(connection: Any) -> tuple[UserRecord | None, int, list[str]]:
        user = await store.user_by_email(connection, email)
        if user is None:
            # the same round trips, so that an answer about nobody takes no less
            await store.failures_of(connection, _NOBODY)
            await user_sessions.known_addresses(connection, _NOBODY, now=now)
            return None, 0, []
        failures = await store.failures_of(connection, user.id)
        return user, failures, await user_sessions.known_addresses(connection, user.id, now=now)

    user, failures, addresses = await services.database.run(unit)
    here = rate_key(client_ip)
    return _Found(user=user, failures=failures, is_known=is_known or here in {rate_key(each) for each in addresses})


async def _failed(request: ApiRequest, found: _Found, *, code_is_wrong: bool = False) -> UnauthorizedError:
    """Count a failed try and put it on record; return what the caller is told."""
    services: CoreServices = request.services
    user_id = None if found.user is None else found.user.id

    async def unit(connection: Any) -> int:
        count = await store.count_failure(connection, user_id)
        if code_is_wrong and user_id is not None:
            await factors.count_failure(connection, user_id)
        return count

    count: int = await services.database.run(unit, timeout_s=WRITE_TIMEOUT_S)
    subject = "user:unknown" if user_id is None else f"user:{user_id}"
    audit(request, "LOGIN_FAILED", subject=subject, content={"why": "code"} if code_is_wrong else None)
    if count == MAX_FAILURES:
        text = "signing in needs a code, a known address or `engine user unlock` until somebody has succeeded"
        audit(request, "LOGIN_GUARDED", subject=subject, content={"failures": count, "text": text})
    if code_is_wrong and not found.is_guarded:
        return UnauthorizedError("the one-time code is wrong, or was used before", code="INVALID_OTP")
    return UnauthorizedError("wrong e-mail or password", code="INVALID_CREDENTIALS")


async def _with_current_hash(services: CoreServices, user: UserRecord, password: str) -> UserRecord:
    if not passwords.needs_rehash(user.password_hash):
        return user
    new_hash, now = await services.passwords.hash(password), services.clock.now()

    async def unit(connection: Any) -> None:
        await store.rehash_password(connection, user.id, old_hash=user.password_hash, new_hash=new_hash, now=now)

    await services.database.run(unit, shield=True)
    return msgspec.structs.replace(user, password_hash=new_hash)


async def _begin_session(
    request: ApiRequest, user: UserRecord, otp: str | None, *, is_known: bool
) -> tuple[TokenView | None, factors.Proof | None]:
    """Begin a session with its first tokens; None when the code that the user's factor asks for is wrong."""
    services: CoreServices = request.services
    now, family, token = services.clock.now(), uuid7(), services.refresh_tokens.new()

    async def unit(connection: Any) -> tuple[bool | None, factors.Proof | None]:
        proof = None
        if user.mfa:
            proof = await factors.spend(connection, user.id, otp or "", services.vault, now=now, is_known=is_known)
            if proof is None:
                return None, None
        begun = await store.insert_refresh(
            connection,
            user_id=user.id,
            expected_epoch=user.token_epoch,
            expects_mfa=user.mfa,
            family_id=family,
            token_hash=services.refresh_tokens.hash(token),
            now=now,
            expires_at=now + timedelta(seconds=services.config.security.refresh_ttl_s),
        )
        if begun:
            await store.forgive_failures(connection, user.id)
            await user_sessions.begin(
                connection,
                session_id=family,
                user_id=user.id,
                now=now,
                device=_device_name(request),
                client_ip=request.client_ip,
            )
        return begun, proof

    begun, proof = await services.database.run(unit, timeout_s=WRITE_TIMEOUT_S, shield=True)
    if begun is None:
        return None, None
    if not begun:
        raise UnauthorizedError("wrong e-mail or password", code="INVALID_CREDENTIALS")
    return token_view(services, user, family, signed_in_at=now, refresh_token=token), proof


def _device_name(request: ApiRequest) -> str:
    text = request.header("user-agent") or ""
    return "".join(char for char in text if char.isprintable())[:_DEVICE_CHARS]
