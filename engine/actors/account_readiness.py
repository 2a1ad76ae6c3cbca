"""Looking whether a kite account could trade now: its session, funds, instruments, clock and right to order.

Used by the morning's rounds and by whoever asks over HTTP. No task of its own. What it learns of a session on
the way (dead, somebody else's, whose) is acted on, for it may be the first to know.
"""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

import msgspec
import trio

from engine.actors.instrument_master import InstrumentMaster
from engine.actors.registrar import Registrar
from engine.actors.sessions import Sessions
from engine.broker.base import Broker, BrokerAuthError, BrokerMargins, BrokerProfile
from engine.broker.outcome import RefusalCode
from engine.broker.standing import login_reason
from engine.clock import Clock
from engine.domain.broker_session import lacking
from engine.domain.directory import Account, BrokerLogin, Directory
from engine.domain.enums import AccountStatus
from engine.domain.readiness import AccountReadiness, Finding, dump_day
from engine.errors import BrokerUnavailable
from engine.secret import Secret

_TIMEOUT_S = 10.0
_ADDRESS_UNKNOWN = "cannot be seen without an order: Kite checks the address on place, modify and cancel only"

SessionRefused = Callable[[UUID, Broker | None, BrokerAuthError], None]


class ReadinessCheck:
    """Examines accounts; *session_refused* is told of a session that turned out dead."""

    def __init__(
        self,
        *,
        directory: Directory,
        sessions: Sessions,
        registrar: Registrar,
        master: InstrumentMaster,
        clock: Clock,
        suspect: Callable[[], str | None],
        session_refused: SessionRefused,
    ) -> None:
        self._directory = directory
        self._sessions = sessions
        self._registrar = registrar
        self._master = master
        self._clock = clock
        self._suspect = suspect
        self._session_refused = session_refused

    async def examine(self, account: Account) -> AccountReadiness:
        """Look at everything; an account of the paper exchange is looked at in the same way."""
        now = self._clock.now()
        session, broker = await self._session(account)
        held = self._directory.accounts.get(account.id, account)
        findings = (
            session,
            await self._funds(account.id, broker),
            self._instruments(now),
            _clock_finding(self._suspect()),
            _orders(held),
            *self._address(held),
            *self._market_data(held),
            *self._permissions(held),
        )
        return AccountReadiness(account_id=account.id, label=account.label, checked_at=now, findings=findings)

    async def probe(self, account: Account) -> Finding:
        """Look at the session only: the cheapest read there is, a profile."""
        return (await self._session(account))[0]

    async def user_of(self, account: Account, token: Secret) -> str:
        """Return the broker's user whose session *token* is. Raises BrokerUnavailable, BrokerAuthError."""
        broker = self._sessions.with_token(account, token)
        try:
            return (await broker.profile()).user_id
        finally:
            with trio.move_on_after(1, shield=True):
                await broker.aclose()

    async def _session(self, account: Account) -> tuple[Finding, Broker | None]:
        broker: Broker | None = None
        try:
            with trio.fail_after(_TIMEOUT_S):
                broker = await self._sessions.open(account.id)
                profile = await broker.profile()
        except BrokerAuthError as error:
            self._session_refused(account.id, broker, error)
            return _session(False, login_reason(error.code, str(error))), None
        except (BrokerUnavailable, trio.TooSlowError) as error:
            return _session(False, f"the broker cannot be asked: {error or 'no answer'}"), None
        known = None if account.login is None else account.login.broker_user_id
        if known is not None and profile.user_id != known:
            reason = login_reason(RefusalCode.WRONG_USER, f"the session is {profile.user_id}'s, not {known}'s")
            if self._sessions.current(account.id) is broker:
                # at once in memory, so that nothing goes while the store is written
                self._session_refused(account.id, broker, BrokerAuthError(reason, RefusalCode.WRONG_USER))
                await self._drop(account, reason)
            return _session(False, reason), None
        if account.broker == "kite" and known is None and self._sessions.current(account.id) is broker:
            await self._learn(account, profile)
        return _session(True, f"Zerodha user {profile.user_id}"), broker

    async def _drop(self, account: Account, reason: str) -> None:
        """Let go of a session of somebody else, so that nothing of it is used again."""
        async with self._registrar.changing(account.user_id):
            held = self._directory.accounts.get(account.id)
            if held is None or held.access_token != account.access_token:
                return
            changed = msgspec.structs.replace(
                held, access_token=None, status=AccountStatus.LOGIN_REQUIRED, status_reason=reason
            )
            await self._registrar.put_account(changed, by="system", action="BROKER_SESSION_DROPPED")

    async def _learn(self, account: Account, profile: BrokerProfile) -> None:
        """Whose a token is that was pasted in: from now on another user's is refused."""
        made_at = None if account.login is None else account.login.logged_in_at
        login = BrokerLogin(
            broker_user_id=profile.user_id,
            logged_in_at=made_at,
            exchanges=profile.exchanges,
            products=profile.products,
        )
        await self._registrar.note_login(account.id, login, action="BROKER_USER_LEARNED")

    async def _funds(self, account_id: UUID, broker: Broker | None) -> Finding:
        if broker is None:
            return Finding(check="funds", ok=False, detail="cannot be read without a session")
        try:
            with trio.fail_after(_TIMEOUT_S):
                margins: BrokerMargins = await broker.margins()
        except BrokerAuthError as error:
            self._session_refused(account_id, broker, error)
            return Finding(check="funds", ok=False, detail=str(error))
        except (BrokerUnavailable, trio.TooSlowError) as error:
            return Finding(check="funds", ok=False, detail=f"cannot be read: {error or 'no answer'}")
        return Finding(check="funds", ok=True, detail=f"{margins.equity.net:.2f} rupees net in equity")

    def _instruments(self, now: datetime) -> Finding:
        loaded, wanted = self._master.loaded_for, dump_day(now)
        if loaded is None:
            text = "none have been read yet: that needs an account that is logged in"
            return Finding(check="instruments", ok=False, detail=text)
        if loaded < wanted:
            return Finding(check="instruments", ok=False, detail=f"those of {loaded} are loaded, not those of {wanted}")
        return Finding(check="instruments", ok=True, detail=f"{len(self._master.book)} of {loaded}")

    def _address(self, account: Account) -> tuple[Finding, ...]:
        if account.broker != "kite" or account.status is AccountStatus.ORDERS_BLOCKED:
            return ()
        return (Finding(check="staticIp", ok=None, detail=_ADDRESS_UNKNOWN),)

    def _market_data(self, account: Account) -> tuple[Finding, ...]:
        if not self._sessions.lacks_prices(account.id):
            return ()
        # no fault: orders are taken all the same
        text = "the app may not read quotes: prices come through other accounts, or are missing"
        return (Finding(check="marketData", ok=None, detail=text),)

    def _permissions(self, account: Account) -> tuple[Finding, ...]:
        strategies = [
            strategy
            for strategy in self._directory.strategies.values()
            if strategy.enabled and any(target.account_id == account.id for target in strategy.targets)
        ]
        missing = lacking(account.login, strategies)
        return (Finding(check="permissions", ok=False, detail="; ".join(missing)),) if missing else ()


def _session(ok: bool, detail: str) -> Finding:
    return Finding(check="session", ok=ok, detail=detail)


def _clock_finding(suspect: str | None) -> Finding:
    return Finding(check="clock", ok=suspect is None, detail=suspect or "steady")


def _orders(account: Account) -> Finding:
    if account.status is AccountStatus.ORDERS_BLOCKED:
        return Finding(check="orders", ok=False, detail=account.status_reason or "the broker takes no orders")
    return Finding(check="orders", ok=True, detail="nothing is known against them")
