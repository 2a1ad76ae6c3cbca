"""/auth: signing in, renewing, signing out, and one's own account."""

import re
from typing import Annotated, Any

import msgspec

from engine.domain.enums import Role
from engine.errors import ConflictError, ForbiddenError, RateLimitError, UnauthorizedError, UnavailableError
from engine.http.authentication import authenticate
from engine.http.endpoint import ApiBody, ApiRequest, Once, endpoint
from engine.http.json_body import invalid
from engine.http.password_login import Attempt, refuse_while_suspect, sign_in
from engine.http.permissions import Permission, Principal
from engine.http.ports import CoreServices
from engine.http.proof import prove_password
from engine.http.sign_in import WRITE_TIMEOUT_S, TokenView, UserView, audit, refresh, sign_out, view
from engine.ids import uuid7
from engine.security.password_rules import check, is_short
from engine.security.sessions import UserRecord, normalise_email
from engine.store import users as store

_EMAIL = re.compile(r"[^@\s\x00-\x1f\x7f]{1,64}@[^@\s\x00-\x1f\x7f]{1,190}")
_TAGS = ("auth",)

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
Name = Annotated[str, msgspec.Meta(max_length=100)]
Otp = Annotated[str, msgspec.Meta(max_length=40)]


class LoginBody(ApiBody, frozen=True, kw_only=True):
    """``otp`` is the one-time code of a user that enrolled one, or a recovery code.

    ``refreshToken`` may be the last one that this device had, dead or alive: it lets nobody in, but shows a device that
    its user signed in from before, which strangers' failures then do not hold up.
    """

    email: Text
    password: Text
    otp: Otp | None = None
    refresh_token: Text | None = None


class RefreshBody(ApiBody, frozen=True, kw_only=True):
    """The refresh token of the last sign-in or refresh; it is spent by this."""

    refresh_token: Text


class LogoutBody(ApiBody, frozen=True, kw_only=True):
    """The session to end; without it, that of the access token."""

    refresh_token: str | None = None


class PasswordBody(ApiBody, frozen=True, kw_only=True):
    """The present password and the one to take its place."""

    current_password: Text
    new_password: Text


class RegisterBody(ApiBody, frozen=True, kw_only=True):
    """A new user; its role is never taken from here."""

    email: Text
    password: Text
    name: Name = ""


@endpoint(
    "POST",
    "/auth/login",
    permission=Permission.PUBLIC,
    summary="Sign in",
    body=LoginBody,
    response=TokenView,
    errors=(UnauthorizedError, RateLimitError, UnavailableError),
    tags=_TAGS,
)
async def login(request: ApiRequest) -> TokenView:
    """Answers an access token of minutes and a refresh token of days.

    A user with a second factor that sends no ``otp`` gets 401 with code OTP_REQUIRED, after a right password only.
    """
    body: LoginBody = request.body
    attempt = Attempt(email=body.email, password=body.password, otp=body.otp, device_token=body.refresh_token)
    return await sign_in(request, attempt)


@endpoint(
    "POST",
    "/auth/refresh",
    permission=Permission.PUBLIC,
    summary="Renew a session",
    body=RefreshBody,
    response=TokenView,
    errors=(UnauthorizedError, RateLimitError),
    tags=_TAGS,
)
async def renew(request: ApiRequest) -> TokenView:
    """Spends the refresh token for its one successor; reuse of a spent one ends the session."""
    body: RefreshBody = request.body
    return await refresh(request, body.refresh_token)


@endpoint(
    "POST",
    "/auth/logout",
    permission=Permission.PUBLIC,
    summary="Sign out",
    body=LogoutBody,
    body_required=False,
    errors=(UnauthorizedError, RateLimitError),
    tags=_TAGS,
)
async def logout(request: ApiRequest) -> dict[str, bool]:
    """Ends the session of the refresh token, or of the access token; both stop working at once."""
    body: LogoutBody | None = request.body
    caller = _caller(request)
    token = None if body is None else body.refresh_token
    nothing = UnauthorizedError("no session to end: send refreshToken or a valid access token")
    if caller is None and token is None:
        raise nothing
    session = caller.session_id if caller is not None else None
    user_id = await sign_out(request, token=token, session_id=session)
    if caller is not None:
        user_id = user_id or caller.user_id
    if user_id is None:
        raise nothing
    audit(request, "LOGOUT", actor=f"user:{user_id}", subject=f"user:{user_id}")
    return {"loggedOut": True}


def _caller(request: ApiRequest) -> Principal | None:
    authorization = request.header("authorization")
    if authorization is None:
        return None
    services: CoreServices = request.services
    try:
        caller = authenticate(services, authorization, services.clock.now(), request.client_ip)
    except UnauthorizedError:
        return None
    return caller if caller.scopes is None else None  # a program has no session to end


@endpoint(
    "GET",
    "/auth/me",
    permission=Permission.AUTHENTICATED,
    summary="Who am I",
    response=UserView,
    tags=_TAGS,
)
async def me(request: ApiRequest) -> UserView:
    """The user of the access token."""
    user = request.user
    return UserView(id=user.user_id, email=user.email, name=user.name, role=user.role.value)


@endpoint(
    "POST",
    "/auth/password",
    permission=Permission.SELF,
    summary="Change the password",
    body=PasswordBody,
    errors=(ForbiddenError, ConflictError, RateLimitError, UnavailableError),
    once=Once.NO,
    tags=_TAGS,
)
async def change_password(request: ApiRequest) -> dict[str, bool]:
    """Needs the present password; ends every session of the user, this one included."""
    services: CoreServices = request.services
    body: PasswordBody = request.body
    user = request.user
    subject = f"user:{user.user_id}"
    record = await prove_password(request, body.current_password, action="PASSWORD_CHANGE_FAILED")
    services.rate_limits.proof_succeeded(user.session_id)
    _check_password(body.new_password, user.email, "newPassword", alone=not record.mfa)
    new_hash, now, old_hash = (
        await services.passwords.hash(body.new_password, is_known=True),
        services.clock.now(),
        record.password_hash,
    )

    async def change(connection: Any) -> UserRecord | None:
        return await store.set_password(
            connection,
            user.user_id,
            password_hash=new_hash,
            expected_hash=old_hash,
            is_short=is_short(body.new_password),
            now=now,
        )

    changed: UserRecord | None = await services.database.run(change, timeout_s=WRITE_TIMEOUT_S, shield=True)
    if changed is None:
        raise ConflictError("the password was changed meanwhile")
    services.users.put(changed)
    audit(request, "PASSWORD_CHANGED", actor=subject, subject=subject)
    return {"changed": True}


@endpoint(
    "POST",
    "/auth/register",
    permission=Permission.PUBLIC,
    summary="Register",
    body=RegisterBody,
    response=UserView,
    status=201,
    errors=(ForbiddenError, ConflictError, RateLimitError),
    tags=_TAGS,
)
async def register(request: ApiRequest) -> UserView:
    """Makes a TRADER of one's own, where the configuration opens registration."""
    services: CoreServices = request.services
    if services.config.security.registration != "open":
        raise ForbiddenError("registration is closed; ask an administrator", code="REGISTRATION_CLOSED")
    body: RegisterBody = request.body
    email = normalise_email(body.email)
    refuse_while_suspect(services)
    services.rate_limits.login(request.client_ip, email)
    if not _EMAIL.fullmatch(email):
        raise invalid({"email": "must be an e-mail address"})
    if not body.name.isprintable():
        raise invalid({"name": "must be printable characters"})
    _check_password(body.password, email, "password")
    password_hash, now = await services.passwords.hash(body.password), services.clock.now()

    async def insert(connection: Any) -> UserRecord | None:
        return await store.insert_user(
            connection,
            user_id=uuid7(),
            email=email,
            name=body.name,
            role=Role.TRADER,
            password_hash=password_hash,
            now=now,
        )

    user: UserRecord | None = await services.database.run(insert, timeout_s=WRITE_TIMEOUT_S, shield=True)
    if user is None:
        raise ConflictError("this e-mail address is registered already")
    services.users.put(user)
    audit(request, "USER_REGISTERED", actor=f"user:{user.id}", subject=f"user:{user.id}")
    return view(user)


def _check_password(password: str, email: str, field: str, *, alone: bool = True) -> None:
    faults = check(password, email, alone=alone)
    if faults:
        raise invalid({field: " and ".join(faults)})
