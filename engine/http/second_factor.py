"""What a command in a chat asks of the one-time codes of users: whether somebody has them, and whether one is right."""

from typing import Any, Protocol
from uuid import UUID

from engine.clock import Clock
from engine.http.ports import UnitRunner
from engine.security.sessions import UserDirectory
from engine.store import factors
from engine.store.directory import Vault


class SecondFactor(Protocol):
    """One-time codes (TOTP), as the composition root hands them in."""

    def is_enrolled(self, user_id: UUID) -> bool:
        """Whether the user's codes are asked for."""

    async def verify_otp(self, user_id: UUID, code: str) -> bool:
        """Whether *code* is the user's now; a right one counts once."""


class NoSecondFactor:
    """Nobody has one-time codes."""

    def is_enrolled(self, user_id: UUID) -> bool:
        """False."""
        return False

    async def verify_otp(self, user_id: UUID, code: str) -> bool:
        """False."""
        return False


class UserFactors:
    """The one-time codes that users enrolled; a recovery code is as good as in a sign-in."""

    def __init__(self, users: UserDirectory, database: UnitRunner, vault: Vault, clock: Clock) -> None:
        self._users = users
        self._database = database
        self._vault = vault
        self._clock = clock

    def is_enrolled(self, user_id: UUID) -> bool:
        """Whether the user's codes are asked for."""
        user = self._users.get(user_id)
        return user is not None and user.mfa

    async def verify_otp(self, user_id: UUID, code: str) -> bool:
        """Whether *code* is the user's now; right ones count once, wrong ones are counted. Raises StoreUnavailable."""

        async def spend(connection: Any) -> bool:
            now = self._clock.now()
            proof = await factors.spend(connection, user_id, code, self._vault, now=now, is_known=True)
            if proof is None:
                await factors.count_failure(connection, user_id)
            return proof is not None

        return bool(await self._database.run(spend, timeout_s=5.0, shield=True))
