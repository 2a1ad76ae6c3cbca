"""API tokens: what a program signs in with. Opaque, named by their prefix, known to the store by their SHA-256 only.

Like users, they are all held in memory, so that a check never waits for a store; a revocation acts at once here and
within seconds on another engine of the same stores.
"""

import hashlib
import re
import secrets
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

PREFIX = "eng_"
"""With this every token begins, so that scanners for leaked secrets and people know one when they see it."""

_FORM = re.compile(r"eng_[A-Za-z0-9_-]{43}", re.ASCII)


class Scope(StrEnum):
    """What a token may be used for, at most; never more than its owner may."""

    READ = "READ"
    TRADE = "TRADE"
    ADMIN = "ADMIN"
    KILL = "KILL"
    """The kill switch and nothing else: stands alone."""


class ApiToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token as the store has it; ``token_hash`` is all that is left of the secret.

    ``ip_allowlist`` holds addresses and networks, empty for any. ``last_used_at`` is brought up to date
    every few seconds.
    """

    id: UUID
    user_id: UUID
    name: str
    token_hash: bytes
    scopes: frozenset[Scope]
    ip_allowlist: tuple[str, ...]
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None = None
    last_used_ip: str | None = None


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """When and from where a token was used last."""

    at: datetime
    ip: str


class ApiTokenDirectory:
    """Every token that was not revoked, by its hash; and what was used since the store was last told."""

    def __init__(self, tokens: Iterable[ApiToken] = ()) -> None:
        self._by_hash: dict[bytes, ApiToken] = {}
        self._used: dict[UUID, Use] = {}
        self._version = 0
        self.load(tokens)

    def __len__(self) -> int:
        return len(self._by_hash)

    @property
    def version(self) -> int:
        """A number that grows with every change made here."""
        return self._version

    def load(self, tokens: Iterable[ApiToken], *, read_after: int | None = None) -> None:
        """Take what the store says in place of what was known.

        *read_after* is the `version` from before the store was read: after a change since then *tokens* may be
        older than it, and are left alone; the next reading has it.
        """
        if read_after is None or read_after == self._version:
            self._by_hash = {token.token_hash: token for token in tokens}

    def put(self, token: ApiToken) -> None:
        """Take a new token."""
        self._version += 1
        self._by_hash[token.token_hash] = token

    def remove(self, token_id: UUID) -> None:
        """Forget a token: it is refused from now on."""
        self._version += 1
        self._by_hash = {key: token for key, token in self._by_hash.items() if token.id != token_id}

    def find(self, token: str) -> ApiToken | None:
        """Return the record of the secret *token*, or None."""
        return self._by_hash.get(digest(token)) if is_api_token(token) else None

    def all(self) -> Iterable[ApiToken]:
        """Return every token that was not revoked."""
        return self._by_hash.values()

    def used(self, token_id: UUID, use: Use) -> None:
        """Note a use; the store is told later."""
        self._used[token_id] = use

    def take_uses(self) -> dict[UUID, Use]:
        """Return, and forget, the uses that the store was not told of."""
        taken, self._used = self._used, {}
        return taken

    def give_back_uses(self, uses: dict[UUID, Use]) -> None:
        """Put back *uses* that could not be stored; newer ones stay."""
        self._used = uses | self._used


def new_token() -> str:
    """Return a fresh token with 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def is_api_token(text: str) -> bool:
    """Tell whether *text* can be a token of ours at all."""
    return _FORM.fullmatch(text) is not None


def digest(token: str) -> bytes:
    """Return what the store keeps of *token*."""
    return hashlib.sha256(token.encode()).digest()
