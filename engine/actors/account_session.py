"""The broker session of one account: opened once for all who wait, dropped when it is dead.

A login may end the session before it (kite.trade: one access token for each api_key and user), so two
tasks that both find none must not both log in.
"""

from uuid import UUID

import structlog
import trio

from engine.actors.executor_context import ExecutorContext
from engine.broker.base import Broker, BrokerAuthError, RefusalCode, Refused
from engine.broker.standing import blocked_reason, login_reason
from engine.domain.enums import AccountStatus
from engine.errors import BrokerUnavailable, EngineError

_log = structlog.get_logger(__name__)

_OPEN_TIMEOUT_S = 20.0
_CLOSE_TIMEOUT_S = 1.0


class AccountSession:
    """Holds the account's `Broker`; says LOGIN_REQUIRED when it dies and ACTIVE when it lives again."""

    def __init__(self, account_id: UUID, context: ExecutorContext) -> None:
        self._account_id = account_id
        self._context = context
        self._broker: Broker | None = None
        self._lock = trio.Lock()
        self._generation = 0
        self._dead = False
        self._gone: list[Broker] = []

    @property
    def is_dead(self) -> bool:
        """Whether somebody, or the next login, has to bring it back to life."""
        return self._dead

    def restore(self) -> None:
        """Take over from the directory whether a login is wanted: of an engine before this one."""
        self._dead = self._context.account_status_now(self._account_id) is AccountStatus.LOGIN_REQUIRED

    async def broker(self) -> Broker:
        """Return the broker, logging in first when there is none.

        Raises BrokerAuthError when somebody must log in, BrokerUnavailable when the broker does not answer.
        """
        if self._broker is not None:
            return self._broker
        try:
            with trio.fail_after(_OPEN_TIMEOUT_S):
                async with self._lock:
                    while self._gone:
                        await self.close(self._gone.pop())
                    while self._broker is None:
                        generation = self._generation
                        opened = await self._context.open_broker(self._account_id)
                        if generation == self._generation:
                            self._broker = opened
                        else:
                            # the credentials changed while it was opened with the old ones
                            await self.close(opened)
                    return self._broker
        except BrokerAuthError as error:
            self.died(None, str(error), error.code)
            raise
        except BrokerUnavailable:
            raise
        except EngineError as exc:
            raise BrokerUnavailable(f"no session: {exc}") from exc
        except trio.TooSlowError as exc:
            raise BrokerUnavailable(f"no session within {_OPEN_TIMEOUT_S:g} s") from exc

    def alive(self) -> None:
        """A read has just succeeded."""
        if self._dead:
            self._dead = False
            self._context.account_status(self._account_id, AccountStatus.ACTIVE, None)

    def died(self, broker: Broker | None, reason: str, code: RefusalCode = RefusalCode.TOKEN_DEAD) -> None:
        """*broker* said that its session is dead, or none could be opened: the next call logs in anew."""
        if broker is not None and broker is not self._broker:
            return  # an older session's last word
        if self._broker is not None:
            self._gone.append(self._broker)
        self._broker = None
        self._generation += 1
        self._context.forget_broker(self._account_id)
        if not self._dead:
            _log.warning("account.login_required", account=str(self._account_id), reason=reason)
        self._dead = True
        self._context.account_status(self._account_id, AccountStatus.LOGIN_REQUIRED, login_reason(code, reason))

    def refused(self, broker: Broker, outcome: Refused) -> None:
        """A write was refused: take over what that says of the session, or of the right to order."""
        if outcome.auth_blocked:
            self.died(broker, outcome.message, outcome.code)
        elif outcome.orders_blocked:
            self._context.account_status(self._account_id, AccountStatus.ORDERS_BLOCKED, blocked_reason(outcome))

    def take(self) -> Broker | None:
        """Give up the session, for new credentials: return it, to be closed."""
        self._generation += 1
        self._dead = False
        broker, self._broker = self._broker, None
        return broker

    async def aclose(self) -> None:
        """Close the session; a later call opens a new one."""
        broker = self.take()
        gone, self._gone = self._gone, []
        for each in gone if broker is None else [*gone, broker]:
            await self.close(each)

    @staticmethod
    async def close(broker: Broker) -> None:
        """Close a broker, within a second."""
        with trio.move_on_after(_CLOSE_TIMEOUT_S, shield=True):
            await broker.aclose()
