"""The capital keeper: reads the capital of accounts whose owners leave it to the broker.

Every few minutes, and as soon as an account is logged in or changed, the margins of each are read: what came into
the enabled segments (cash, collateral, pay-in), whatever of it is used, so that the capital does not shrink with
every order. What cannot be read, or reads as nothing, leaves the last value in place, with its age. No mailbox.
Restart: permanent.
"""

from collections.abc import Callable
from decimal import Decimal
from uuid import UUID

import structlog
import trio

from engine.actors.registrar import Registrar
from engine.actors.sessions import Sessions
from engine.broker.base import Broker, BrokerAuthError, BrokerMargins
from engine.domain.directory import Account, Directory
from engine.domain.enums import AccountStatus, CapitalFrom
from engine.errors import BrokerUnavailable, MailboxFull

_log = structlog.get_logger(__name__)

_EVERY_S = 180.0
_TIMEOUT_S = 10.0
_AT_ONCE = 8


def capital_of(margins: BrokerMargins) -> Decimal:
    """Return what an account trades with, rupees: what came into the segments that are enabled, used or not."""
    return sum((s.available for s in (margins.equity, margins.commodity) if s.enabled), Decimal(0))


class CapitalKeeper:
    """Keeps capitals; *session_refused* is told of a session that turned out dead."""

    def __init__(
        self,
        *,
        directory: Directory,
        sessions: Sessions,
        registrar: Registrar,
        session_refused: Callable[[UUID, Broker | None, BrokerAuthError], None],
    ) -> None:
        self._directory = directory
        self._sessions = sessions
        self._registrar = registrar
        self._session_refused = session_refused
        self._wanted = trio.Event()

    def look_soon(self) -> None:
        """Read in a moment: an account was logged in, or changed."""
        self._wanted.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Read every three minutes until cancelled."""
        task_status.started()
        while True:
            self._wanted = trio.Event()
            await self.look()
            with trio.move_on_after(_EVERY_S):
                await self._wanted.wait()

    async def look(self) -> None:
        """Read the capital of every account that leaves it to the broker, a few at a time."""
        limiter = trio.CapacityLimiter(_AT_ONCE)
        async with trio.open_nursery() as nursery:
            for account in list(self._directory.accounts.values()):
                if account.capital_from is CapitalFrom.BROKER and account.status is not AccountStatus.LOGIN_REQUIRED:
                    nursery.start_soon(self._read, account, limiter)

    async def _read(self, account: Account, limiter: trio.CapacityLimiter) -> None:
        async with limiter:
            broker: Broker | None = None
            try:
                with trio.fail_after(_TIMEOUT_S):
                    broker = await self._sessions.open(account.id)
                    capital = capital_of(await broker.margins())
            except BrokerAuthError as error:
                self._session_refused(account.id, broker, error)
                return
            except (BrokerUnavailable, trio.TooSlowError) as error:
                _log.warning("capital.not_read", account=str(account.id), error=str(error) or "too slow")
                return
            if capital <= 0:
                # an answer without its figures looks the same; limits must not be lifted or closed by it
                _log.warning("capital.read_as_nothing", account=str(account.id))
                return
            try:
                self._registrar.capital_nowait(account.id, capital)
            except MailboxFull as error:
                _log.warning("capital.not_kept", account=str(account.id), error=str(error))
