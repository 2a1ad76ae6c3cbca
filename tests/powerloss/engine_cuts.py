"""The whole engine on the lossy disk: signals at a steady rate, the power cut, the start after it.

The engine, its PostgreSQL, its Valkey, its keys and its kill switch file are on the lossy disk; the exchange
and its record are elsewhere, as a broker is. Every signal has a quantity of its own, so that the record
tells what became of it. Senders whose answer the cut took from them send again, with the same key.
"""

import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx

from tests.powerloss.lossy import LossyDisk
from tests.support.engine import EngineProcess
from tests.support.exchange_process import ExchangeProcess
from tests.support.kite_mode import OPEN_LIMITS, kite_environment, set_up
from tests.support.short_horizon_engine import PROGRAM

RATE = 50
HORIZON_S = 8.0
MAX_AGE_S = 6
_SENDERS = 8
_SETTLED_WITHIN_S = 60.0
_SYMBOLS = (
    *("RELIANCE", "TCS", "INFY", "HDFCBANK", "ICICIBANK", "SBIN", "ITC", "LT", "AXISBANK", "KOTAKBANK"),
    *("BHARTIARTL", "HINDUNILVR", "BAJFINANCE", "MARUTI", "ASIANPAINT", "TITAN", "SUNPHARMA", "WIPRO", "HCLTECH"),
    *("NTPC", "ADANIENT", "ADANIPORTS", "APOLLOHOSP", "BAJAJFINSV", "BEL", "BPCL", "BRITANNIA", "CIPLA"),
)
_LIVE = frozenset({"RECEIVED", "PENDING_APPROVAL", "APPROVED", "EXECUTING"})
_AT_BROKER = frozenset({"SUBMITTED", "OPEN", "TRIGGER_PENDING", "PARTIALLY_FILLED", "COMPLETE"})


class _Engine(EngineProcess):
    """An engine that takes absence for proven after HORIZON_S seconds; the real wait is three minutes."""

    program = PROGRAM


class _CarelessEngine(EngineProcess):
    """One whose stores do not sync what they confirm."""

    program = (str(Path(__file__).with_name("careless_engine.py")),)


@dataclass
class Signal:
    """One signal: its number is its quantity; ``intent`` once it was answered."""

    number: int
    symbol: str
    intent: str = ""
    refused: bool = False

    def body(self) -> dict[str, Any]:
        """What is sent, the same at every try."""
        return {
            "symbol": self.symbol,
            "exchange": "NSE",
            "transactionType": "BUY" if self.number % 2 else "SELL",
            "quantity": self.number,
            "orderType": "MARKET",
            "productType": "MIS",
        }


@dataclass
class Outcome:
    """What all cuts together left: numbers of signals, and words for each thing that is wrong."""

    cuts: int = 0
    acked: int = 0
    placed: int = 0
    named: Counter[str] = field(default_factory=Counter)
    unanswered: int = 0
    kills: int = 0
    forgotten_bytes: int = 0
    ready_s: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


class Draft:
    """An engine's folder with databases and an account, made on the machine's own disk, and its exchange."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "draft"
        self.exchange = ExchangeProcess(home / "exchange")
        self.source = ("", "")
        self.environment: dict[str, str] = {}

    def __enter__(self) -> Self:
        exchange = self.exchange.start()
        self.environment = {
            **OPEN_LIMITS,
            "ENGINE__RISK__MAX_OPEN_POSITIONS": "none",
            "ENGINE__RISK__MAX_DAILY_LOSS_PCT": "none",
            "ENGINE__RISK__CIRCUIT_BREAKER_FAILURES": "none",
            "ENGINE__LIMITS__API_PER_MINUTE": "1000000",
            "ENGINE__SIGNALS__MAX_AGE_S": str(MAX_AGE_S),
            "TEST_HORIZON_S": str(HORIZON_S),
            **kite_environment(exchange.base_url),
        }
        engine = _Engine(self.folder, **self.environment)
        try:
            engine.start()
            keys = {"api_key": exchange.api_key, "api_secret": exchange.api_secret}
            self.source = set_up(engine, access_token=exchange.login(), **keys)
            assert engine.stop() == 0
        except BaseException:
            exchange.stop()
            raise
        finally:
            engine.kill()
        return self

    def __exit__(self, *_: object) -> None:
        self.exchange.stop()


class Rig:
    """One disk with a copy of the draft, and the engines that live on it one after another."""

    def __init__(self, disk: LossyDisk, draft: Draft, *, seed: int, careless: bool = False) -> None:
        self._disk = disk
        self._exchange = draft.exchange
        self._source = draft.source
        self._rng = random.Random(f"engine {seed}")
        self._engine = (_CarelessEngine if careless else _Engine)(disk.path, **draft.environment)
        self._earlier = len(draft.exchange.places())
        # an intent's id follows from its key and its tag from that: no two rigs of one exchange share keys
        self._name = f"{'careless' if careless else 'careful'}-{seed}"
        self._signals: list[Signal] = []
        self._is_killed = False
        self.outcome = Outcome()
        disk.load(draft.folder)

    def cut_once(self) -> None:
        """Start, send for a random time, cut the power; the next start must find everything."""
        self._start()
        ending = threading.Event()
        senders = [threading.Thread(target=self._send, args=(number, ending)) for number in range(_SENDERS)]
        for sender in senders:
            sender.start()
        time.sleep(0.3 + self._rng.random() * 1.5)
        if self._rng.random() < 0.5:
            self._kill_switch("enable")
            self.outcome.kills += 1
            time.sleep(self._rng.random() * 0.02)
        process = self._engine.process
        assert process is not None
        seed = self._rng.choice([None, self._rng.getrandbits(32)])
        self.outcome.forgotten_bytes += self._disk.cut([process.pid], seed=seed)["bytes"]
        ending.set()
        for sender in senders:
            sender.join(30)
        self._engine.kill()
        self.outcome.cuts += 1

    def finish(self) -> Outcome:
        """Start once more, wait until every signal has ended, and compare with the exchange's record."""
        self._start()
        deadline = time.monotonic() + _SETTLED_WITHIN_S
        while True:
            intents = self._intents()
            live = [intent for intent in intents.values() if intent["status"] in _LIVE or _is_looked_for(intent)]
            if not live or time.monotonic() > deadline:
                break
            time.sleep(0.2)
        self.outcome.wrong += [f"has not ended: {_told(intent)}" for intent in live]
        self._compare(intents)
        if self._engine.get("/audit/verify")["ok"] is not True:
            self.outcome.wrong.append("the audit chain does not verify")
        assert self._engine.stop() == 0
        return self.outcome

    def look(self) -> Outcome:
        """Start once more and look whether all that was accepted is there."""
        self._start()
        return self.outcome

    def stop(self) -> None:
        """End the engine and its servers, if they run."""
        process = self._engine.process
        if process is not None and process.poll() is None:
            self._disk.cut([process.pid])
        self._engine.kill()

    def _start(self) -> None:
        self._disk.mount()
        began = time.monotonic()
        self._engine.start()
        self.outcome.ready_s.append(time.monotonic() - began)
        switch = next(row for row in self._engine.get("/risk/killswitch/status")["scopes"] if row["scope"] == "global")
        if switch["enabled"] != self._is_killed:
            self.outcome.wrong.append(
                f"start {self.outcome.cuts}: the kill switch was {self._is_killed}, is {switch['enabled']}"
            )
        if switch["enabled"]:
            self._kill_switch("disable")
        self._send_again()
        acked = {signal.intent for signal in self._signals if signal.intent}
        missing = acked - self._intents().keys()
        self.outcome.wrong += [
            f"start {self.outcome.cuts}: {intent} was accepted and is not there" for intent in missing
        ]

    def _kill_switch(self, verb: str) -> None:
        force = {"force": True} if verb == "disable" else {"squareOff": False}
        body = {"scope": "global", "reason": "power is about to fail"} | force
        answer = self._engine.request("POST", f"/risk/killswitch/{verb}", json=body)
        assert answer.status_code == 200, answer.text
        self._is_killed = verb == "enable"

    def _send(self, number: int, ending: threading.Event) -> None:
        due = time.monotonic() + number / RATE
        with httpx.Client() as client:
            while not ending.wait(max(0.0, due - time.monotonic())):
                due += _SENDERS / RATE
                signal = self._new_signal()
                try:
                    self._post(signal, client)
                except httpx.TransportError:
                    return

    def _new_signal(self) -> Signal:
        with _counting:
            number = len(self._signals) + 1
            signal = Signal(number, _SYMBOLS[number % len(_SYMBOLS)])
            self._signals.append(signal)
        return signal

    def _post(self, signal: Signal, client: httpx.Client) -> None:
        answer = self._engine.signal(
            signal.body(), key=f"{self._name}-{signal.number}", source=self._source, client=client
        )
        if answer.status_code == 202:
            signal.intent = answer.json()["data"]["intentId"]
        elif answer.status_code == 503:
            signal.refused = True
        else:
            self.outcome.wrong.append(f"signal {signal.number}: {answer.status_code} {answer.text}")

    def _send_again(self) -> None:
        with httpx.Client() as client:
            for signal in self._signals:
                if not signal.intent and not signal.refused:
                    self.outcome.unanswered += 1
                    self._post(signal, client)

    def _intents(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        cursor: dict[str, str] = {}
        while True:
            answer = self._engine.request("GET", "/signals/intents", params={"limit": 200} | cursor)
            assert answer.status_code == 200, answer.text
            page = answer.json()
            found |= {intent["id"]: intent for intent in page["data"]}
            if not page["page"]["nextCursor"]:
                return found
            cursor = {"cursor": page["page"]["nextCursor"]}

    def _compare(self, intents: dict[str, dict[str, Any]]) -> None:
        outcome = self.outcome
        taken = Counter(
            int(event.params["quantity"]) for event in self._exchange.places()[self._earlier :] if event.accepted
        )
        outcome.wrong += [f"signal {number} was placed {times} times" for number, times in taken.items() if times > 1]
        known = Counter(intent["quantity"] for intent in intents.values())
        outcome.wrong += [f"signal {number} has {times} intents" for number, times in known.items() if times > 1]
        for signal in self._signals:
            if not signal.intent:
                if taken[signal.number]:
                    outcome.wrong.append(f"signal {signal.number} was refused, and placed")
                continue
            outcome.acked += 1
            intent = intents.get(signal.intent)
            if intent is None:
                outcome.wrong.append(f"signal {signal.number} is lost")
            elif taken[signal.number]:
                outcome.placed += 1
                if not any(order["status"] in _AT_BROKER for order in intent["orders"]):
                    outcome.wrong.append(f"the exchange has an order for {_told(intent)}")
            elif any(order["status"] in _AT_BROKER for order in intent["orders"]):
                outcome.wrong.append(f"the exchange has no order for {_told(intent)}")
            else:
                outcome.named[f"{intent['status']}: {str(intent['reason']).partition(':')[0]}"] += 1


_counting = threading.Lock()


def _is_looked_for(intent: dict[str, Any]) -> bool:
    return any(order["status"] in ("PENDING", "SUBMITTING", "UNKNOWN") for order in intent["orders"])


def _told(intent: dict[str, Any]) -> str:
    orders = [(order["status"], order["statusMessage"], order["tag"]) for order in intent["orders"]]
    return f"signal {intent['quantity']} of {intent['symbol']}: {intent['status']} {intent['reason']} {orders}"


@contextmanager
def draft() -> Iterator[Draft]:
    """Make a draft for any number of rigs."""
    with tempfile.TemporaryDirectory(prefix="lossy-draft-") as home, Draft(Path(home)) as made:
        yield made


def cuts(count: int, made: Draft, *, seed: int) -> Outcome:
    """Cut the power of one engine *count* times and return what that left."""
    with LossyDisk() as disk:
        rig = Rig(disk, made, seed=seed)
        try:
            for _ in range(count):
                rig.cut_once()
            return rig.finish()
        finally:
            rig.stop()


def careless_cut(made: Draft, *, seed: int) -> Outcome:
    """Cut the power once of an engine whose stores do not sync, and return what the next start misses."""
    with LossyDisk() as disk:
        rig = Rig(disk, made, seed=seed, careless=True)
        try:
            rig.cut_once()
            return rig.look()
        finally:
            rig.stop()


def first_starts(count: int, *, seed: int, longest_s: float = 8.0) -> list[str]:
    """Cut the power within the first *longest_s* seconds of *count* engines' lives; return what is wrong then.

    An engine that was cut short at its first start must start, and know what it has told.
    """
    rng = random.Random(f"first start {seed}")
    wrong: list[str] = []
    for number in range(count):
        with LossyDisk() as disk:
            disk.mount()
            engine = EngineProcess(disk.path, ENGINE__LIMITS__API_PER_MINUTE="1000000")
            engine.start(wait=False)
            process = engine.process
            assert process is not None
            try:
                time.sleep(rng.random() * longest_s)
                # a line that the operator has not seen when the power fails was not told
                told = bool(engine.base_url)
                disk.cut([process.pid], seed=rng.choice([None, rng.getrandbits(32)]))
                engine.kill()
                source = engine.source if told else None
                disk.mount()
                try:
                    engine.start()
                except RuntimeError as error:
                    wrong.append(f"first start {number}: {error}")
                    continue
                engine.login()
                if source is not None:
                    body = Signal(1, "INFY").body()
                    answer = engine.signal(body, key="first", source=source)
                    if answer.status_code != 202:
                        wrong.append(f"first start {number}: the source that was told is answered {answer.text}")
            finally:
                process = engine.process
                if process is not None and process.poll() is None:
                    disk.cut([process.pid])
                engine.kill()
    return wrong
