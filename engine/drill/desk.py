"""The two sides that a drill speaks to: the engine's API as its administrator, the exchange as its account's owner."""

from collections.abc import Awaitable, Callable
from decimal import Decimal
from hashlib import sha256
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import httpx
import msgspec
import trio

from engine.clock import Clock
from engine.drill.child import DrillError
from engine.security.signatures import sign

T = TypeVar("T")

_TIMEOUT_S = 15.0
_LOOK_S = 0.1
_PAGE = 200


class EngineSide:
    """The drill's engine, spoken to over its public API."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self._client = httpx.AsyncClient(base_url=f"{base_url}/api/v1", timeout=_TIMEOUT_S, trust_env=False)
        self._source = ("", "")

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def sign_in(self, email: str, password: str) -> None:
        """Sign in; everything else is asked as that user."""
        data = await self.call("POST", "/auth/login", {"email": email, "password": password})
        self._client.headers["Authorization"] = f"Bearer {data['accessToken']}"

    async def call(self, method: str, path: str, body: Any = None, **params: Any) -> Any:
        """Return the data of an answer. Raises DrillError when it is not a success."""
        answer = await self._ask(method, path, body, params)
        return answer["data"]

    async def rows(self, path: str, **params: Any) -> list[dict[str, Any]]:
        """Return every row of a list."""
        found: list[dict[str, Any]] = []
        while True:
            answer = await self._ask("GET", path, None, params | {"limit": _PAGE})
            found += answer["data"]
            cursor = answer["page"]["nextCursor"]
            if cursor is None:
                return found
            params["cursor"] = cursor

    async def _ask(self, method: str, path: str, body: Any, params: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = await self._client.request(method, path, json=body, params=params)
        except httpx.HTTPError as error:
            raise DrillError(f"the drill's engine does not answer {method} {path}: {error!r}") from error
        if not answer.is_success:
            raise DrillError(f"the drill's engine answered {method} {path} with {answer.status_code}: {answer.text}")
        decoded: dict[str, Any] = answer.json()
        return decoded

    async def open_desk(self, *, api_key: str, api_secret: str, access_token: str, capital: int) -> None:
        """Make an account, a strategy that trades it, and a source whose signals the strategy takes."""
        keys = {"apiKey": api_key, "apiSecret": api_secret, "accessToken": access_token}
        account = await self.call("POST", "/accounts", {"label": "drill", "broker": "kite", "capital": capital} | keys)
        strategy = await self.call(
            "POST",
            "/strategies",
            {
                "name": "drill",
                "enabled": True,
                "approval": "auto",
                "defaults": {"exchange": "NSE", "productType": "MIS", "orderType": "LIMIT"},
                "accounts": [{"accountId": account["id"], "sizing": {"mode": "multiplier", "value": 1}}],
            },
        )
        source = await self.call("POST", "/sources", {"type": "sheets", "strategyId": strategy["id"], "name": "drill"})
        self._source = (source["apiKey"], source["secret"])

    async def send(self, body: dict[str, Any], key: str, clock: Clock) -> None:
        """Send a signal that must be accepted. Raises DrillError."""
        raw = msgspec.json.encode(body)
        path = "/signals/sheets/webhook"
        try:
            answer = await self._client.post(path, content=raw, headers=self.signed(raw, key, clock))
        except httpx.HTTPError as error:
            raise DrillError(f"the drill's engine does not answer a signal: {error!r}") from error
        if answer.status_code != httpx.codes.ACCEPTED:
            raise DrillError(f"the drill's engine answered a signal with {answer.status_code}: {answer.text}")

    def signed(self, raw: bytes, key: str, clock: Clock) -> dict[str, str]:
        """Return the headers of a signal; *key* is its idempotency key."""
        api_key, secret = self._source
        timestamp = str(int(clock.now().timestamp()))
        return {
            "Content-Type": "application/json",
            "X-API-Key": api_key,
            "X-Timestamp": timestamp,
            "X-Signature": sign(secret.encode(), raw, timestamp),
            "Idempotency-Key": key,
        }


class ExchangeSide:
    """The drill's exchange: Kite's routes for its account, and the control port."""

    def __init__(self, base_url: str, control_url: str, api_key: str, api_secret: str) -> None:
        self.base_url = base_url
        self.api_key = api_key
        self.api_secret = api_secret
        self.access_token = ""
        self._control_url = control_url
        self._client = httpx.AsyncClient(
            base_url=base_url, timeout=_TIMEOUT_S, trust_env=False, headers={"X-Kite-Version": "3"}
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def log_in(self) -> None:
        """Log in as the account's owner does in a browser, and exchange the token for a session."""
        redirect = await self._client.get("/connect/login", params={"v": "3", "api_key": self.api_key})
        token = parse_qs(urlsplit(redirect.headers["location"]).query)["request_token"][0]
        checksum = sha256(f"{self.api_key}{token}{self.api_secret}".encode()).hexdigest()
        form = {"api_key": self.api_key, "request_token": token, "checksum": checksum}
        session = await self._data("POST", f"{self.base_url}/session/token", data=form)
        self.access_token = session["access_token"]
        self._client.headers["Authorization"] = f"token {self.api_key}:{self.access_token}"

    async def last_prices(self, keys: list[str]) -> dict[str, Decimal]:
        """Return the last prices (rupees) of ``EXCHANGE:SYMBOL``."""
        rows = await self._data("GET", f"{self.base_url}/quote/ltp", params=[("i", key) for key in keys])
        return {key: Decimal(str(rows[key]["last_price"])) for key in keys}

    async def held(self) -> dict[str, int]:
        """Return the units of every position that is not flat."""
        rows = (await self._data("GET", f"{self.base_url}/portfolio/positions"))["net"]
        return {f"{row['exchange']}:{row['tradingsymbol']}": row["quantity"] for row in rows if row["quantity"]}

    async def open_orders(self) -> int:
        """Return how many orders could still fill."""
        rows = await self._data("GET", f"{self.base_url}/orders")
        return sum(row["status"] not in ("COMPLETE", "CANCELLED", "REJECTED") for row in rows)

    async def control(self, name: str, body: dict[str, Any]) -> None:
        """Turn a control (engine.exchange.control)."""
        await self._data("POST", f"{self._control_url}/_control/{name}", json=body)

    async def hits(self) -> list[dict[str, Any]]:
        """Return the requests that rules were applied to."""
        return list((await self._data("GET", f"{self._control_url}/_control/faults"))["hits"])

    async def _data(self, method: str, url: str, **options: Any) -> Any:
        try:
            answer = await self._client.request(method, url, **options)
        except httpx.HTTPError as error:
            raise DrillError(f"the drill's exchange does not answer {method} {url}: {error!r}") from error
        if answer.status_code != httpx.codes.OK:
            raise DrillError(f"the drill's exchange answered {method} {url} with {answer.status_code}: {answer.text}")
        return answer.json()["data"]


async def until(what: str, look: Callable[[], Awaitable[T]], *, within_s: float) -> T:
    """Return the first true answer of *look*. Raises DrillError after *within_s* seconds."""
    found: T | None = None
    with trio.move_on_after(within_s):
        while not found:
            found = await look()
            if not found:
                await trio.sleep(_LOOK_S)
    if not found:
        raise DrillError(f"{what} did not come within {within_s:.0f} s")
    return found
