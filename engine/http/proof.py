"""A signed-in person proves again to be who the session says: by the password, and a code where there is a factor."""

from typing import Any

from engine.errors import ForbiddenError, UnauthorizedError
from engine.http.endpoint import ApiRequest
from engine.http.ports import CoreServices
from engine.http.sign_in import WRITE_TIMEOUT_S, audit
from engine.security.sessions import UserRecord
from engine.store import factors
from engine.store import users as store


async def prove_password(request: ApiRequest, password: str, *, action: str) -> UserRecord:
    """Return the caller's record when *password* is the caller's; a wrong one is put on record as *action*.

    Tries are counted by session: what strangers try with the same e-mail address does not stand in the way. Call
    ``rate_limits.proof_succeeded`` once all that was to be proved is. Raises ForbiddenError, UnauthorizedError for
    a user that is no more, RateLimitError.
    """
    services: CoreServices = request.services
    user = request.user
    services.rate_limits.proof(user.session_id)

    async def find(connection: Any) -> UserRecord | None:
        return await store.user_by_id(connection, user.user_id)

    record: UserRecord | None = await services.database.run(find)
    if record is None or record.disabled:
        raise UnauthorizedError("the session has ended; sign in again")
    if not await services.passwords.verify(record.password_hash, password, is_known=True):
        audit(request, action, actor=f"user:{user.user_id}", subject=f"user:{user.user_id}")
        raise ForbiddenError("the present password is wrong", code="INVALID_CREDENTIALS")
    return record


async def prove(request: ApiRequest, password: str, otp: str | None, *, action: str) -> UserRecord:
    """Return the caller's record when *password*, and for a user with a second factor *otp*, are right.

    The code is used up by this. Raises as `prove_password`.
    """
    services: CoreServices = request.services
    record = await prove_password(request, password, action=action)
    if record.mfa:
        if not otp:
            raise ForbiddenError("send the one-time code of your app as otp, or a recovery code", code="OTP_REQUIRED")
        await _prove_code(request, record, otp, action=action)
    services.rate_limits.proof_succeeded(request.user.session_id)
    return record


async def _prove_code(request: ApiRequest, record: UserRecord, otp: str, *, action: str) -> None:
    services: CoreServices = request.services
    now = services.clock.now()

    async def spend(connection: Any) -> factors.Proof | None:
        # whoever holds a session is known here
        proof = await factors.spend(connection, record.id, otp, services.vault, now=now, is_known=True)
        if proof is None:
            await factors.count_failure(connection, record.id)
        return proof

    proof: factors.Proof | None = await services.database.run(spend, timeout_s=WRITE_TIMEOUT_S, shield=True)
    subject = f"user:{record.id}"
    if proof is None:
        audit(request, action, actor=subject, subject=subject, content={"why": "code"})
        raise ForbiddenError("the one-time code is wrong, or was used before", code="INVALID_OTP")
    if proof.left is not None:
        audit(request, "RECOVERY_CODE_USED", actor=subject, subject=subject, content={"left": proof.left})
