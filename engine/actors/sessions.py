"""Broker sessions: from an account to a `Broker` that can be called.

One wire and one pool of reads for each broker address, shared by all accounts on it. Paper accounts
log in by themselves; for kite accounts a person does, and the token stands in the directory.
"""

from collections.abc import Callable
from uuid import UUID

import trio

from engine.broker.base import Broker, BrokerAuthError
from engine.broker.kite.adapter import KiteBroker
from engine.broker.kite.origin import Origin
from engine.broker.kite.read_pacer import ReadPacer
from engine.broker.kite.reads import KiteReads
from engine.broker.kite.session import paper_login
from engine.broker.kite.ticker import Ticket
from engine.broker.kite.wire import OrderWire
from engine.broker.outcome import RefusalCode
from engine.clock import Clock
from engine.domain.broker_session import is_trusted
from engine.domain.directory import Account, Directory
from engine.domain.enums import AccountStatus
from engine.errors import BrokerUnavailable
from engine.secret import Secret

_CANDIDATES = 3


class Sessions:
    """Opens brokers for accounts.

    *ws_url* is where Kite's ticker is, *paper_url* says where the paper exchange listens, once it does. *heard*
    is told the date of every answer of the broker, and how many seconds it took; the paper exchange runs by
    this engine's own clock. *local_address* is the address by which order calls and reads leave for Kite, None
    for any.
    """

    def __init__(
        self,
        *,
        directory: Directory,
        clock: Clock,
        kite_url: str,
        timeout_s: float,
        paper_url: Callable[[], str | None],
        heard: Callable[[str | None, float], None] | None = None,
        local_address: str | None = None,
        ws_url: str = "",
    ) -> None:
        self._directory = directory
        self._clock = clock
        self._kite_url = kite_url
        self._timeout_s = timeout_s
        self._paper_url = paper_url
        self._ws_url = ws_url
        self._heard = heard
        self._local_address = local_address
        # by API key: a new session of it goes on with the same budget
        self._read_pacers: dict[tuple[str, str], ReadPacer] = {}
        self._pools: dict[str, tuple[OrderWire, KiteReads]] = {}
        self._brokers: dict[UUID, Broker] = {}
        self._opening: dict[UUID, trio.Lock] = {}
        # brokers whose app may not read prices, until they are opened anew
        self._without_prices: set[int] = set()

    async def open(self, account_id: UUID) -> Broker:
        """Return the account's broker, the same for all who ask: a second login would end the first's session.

        Raises BrokerAuthError when somebody must log in first, BrokerUnavailable when the broker does
        not answer.
        """
        self._refuse_expired(account_id)
        broker = self._brokers.get(account_id)
        if broker is not None:
            return broker
        async with self._opening.setdefault(account_id, trio.Lock()):
            if account_id not in self._brokers:
                self._brokers[account_id] = await self._log_in(account_id)
            return self._brokers[account_id]

    async def _log_in(self, account_id: UUID) -> Broker:
        account = self._directory.accounts.get(account_id)
        if account is None:
            raise BrokerUnavailable("the account was deleted")
        root = self._root(account)
        wire, reads = self._pool(root)
        token = None if account.access_token is None else account.access_token.reveal()
        if account.broker == "paper" and account.api_secret is not None:
            session = await paper_login(root, api_key=account.api_key, api_secret=account.api_secret.reveal())
            token = session.access_token
        if not token:
            raise BrokerAuthError(f"account {account.label}: nobody has logged in to the broker", RefusalCode.NO_LOGIN)
        return self._broker(root, account.api_key, token, wire, reads)

    def _broker(self, root: str, api_key: str, token: str, wire: OrderWire, reads: KiteReads) -> KiteBroker:
        return KiteBroker(
            root,
            api_key,
            token,
            self._clock,
            self._timeout_s,
            wire=wire,
            reads=reads,
            read_pacer=self._read_pacers.setdefault((root, api_key), ReadPacer()),
        )

    def with_token(self, account: Account, token: Secret) -> Broker:
        """Return a broker for *token*, apart from the account's own session. Raises BrokerUnavailable."""
        root = self._root(account)
        wire, reads = self._pool(root)
        return self._broker(root, account.api_key, token.reveal(), wire, reads)

    def _refuse_expired(self, account_id: UUID) -> None:
        """Raise BrokerAuthError for a login of an earlier morning, whether or not it still answers."""
        account = self._directory.accounts.get(account_id)
        if account is None or account.broker != "kite" or account.login is None:
            return
        made_at = account.login.logged_in_at
        if account.access_token is not None and not is_trusted(made_at, self._clock.now()):
            text = f"account {account.label}: the login of {made_at:%Y-%m-%d %H:%M} UTC ended this morning"
            raise BrokerAuthError(text, RefusalCode.LOGIN_EXPIRED)

    def current(self, account_id: UUID) -> Broker | None:
        """Return the account's broker if one is open now."""
        return self._brokers.get(account_id)

    @property
    def can_read(self) -> bool:
        """Whether some account should be able to read from its broker now."""
        return any(a.status is not AccountStatus.LOGIN_REQUIRED for a in self._directory.accounts.values())

    async def any(self) -> Broker | None:
        """Return a broker for reads that belong to no account: quotes and instruments.

        Prefers one that is logged in already; None when no account can read now.
        """
        for account in self._candidates():
            try:
                return await self.open(account.id)
            except BrokerUnavailable:
                continue
        return None

    def _candidates(self) -> list[Account]:
        """Return the three accounts to try: of thousands mostly the first that are logged in."""
        able = (a for a in self._directory.accounts.values() if a.status is not AccountStatus.LOGIN_REQUIRED)
        seen, best = [], []
        for account in able:
            seen.append(account)
            if not any(self._preference(account)):
                best.append(account)
                if len(best) == _CANDIDATES:
                    return best
        return sorted(seen, key=self._preference)[:_CANDIDATES]

    def _preference(self, account: Account) -> tuple[bool, bool]:
        broker = self._brokers.get(account.id)
        return (id(broker) in self._without_prices, broker is None)

    def no_prices(self, broker: Broker) -> None:
        """Prefer other accounts for reads that belong to none: the app of *broker* may not read prices."""
        if self.account_of(broker) is not None:
            self._without_prices.add(id(broker))

    def account_of(self, broker: Broker) -> UUID | None:
        """Return the account that *broker* is open for, None when it is not in use any more."""
        return next((account_id for account_id, held in self._brokers.items() if held is broker), None)

    def lacks_prices(self, account_id: UUID) -> bool:
        """Whether the broker has refused the account's app to read prices."""
        broker = self._brokers.get(account_id)
        return broker is not None and id(broker) in self._without_prices

    def forget(self, account_id: UUID) -> None:
        """Use new credentials of the account from the next `open` on."""
        self._without_prices.discard(id(self._brokers.pop(account_id, None)))

    def ticket(self, account_id: UUID) -> Ticket | None:
        """Return what opens the account's ticker with the session that is open now; None without one."""
        account, broker = self._directory.accounts.get(account_id), self._brokers.get(account_id)
        if account is None or not isinstance(broker, KiteBroker):
            return None
        paper = account.broker == "paper"
        # the paper exchange has its ticker at its own address
        url = (self._paper_url() or "").replace("http", "ws", 1) if paper else self._ws_url
        return broker.ticket(url) if url else None

    def _root(self, account: Account) -> str:
        if account.broker != "paper":
            return self._kite_url
        url = self._paper_url()
        if url is None:
            raise BrokerUnavailable("the paper exchange is not up")
        return url

    def _pool(self, root: str) -> tuple[OrderWire, KiteReads]:
        pool = self._pools.get(root)
        if pool is None:
            origin = Origin.parse(root)
            is_kite = root == self._kite_url
            heard, local = (self._heard, self._local_address) if is_kite else (None, None)
            wire = OrderWire(origin, timeout_s=self._timeout_s, local_address=local)
            reads = KiteReads(origin, timeout_s=self._timeout_s, heard=heard, local_address=local)
            pool = self._pools[root] = (wire, reads)
        return pool

    async def aclose(self) -> None:
        """Close every connection."""
        self._brokers.clear()
        pools, self._pools = self._pools, {}
        for wire, reads in pools.values():
            with trio.move_on_after(1, shield=True):
                await wire.aclose()
                await reads.aclose()
