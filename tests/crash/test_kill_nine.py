"""kill -9 in the middle of a stream of signals: the exchange's own record says what became of each."""

import threading
from collections import Counter
from pathlib import Path

import httpx
import pytest

from engine.exchange.events import OrderRequested
from engine.exchange.record import read_record
from tests.support.engine import EngineProcess, market_order

pytestmark = pytest.mark.crash

SIGNALS = 200
SYMBOLS = ("SBIN", "INFY", "TCS", "ITC", "WIPRO", "NTPC", "RELIANCE", "TITAN")


def engine_on(folder: Path) -> EngineProcess:
    """Return an engine with the servers and the exchange that it brings along."""
    return EngineProcess(folder, ENGINE__RISK__PRICE_BAND_PCT="none")


def accepted_tags(engine: EngineProcess) -> Counter[str]:
    """Return how often the exchange took an order with each of our tags."""
    record = engine.data_dir / "exchange" / "record.jsonl"
    return Counter(
        event.params["tag"]
        for event in read_record(record)
        if isinstance(event, OrderRequested) and event.action == "place" and event.accepted and "tag" in event.params
    )


@pytest.mark.parametrize("kill_after", [40])
def test_kill_nine_amid_signals_loses_none_and_doubles_none(tmp_path: Path, kill_after: int) -> None:
    engine = engine_on(tmp_path).start()
    answered: dict[str, str] = {}
    reached = threading.Event()
    lock = threading.Lock()
    numbers = iter(range(SIGNALS))

    def send() -> None:
        with httpx.Client() as client:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                body = market_order(SYMBOLS[number % len(SYMBOLS)])
                try:
                    answer = engine.signal(body, key=f"k{number}", client=client)
                except httpx.TransportError:
                    return
                if answer.status_code == 202:
                    with lock:
                        answered[f"k{number}"] = answer.json()["data"]["intentId"]
                        if len(answered) >= kill_after:
                            reached.set()

    source = engine.source
    senders = [threading.Thread(target=send) for _ in range(8)]
    for sender in senders:
        sender.start()
    assert reached.wait(30)
    engine.kill()
    for sender in senders:
        sender.join(30)

    engine.start()
    try:
        assert len(answered) >= kill_after

        def ended() -> bool:
            found = {intent["id"]: intent for intent in engine.get("/signals/intents", limit=200)}
            missing = [intent for intent in answered.values() if intent not in found]
            assert missing == [], "answered but not there"
            # while an order is looked for, those of its symbol wait for it
            looked_for = {
                intent["symbol"]
                for intent in found.values()
                if any(order["status"] == "UNKNOWN" for order in intent["orders"])
            }
            live = ("RECEIVED", "APPROVED", "EXECUTING")
            return not [i for i in found.values() if i["status"] in live and i["symbol"] not in looked_for]

        engine.wait_for("every answered signal ending or being looked for", ended, within_s=90)
        tags = accepted_tags(engine)
        assert [tag for tag, count in tags.items() if count > 1] == []
        for key, intent in answered.items():
            orders = engine.get(f"/signals/intents/{intent}")["orders"]
            assert len(orders) == 1, str(engine.get(f"/signals/intents/{intent}"))
            sent = tags.get(orders[0]["tag"], 0)
            if orders[0]["status"] in ("COMPLETE", "OPEN"):
                assert sent == 1, f"{key}: {orders[0]['status']} but the exchange has {sent}"
            else:
                # a named state that says why not: never placed, or still being looked for
                assert orders[0]["status"] in ("UNKNOWN", "PENDING", "EXPIRED"), orders[0]
                assert sent == 0 or orders[0]["status"] == "UNKNOWN"
        # every signal, sent again, is recognised
        repeat = engine.signal(market_order(SYMBOLS[0]), key=next(iter(answered)), source=source)
        assert repeat.status_code in (202, 409)
        assert repeat.status_code == 409 or repeat.json()["data"]["duplicate"] is True
        assert engine.get("/audit/verify")["ok"] is True
        assert engine.stop() == 0
    finally:
        engine.kill()
