"""Signals at a steady rate from a few connections, each answer noted: the world does not stop for a kill switch."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from itertools import count
from typing import Any

import httpx
import msgspec
import trio

from engine.clock import Clock
from engine.domain.drill import Signals
from engine.drill.desk import EngineSide

LOAD_PER_SECOND = 50
_SENDERS = 4
_TIMEOUT_S = 10.0
_ACCEPTED = 202


class Load:
    """Sends limit orders far from *prices* (rupees by symbol); `run` is a task that ends when it is cancelled."""

    def __init__(self, side: EngineSide, prices: dict[str, Decimal], *, per_second: float, clock: Clock) -> None:
        self._side = side
        self._prices = list(prices.items())
        self._apart_s = _SENDERS / per_second
        self._clock = clock
        self._numbers = count()
        self._answers: list[tuple[datetime, int]] = []

    @property
    def sent(self) -> int:
        """How many were answered so far."""
        return len(self._answers)

    async def run(self) -> None:
        """Send until cancelled."""
        async with trio.open_nursery() as nursery:
            for _ in range(_SENDERS):
                nursery.start_soon(self._send)

    async def _send(self) -> None:
        url = f"{self._side.base_url}/api/v1/signals/sheets/webhook"
        next_at = trio.current_time()
        async with httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False) as client:
            while True:
                number = next(self._numbers)
                symbol, price = self._prices[number % len(self._prices)]
                raw = msgspec.json.encode(far_order(symbol, price, buy=number // 2 % 2 == 0))
                began = self._clock.now()
                try:
                    answer = await client.post(
                        url, content=raw, headers=self._side.signed(raw, f"load-{number}", self._clock)
                    )
                    self._answers.append((began, answer.status_code))
                except httpx.HTTPError:
                    self._answers.append((began, 0))  # not answered is not accepted
                next_at += self._apart_s
                await trio.sleep(max(next_at - trio.current_time(), 0))

    def told(self, blocked_at: datetime) -> Signals:
        """Return how they were answered; *blocked_at* is when the trip was (UTC)."""
        accepted = [at for at, status in self._answers if status == _ACCEPTED]
        return Signals(
            sent=len(self._answers),
            accepted=len(accepted),
            refused=len(self._answers) - len(accepted),
            after_block=sum(at > blocked_at for at, _ in self._answers),
            taken_after_block=sum(at > blocked_at for at in accepted),
        )


def far_order(symbol: str, price: Decimal, *, buy: bool, quantity: int = 1) -> dict[str, Any]:
    """Return a signal for a LIMIT order that rests: 5 % from *price* (rupees), at a whole rupee."""
    away = Decimal("0.95") if buy else Decimal("1.05")
    return {
        "symbol": symbol,
        "exchange": "NSE",
        "transactionType": "BUY" if buy else "SELL",
        "quantity": quantity,
        "orderType": "LIMIT",
        "price": int(price * away),
        "productType": "MIS",
    }


def market_order(symbol: str, *, buy: bool, quantity: int) -> dict[str, Any]:
    """Return a signal for a MARKET order."""
    return {
        "symbol": symbol,
        "exchange": "NSE",
        "transactionType": "BUY" if buy else "SELL",
        "quantity": quantity,
        "orderType": "MARKET",
        "productType": "MIS",
    }


def spread(symbols: Sequence[str], number: int) -> list[str]:
    """Return *number* symbols, each of *symbols* in turn."""
    return [symbols[n % len(symbols)] for n in range(number)]
