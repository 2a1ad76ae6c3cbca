"""A paper exchange on a free loopback port, with one account that is already logged in."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from ssl import PROTOCOL_TLS_CLIENT, SSLContext
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import trio

from engine.clock import Clock, SystemClock
from engine.exchange.config import ExchangeConfig, Limits
from engine.exchange.events import Event
from engine.exchange.record import read_record
from engine.exchange.server import ExchangeServer

API_KEY = "paperkey"
API_SECRET = "papersecret"
USER_ID = "AB0001"
# the exchange speaks plain HTTP: reading the certificate store for each client would take longer than most tests
_NO_STORE = SSLContext(PROTOCOL_TLS_CLIENT)


@dataclass
class RunningExchange:
    """What a test needs of a running exchange; ``access_token`` is "" when started with login=False."""

    base_url: str
    api_key: str
    api_secret: str
    user_id: str
    record_path: Path
    server: ExchangeServer
    access_token: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def client(self) -> httpx.AsyncClient:
        """A client that sends the session's Authorization header."""
        return httpx.AsyncClient(base_url=self.base_url, headers=self.headers, timeout=10, verify=_NO_STORE)

    def record(self) -> list[Event]:
        """The truth record so far."""
        return read_record(self.record_path)

    async def login(self) -> str:
        """Go through the login redirect and the token exchange; returns the access token."""
        self.access_token = await login(self.base_url, self.api_key, self.api_secret)
        self.use_token(self.access_token)
        return self.access_token

    def use_token(self, access_token: str) -> None:
        """Send *access_token* from now on."""
        self.access_token = access_token
        self.headers = {"X-Kite-Version": "3", "Authorization": f"token {self.api_key}:{access_token}"}

    async def set_price(self, key: str, price: str | None) -> None:
        """Pin the last price of ``EXCHANGE:SYMBOL`` (None lets it move again) and match resting orders."""
        await self.control("price", {"key": key, "price": price})

    async def set_liquidity(self, key: str, quantity: int | None) -> None:
        """Let at most *quantity* units of ``EXCHANGE:SYMBOL`` trade from now on (None: no bound)."""
        await self.control("liquidity", {"key": key, "quantity": quantity})

    async def set_market_open(self, is_open: bool) -> None:
        """Open or close the market."""
        await self.control("market", {"open": is_open})

    async def behave(self, **fields: Any) -> None:
        """Behave so from now on (fields of engine.exchange.config.Behaviour)."""
        await self.control("behaviour", fields)

    async def release_amo(self) -> None:
        """Send every after-market order to the exchange."""
        await self.control("release-amo", {})

    async def set_faults(self, *rules: dict[str, Any]) -> None:
        """Replace the rules by which it misbehaves (engine.exchange.faults.FaultRule); none ends it."""
        await self.control("faults", {"rules": list(rules)})

    async def set_ticker_faults(self, *rules: dict[str, Any]) -> None:
        """Replace the rules by which its ticker misbehaves (engine.exchange.push_faults.PushRule); none ends it."""
        await self.control("ticker-faults", {"rules": list(rules)})

    async def fault_hits(self) -> list[dict[str, Any]]:
        """Return the requests that rules were applied to."""
        async with httpx.AsyncClient(base_url=self.base_url, timeout=10, verify=_NO_STORE) as client:
            return list((await client.get("/_control/faults")).json()["data"]["hits"])

    async def flush_sessions(self) -> None:
        """End every session, as the daily token flush does."""
        await self.control("flush-sessions", {})

    async def control(self, name: str, body: dict[str, Any]) -> None:
        """Turn the control /_control/NAME."""
        async with httpx.AsyncClient(base_url=self.base_url, timeout=10, verify=_NO_STORE) as client:
            response = await client.post(f"/_control/{name}", json=body)
            assert response.status_code == 200, response.text


async def login(base_url: str, api_key: str, api_secret: str) -> str:
    """Log in at the exchange over HTTP as a browser and an app do; returns the access token."""
    async with httpx.AsyncClient(base_url=base_url, timeout=10, verify=_NO_STORE) as client:
        redirect = await client.get("/connect/login", params={"v": "3", "api_key": api_key})
        assert redirect.status_code == 302, redirect.text
        request_token = parse_qs(urlsplit(redirect.headers["location"]).query)["request_token"][0]
        checksum = sha256(f"{api_key}{request_token}{api_secret}".encode()).hexdigest()
        answer = await client.post(
            "/session/token", data={"api_key": api_key, "request_token": request_token, "checksum": checksum}
        )
        assert answer.status_code == 200, answer.text
        return str(answer.json()["data"]["access_token"])


@asynccontextmanager
async def running_exchange(
    tmp_path: Path,
    *,
    login: bool = True,
    clock: Clock | None = None,
    capital: Decimal = Decimal(1_000_000),
    redirect_url: str = "http://127.0.0.1/callback",
    **config: Any,
) -> AsyncIterator[RunningExchange]:
    """Run an exchange whose record is ``tmp_path/exchange.jsonl``: a second run continues the first.

    Rate limits are off and the control routes on unless *config* (fields of ExchangeConfig) says
    otherwise. With *login* a session is opened through the real login flow.
    """
    config.setdefault("limits", Limits(enabled=False))
    config.setdefault("control_routes", True)
    config.setdefault("tick_interval_s", 0.02)
    config.setdefault("record_path", tmp_path / "exchange.jsonl")
    server = ExchangeServer(ExchangeConfig(**config), clock or SystemClock())
    server.add_account(
        api_key=API_KEY, api_secret=API_SECRET, user_id=USER_ID, capital=capital, redirect_url=redirect_url
    )
    async with trio.open_nursery() as nursery:
        with trio.fail_after(10):
            base_url = await nursery.start(server.run)
        running = RunningExchange(
            base_url=base_url,
            api_key=API_KEY,
            api_secret=API_SECRET,
            user_id=USER_ID,
            record_path=config["record_path"],
            server=server,
        )
        if login:
            await running.login()
        yield running
        server.stop()
