"""A real engine in kite mode and a real exchange that misbehaves, and the oracle over both.

Every signal has a pair (symbol, quantity) of its own, so that the exchange's record tells what became of
it without trusting a tag or an answer of the engine.
"""

import itertools
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx

from engine.exchange.universe import NSE_EQUITIES
from tests.support.engine import EngineProcess, market_order
from tests.support.exchange_process import ExchangeProcess
from tests.support.servers import TestServers

SYMBOLS = tuple(line.split("|")[0] for line in NSE_EQUITIES.strip().splitlines())
ENDED_PLACED = frozenset({"COMPLETE", "CANCELLED"})
ENDED_UNPLACED = frozenset({"REJECTED", "EXPIRED", "FAILED", "CANCELLED"})
AT_BROKER = frozenset({"SUBMITTED", "OPEN", "TRIGGER_PENDING", "PARTIALLY_FILLED", "COMPLETE"})

_ORDERS = """
SELECT coalesce(json_agg(o), '[]') FROM (
    SELECT i.id AS intent, i.status AS intent_status, i.reason, i.symbol, i.quantity, o.status, o.status_message,
        o.tag, o.attempt, o.broker_order_id,
        (SELECT coalesce(json_agg(e.to_status ORDER BY e.id), '[]') FROM order_events e WHERE e.order_id = o.id)
            AS statuses,
        (SELECT coalesce(json_agg(e.detail ORDER BY e.id), '[]') FROM order_events e WHERE e.order_id = o.id)
            AS details
    FROM trade_intents i LEFT JOIN orders o ON o.intent_id = i.id) o
"""


@dataclass
class Fate:
    """What became of one signal: the engine's row, and the exchange's count of requests and of orders."""

    symbol: str
    quantity: int
    intent: str = ""
    row: dict[str, Any] = field(default_factory=dict)
    orders: int = 0
    posts: int = 0

    @property
    def key(self) -> str:
        """The signal's Idempotency-Key."""
        return f"{self.symbol}-{self.quantity}"

    @property
    def status(self) -> str:
        return str(self.row.get("status") or self.row.get("intent_status"))

    @property
    def was_unknown(self) -> bool:
        return "UNKNOWN" in (self.row.get("statuses") or ())

    def __str__(self) -> str:
        words = f"{self.symbol} x {self.quantity}: {self.status}, {self.posts} sent, {self.orders} taken"
        return f"{words}; {self.row.get('status_message')}; {self.row.get('statuses')}; {self.row.get('reason')}"


class FaultRig:
    """Sends signals and tells their fates."""

    def __init__(self, engine: EngineProcess, exchange: ExchangeProcess, servers: TestServers, database: str) -> None:
        self.engine = engine
        self.exchange = exchange
        self._servers = servers
        self._database = database
        self.source = ("", "")
        self.account = ""
        self.sent: dict[tuple[str, int], Fate] = {}
        self._numbers = itertools.count(1)
        self._symbols = itertools.cycle(SYMBOLS)
        self._client = httpx.Client()

    def next_symbols(self, n: int) -> list[str]:
        """Return *n* symbols, those not used for longest."""
        return list(itertools.islice(self._symbols, n))

    def new_signal(self, symbol: str, **changes: Any) -> tuple[Fate, dict[str, Any]]:
        """Return a signal that nobody has sent yet, and what will be told of it."""
        quantity = next(self._numbers)
        fate = self.sent[symbol, quantity] = Fate(symbol, quantity)
        return fate, market_order(symbol, quantity) | changes

    def send(self, symbol: str, **changes: Any) -> Fate:
        """Send a signal that must be accepted."""
        fate, body = self.new_signal(symbol, **changes)
        answer = self.engine.signal(body, key=fate.key, source=self.source, client=self._client)
        assert answer.status_code == 202, answer.text
        fate.intent = answer.json()["data"]["intentId"]
        return fate

    def rows(self) -> list[dict[str, Any]]:
        """Return the ledger's intents, each with its order if it has one."""
        rows: list[dict[str, Any]] = json.loads(self._servers.sql(_ORDERS, self._database))
        return rows

    def look(self) -> list[Fate]:
        """Read the fates of all that was sent, from the ledger and the record."""
        by_signal: dict[tuple[str, int], list[dict[str, Any]]] = {}
        for row in self.rows():
            by_signal.setdefault((row["symbol"], row["quantity"]), []).append(row)
        places = [
            ((event.params["tradingsymbol"], int(event.params["quantity"])), event) for event in self.exchange.places()
        ]
        posts = Counter(signal for signal, _ in places)
        taken = Counter(signal for signal, event in places if event.accepted)
        swallowed = Counter(
            (hit["symbol"], int(hit["quantity"]))
            for hit in self.exchange.hits()
            if hit["takes"] == "never" and hit["kind"] == "place"
        )
        for signal, fate in self.sent.items():
            found = by_signal.get(signal, [])
            assert len(found) < 2, f"{signal}: {len(found)} rows in the ledger"
            # what only the journal has yet comes to the ledger in a moment; `check` misses what never does
            fate.row = found[0] if found else {"intent_status": "JOURNALLED"}
            fate.orders = taken[signal]
            fate.posts = posts[signal] + swallowed[signal]
        return list(self.sent.values())

    def settled(self, fates: list[Fate], *, within_s: float = 30) -> list[Fate]:
        """Wait until every one of *fates* has ended."""

        def all_ended() -> bool:
            self.look()
            return all(fate.status in ENDED_PLACED | ENDED_UNPLACED for fate in fates)

        try:
            self.engine.wait_for("every order ending", all_ended, within_s=within_s)
        except AssertionError as error:
            live = [str(fate) for fate in fates if fate.status not in ENDED_PLACED | ENDED_UNPLACED]
            raise AssertionError("\n".join([str(error), *live])) from None
        return fates

    def check(self) -> list[Fate]:
        """The oracle: nothing doubled, nothing lost, engine and exchange agree; return all fates."""
        fates = self.look()
        wrong = [str(fate) for fate in fates if fate.orders > 1 or fate.posts > (fate.row.get("attempt") or 0)]
        wrong += [str(fate) for fate in fates if fate.status in AT_BROKER and fate.orders != 1]
        wrong += [str(fate) for fate in fates if fate.status in ENDED_UNPLACED and fate.orders]
        wrong += [str(fate) for fate in fates if fate.status in ("PENDING", "SUBMITTING", "RECEIVED", "JOURNALLED")]
        assert not wrong, "\n".join(wrong)
        strange = [
            event
            for event in self.exchange.places()
            if (event.params["tradingsymbol"], int(event.params["quantity"])) not in self.sent
        ]
        assert not strange, strange
        return fates

    def close(self) -> None:
        """Close the connection to the engine."""
        self._client.close()
