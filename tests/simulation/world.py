"""The world of one scenario: servers, broker, hosts, senders and faults around the lives of the engine."""

import hashlib
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import trio

from engine.domain.delivery import Delivery
from engine.domain.directory import Directory
from engine.domain.enums import OrderStatus
from engine.domain.order import Order
from engine.errors import Fenced
from tests.simulation import database, scheduling, valkey
from tests.simulation.book import Book, Weather
from tests.simulation.exits import Exits
from tests.simulation.life import CANARY, KEYS, Killed, Life, make_directory
from tests.simulation.market import Market
from tests.simulation.plan import START, Kind, Plan

_EPS = 0.051
HORIZON_S = 180.0
_STALEST_S = 6.0  # how far the broker's book may lag behind and be believed


class Violation(Exception):
    """An oracle says no."""


class Kill(msgspec.Struct):
    """One use of the kill switch, as far as anybody can rely on it."""

    scope: str
    life: Life
    at: float
    filed: dict[int, float] = {}
    stored: float | None = None
    over: bool = False


class World:
    """Everything outside the engine, and what it noted of what the engine did."""

    def __init__(self, plan: Plan, *, trace: bool = False, to_first: bool = False) -> None:
        self.plan = plan
        self.to_first = to_first
        self.enough = trio.Event()
        self.dice = scheduling.stream(plan.seed, "world")
        self.trace: list[str] = []
        self.tracing = trace
        self.digest = hashlib.sha256()
        self.violations: list[str] = []
        self.logs: list[Any] = []
        self.db = database.Server(self)
        self.valkey = valkey.Server(self)
        self.weather = Weather()
        self.market = Market(self)
        self.exits = Exits(self)
        self.books: dict[UUID, Book] = {
            account_id: Book(self, account_id) for account_id in self.directory({}).accounts
        }
        self.kill_files: list[list[Any]] = [[], []]
        self.wall_offset = [0.0, 0.0]
        self.lives: list[Life] = []
        self.kills: list[Kill] = []
        self.triggers: list[dict[str, Any]] = []
        self.healed = trio.Event()
        self.over = False
        self.quote_s = self.dice.choice((0.01, 0.5, 2.5))
        self.restart_s = self.dice.choice((0.05, 0.5, 3.0))
        self.acked: dict[UUID, tuple[Delivery, float]] = {}
        self.tried: dict[UUID, list[tuple[Delivery, float]]] = {}
        self.left_at: dict[tuple[UUID, int], float] = {}
        self.sent: list[tuple[float, Life, Order, str]] = []
        self.last_sent: dict[tuple[Any, ...], datetime] = {}
        self.refused: dict[UUID, str] = {}
        self.placed: set[UUID] = set()
        self.senders = len(plan.wishes)
        self.faults_open = 0
        self.counts: Counter[str] = Counter()
        self.forged: set[str] = set()
        self.wiped: list[tuple[UUID, Life | None]] = []
        self.nursery: trio.Nursery

    # what everybody asks

    def directory(self, statuses: dict[UUID, Any]) -> Directory:
        """Return a directory of this plan's users."""
        return make_directory(self.plan, statuses, {})

    def accounts_of(self, user_id: UUID) -> set[UUID]:
        """Return the accounts of a user."""
        return {a.id for a in self.directory({}).accounts.values() if a.user_id == user_id}

    def broker_now(self) -> datetime:
        """Return the broker's own time, which never steps."""
        return START + timedelta(seconds=trio.current_time())

    def note(self, what: str, **fields: Any) -> None:
        """Put something on the trace; the digest of the trace is what two runs of a seed must share."""
        self.counts[what] += 1
        self.exits.noted(what)
        text = f"{trio.current_time():9.3f} {what:<12}" + "".join(f" {k}={_short(v)}" for k, v in fields.items())
        self.digest.update(text.encode())
        if self.tracing:
            self.trace.append(text)

    def broken(self, oracle: str, text: str) -> None:
        """Note that an oracle says no."""
        line = f"{oracle} at {trio.current_time():.3f}: {text}"
        self.note("VIOLATION", text=line)
        self.violations.append(line)
        if self.to_first:
            self.enough.set()

    # what ports tell

    def committed(self, batch: Any, epoch: int) -> None:
        """A batch is on disk."""
        for order in (*batch.new_orders, *batch.order_updates):
            self.note("order", id=order.id, status=order.status.value, attempt=order.attempt, why=order.status_message)
            if order.status is OrderStatus.EXPIRED and (order.status_message or "").startswith("UNPLACED"):
                self._unplaced(order)
            if order.status in (OrderStatus.REJECTED, OrderStatus.FAILED) and order.broker_order_id is None:
                self.refused[order.id] = order.status_message or ""
        for intent in (*batch.new_intents, *batch.intent_updates):
            self.note("intent", id=intent.id, status=intent.status.value, why=intent.reason)

    def _unplaced(self, order: Order) -> None:
        """An order is said not to be at the broker: it must not have been taken within the time that is waited."""
        book = self.books[order.account_id]
        left_at = self.left_at.get((order.id, order.attempt), float("inf"))
        if self._lost_count(order):
            return
        for broker_id, order_id in book.order_of.items():
            if order_id == order.id and book.accepted_at[broker_id] < left_at + HORIZON_S - _STALEST_S:
                self.broken("O4", f"order {order.id} was called never placed, and the broker had it in time")

    def _lost_count(self, order: Order) -> bool:
        """Whether nobody can tell how long ago an order was sent: its sender ended and the wall clock was set."""
        return self.plan.clock_steps and any(
            sent.id == order.id and life.ended.is_set() for _, life, sent, _ in self.sent
        )

    def accepted(self, order: Order, broker_id: str, way: str) -> None:
        """The broker takes an order in, perhaps long after it was asked to."""
        self.note("accepted", order=order, broker_id=broker_id)
        self.exits.accepted(order, broker_id)
        row = self.db.orders.get(order.id)
        left_at = self.left_at.get((order.id, order.attempt), float("-inf"))
        in_time = trio.current_time() < left_at + HORIZON_S - _STALEST_S and not self._lost_count(order)
        if row is not None and row.status is OrderStatus.EXPIRED and in_time:
            self.broken("O4", f"order {order.id} was called never placed before the broker's time was over")
        if way not in ("rate_limited_lie", "rejected"):
            self.placed.add(order.id)

    def lease_taken(self, epoch: int, life: Life) -> None:
        """A life leads now."""
        self.note("lease", epoch=epoch, life=life)

    def flag_stored(self, value: dict[str, Any]) -> None:
        """A kill record is in the database."""
        for kill in self.kills:
            if kill.scope == value["scope"] and kill.stored is None and value["state"] != "ARMED":
                kill.stored = trio.current_time()

    def filed(self, host: int, record: Any) -> None:
        """A kill record is on a host's disk."""
        for kill in self.kills:
            if kill.scope == record.scope and record.enabled:
                kill.filed.setdefault(host, trio.current_time())

    def passed(self, life: Life, name: str) -> None:
        """A life passes a named point: what was armed for it goes off."""
        for trigger in self.triggers:
            if trigger["point"] != name or (trigger["kind"] is Kind.FREEZE and not life.is_ready):
                continue
            trigger["count"] -= 1
            if trigger["count"] <= 0:
                self.triggers.remove(trigger)
                if trigger["kind"] is Kind.FREEZE:
                    self.note("stopped", life=life, at=name)
                    scheduling.stop(life)
                    scheduling.start_as(None, self.nursery, self.thaw, life, trigger["lasts"])
                else:
                    self.kill(life, name)
                return

    async def thaw(self, life: Life, seconds: float) -> None:
        """Let a stopped life go on after a while."""
        self.note("frozen", life=life)
        await trio.sleep(seconds)
        self.note("thawed", life=life)
        if not life.is_dead:
            scheduling.resume(life)

    def way_of_post(self, order: Order) -> str:
        """Return what becomes of the next order request."""
        waiting = self.weather.posts or (["cut_after"] if self.weather.trouble else ["ok"])
        return self.market.way_of_post(order, waiting.pop(0))

    def left(self, life: Life, order: Order, way: str) -> None:
        """The first byte of an order request leaves: everything that must be true now is looked at."""
        now = trio.current_time()
        self.note("sent", life=life, order=order, attempt=order.attempt, way=way)
        self.sent.append((now, life, order, way))
        row = self.db.orders.get(order.id)
        if row is None or row.tag != order.tag or row.status is not OrderStatus.SUBMITTING:
            state = "no row" if row is None else f"row is {row.status} {row.tag}"
            self.broken("O3", f"order {order.id} attempt {order.attempt} left without its write-ahead: {state}")
        written = self.db.written_at.get(order.tag, now)
        if now - written > 5.0 + _EPS:
            self.broken("O5", f"order {order.id} left {now - written:.2f} s after its row was on disk")
        answered = life.answered_tags.get(order.tag)
        if answered is not None and now - answered > 1.0 + _EPS:
            self.broken("O5", f"order {order.id} left {now - answered:.2f} s after the ledger had answered")
        self._fresh(order, now)
        if now - life.renewed_at > 10.0 + _EPS:
            self.broken(
                "F43", f"{life.name} sent order {order.id} on a lease renewed {now - life.renewed_at:.1f} s ago"
            )
        lease = self.db.lease
        if lease is None or lease["epoch"] != life.epoch:
            self.broken("F43", f"{life.name} sent order {order.id} while another engine holds the lease")
        self._not_killed(life, order, now)
        self.exits.left(order, now)
        if (order.id, order.attempt) in self.left_at:
            self.broken("O2", f"order {order.id} attempt {order.attempt} left twice")
        self.left_at[order.id, order.attempt] = now
        key = (order.account_id, order.symbol, order.product_type)
        for other_id in self.db.unresolved.values():
            other = self.db.orders[other_id]
            if other_id != order.id and (other.account_id, other.symbol, other.product_type) == key:
                self.broken("O8", f"orders {order.id} and {other_id} are unresolved at once")
        if not self.plan.clock_steps:
            place = (order.account_id, order.symbol)
            if order.created_at < self.last_sent.get(place, order.created_at):
                self.broken("O8", f"order {order.id} was overtaken by one accepted later")
            self.last_sent[place] = order.created_at

    def _fresh(self, order: Order, now: float) -> None:
        if order.is_attached or order.intent_id is None:
            self.exits.fresh(order, now)
            return
        tries = self.tried.get(order.intent_id) if order.intent_id else None
        if not tries:
            self.broken("O1", f"order {order.id} is of an intent that nobody asked for")
            return
        delivery, _ = tries[0]
        wanted = delivery.items[0].signal
        is_whole = order.quantity == wanted.quantity or self.exits.is_slice(order, wanted.quantity)
        if not is_whole or (order.symbol, order.transaction_type) != (wanted.symbol, wanted.transaction_type):
            self.broken("O1", f"order {order.id} is not what was asked for")
        latest = max(at for _, at in tries)
        age = now - latest
        grace = 3.0 if self.plan.clock_steps else 1.0
        if age > self.plan.max_age_s + grace + _EPS:
            self.broken("O5", f"order {order.id} left {age:.2f} s after its signal")

    def _not_killed(self, life: Life, order: Order, now: float) -> None:
        covered = {
            "global", f"user:{order.user_id}", f"account:{order.account_id}", f"strategy:{order.strategy_id}"
        }  # fmt: skip
        for kill in self.kills:
            if kill.over or kill.scope not in covered:
                continue
            known = kill.life is life
            filed = kill.filed.get(life.host)
            known = known or (filed is not None and filed < life.loaded_at)
            known = known or (kill.stored is not None and kill.stored < life.loaded_at)
            if known:
                self.broken("O6", f"{life.name} sent order {order.id} while {kill.scope} was blocked")

    def arrived(self, order: Order) -> None:
        """A request is at the broker."""
        self.note("arrived", order=order, attempt=order.attempt)

    def died(self, life: Life, group: BaseExceptionGroup[Any]) -> None:
        """A life ended by an error that has a word."""
        causes = list(leaves(group))
        self.note("died", life=life, why="; ".join(f"{type(e).__name__}: {e}" for e in causes))
        if self.over or life.is_dead:
            return
        if life.is_ready and not any(isinstance(e, Fenced) or "lease" in str(e) for e in causes):
            self.broken("O10", f"{life.name} ended by itself: {causes}")

    def crashed(self, life: Life, group: BaseExceptionGroup[Any]) -> None:
        """A life ended by an error that nobody foresaw."""
        if not self.over and not life.is_dead:
            self.broken("O10", f"{life.name} crashed: {[repr(e) for e in leaves(group)]}")

    # lives

    def kill(self, life: Life, why: str = "") -> None:
        """End a life as kill -9 does: nothing of it runs any more, its ports are dead."""
        if life.is_dead:
            return
        self.note("killed", life=life, at=why)
        life.is_dead = True
        life.is_ready = False
        scheduling.stop(life)
        life.ended.set()

    async def host(self, host: int) -> None:
        """Start an engine on a host, and another one whenever it has ended."""
        while not self.over:
            life = Life(self, host, len(self.lives) + 1)
            self.lives.append(life)
            scheduling.start_as(life, self.nursery, life.main)
            await life.ended.wait()
            if not self.over:
                await trio.sleep(self.restart_s)

    @property
    def excused(self) -> set[UUID]:
        """Intents that two faults at once destroyed: the journal wiped, and the engine that knew them dead."""
        return {intent_id for intent_id, life in self.wiped if life is None or life.is_dead}

    def leader(self) -> Life | None:
        """Return the life that takes signals now."""
        ready = [life for life in self.lives if life.is_ready and not life.told_to_stop.is_set()]
        return max(ready, key=lambda life: life.epoch) if ready else None

    def someone(self) -> Life | None:
        """Return the leader, or a life that is on its way."""
        alive = [life for life in self.lives if not life.ended.is_set()]
        return self.leader() or (alive[-1] if alive else None)

    async def in_life(self, life: Life, work: Callable[[], Any], *, timeout_s: float) -> Any:
        """Do *work* in a task of *life*; None when no answer came, else (result, error)."""
        done = trio.Event()
        box: list[Any] = []

        async def handler() -> None:
            try:
                box.append((await work(), None))
            except Exception as error:
                box.append((None, error))
            done.set()

        if life.nursery is None or life.ended.is_set():
            return None
        scheduling.start_as(life, life.nursery, handler)
        with trio.move_on_after(timeout_s):
            await done.wait()
        return box[0] if box and not life.is_dead else None


def leaves(group: BaseException) -> list[BaseException]:
    if isinstance(group, BaseExceptionGroup):
        return [leaf for each in group.exceptions for leaf in leaves(each)]
    found = [group]
    if group.__cause__ is not None:
        found += leaves(group.__cause__)
    return found


def _short(value: Any) -> str:
    if isinstance(value, UUID):
        return value.hex[:6]
    if isinstance(value, Order):
        return f"{value.id.hex[:6]}/{value.symbol}"
    if isinstance(value, Life):
        return value.name
    if isinstance(value, float):
        return f"{value:.3f}"
    return str(value)


__all__ = ["CANARY", "KEYS", "Kill", "Killed", "Violation", "World"]
