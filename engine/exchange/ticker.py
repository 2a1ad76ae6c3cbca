"""The ticker's connections and what is due on each: prices that moved, order updates, heartbeats (kite.md 15).

`engine.exchange.ticker_socket` speaks the WebSocket; here is who is connected, in which mode each subscribes to
what, and what to send. What waits for a client is bounded: of prices only the names of those that moved, of
order updates MOST_TEXTS, and a client that falls behind those is closed.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from decimal import Decimal

import msgspec
import trio

from engine.clock import Clock
from engine.domain.instruments import Instrument
from engine.exchange import errors, rows
from engine.exchange.config import ExchangeConfig
from engine.exchange.core import Exchange
from engine.exchange.errors import KiteRefusal
from engine.exchange.instruments import Master
from engine.exchange.push_faults import DEFAULT_HOLD_S, PushFaults, PushRule
from engine.exchange.quotes import book_of
from engine.exchange.state import Account
from engine.exchange.ticker_frames import Mode, full_packet, ltp_packet, quote_packet
from engine.exchange.updates import Update

MOST_CONNECTIONS = 3
MOST_TOKENS = 3000
MOST_TEXTS = 1000
_MODES: dict[str, Mode] = {"ltp": "ltp", "quote": "quote", "full": "full"}
# prices looked at between two chances for other work
_AT_A_TIME = 100


class Connection:
    """One client: its subscriptions and what is due to it. ``wake`` is set when something is."""

    def __init__(self, account: Account, access_token: str) -> None:
        self.account = account
        self.access_token = access_token
        self.modes: dict[int, Mode] = {}
        # tokens whose price is to be sent; a dict for its order
        self.due: dict[int, None] = {}
        self.texts: deque[str] = deque()
        self.wake = trio.Event()
        self.closing: tuple[int, str] | None = None
        self.sending_since: float | None = None
        self.is_silent = False
        self.has_heartbeat = True
        # what faults have in store for it: when, on the clock of trio, and which
        self.plans: list[tuple[float, str]] = []
        self.cut: Callable[[], None] = lambda: None

    def tell(self, text: str) -> None:
        """Queue a text message; a client that lets MOST_TEXTS wait is closed with 1013."""
        if len(self.texts) >= MOST_TEXTS:
            self.close(1013, "the client does not keep up")
        else:
            self.texts.append(text)
            self.wake.set()

    def close(self, code: int, reason: str) -> None:
        """Have the connection closed."""
        self.closing = self.closing or (code, reason)
        self.wake.set()

    def take(self, text: str | bytes | None, master: Master) -> None:
        """Carry out a command of the client: subscribe, unsubscribe or mode. Tokens that are not listed are ignored."""
        try:
            command = msgspec.json.decode(text or b"")
            action, value = command["a"], command["v"]
            mode = _MODES[value[0]] if action == "mode" else None
            asked = value[1] if action == "mode" else value
            tokens = [token for token in asked if type(token) is int and token in master.by_token]
        except (msgspec.DecodeError, RecursionError, KeyError, IndexError, TypeError):
            self.tell(_message("error", "Invalid message."))
            return
        match action:
            case "subscribe":
                self._subscribe(dict.fromkeys(tokens, _MODES["quote"]))
            case "mode" if mode is not None:
                self._subscribe(dict.fromkeys(tokens, mode))
            case "unsubscribe":
                for token in tokens:
                    self.modes.pop(token, None)
                    self.due.pop(token, None)
            case _:
                self.tell(_message("error", "Invalid message."))

    def _subscribe(self, modes: dict[int, Mode]) -> None:
        if len(self.modes.keys() | modes.keys()) > MOST_TOKENS:
            self.tell(_message("error", f"At most {MOST_TOKENS} instruments can be subscribed on a connection."))
            return
        self.modes |= modes
        # whoever subscribes gets a snapshot, moved or not
        self.due |= dict.fromkeys(modes)
        self.wake.set()


class Ticker:
    """All connections of one exchange. Use: `admit`, `begin`, `leave`, `push` for each update, `run` as a task."""

    def __init__(self, exchange: Exchange, clock: Clock, config: ExchangeConfig, faults: PushFaults) -> None:
        self._exchange = exchange
        self._clock = clock
        self._config = config
        self.faults = faults
        self._connections: dict[str, list[Connection]] = {}
        self._last: dict[int, Decimal] = {}
        # an update held back by a fault, by account: until when, and its text
        self._held: dict[str, tuple[float, str]] = {}

    @property
    def connections(self) -> list[Connection]:
        """Every open connection."""
        return [connection for of_app in self._connections.values() for connection in of_app]

    def admit(self, api_key: str, access_token: str) -> Connection:
        """Return a connection of the app. Raises KiteRefusal 403 for a dead session, 429 when it has three already."""
        rule = self.faults.handshake()
        if rule is not None:
            raise errors.wrong_token() if rule.fault == "refuse_403" else errors.too_many()
        account = self._exchange.authenticate(f"token {api_key}:{access_token}", self._clock.now())
        of_app = self._connections.setdefault(api_key, [])
        if len(of_app) >= MOST_CONNECTIONS:
            raise errors.too_many()
        connection = Connection(account, access_token)
        of_app.append(connection)
        _plan(connection, self.faults.connection())
        return connection

    def begin(self, connection: Connection, cut: Callable[[], None]) -> None:
        """Take up an accepted connection; *cut* ends it at once, without a word."""
        connection.cut = cut
        self._carry_out(connection, trio.current_time())

    def leave(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        of_app = self._connections[connection.account.api_key]
        of_app.remove(connection)
        if not of_app:
            del self._connections[connection.account.api_key]

    def put_faults(self, rules: list[PushRule]) -> None:
        """Replace the rules; those about connections take hold of the open ones too, and let go of the others."""
        self.faults.put(rules)
        for connection in self.connections:
            connection.is_silent, connection.has_heartbeat = False, True
            _plan(connection, self.faults.connection())
        self._misbehave()

    def push(self, update: Update) -> None:
        """Tell an order update to every connection of its account's app."""
        if update.account.api_key not in self._connections:
            return
        row = rows.push_row(update.order, update.status)
        text = rows.encode({"type": "order", "id": "", "data": row}).decode()
        user_id = update.account.user_id
        rule = self.faults.update()
        fault = None if rule is None else rule.fault
        if fault == "reorder" and rule is not None and user_id not in self._held:
            hold_s = DEFAULT_HOLD_S if rule.after_s is None else rule.after_s
            self._held[user_id] = (trio.current_time() + hold_s, text)
            return
        if fault != "missing":
            self._tell(user_id, text)
        if fault == "duplicate":
            self._tell(user_id, text)
        held = self._held.pop(user_id, None)
        if held is not None:
            self._tell(user_id, held[1])

    async def run(self) -> None:
        """Find out what is due, every ``ticker_interval_s``, until cancelled."""
        while True:
            await trio.sleep(self._config.ticker_interval_s)
            self._misbehave()
            self._close_dead()
            await self._mark_moved()

    async def packets(self, connection: Connection) -> list[bytes]:
        """Return the packets that are due to a connection, in the mode of each token, and count them as sent."""
        due, connection.due = connection.due, {}
        found = []
        for tokens in _batches(due):
            now = self._clock.now()
            master = self._exchange.roll(now)
            for token in tokens:
                # a while may have passed: it may be subscribed no more, or have expired
                mode, instrument = connection.modes.get(token), master.by_token.get(token)
                if mode is not None and instrument is not None:
                    found.append(self._packet(instrument, mode, now))
                    # a price that moves before the next look has moved from this one
                    self._last.setdefault(token, self._exchange.market.last_price(instrument, now))
            await trio.lowlevel.checkpoint()
        return found

    def _packet(self, instrument: Instrument, mode: Mode, now: datetime) -> bytes:
        market = self._exchange.market
        if mode == "ltp":
            return ltp_packet(instrument.token, market.last_price(instrument, now))
        quote = market.quote(instrument, now)
        book = book_of(instrument, quote)
        return quote_packet(instrument, quote, book) if mode == "quote" else full_packet(instrument, quote, book, now)

    async def _mark_moved(self) -> None:
        subscribers: dict[int, list[Connection]] = {}
        for connection in self.connections:
            for token in connection.modes:
                subscribers.setdefault(token, []).append(connection)
        for tokens in _batches(subscribers):
            now = self._clock.now()
            master = self._exchange.roll(now)
            for token in tokens:
                instrument = master.by_token.get(token)
                if instrument is None:
                    continue
                price = self._exchange.market.last_price(instrument, now)
                before, self._last[token] = self._last.get(token, price), price
                if price != before:
                    for connection in subscribers[token]:
                        connection.due[token] = None
                        connection.wake.set()
            await trio.lowlevel.checkpoint()
        watched = {token for connection in self.connections for token in connection.modes}
        self._last = {token: price for token, price in self._last.items() if token in watched}

    def _close_dead(self) -> None:
        now, moment = self._clock.now(), trio.current_time()
        for connection in self.connections:
            if not self._is_valid(connection, now):
                connection.close(1008, "the session has ended")
            since = connection.sending_since
            if since is not None and moment - since > self._config.send_timeout_s:
                connection.cut()

    def _is_valid(self, connection: Connection, now: datetime) -> bool:
        try:
            self._exchange.authenticate(f"token {connection.account.api_key}:{connection.access_token}", now)
        except KiteRefusal:
            return False
        return True

    def _tell(self, user_id: str, text: str) -> None:
        for connection in self.connections:
            if connection.account.user_id == user_id:
                connection.tell(text)

    def _misbehave(self) -> None:
        moment = trio.current_time()
        for connection in self.connections:
            self._carry_out(connection, moment)
        for user_id, (until, text) in list(self._held.items()):
            if until <= moment:
                del self._held[user_id]
                self._tell(user_id, text)

    def _carry_out(self, connection: Connection, moment: float) -> None:
        for fault in _taken(connection.plans, moment):
            match fault:
                case "silent":
                    connection.is_silent = True
                case "no_heartbeat":
                    connection.has_heartbeat = False
                case "drop":
                    connection.cut()
                case "logout":
                    now = self._clock.now()
                    if self._is_valid(connection, now):
                        self._exchange.close_session(connection.account.api_key, connection.access_token, now)


def _plan(connection: Connection, rules: tuple[PushRule, ...]) -> None:
    moment = trio.current_time()
    connection.plans = [(moment + (rule.after_s or 0.0), rule.fault) for rule in rules]


def _taken(plans: list[tuple[float, str]], moment: float) -> Iterator[str]:
    due = [plan for plan in plans if plan[0] <= moment]
    for plan in due:
        plans.remove(plan)
        yield plan[1]


def _batches(tokens: Iterable[int]) -> Iterator[list[int]]:
    every = list(tokens)
    return (every[start : start + _AT_A_TIME] for start in range(0, len(every), _AT_A_TIME))


def _message(kind: str, text: str) -> str:
    return msgspec.json.encode({"type": kind, "data": text}).decode()
