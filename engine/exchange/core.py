"""The exchange without its network: accounts, sessions, orders, portfolio and quotes behind one face.

Every method takes the instant as an argument and does no I/O. What changed is queued as events for
the truth record (`take_events`); an answer may leave only once those are on the disk.
"""

import hmac
import secrets
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from random import Random
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from engine.clock import trading_day
from engine.exchange import errors, portfolio_rows, rows
from engine.exchange.calculators import Calculators
from engine.exchange.config import DEFAULT_REDIRECT, Behaviour, ExchangeConfig, ExchangeError
from engine.exchange.desk import OrderDesk
from engine.exchange.events import AccountOpened, Event, OrderRequested, SessionClosed, SessionOpened
from engine.exchange.gtt_desk import GttDesk
from engine.exchange.hours import session_end
from engine.exchange.instruments import Master, build_master, with_closes
from engine.exchange.market import Market
from engine.exchange.orders import BookEntry, Order
from engine.exchange.portfolio import PositionKey, PositionTotals
from engine.exchange.portfolio_desk import PortfolioDesk
from engine.exchange.quotes import QuoteForm, quote_row
from engine.exchange.ratelimit import RateLimiter
from engine.exchange.replay import Replay
from engine.exchange.riskchecks import RiskChecks
from engine.exchange.state import Account, State
from engine.exchange.static_ip import check_address, read_addresses

Action = Literal["place", "modify", "cancel"]
# towards the day's cap: each request, and each later leg of an iceberg (kite.md 4.1)
_COUNTED = frozenset({"place", "modify", "cancel", "leg"})


class Exchange:
    """The exchange. Not safe for threads; methods do not wait, so a single event loop needs no locks."""

    def __init__(
        self, config: ExchangeConfig, *, token: Callable[[], str] | None = None, replay: Replay | None = None
    ) -> None:
        self._config = config
        self._token = token or (lambda: secrets.token_hex(16))
        self.state = State(config.behaviour)
        self.market = Market(config.seed, replay, all_day=not config.enforce_hours)
        self.desk = OrderDesk(self.state, self.market, config, self._count_order)
        self.gtts = GttDesk(self.state, self.market, self.desk)
        self.checks = RiskChecks(self.state, self.market)
        self.calculators = Calculators(self.market)
        self.portfolio_desk = PortfolioDesk(self.state, self.checks, token)
        self.limiter = RateLimiter(config.limits)
        self.static_ips = read_addresses(config.static_ips)
        self._request_tokens: dict[str, tuple[str, datetime]] = {}
        self._dice = Random(config.seed)  # noqa: S311 -- the order of rows
        self._master: Master | None = None
        self._rolled_to: date | None = None

    def restore(self, events: list[Event]) -> None:
        """Rebuild everything from the events of a record; before anything else is done."""
        self.state.restore(events)
        for event in events:
            # what was refused for its rate never reached the counter of the day
            if isinstance(event, OrderRequested) and event.http_status not in (403, 429) and event.action in _COUNTED:
                self.limiter.restore_write(event.user_id, event.at)

    def take_events(self) -> list[Event]:
        """Return what changed since the last call."""
        return self.state.take_unsaved()

    def subscribe_orders(self, listener: Callable[[Account, Order, str], None]) -> None:
        """Call *listener* after each change of an order that Kite pushes to its clients (kite.md 15.5).

        It gets the account, the order as it then was, and the status that the push shows: COMPLETE,
        CANCELLED, REJECTED, OPEN (a stop was triggered) or UPDATE (modified, or filled in part). It is
        called from within the change, before that is on the disk: it may only note what to send, and
        must not raise. `rows.push_row` and `rows.postback_row` make the message.
        """
        self.state.order_listeners.append(listener)

    def behave(self, behaviour: Behaviour) -> None:
        """Behave so from now on."""
        self.state.behaviour = behaviour
        for book in self.state.books.values():
            for entry in book.entries.values():
                entry.encoded = None

    def add_account(
        self,
        api_key: str,
        api_secret: str,
        user_id: str,
        capital: Decimal,
        redirect_url: str = DEFAULT_REDIRECT,
        *,
        now: datetime,
    ) -> None:
        """Add an account with its app, or set secret, capital (rupees) and redirect URL of one anew.

        Raises ExchangeError when the key or the user already belongs to another pair.
        """
        known = self.state.apps.get(api_key) or self.state.accounts.get(user_id)
        if known is not None and (known.api_key, known.user_id) != (api_key, user_id):
            raise ExchangeError(
                f"account {known.user_id} already goes with api_key {known.api_key}; choose another user_id or api_key"
            )
        wanted = Account(
            user_id=user_id, api_key=api_key, api_secret=api_secret, capital=capital, redirect_url=redirect_url
        )
        if known != wanted:
            self.state.record(
                AccountOpened(
                    at=now,
                    api_key=api_key,
                    api_secret=api_secret,
                    user_id=user_id,
                    capital=capital,
                    redirect_url=redirect_url,
                )
            )

    # sessions

    def login_redirect(self, api_key: str, redirect_params: str, now: datetime) -> str:
        """Return where a browser that asked to log in is sent, with a fresh one-time request token."""
        account = self.state.apps.get(api_key)
        if account is None:
            raise errors.invalid("api_key")
        token = self._token()
        self._drop_old_request_tokens(now)
        self._request_tokens[token] = (api_key, now)
        parts = urlsplit(account.redirect_url)
        query = [
            *parse_qsl(parts.query, keep_blank_values=True),
            ("request_token", token),
            ("action", "login"),
            ("status", "success"),
            *parse_qsl(redirect_params, keep_blank_values=True),
        ]
        return urlunsplit((parts.scheme, parts.netloc, parts.path or "/", urlencode(query), parts.fragment))

    def open_session(self, form: Mapping[str, str], now: datetime) -> dict[str, Any]:
        """Exchange a request token for a session; the app's earlier session ends. Raises KiteRefusal."""
        for field in ("api_key", "request_token", "checksum"):
            if not form.get(field):
                raise errors.missing(field)
        account = self.state.apps.get(form["api_key"])
        if account is None:
            raise errors.invalid("api_key")
        self._drop_old_request_tokens(now)
        issued = self._request_tokens.get(form["request_token"])
        if issued is None or issued[0] != account.api_key:
            raise errors.wrong_request_token()
        expected = sha256(f"{account.api_key}{form['request_token']}{account.api_secret}".encode()).hexdigest()
        if not hmac.compare_digest(expected.encode(), form["checksum"].encode()):
            raise errors.wrong_checksum()
        del self._request_tokens[form["request_token"]]
        self.state.record(
            SessionOpened(
                at=now,
                api_key=account.api_key,
                user_id=account.user_id,
                access_token=self._token(),
                public_token=self._token(),
            )
        )
        return rows.session_row(account, self.state.sessions[account.api_key])

    def close_session(self, api_key: str, access_token: str, now: datetime) -> None:
        """End a session. Raises KiteRefusal when it is not valid."""
        self._session(api_key, access_token, now)
        self.state.record(SessionClosed(at=now, api_key=api_key))

    def close_all_sessions(self, now: datetime) -> None:
        """End every session, as the daily token flush does."""
        for api_key in list(self.state.sessions):
            self.state.record(SessionClosed(at=now, api_key=api_key))

    def authenticate(self, header: str, now: datetime) -> Account:
        """Return the account of ``Authorization: token api_key:access_token``. Raises KiteRefusal 403."""
        scheme, _, credentials = header.partition(" ")
        api_key, _, access_token = credentials.strip().partition(":")
        if scheme != "token":
            raise errors.wrong_token()
        return self._session(api_key, access_token, now)

    # orders

    def request_order(
        self,
        action: Action,
        header: str,
        variety: str,
        order_id: str | None,
        params: Mapping[str, str],
        now: datetime,
        address: str | None = None,
    ) -> dict[str, Any] | list[dict[str, Any]]:
        """Carry out an order write request from *address*; returns Kite's ``data``.

        That is a list only for an old autoslice answer.

        Raises KiteRefusal. Accepted or refused, the request is among the events.
        """
        account: Account | None = None
        try:
            account = self.authenticate(header, now)
            check_address(address, self.static_ips)
            self.limiter.write(account.user_id, now)
            master = self.roll(now)
            if action == "place":
                return self.desk.place(account, variety, params, master, now)
            if action == "modify":
                return self.desk.modify(account, order_id or "", variety, params, master, now)
            return self.desk.cancel(account, order_id or "", variety, params, master, now)
        except errors.KiteRefusal as refusal:
            self.state.record(
                OrderRequested(
                    at=now,
                    api_key=account.api_key if account else "",
                    user_id=account.user_id if account else "",
                    action=action,
                    variety=variety,
                    params=dict(params),
                    accepted=False,
                    http_status=refusal.status,
                    error_type=refusal.error_type,
                    message=refusal.message,
                    order_id=order_id,
                )
            )
            raise

    def tick(self, now: datetime) -> None:
        """Let resting orders meet the prices of *now*; starts a new IST day when one has begun."""
        master = self.roll(now)
        self.desk.tick(master, now)
        if self.state.active_gtts:
            self.gtts.tick(master, now)

    def release_amos(self, now: datetime) -> None:
        """Send every after-market order to the exchange, as the opening of the market would."""
        self.desk.release_amos(self.roll(now), now, is_early=True)

    def roll(self, now: datetime) -> Master:
        """Return the master of *now*'s IST day, closing the books of earlier days first."""
        today = trading_day(now)
        if self._master is None or self._rolled_to != today:
            self._master = with_closes(build_master(today), self.market.closes(today))
            self.desk.end_days(now)
            self.state.start_day(now)
            for portfolio in self.state.portfolios.values():
                portfolio.expire([key for key in portfolio.positions if key.instrument not in self._master.by_key])
            self._rolled_to = today
        self.desk.catch_up(self._master, now)
        return self._master

    def orders(self, account: Account, now: datetime) -> bytes:
        """Return today's order book of an account as a JSON array."""
        self.roll(now)
        found = [rows.encoded_order(entry, self.state.behaviour) for entry in self._entries(account)]
        if self.state.behaviour.shuffle_orders:
            self._dice.shuffle(found)
        return rows.join(found)

    def order_history(self, account: Account, order_id: str, now: datetime) -> list[dict[str, Any]]:
        """Return the history rows of an order, oldest first. Raises KiteRefusal for an unknown id."""
        entry = self._entry(account, order_id, now)
        found = [rows.history_row(order, self.state.behaviour) for order in entry.history]
        # nobody has looked the instrument up by then (kite.md 6.4)
        found[0]["instrument_token"] = 1
        return found

    def order_trades(self, account: Account, order_id: str, now: datetime) -> list[dict[str, Any]]:
        """Return the trades of an order. Raises KiteRefusal for an unknown id."""
        return [rows.trade_row(trade) for trade in self._entry(account, order_id, now).trades]

    def trades(self, account: Account, now: datetime) -> list[dict[str, Any]]:
        """Return today's trades of an account."""
        self.roll(now)
        return [rows.trade_row(trade) for trade in self.state.books[account.user_id].trades]

    # portfolio and market

    def positions(self, account: Account, now: datetime) -> dict[str, Any]:
        """Return net and day positions."""
        master = self.roll(now)
        portfolio, lag = self.state.portfolios[account.user_id], self.state.behaviour.positions_lag_s
        held: Mapping[PositionKey, PositionTotals] = portfolio.positions
        if lag:
            since = now - timedelta(seconds=lag)
            held = portfolio.before([trade for trade in self.state.books[account.user_id].trades if trade.at > since])
        return portfolio_rows.positions(held, master, self.market, now)

    def holdings(self, account: Account, now: datetime) -> list[dict[str, Any]]:
        """Return what is held from earlier days."""
        master = self.roll(now)
        return portfolio_rows.holdings(self.state.portfolios[account.user_id], master, self.market, now)

    def compact_holdings(self, account: Account, now: datetime) -> list[dict[str, Any]]:
        """Return what is held, quantities alone."""
        self.roll(now)
        return portfolio_rows.compact_holdings(self.state.portfolios[account.user_id])

    def holdings_summary(self, account: Account, now: datetime) -> dict[str, Any]:
        """Return what the holdings cost and are worth."""
        master = self.roll(now)
        return portfolio_rows.holdings_summary(self.state.portfolios[account.user_id], master, self.market, now)

    def holdings_auctions(self, account: Account, now: datetime) -> list[dict[str, Any]]:
        """Return the auctions that shares held may be sold in."""
        master = self.roll(now)
        return portfolio_rows.auctions(self.state.portfolios[account.user_id], master, self.market, now)

    def margins(self, account: Account, segment: str | None, now: datetime) -> dict[str, Any]:
        """Return the money of an account, of both segments or one. Raises KiteRefusal for another segment."""
        master = self.roll(now)
        funds = self.checks.money(account, self.state.books[account.user_id].lanes, master, now)
        both = {"equity": portfolio_rows.margin_row(funds), "commodity": portfolio_rows.empty_margin_row()}
        if segment is None:
            return both
        if segment not in both:
            raise errors.invalid("segment")
        return both[segment]

    def quotes(self, names: Iterable[str], form: QuoteForm, now: datetime) -> dict[str, Any]:
        """Return quotes by the names asked for; unknown names are left out."""
        master = self.roll(now)
        found = {name: master.find(name) for name in names}
        return {
            name: quote_row(instrument, self.market.quote(instrument, now), form, now)
            for name, instrument in found.items()
            if instrument is not None
        }

    def _count_order(self, user_id: str, at: datetime) -> None:
        self.limiter.restore_write(user_id, at)

    def _entries(self, account: Account) -> Iterable[BookEntry]:
        return self.state.books[account.user_id].entries.values()

    def _entry(self, account: Account, order_id: str, now: datetime) -> BookEntry:
        self.roll(now)
        entry = self.state.books[account.user_id].entries.get(order_id)
        if entry is None:
            raise errors.unknown_order()
        return entry

    def _session(self, api_key: str, access_token: str, now: datetime) -> Account:
        session = self.state.sessions.get(api_key)
        if session is None or not hmac.compare_digest(session.access_token.encode(), access_token.encode()):
            raise errors.wrong_token()
        if self._config.token_expiry and now >= session_end(session.opened_at):
            raise errors.wrong_token()
        return self.state.accounts[session.user_id]

    def _drop_old_request_tokens(self, now: datetime) -> None:
        for token, (_, issued_at) in list(self._request_tokens.items()):
            if (now - issued_at).total_seconds() > self._config.request_token_ttl_s:
                del self._request_tokens[token]
