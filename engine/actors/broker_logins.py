"""Completing a login: the broker's one-time request token becomes the session of the day.

Asked by HTTP, the control socket and the console; a caller that goes away does not stop it, for the token is
spent once the broker has seen it. No mailbox: each login is a task of its own, one at a time for each account.
Restart: permanent; a login under way when it ends is told to its asker as not done.
"""

from collections import Counter
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
import structlog
import trio

from engine.actors.registrar import Registrar
from engine.broker.base import BrokerAuthError, BrokerLoginRefused
from engine.broker.kite.origin import Origin
from engine.broker.kite.reads import KiteReads
from engine.broker.kite.session import KiteSession, end_session, exchange_token
from engine.broker.outcome import RefusalCode
from engine.broker.standing import login_reason
from engine.clock import Clock
from engine.domain.directory import Account, BrokerLogin, Directory
from engine.domain.enums import AccountStatus
from engine.errors import (
    ConflictError,
    EngineError,
    ForbiddenError,
    NotFoundError,
    RateLimitError,
    UnavailableError,
    ValidationError,
)
from engine.runtime.mailbox import Reply
from engine.secret import Secret

_log = structlog.get_logger(__name__)

_TOTAL_S = 10.0
_ASK_S = 25.0
# Each of them is asked of the broker, whether its asker still waits or not.
_MOST_AT_ONCE = 4
# The broker dates tokens by its own clock, in whole seconds; one that is far off dates nothing.
_BELIEVED = timedelta(minutes=5)


class BrokerLogins:
    """Exchanges request tokens, keeps sessions, refuses those of somebody else."""

    def __init__(
        self, *, directory: Directory, registrar: Registrar, clock: Clock, root_url: str, timeout_s: float
    ) -> None:
        self._directory = directory
        self._registrar = registrar
        self._clock = clock
        self._root_url = root_url
        self._timeout_s = timeout_s
        self._nursery: trio.Nursery | None = None
        self._turns: dict[UUID, trio.Lock] = {}
        self._under_way: Counter[UUID] = Counter()
        self._askers: set[Reply[Account]] = set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None
            for reply in list(self._askers):
                reply.fail(UnavailableError("the login was cut short; log in again", retry_after_s=2))
            self._askers.clear()

    async def complete(self, account_id: UUID, request_token: Secret, *, by: str, via: str) -> Account:
        """Exchange *request_token* for the account's session and return the account, ACTIVE.

        Raises NotFoundError, ConflictError for a paper account, ValidationError when the broker refuses the
        token, ForbiddenError when the session is another Zerodha user's, RateLimitError while several logins of
        the account are under way, BrokerUnavailable, UnavailableError.
        """
        if self._nursery is None:
            raise UnavailableError("logins are not taken now; try again", retry_after_s=2)
        if self._under_way[account_id] >= _MOST_AT_ONCE:
            raise RateLimitError("logins of this account are under way; try again", retry_after_s=5)
        reply: Reply[Account] = Reply()
        self._askers.add(reply)
        try:
            self._nursery.start_soon(self._answer, reply, account_id, request_token, by, via)
            self._under_way[account_id] += 1
            with trio.fail_after(_ASK_S):
                return await reply.wait()
        except trio.TooSlowError:
            raise UnavailableError("the broker does not answer; log in again", retry_after_s=5) from None
        finally:
            self._askers.discard(reply)

    async def _answer(self, reply: Reply[Account], account_id: UUID, token: Secret, by: str, via: str) -> None:
        try:
            async with self._turns.setdefault(account_id, trio.Lock()):
                reply.answer(await self._log_in(account_id, token, by, via))
        except EngineError as error:
            _log.warning("account.login_failed", account=str(account_id), via=via, error=type(error).__name__)
            reply.fail(error)
        finally:
            self._under_way[account_id] -= 1

    async def _log_in(self, account_id: UUID, token: Secret, by: str, via: str) -> Account:
        account = self._find(account_id)
        if account.broker != "kite" or account.api_secret is None:
            raise ConflictError("paper accounts log in by themselves", code="NOT_A_KITE_ACCOUNT")
        reads = KiteReads(Origin.parse(self._root_url), timeout_s=self._timeout_s, total_s=_TOTAL_S)
        try:
            session = await exchange_token(
                reads, api_key=account.api_key, api_secret=account.api_secret.reveal(), request_token=token.reveal()
            )
            known = None if account.login is None else account.login.broker_user_id
            if known is not None and session.user_id != known:
                await end_session(reads, api_key=account.api_key, access_token=session.access_token)
                raise _wrong_user(session.user_id, known)
        except (BrokerAuthError, BrokerLoginRefused) as error:
            raise _refused(error) from None
        finally:
            with trio.move_on_after(1, shield=True):
                await reads.aclose()
        async with self._registrar.changing(account.user_id):
            # as it stands now: the exchange took a while
            now_held = self._find(account_id)
            if (now_held.api_key, now_held.api_secret) != (account.api_key, account.api_secret):
                raise ConflictError("the account's keys changed meanwhile; log in again", code="KEYS_CHANGED")
            changed = logged_in(now_held, Secret(session.access_token), self._login(session))
            return await self._registrar.put_account(changed, by=by, action="ACCOUNT_LOGGED_IN")

    def _find(self, account_id: UUID) -> Account:
        account = self._directory.accounts.get(account_id)
        if account is None:
            raise NotFoundError("there is no such account")
        return account

    def _login(self, session: KiteSession) -> BrokerLogin:
        return BrokerLogin(
            broker_user_id=session.user_id or None,
            logged_in_at=_made_at(session.login_time, self._clock.now()),
            exchanges=session.exchanges,
            products=session.products,
        )


def logged_in(account: Account, token: Secret | None, login: BrokerLogin | None) -> Account:
    """Return *account* with a new session, which lifts what stood against it; without a token it needs a login."""
    return msgspec.structs.replace(
        account,
        access_token=token,
        status=AccountStatus.LOGIN_REQUIRED if token is None else AccountStatus.ACTIVE,
        status_reason=login_reason(RefusalCode.NO_LOGIN, "") if token is None else None,
        login=login,
    )


def _made_at(stated: datetime | None, now: datetime) -> datetime:
    return stated if stated is not None and abs(stated - now) <= _BELIEVED else now


def _wrong_user(found: str, known: str) -> ForbiddenError:
    text = f"the login was of Zerodha user {found or 'without an id'}; this account is {known}'s: log in as {known}"
    return ForbiddenError(text, code="WRONG_BROKER_USER")


def _refused(error: BrokerAuthError | BrokerLoginRefused) -> EngineError:
    if isinstance(error, BrokerAuthError) and error.code is RefusalCode.NOT_ENABLED:
        text = "this Zerodha user is not enabled for the app: enable it on the Kite developer console, then log in"
        return ForbiddenError(text, code="USER_NOT_ENABLED")
    mend = (
        f"is refused by the broker ({error}); it is good once and for some minutes: log in there again, "
        "and see that the account's API key and secret are the app's"
    )
    return ValidationError(f"invalid: requestToken: {mend}", details={"fields": {"requestToken": mend}})
