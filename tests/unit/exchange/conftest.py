"""The exchange's core driven by hand: one account, a clock that stands still until it is moved."""

import itertools
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from engine.exchange.config import Behaviour, ExchangeConfig, Limits
from engine.exchange.core import Exchange
from engine.exchange.errors import KiteRefusal
from engine.exchange.events import Event
from engine.exchange.orders import Order

# Monday 23 November 2026, 10:00 IST
MORNING = datetime(2026, 11, 23, 4, 30, tzinfo=UTC)
KEY, SECRET, USER = "key", "secret", "AB1234"


class Driver:
    """Talks to an Exchange as its HTTP routes do."""

    def __init__(self, **config: Any) -> None:
        config.setdefault("limits", Limits(enabled=False))
        self.config = ExchangeConfig(**config)
        self.now = MORNING
        self.events: list[Event] = []
        self._numbers = itertools.count()
        self.exchange = self._make()
        self.exchange.add_account(KEY, SECRET, USER, Decimal(1_000_000), "http://127.0.0.1/back?x=1", now=self.now)
        self.header = self.log_in()

    def _make(self) -> Exchange:
        return Exchange(self.config, token=lambda: f"token{next(self._numbers)}")

    def restarted(self) -> None:
        """Rebuild the exchange from its events, encoded and decoded as the record does."""
        self.save()
        encoded = msgspec.json.encode(self.events)
        self.exchange = self._make()
        self.exchange.restore(msgspec.json.decode(encoded, type=list[Event]))
        self.tick()

    def save(self) -> list[Event]:
        self.events += self.exchange.take_events()
        return self.events

    def log_in(self) -> str:
        redirect = self.exchange.login_redirect(KEY, "", self.now)
        token = parse_qs(urlsplit(redirect).query)["request_token"][0]
        checksum = sha256(f"{KEY}{token}{SECRET}".encode()).hexdigest()
        form = {"api_key": KEY, "request_token": token, "checksum": checksum}
        return f"token {KEY}:{self.exchange.open_session(form, self.now)['access_token']}"

    @property
    def account(self) -> Any:
        return self.exchange.state.accounts[USER]

    def pass_time(self, **delta: float) -> None:
        """Move the clock, and log in again: sessions end at 06:00."""
        self.now += timedelta(**delta)
        self.header = self.log_in()

    def tick(self) -> None:
        self.exchange.tick(self.now)

    def pin(self, price: str, key: str = "NSE:INFY") -> None:
        """Set a price and let resting orders meet it."""
        self.exchange.market.pin(key, Decimal(price))
        self.tick()

    def write(self, action: Any, variety: str, order_id: str | None, fields: dict[str, Any]) -> dict[str, Any]:
        params = {name: str(value) for name, value in fields.items() if value is not None}
        return self.exchange.request_order(action, self.header, variety, order_id, params, self.now)

    def place_raw(self, variety: str = "regular", **fields: Any) -> dict[str, Any]:
        return self.write("place", variety, None, {**PLAIN, **fields})

    def place(self, variety: str = "regular", **fields: Any) -> str:
        return str(self.place_raw(variety, **fields)["order_id"])

    def modify(self, order_id: str, variety: str = "regular", **fields: Any) -> None:
        self.write("modify", variety, order_id, fields)

    def cancel(self, order_id: str, variety: str = "regular", **fields: Any) -> None:
        self.write("cancel", variety, order_id, fields)

    def refusal(self, variety: str = "regular", **fields: Any) -> KiteRefusal:
        with pytest.raises(KiteRefusal) as caught:
            self.place(variety, **fields)
        return caught.value

    def order(self, order_id: str) -> Order:
        return self.exchange.state.books[USER].entries[order_id].order

    def row(self, order_id: str) -> dict[str, Any]:
        return next(row for row in self.rows() if row["order_id"] == order_id)

    def rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = msgspec.json.decode(self.exchange.orders(self.account, self.now))
        return rows

    def behave(self, **fields: Any) -> None:
        self.exchange.behave(Behaviour(**fields))

    def wait(self, seconds: float) -> None:
        """Let time pass within the day, and the exchange see it."""
        self.now += timedelta(seconds=seconds)
        self.tick()

    def statuses(self, order_id: str) -> list[str]:
        return [row["status"] for row in self.exchange.order_history(self.account, order_id, self.now)]

    def position(self, symbol: str = "INFY", which: str = "net") -> dict[str, Any]:
        rows = self.exchange.positions(self.account, self.now)[which]
        return next(row for row in rows if row["tradingsymbol"] == symbol)


PLAIN = {
    "exchange": "NSE",
    "tradingsymbol": "INFY",
    "transaction_type": "BUY",
    "quantity": 10,
    "product": "MIS",
    "order_type": "LIMIT",
    "price": "1450.00",
    "validity": "DAY",
}


@pytest.fixture
def make_driver() -> type[Driver]:
    return Driver


@pytest.fixture
def driver() -> Driver:
    driver = Driver()
    driver.pin("1450.00")
    return driver
