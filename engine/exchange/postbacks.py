"""Postbacks (kite.md 14): each order update as a POST to the app's address, signed with the checksum of the secret.

Best effort, as on Kite: one attempt with a short timeout, in order, from a bounded queue that drops the oldest
when the receiver does not keep up. The exchange never waits for it.
"""

import ipaddress
import logging
from collections import deque
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import httpx
import trio

from engine.exchange import rows
from engine.exchange.config import ExchangeError
from engine.exchange.orders import CANCELLED, COMPLETE, OPEN, REJECTED, UPDATE
from engine.exchange.updates import Update

TIMEOUT_S = 2.0
MOST_WAITING = 10_000
APP_ID = 1
_STATUSES = frozenset({COMPLETE, CANCELLED, REJECTED, UPDATE})

_log = logging.getLogger("engine.exchange")


def check_postback_url(url: str) -> str:
    """Return *url*. Raises ExchangeError unless it is http(s) on a loopback address."""
    parts = urlsplit(url)
    try:
        is_loopback = parts.hostname == "localhost" or ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        is_loopback = False
    if parts.scheme not in ("http", "https") or not is_loopback:
        raise ExchangeError(
            f"postback URL {url!r}: postbacks go to this machine only; write http://127.0.0.1:PORT/PATH"
        )
    return url


def body_of(update: Update) -> dict[str, Any]:
    """Return the body of an update's postback, its checksum included."""
    # a stop order that goes live is an update like any other: the postback knows no OPEN
    status = UPDATE if update.status == OPEN else update.status
    body = rows.postback_row(update.order, APP_ID, status)
    signed = f"{body['order_id']}{body['order_timestamp']}{update.account.api_secret}"
    return {**body, "checksum": sha256(signed.encode()).hexdigest()}


class Postbacks:
    """Sends postbacks to one address. Use: `add` for each update, `run` as a task."""

    def __init__(self, url: str) -> None:
        self._url = check_postback_url(url)
        self._waiting: deque[bytes] = deque(maxlen=MOST_WAITING)
        self._arrived = trio.Event()
        self.failed = 0

    def add(self, update: Update) -> None:
        """Queue the postback of *update*."""
        if update.status in _STATUSES or update.status == OPEN:
            self._waiting.append(rows.encode(body_of(update)))
            self._arrived.set()

    async def run(self) -> None:
        """Send until cancelled; each attempt has TIMEOUT_S in all."""
        async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client:
            while True:
                await self._arrived.wait()
                self._arrived = trio.Event()
                while self._waiting:
                    await self._send(client, self._waiting.popleft())

    async def _send(self, client: httpx.AsyncClient, body: bytes) -> None:
        try:
            with trio.fail_after(TIMEOUT_S):
                answer = await client.post(self._url, content=body, headers={"Content-Type": "application/json"})
            reason = "" if answer.is_success else f"HTTP {answer.status_code}"
        except (httpx.HTTPError, trio.TooSlowError) as exc:
            reason = type(exc).__name__
        if reason:
            self.failed += 1
            _log.warning("a postback was not taken: %s", reason)
