"""``state/creds.enc``: what it takes to reach the broker for every account, sealed, for when no store is there.

A copy of the accounts' broker credentials under the vault's key, each bound to its deployment and account, so that
`engine flatten` can act when the engine and both stores are dead. The file is its owner's alone and is replaced
whole. Whoever has the file without the key has nothing.
"""

import base64
import os
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import msgspec

from engine.errors import EngineError
from engine.runtime.durable import sync_folder
from engine.security.envelope import KeyRing, Place, SecretUnreadable

_TABLE = "creds.enc"
_VERSION = 1


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


class CredsUnreadable(EngineError):
    """The file of credentials is missing, damaged, or of other keys."""


class CredsFile:
    """The file of one deployment; all calls block: use a thread."""

    def __init__(self, path: Path, ring: KeyRing, *, deployment: str) -> None:
        self._path = path
        self._ring = ring
        self._deployment = deployment

    def write(self, accounts: Iterable[Credentials]) -> None:
        """Put a file of just *accounts* in place of the one that is there. Raises OSError."""
        sealed = {
            str(account.account_id): base64.b64encode(
                self._ring.seal(msgspec.json.encode(account), self._place(account.account_id))
            ).decode()
            for account in accounts
        }
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self._path.with_suffix(".new")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(msgspec.json.encode(_Content(version=_VERSION, accounts=sealed)) + b"\n")
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
        found = []
        for number, sealed in content.accounts.items():
            try:
                account_id = UUID(number)
                opened = self._ring.open(base64.b64decode(sealed), self._place(account_id))
                found.append(msgspec.json.decode(opened, type=Credentials))
            except (ValueError, SecretUnreadable) as error:
                raise CredsUnreadable(
                    f"{self._path} does not open: it is of another engine or its keys are others ({error})"
                ) from None
        return found

    def _place(self, account_id: UUID) -> Place:
        return Place(table=_TABLE, column=self._deployment, row_id=account_id, version=_VERSION)
