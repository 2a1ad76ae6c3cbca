"""/auth/mfa and /auth/step-up: a second factor of one's own, and proving again to be who one is."""

from typing import Annotated, Any

import msgspec

from engine.errors import ConflictError, ForbiddenError, RateLimitError, UnauthorizedError
from engine.http.endpoint import ApiBody, ApiRequest, ApiStruct, Once, endpoint
from engine.http.permissions import Permission, must_enrol
from engine.http.ports import CoreServices
from engine.http.proof import prove
from engine.http.sign_in import WRITE_TIMEOUT_S, audit
from engine.security import recovery_codes, totp
from engine.security.sessions import UserRecord
from engine.store import factors, user_sessions
from engine.store import users as store

_TAGS = ("auth",)

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
Code = Annotated[str, msgspec.Meta(min_length=6, max_length=40)]


class EnrolmentView(ApiStruct, frozen=True, kw_only=True):
    """For an authenticator app: ``secret`` in base 32, the same as an otpauth address, and that as an SVG QR code.

    ``qrCode`` is a ``data:`` address, to be the source of an image.
    """

    secret: str
    otpauth_uri: str
    qr_code: str


class ConfirmBody(ApiBody, frozen=True, kw_only=True):
    """``otp`` is the code that the app shows now."""

    otp: Code


class RecoveryCodesView(ApiStruct, frozen=True, kw_only=True):
    """Ten codes, shown only now; each signs in once in place of the app's."""

    recovery_codes: tuple[str, ...]


class ProofBody(ApiBody, frozen=True, kw_only=True):
    """The password, and for a user with a second factor a code of the app or of recovery."""

    password: Text
    otp: Code | None = None


class DisableBody(ApiBody, frozen=True, kw_only=True):
    """The password, and a code of the app or of recovery."""

    password: Text
    otp: Code


class StepUpView(ApiStruct, frozen=True, kw_only=True):
    """An access token of the same session that may make dangerous changes for five minutes."""

    access_token: str
    expires_in: int


class Done(ApiStruct, frozen=True, kw_only=True):
    """It is done."""

    disabled: bool = True


@endpoint(
    "POST",
    "/auth/mfa/enroll",
    permission=Permission.SELF,
    summary="Enrol a second factor",
    response=EnrolmentView,
    errors=(ConflictError,),
    fresh=True,
    once=Once.NO,
    tags=_TAGS,
)
async def enrol(request: ApiRequest) -> EnrolmentView:
    """Answers what an authenticator app needs; it counts once its first code came to /auth/mfa/confirm."""
    services: CoreServices = request.services
    user, seed, now = request.user, totp.new_seed(), services.clock.now()

    async def unit(connection: Any) -> bool:
        return await factors.enrol(connection, user.user_id, seed, services.vault, now=now)

    if not await services.database.run(unit, timeout_s=WRITE_TIMEOUT_S, shield=True):
        raise ConflictError("there is a second factor already: take it away with DELETE /auth/mfa", code="MFA_ENROLLED")
    _record(request, "MFA_ENROLMENT_BEGUN")
    made = totp.enrolment(seed, user.email)
    return EnrolmentView(secret=made.secret, otpauth_uri=made.uri, qr_code=made.qr_code)


@endpoint(
    "POST",
    "/auth/mfa/confirm",
    permission=Permission.SELF,
    summary="Confirm the second factor",
    body=ConfirmBody,
    response=RecoveryCodesView,
    errors=(ConflictError, RateLimitError),
    once=Once.NO,
    tags=_TAGS,
)
async def confirm(request: ApiRequest) -> RecoveryCodesView:
    """Takes the app's first code: from now on signing in needs one. Answers ten recovery codes, shown only now."""
    services: CoreServices = request.services
    body: ConfirmBody = request.body
    user, now = request.user, services.clock.now()
    services.rate_limits.proof(user.session_id)
    codes = recovery_codes.new_codes()
    hashes = [digest for code in codes if (digest := recovery_codes.digest(code, user.user_id)) is not None]

    async def unit(connection: Any) -> tuple[bool | None, UserRecord | None]:
        done = await factors.confirm(connection, user.user_id, body.otp, services.vault, hashes=hashes, now=now)
        return done, await store.user_by_id(connection, user.user_id)

    confirmed, record = await services.database.run(unit, timeout_s=WRITE_TIMEOUT_S, shield=True)
    if confirmed is None:
        raise ConflictError("there is nothing to confirm: begin with POST /auth/mfa/enroll", code="MFA_NOT_ENROLLED")
    if not confirmed:
        _record(request, "MFA_CONFIRM_FAILED")
        raise ForbiddenError("the one-time code is wrong: check the clock of the phone", code="INVALID_OTP")
    services.rate_limits.proof_succeeded(user.session_id)
    if record is not None:
        services.users.put(record)
    _record(request, "MFA_ENABLED")
    return RecoveryCodesView(recovery_codes=codes)


@endpoint(
    "DELETE",
    "/auth/mfa",
    permission=Permission.SELF,
    summary="Take the second factor away",
    body=DisableBody,
    response=Done,
    errors=(ConflictError, ForbiddenError, RateLimitError),
    tags=_TAGS,
)
async def disable(request: ApiRequest) -> Done:
    """Needs the password and a code; from then on the password is the only factor, and must be long enough for it."""
    services: CoreServices = request.services
    body: DisableBody = request.body
    user = request.user
    if must_enrol(user.role, services.config.security.require_mfa):
        raise ForbiddenError("[security] require_mfa asks for a second factor", code="MFA_REQUIRED")
    if not user.mfa:
        raise ConflictError("there is no second factor", code="MFA_NOT_ENROLLED")
    record = await prove(request, body.password, body.otp, action="MFA_DISABLE_FAILED")
    if record.short_password:
        raise ConflictError(
            "the password is too short to be the only factor: change it first", code="PASSWORD_TOO_SHORT"
        )

    async def unit(connection: Any) -> UserRecord | None:
        await factors.remove(connection, user.user_id)
        return await store.user_by_id(connection, user.user_id)

    left: UserRecord | None = await services.database.run(unit, timeout_s=WRITE_TIMEOUT_S, shield=True)
    if left is not None:
        services.users.put(left)
    _record(request, "MFA_DISABLED")
    return Done()


@endpoint(
    "POST",
    "/auth/step-up",
    permission=Permission.SELF,
    summary="Prove again who you are",
    body=ProofBody,
    response=StepUpView,
    errors=(ForbiddenError, UnauthorizedError, RateLimitError),
    once=Once.NO,
    tags=_TAGS,
)
async def step_up(request: ApiRequest) -> StepUpView:
    """Answers an access token with which dangerous changes can be made for five minutes; the session goes on."""
    services: CoreServices = request.services
    body: ProofBody = request.body
    session_id = request.user.session_id
    record = await prove(request, body.password, body.otp, action="STEP_UP_FAILED")
    now = services.clock.now()

    async def unit(connection: Any) -> bool:
        return await user_sessions.authenticated(connection, session_id, now=now)

    if not await services.database.run(unit, timeout_s=WRITE_TIMEOUT_S, shield=True):
        raise UnauthorizedError("the session has ended; sign in again")
    _record(request, "STEP_UP")
    access = services.tokens.issue(
        user_id=record.id,
        role=record.role,
        session_id=session_id,
        epoch=record.token_epoch,
        signed_in_at=now,
        now=now,
    )
    return StepUpView(access_token=access, expires_in=services.tokens.ttl_s)


def _record(request: ApiRequest, action: str) -> None:
    subject = f"user:{request.user.user_id}"
    audit(request, action, actor=subject, subject=subject)
