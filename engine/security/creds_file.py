"""``state/creds.enc``: what it takes to reach the broker for every account, sealed, for when no store is there.

A copy of the accounts' broker credentials, each bound to its deployment and account, so that `engine flatten` can act
when the engine and both stores are dead. Sealed under a key that is made for each writing and is in the file, wrapped
under every key-encryption key that the writer has: while the master key changes, both open it. The file is its
owner's alone and is replaced whole. Whoever has the file without a master key has nothing.
"""

import base64
import os
import secrets
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import msgspec

from engine.errors import EngineError
from engine.runtime.durable import sync_folder
from engine.security.envelope import KeyRing, Place, SecretUnreadable
from engine.security.wrapping import KEY_BYTES, KEY_ID_BYTES, KeyName

_TABLE = "creds.enc"
_VERSION = 1
_WRAPPED = 2


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """How one account reaches its broker; ``market_protection`` is percent or -1, ``api_secret`` for paper only."""

    account_id: UUID
    user_id: UUID
    label: str
    broker: str
    root_url: str
    api_key: str
    access_token: str = ""
    api_secret: str = ""
    broker_user_id: str = ""
    market_protection: Decimal = Decimal(-1)

    def __repr__(self) -> str:
        return f"Credentials({self.account_id}, ***)"


class _Content(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    accounts: dict[str, str]
    key: str = ""
    wraps: dict[str, str] = {}


class CredsUnreadable(EngineError):
    """The file of credentials is missing, damaged, or of other keys."""


class CredsFile:
    """The file of one deployment; all calls block: use a thread."""

    def __init__(self, path: Path, ring: KeyRing, *, deployment: str) -> None:
        self._path = path
        self.ring = ring
        """The keys that open the file; the newest seals it."""
        self._deployment = deployment

    def write(self, accounts: Iterable[Credentials]) -> None:
        """Put a file of just *accounts* in place of the one that is there. Raises OSError."""
        key, name = secrets.token_bytes(KEY_BYTES), KeyName(key_id=secrets.token_bytes(KEY_ID_BYTES), purpose=_TABLE)
        wraps = self.ring.wrap(key, name)
        ring = KeyRing([key]) if wraps else self.ring
        sealed = {
            str(account.account_id): _text(ring.seal(msgspec.json.encode(account), self._place(account.account_id)))
            for account in accounts
        }
        content = _Content(
            version=_WRAPPED if wraps else _VERSION,
            accounts=sealed,
            key=name.key_id.hex(),
            wraps={kek_id.hex(): _text(wrapped) for kek_id, wrapped in wraps.items()},
        )
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self._path.with_suffix(".new")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(msgspec.json.encode(content) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path)
        sync_folder(self._path.parent)

    def read(self) -> list[Credentials]:
        """Return every account's. Raises CredsUnreadable that names the mend."""
        try:
            content = msgspec.json.decode(self._path.read_bytes(), type=_Content)
        except FileNotFoundError:
            raise CredsUnreadable(f"there is no {self._path}: an engine writes it as it runs") from None
        except (OSError, msgspec.MsgspecError) as error:
            raise CredsUnreadable(f"{self._path} cannot be read: {error}") from None
        ring, found = self._ring_of(content), []
        for number, sealed in content.accounts.items():
            try:
                account_id = UUID(number)
                opened = ring.open(base64.b64decode(sealed), self._place(account_id))
                found.append(msgspec.json.decode(opened, type=Credentials))
            except (ValueError, SecretUnreadable) as error:
                raise CredsUnreadable(
                    f"{self._path} does not open: it is of another engine or its keys are others ({error})"
                ) from None
        return found

    def _ring_of(self, content: _Content) -> KeyRing:
        if content.version == _VERSION:
            return self.ring
        try:
            name = KeyName(key_id=bytes.fromhex(content.key), purpose=_TABLE)
            wraps = {bytes.fromhex(kek_id): base64.b64decode(wrapped) for kek_id, wrapped in content.wraps.items()}
        except ValueError as error:
            raise CredsUnreadable(f"{self._path} cannot be read: {error}") from None
        key = self.ring.unwrap(name, wraps)
        if key is None:
            raise CredsUnreadable(f"{self._path} does not open: it is of another engine or its keys are others")
        return KeyRing([key])

    def _place(self, account_id: UUID) -> Place:
        return Place(table=_TABLE, column=self._deployment, row_id=account_id, version=_VERSION)


def _text(octets: bytes) -> str:
    return base64.b64encode(octets).decode()
