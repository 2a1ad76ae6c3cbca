"""The credentials' keeper: has ``state/creds.enc`` say what the directory says, within a second of every change.

Looks at the accounts once a second and writes the file anew when a session, a key or the set of accounts is another
than what it has; an account that was deleted is in it no more. A file that cannot be written is tried again, with one
alert. Nothing of it is ever logged. No mailbox. Restart: permanent.
"""

from collections.abc import Callable

import structlog
import trio

from engine.domain.directory import Account, Directory
from engine.errors import EngineError
from engine.runtime.beat import beat
from engine.security.creds_file import Credentials, CredsFile
from engine.security.envelope import KeyRing

_log = structlog.get_logger(__name__)

_LOOK_S = 1.0


class CredsKeeper:
    """Keeps one file; *root_of* returns where an account's broker is, "" while that is not known."""

    def __init__(
        self,
        file: CredsFile,
        *,
        directory: Directory,
        root_of: Callable[[Account], str],
        alert: Callable[[str, str], None],
    ) -> None:
        self._file = file
        self._directory = directory
        self._root_of = root_of
        self._alert = alert
        self._written: list[Credentials] | None = None
        self._failed = False
        self._writing = trio.Lock()
        self._looked_at: tuple[list[Account], list[str]] = ([], [])

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the file until cancelled."""
        task_status.started()
        while True:
            await self.look()
            await beat(_LOOK_S)

    async def change_keys(self, change: Callable[[KeyRing], None]) -> None:
        """Have *change* done to the keys of the file, and write it anew under them at once. Raises EngineError."""
        change(self._file.ring)
        self._written = None
        await self.look()
        if self._written is None:
            raise EngineError("state/creds.enc cannot be written under the new key; make room and try again")

    async def look(self) -> None:
        """Write the file if it says something else than the directory."""
        async with self._writing:
            await self._look()

    async def _look(self) -> None:
        accounts = list(self._directory.accounts.values())
        roots = [self._root_of(account) for account in {account.broker: account for account in accounts}.values()]
        if self._written is not None and (accounts, roots) == self._looked_at:
            return  # the same records, mostly the very same: of ten thousand nothing is worked out anew
        wanted = [self._of(account) for account in sorted(accounts, key=lambda a: str(a.id))]
        if wanted == self._written:
            self._looked_at = (accounts, roots)
            return
        try:
            await trio.to_thread.run_sync(self._file.write, wanted, abandon_on_cancel=False)
        except OSError as error:
            _log.error("creds.unwritable", error=str(error))
            if not self._failed:
                self._alert("creds", f"state/creds.enc cannot be written: {error}; engine flatten has old credentials")
            self._failed = True
            return
        self._failed = False
        self._written, self._looked_at = wanted, (accounts, roots)

    def _of(self, account: Account) -> Credentials:
        is_paper = account.broker == "paper"
        return Credentials(
            account_id=account.id,
            user_id=account.user_id,
            label=account.label,
            broker=account.broker,
            root_url=self._root_of(account),
            api_key=account.api_key,
            access_token="" if account.access_token is None else account.access_token.reveal(),
            # the engine's own exchange gives a session for it; of Zerodha's apps the secret stays in the vault
            api_secret=account.api_secret.reveal() if is_paper and account.api_secret is not None else "",
            broker_user_id=(account.login and account.login.broker_user_id) or "",
            market_protection=account.market_protection,
        )
