"""What must be true of a world after its crashes, told by the exchange's record (reliability.md 1.2).

Every finding is a sentence; no finding is a pass. O1 loss, O2 duplicates, O3 orphans and write-ahead, O4 agreement,
O5 freshness, O6 kill switch, O7 audit, O8 order, O9 silence.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta

import msgspec

from engine.exchange.events import OrderChanged, OrderRequested, Traded
from engine.exchange.orders import TERMINAL
from engine.exchange.record import read_record
from tests.support.crash_exchange import API_SECRET
from tests.support.crash_world import World
from tests.support.engine import PASSWORD

_SEND_WINDOW = timedelta(seconds=1)
_ENDED = ("REJECTED", "EXECUTED", "PARTIAL", "FAILED", "CANCELLED", "EXPIRED")


class Truth:
    """The exchange's record, read."""

    def __init__(self, world: World) -> None:
        self.placed: list[OrderRequested] = []
        self.filled: Counter[str] = Counter()
        self.status: dict[str, str] = {}
        for event in read_record(world.record):
            if isinstance(event, OrderRequested):
                if event.action == "place":
                    self.placed.append(event)
                stages = event.stages
                if event.order is not None:
                    self.status[event.order.order_id] = event.order.status
                order_id = event.order_id
            elif isinstance(event, Traded):
                self.filled[event.order_id] += event.trade.quantity
                stages, order_id = (event.stage,), event.order_id
            elif isinstance(event, OrderChanged):
                stages, order_id = event.stages, event.order_id
            else:
                continue
            for stage in stages:
                if order_id is not None and stage.status is not msgspec.UNSET:
                    self.status[order_id] = stage.status

    @property
    def accepted(self) -> list[OrderRequested]:
        """The orders that it took."""
        return [event for event in self.placed if event.accepted]


def findings(world: World) -> list[str]:
    """Return what is wrong; the engine runs, and everything has ended."""
    truth = Truth(world)
    return [
        *_loss(world),
        *_duplicates(truth),
        *_write_ahead(world, truth),
        *_agreement(world, truth),
        *_freshness(world, truth),
        *_kill_switch(world, truth),
        *_audit(world),
        *_sequence(world, truth),
        *_silence(world),
    ]


def dead_letters(world: World) -> set[str]:
    """Return the keys of the deliveries that were set aside for a person: a named state, with an alert."""
    subjects = world.rows("SELECT subject FROM dead_letters WHERE subject LIKE 'delivery:%'")
    return {row["subject"].split(":", 2)[2] for row in subjects}


def _loss(world: World) -> Iterator[str]:
    rows: defaultdict[str, list[dict[str, str]]] = defaultdict(list)
    for row in world.rows("SELECT id, idempotency_key, status, quantity FROM trade_intents"):
        rows[row["idempotency_key"]].append(row)
    buried = dead_letters(world)
    for signal in world.signals:
        found = rows.pop(f"key:{signal.key}", [])
        if not found and f"key:{signal.key}" in buried:
            continue
        if len(found) != 1:
            yield f"O1 {signal.key} has {len(found)} intents"
        elif found[0]["status"] not in _ENDED:
            yield f"O1 {signal.key} is {found[0]['status']}"
        elif found[0]["id"] != signal.intent_id:
            yield f"O1 {signal.key} was answered {signal.intent_id}, its intent is {found[0]['id']}"
    for key in rows:
        yield f"O1 an intent that nobody sent: {key}"


def _duplicates(truth: Truth) -> Iterator[str]:
    for what, counted in (
        ("signal", Counter(event.params["quantity"] for event in truth.accepted)),
        ("tag", Counter(event.tag_sent for event in truth.accepted)),
    ):
        for name, count in counted.items():
            if count > 1:
                yield f"O2 {what} {name} was placed {count} times"


def _write_ahead(world: World, truth: Truth) -> Iterator[str]:
    seen = {}
    for line in world.witness.read_text().splitlines():
        look = json.loads(line)
        seen[look["tag"]] = look["seen"]
    known = {row["tag"]: row for row in world.rows("SELECT tag, submitting_at, epoch FROM orders")}
    for event in truth.placed:
        tag = event.tag_sent or ""
        if seen.get(tag) is None:
            yield f"O3 order {tag} arrived before its write-ahead was committed"
        if event.accepted and tag not in known:
            yield f"O3 the exchange took order {tag}, which the ledger does not have"
        elif tag in known and known[tag]["submitting_at"] is None:
            yield f"O3 order {tag} was sent and has no submitting_at"


def _agreement(world: World, truth: Truth) -> Iterator[str]:
    by_tag = {event.tag_sent: event for event in truth.accepted}
    booked: Counter[str] = Counter()
    for row in world.rows("SELECT order_id, sum(quantity)::bigint AS quantity FROM fills GROUP BY order_id"):
        booked[row["order_id"]] = row["quantity"]
    orders = world.rows("SELECT id, tag, status, broker_order_id, filled_quantity, status_message FROM orders")
    for order in orders:
        event = by_tag.get(order["tag"])
        name = f"order {order['tag']} ({order['status']}, {order['status_message']})"
        if event is None:
            if order["broker_order_id"] is not None or order["filled_quantity"] or order["status"] == "COMPLETE":
                yield f"O4 {name} is not at the exchange"
            continue
        order_id = event.order_id or ""
        if order["broker_order_id"] != order_id:
            yield f"O4 {name} is {order_id} at the exchange and {order['broker_order_id']} here"
        if not order["filled_quantity"] == booked[order["id"]] == truth.filled[order_id]:
            yield (
                f"O4 {name}: filled {order['filled_quantity']}, fills {booked[order['id']]}, "
                f"at the exchange {truth.filled[order_id]}"
            )
        if truth.status[order_id] not in TERMINAL or truth.status[order_id] != order["status"]:
            yield f"O4 {name} is {truth.status[order_id]} at the exchange"
    ours = {row["symbol"]: row["quantity"] for row in world.rows("SELECT symbol, quantity FROM positions")}
    theirs = {row["tradingsymbol"]: row["quantity"] for row in world.ask_exchange("/portfolio/positions")["net"]}
    for symbol in ours.keys() | theirs.keys():
        if ours.get(symbol, 0) != theirs.get(symbol, 0):
            yield f"O4 position {symbol}: {ours.get(symbol, 0)} here, {theirs.get(symbol, 0)} at the exchange"
    if world.rows("SELECT 1 FROM order_events WHERE anomaly"):
        yield f"O4 anomalies: {world.rows('SELECT order_id, detail FROM order_events WHERE anomaly')[:3]}"


def _freshness(world: World, truth: Truth) -> Iterator[str]:
    deadlines = {
        row["tag"]: datetime.fromisoformat(row["deadline"]) for row in world.rows("SELECT tag, deadline FROM orders")
    }
    for event in truth.placed:
        deadline = deadlines.get(event.tag_sent)
        if deadline is not None and event.at > deadline + _SEND_WINDOW:
            yield f"O5 order {event.tag_sent} arrived {(event.at - deadline).total_seconds():.1f} s past its deadline"


def _kill_switch(world: World, truth: Truth) -> Iterator[str]:
    for since, until in world.blocked:
        for event in truth.placed:
            if since < event.at.timestamp() < until:
                yield f"O6 order {event.tag_sent} arrived while everything was blocked"


def _audit(world: World) -> Iterator[str]:
    verdict = world.api.data("GET", "/audit/verify")
    if verdict["ok"] is not True:
        yield f"O7 the audit chain does not verify: {verdict}"
    for row in world.rows(
        "SELECT o.tag, e.n AS events, coalesce(a.n, 0) AS records FROM orders o"
        " JOIN (SELECT order_id, count(*) AS n FROM order_events GROUP BY 1) e ON e.order_id = o.id"
        " LEFT JOIN (SELECT subject, count(*) AS n FROM audit_logs WHERE action LIKE 'ORDER\\_%' GROUP BY 1) a"
        " ON a.subject = 'order:' || o.id WHERE e.n <> coalesce(a.n, 0)"
    ):
        yield f"O7 order {row['tag']} has {row['events']} events and {row['records']} audit records"


def _sequence(world: World, truth: Truth) -> Iterator[str]:
    latest: dict[str, int] = {}
    for event in truth.placed:
        symbol, number = event.params["tradingsymbol"], int(event.params["quantity"])
        if number < latest.get(symbol, 0):
            yield f"O8 {symbol}: {number} was sent after {latest[symbol]}"
        latest[symbol] = number


def _silence(world: World) -> Iterator[str]:
    secrets = {
        "the API secret": API_SECRET,
        "the access token": world.access_token,
        "the source's secret": world.source[1],
        "the password": PASSWORD,
    }
    folder = world.zygote.folder
    for path in [world.zygote.log, *folder.rglob("*.log"), *folder.rglob("*.wal")]:
        content = path.read_bytes()
        for name, secret in secrets.items():
            if secret and secret.encode() in content:
                yield f"O9 {name} is in {path.name}"
    dump = json.dumps(world.rows("SELECT content FROM audit_logs")) + json.dumps(
        world.rows("SELECT detail FROM order_events")
    )
    for name, secret in secrets.items():
        if secret and secret in dump:
            yield f"O9 {name} is in the ledger"
