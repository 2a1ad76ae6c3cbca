"""A scripted world for the execution actors: clock, ledger store and broker in memory, real actors on them.

Time is trio's (use the autojump clock). The store keeps the constraints of the real schema that execution
leans on; the broker notes every request that left and whether the ledger had its row at that instant.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any
from uuid import UUID, uuid5

import msgspec
import trio
import trio.lowlevel

from engine.actors.audit_writer import AuditWriter
from engine.actors.crew import Crew
from engine.actors.decision import Rules
from engine.actors.executor import Executor, ExecutorContext
from engine.actors.ledger_entry import LedgerEntry
from engine.actors.order_desk import AccountHistory
from engine.actors.risk import RiskActor, RiskContext, UserHistory
from engine.broker.base import (
    Accepted,
    Broker,
    BrokerAuthError,
    BrokerOrder,
    BrokerPositions,
    BrokerTrade,
    Gate,
    NotSent,
    OrderNotCommitted,
    PlaceOutcome,
    WriteOutcome,
)
from engine.clock import trading_day
from engine.domain.audit import GENESIS, AuditDraft
from engine.domain.delivery import Delivery, Item
from engine.domain.directory import Account, Directory, Strategy, Target
from engine.domain.enums import (
    AccountStatus,
    Exchange,
    IntentStatus,
    KillState,
    OrderStatus,
    OrderType,
    ProductType,
    SizingMode,
    TransactionType,
    Variety,
)
from engine.domain.instruments import Instrument, InstrumentBook
from engine.domain.killswitch import KillRecord, KillSwitches
from engine.domain.limits import RiskLimits
from engine.domain.order import Order
from engine.domain.signal import Signal
from engine.errors import BrokerUnavailable, StoreUnavailable
from engine.store.ledger import Batch, Head, LedgerRefused
from tests.support.trade import ACCOUNT, NOW, STRATEGY, USER, an_order

LIVE = ("PENDING", "SUBMITTING", "SUBMITTED", "OPEN", "TRIGGER_PENDING", "PARTIALLY_FILLED", "UNKNOWN")
WATCHED = ("CANCELLED", "REJECTED", "EXPIRED", "FAILED")


class TrioClock:
    """The engine's clock driven by trio's; ``step`` (seconds) moves the wall clock alone."""

    def __init__(self, start: datetime = NOW) -> None:
        self._start = start
        self._zero = trio.current_time()
        self.step = 0.0

    def now(self) -> datetime:
        return self._start + timedelta(seconds=trio.current_time() - self._zero + self.step)

    def boottime_ns(self) -> int:
        return int((trio.current_time() - self._zero + 1000) * 1e9)


class MemoryStore:
    """The ledger's store in memory, with the constraints that matter and scripted failures."""

    def __init__(self) -> None:
        self.intents: dict[UUID, Any] = {}
        self.intent_events: list[Any] = []
        self.orders: dict[UUID, Order] = {}
        self.order_events: list[Any] = []
        self.fills: dict[tuple[UUID, str], Any] = {}
        self.positions: dict[object, tuple[Any, date]] = {}
        self.audit: list[Any] = []
        self.writes: list[Any] = []
        self.log: list[tuple[UUID, OrderStatus, int]] = []
        self.delay_s = 0.001
        self.is_down = False
        self.lose_answers = 0
        self.refuse: Callable[[Batch], bool] = lambda _batch: False
        self.commits = 0

    async def commit(self, batch: Batch, *, epoch: int, timeout_s: float) -> None:
        await trio.sleep(self.delay_s)
        if self.is_down:
            raise StoreUnavailable("scripted: down")
        if self.refuse(batch):
            raise LedgerRefused("scripted: refused")
        self._check(batch)
        self._apply(batch)
        self.commits += 1
        if self.lose_answers:
            self.lose_answers -= 1
            raise StoreUnavailable("scripted: the answer was lost")

    def _check(self, batch: Batch) -> None:
        for intent in batch.new_intents:
            if intent.id in self.intents:
                raise LedgerRefused("trade_intents_pkey")
        for order in batch.new_orders:
            if order.id in self.orders:
                raise LedgerRefused("orders_pkey")
        after = self.orders | {o.id: o for o in batch.new_orders}
        after |= {o.id: o for o in batch.order_updates if o.id in after}
        tags = [order.tag for order in after.values()]
        if len(tags) != len(set(tags)):
            raise LedgerRefused("orders_tag_key")
        unresolved = [
            (o.account_id, o.exchange, o.symbol, o.product_type) for o in after.values() if o.status.is_unresolved
        ]
        if len(unresolved) != len(set(unresolved)):
            raise LedgerRefused("orders_one_unresolved")

    def _apply(self, batch: Batch) -> None:
        for intent in [*batch.new_intents, *batch.intent_updates]:
            self.intents[intent.id] = intent
        self.intent_events += batch.intent_events
        for order in batch.new_orders:
            self.orders[order.id] = order
            self.log.append((order.id, order.status, order.attempt))
        for order in batch.order_updates:
            if order.id in self.orders:
                self.orders[order.id] = order
                self.log.append((order.id, order.status, order.attempt))
        self.order_events += batch.order_events
        for fill in batch.fills:
            self.fills.setdefault((fill.order_id, fill.trade_id), fill)
        for position, day, _ in batch.positions:
            self.positions[position.key] = (position, day)
        for write in batch.writes:
            self.writes.append(write)
            if write.sql.startswith("DELETE FROM fills"):
                self.fills.pop((write.args[0], write.args[1]), None)
        self.audit += batch.audit

    async def head(self, *, timeout_s: float = 5.0) -> Head:
        await trio.lowlevel.checkpoint()
        if self.is_down:
            raise StoreUnavailable("scripted: down")
        return Head(seq=0, hash=GENESIS) if not self.audit else Head(seq=self.audit[-1].seq, hash=self.audit[-1].hash)

    async def has(self, head: Head, *, timeout_s: float = 5.0) -> bool:
        await trio.sleep(0)
        if self.is_down:
            raise StoreUnavailable("scripted: down")
        return any((record.seq, record.hash) == (head.seq, head.hash) for record in self.audit)

    async def known_intents(self, ids: Sequence[UUID], *, timeout_s: float = 5.0) -> set[UUID]:
        await trio.lowlevel.checkpoint()
        return {i for i in ids if i in self.intents}

    async def close(self) -> None:
        return None

    # what actors start from; as engine.store.history reads it

    async def account(self, account_id: UUID, day: date) -> AccountHistory:
        await trio.sleep(self.delay_s)
        if self.is_down:
            raise StoreUnavailable("scripted: down")
        mine = sorted(
            (o for o in self.orders.values() if o.account_id == account_id), key=lambda o: (o.created_at, o.id)
        )
        watched = [o for o in mine if o.status in LIVE or (o.trading_day == day and o.status in WATCHED)]
        ids = {o.id for o in watched}
        return AccountHistory(
            live_orders=watched,
            fills=[f for f in self.fills.values() if f.order_id in ids],
            positions=[(p, d) for p, d in self.positions.values() if p.account_id == account_id],
            broker_ids_today=[o.broker_order_id for o in mine if o.broker_order_id and o.trading_day == day],
            sent_today=sum(o.submitting_at is not None and o.trading_day == day for o in mine),
        )

    async def user(self, user_id: UUID, day: date) -> UserHistory:
        await trio.sleep(self.delay_s)
        if self.is_down:
            raise StoreUnavailable("scripted: down")
        mine = [o for o in self.orders.values() if o.user_id == user_id]
        live = [i for i in self.intents.values() if i.user_id == user_id and not i.status.is_terminal]
        return UserHistory(
            positions=[p for p, _ in self.positions.values()],
            live_orders=[o for o in mine if o.status in LIVE],
            orders_today=[(o.account_id, o.created_at) for o in mine if o.trading_day == day],
            live_intents=[
                (
                    i,
                    [
                        (o.id, o.status, o.quantity, o.filled_quantity, o.status_message)
                        for o in mine
                        if o.intent_id == i.id
                    ],
                )
                for i in live
            ],
        )


Answer = Callable[["MemoryBroker", Order, Gate], Awaitable[PlaceOutcome]]


class MemoryBroker(Broker):
    """A broker whose every answer can be scripted; by default it accepts, and orders stay OPEN."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._ids = count(100_000_001)
        self.rows: dict[str, BrokerOrder] = {}
        self.shown_trades: list[BrokerTrade] = []
        self.left: list[Order] = []
        self.gated: list[tuple[Order, str]] = []
        self.unproven: list[Order] = []
        self.answers: list[Answer] = []
        self.latency_s = 0.01
        self.book_down: Exception | None = None
        self.trades_down: Exception | None = None
        self.hide: set[str] = set()
        self.reads = 0
        self.read_latency_s = 0.005
        self.cancels: list[str] = []
        self.cancel_answer: WriteOutcome | None = None
        self.cancel_latency_s = 0.01
        self.last_price = Decimal(100)
        self.position_rows: tuple[Any, ...] = ()
        self.closed = False
        self.on_left: Callable[[Order], None] = lambda _order: None
        self.times: list[float] = []

    # what scripted answers are made of

    def passes(self, order: Order, gate: Gate) -> NotSent | None:
        """Ask the gate and note the request as gone; NotSent when the gate says no."""
        reason = gate()
        if reason is not None:
            self.gated.append((order, reason))
            return NotSent(reason=reason, gated=True)
        row = self._store.orders.get(order.id)
        if row is None or row.status is not OrderStatus.SUBMITTING or row.tag != order.tag:
            self.unproven.append(order)
        self.left.append(order)
        self.times.append(trio.current_time())
        self.on_left(order)
        return None

    def put(self, order: Order, status: OrderStatus = OrderStatus.OPEN, **fields: Any) -> str:
        """Have the order in the book; returns the broker's id."""
        broker_id = str(next(self._ids))
        defaults: dict[str, Any] = {
            "broker_order_id": broker_id,
            "status": status,
            "raw_status": status.value,
            "quantity": order.quantity,
            "exchange": order.exchange.value,
            "symbol": order.symbol,
            "transaction_type": order.transaction_type.value,
            "product": order.product_type.value,
            "tag": order.tag,
            "order_timestamp": NOW,
        }
        self.rows[broker_id] = BrokerOrder(**(defaults | fields))
        return broker_id

    def change(self, broker_id: str, status: OrderStatus, *, filled: int | None = None, avg: str = "100") -> None:
        """Let the row move; a fill shows no trade by itself."""
        row = self.rows[broker_id]
        filled = row.filled_quantity if filled is None else filled
        self.rows[broker_id] = msgspec.structs.replace(
            row, status=status, filled_quantity=filled, average_price=Decimal(avg) if filled else Decimal(0)
        )

    def trade(self, broker_id: str, quantity: int, price: str = "100", trade_id: str | None = None) -> None:
        """Show a trade in the trade book."""
        row = self.rows[broker_id]
        self.shown_trades.append(
            BrokerTrade(
                trade_id=trade_id or f"t{len(self.shown_trades) + 1}",
                broker_order_id=broker_id,
                exchange=row.exchange,
                symbol=row.symbol,
                product=row.product,
                transaction_type=row.transaction_type,
                quantity=quantity,
                price=Decimal(price),
                filled_at=NOW,
            )
        )

    def fill(self, broker_id: str, quantity: int | None = None, price: str = "100") -> None:
        """Fill (the rest of) an order: book and trade book agree."""
        row = self.rows[broker_id]
        rest = row.quantity - row.filled_quantity
        quantity = rest if quantity is None else quantity
        status = OrderStatus.COMPLETE if quantity == rest else OrderStatus.OPEN
        self.trade(broker_id, quantity, price)
        self.change(broker_id, status, filled=row.filled_quantity + quantity, avg=price)

    # the protocol

    async def place(self, order: Order, gate: Gate) -> PlaceOutcome:
        if order.status is not OrderStatus.SUBMITTING:
            raise OrderNotCommitted("scripted broker: not SUBMITTING")
        if self.answers:
            return await self.answers.pop(0)(self, order, gate)
        return await accept(self, order, gate)

    async def cancel(
        self, broker_order_id: str, variety: Variety, *, parent_order_id: str | None = None, gate: Gate | None = None
    ) -> WriteOutcome:
        self.cancels.append(broker_order_id)
        await trio.sleep(self.cancel_latency_s)
        if self.cancel_answer is not None:
            return self.cancel_answer
        if broker_order_id in self.rows and self.rows[broker_order_id].status.is_working:
            self.change(broker_order_id, OrderStatus.CANCELLED)
        return Accepted(broker_order_id=broker_order_id)

    async def replace(self, *_args: Any, **_fields: Any) -> WriteOutcome:
        return NotSent(reason="scripted broker: not served")

    async def orders(self) -> list[BrokerOrder]:
        self.reads += 1
        shown = [row for row in self.rows.values() if row.broker_order_id not in self.hide]
        await trio.sleep(self.read_latency_s)
        if self.book_down is not None:
            raise self.book_down
        return shown

    async def order_history(self, broker_order_id: str) -> list[BrokerOrder]:
        return [self.rows[broker_order_id]]

    async def trades(self) -> list[BrokerTrade]:
        await trio.sleep(self.read_latency_s)
        if self.trades_down is not None:
            raise self.trades_down
        return list(self.shown_trades)

    async def order_trades(self, broker_order_id: str) -> list[BrokerTrade]:
        return [t for t in self.shown_trades if t.broker_order_id == broker_order_id]

    async def positions(self) -> BrokerPositions:
        await trio.sleep(self.read_latency_s)
        return BrokerPositions(net=self.position_rows)

    async def holdings(self) -> list[Any]:
        return []

    async def instruments(self, exchange: str | None = None) -> list[Instrument]:
        return []

    async def last_prices(self, keys: Sequence[str]) -> dict[str, Decimal]:
        await trio.sleep(self.read_latency_s)
        return dict.fromkeys(keys, self.last_price)

    async def margins(self) -> Any:
        raise BrokerUnavailable("scripted broker: not served")

    async def profile(self) -> Any:
        raise BrokerUnavailable("scripted broker: not served")

    async def aclose(self) -> None:
        self.closed = True


async def accept(broker: MemoryBroker, order: Order, gate: Gate) -> PlaceOutcome:
    """Take the order and say so."""
    refused = broker.passes(order, gate)
    if refused is not None:
        return refused
    broker_id = broker.put(order)
    await trio.sleep(broker.latency_s)
    return Accepted(broker_order_id=broker_id)


def answer(outcome: PlaceOutcome, *, after_s: float = 0.01, placed: OrderStatus | None = None) -> Answer:
    """An answer *outcome* to a request that left; *placed* puts the order in the book in that state."""

    async def script(broker: MemoryBroker, order: Order, gate: Gate) -> PlaceOutcome:
        refused = broker.passes(order, gate)
        if refused is not None:
            return refused
        if placed is not None:
            broker.put(order, placed)
        await trio.sleep(after_s)
        return outcome

    return script


def not_sent(reason: str = "connection refused") -> Answer:
    """Zero bytes left."""

    async def script(_broker: MemoryBroker, _order: Order, _gate: Gate) -> PlaceOutcome:
        await trio.lowlevel.checkpoint()
        return NotSent(reason=reason)

    return script


def slow_gate(seconds: float) -> Answer:
    """The connection takes its time before the gate is asked; then the order is accepted."""

    async def script(broker: MemoryBroker, order: Order, gate: Gate) -> PlaceOutcome:
        await trio.sleep(seconds)
        return await accept(broker, order, gate)

    return script


class World:
    """Everything around the actors of one user and some accounts."""

    def __init__(self, *, accounts: int = 1, limits: dict[str, Any] | None = None, **pace: int) -> None:
        self.clock = TrioClock()
        self.store = MemoryStore()
        self.ledger = AuditWriter(self.store, epoch=1)  # type: ignore[arg-type]
        self.kill = KillSwitches()
        self.directory = Directory()
        self.brokers: dict[UUID, MemoryBroker] = {}
        self.lease = True
        self.opened: list[UUID] = []
        self.open_delay_s = 0.0
        self.open_error: Exception | None = None
        self.alerts: list[tuple[str, str]] = []
        self.statuses: list[tuple[UUID, AccountStatus]] = []
        self.trips: list[tuple[str, str]] = []
        self.prices: dict[str, Decimal] = {"NSE:INFY": Decimal(100), "NSE:SBIN": Decimal(100), "NSE:TCS": Decimal(100)}
        self.price_asks: list[str] = []
        self.price_delay_s = 0.0
        self.crew = Crew(
            make_risk=self._risk, make_executor=self._executor, trip=lambda s, w: self.trips.append((s, w))
        )
        pace = {"orders_per_second": 10, "orders_per_minute": 400, "orders_per_day": 5000} | pace
        self.context = ExecutorContext(
            clock=self.clock,
            ledger=self.ledger,
            kill=self.kill,
            holds_lease=lambda: self.lease,
            tag=lambda order_id, attempt: f"T{order_id.hex[:12].upper()}A{attempt}",
            epoch=1,
            open_broker=self._open,
            load=lambda account, day: self.store.account(account, day),
            tell_risk=self.crew.tell_risk,
            account_status=self._status,
            multiplier=lambda _exchange, _symbol: Decimal(1),
            alert=lambda subject, text: self.alerts.append((subject, text)),
            **pace,
        )
        self.risk_context = RiskContext(
            clock=self.clock,
            ledger=self.ledger,
            directory=self.directory,
            instruments=lambda: BOOK,
            kill=self.kill,
            defaults=RiskLimits(**(limits or {})),
            rules=Rules(enforce_hours=False, max_age_s=60),
            orders=self.crew,
            prices=self,
            tag=self.context.tag,
            epoch=1,
            load=lambda user, day: self.store.user(user, day),
        )
        for number in range(accounts):
            account_id = UUID(int=ACCOUNT.int + number * 1000)
            self.directory.put_account(
                Account(
                    id=account_id,
                    user_id=USER,
                    label=f"A{number}",
                    broker="paper",
                    capital=Decimal(1_000_000),
                    status=AccountStatus.ACTIVE,
                    api_key="k",
                )
            )
            self.brokers[account_id] = MemoryBroker(self.store)
        targets = tuple(
            Target(account_id=a, mode=SizingMode.MULTIPLIER, value=Decimal(1)) for a in self.directory.accounts
        )
        self.directory.put_strategy(Strategy(id=STRATEGY, user_id=USER, name="default", targets=targets))
        self._numbers = count(1)

    # what the actors call

    async def _open(self, account_id: UUID) -> Broker:
        self.opened.append(account_id)
        await trio.sleep(self.open_delay_s)
        if self.open_error is not None:
            raise self.open_error
        return self.brokers[account_id]

    def _status(self, account_id: UUID, status: AccountStatus, reason: str | None) -> None:
        self.statuses.append((account_id, status))
        account = self.directory.accounts[account_id]
        self.directory.put_account(msgspec.structs.replace(account, status=status, status_reason=reason))

    def get(self, key: str) -> Decimal | None:
        return self.prices.get(key)

    def watch(self, key: str) -> None:
        return None

    async def ensure(self, key: str) -> Decimal | None:
        self.price_asks.append(key)
        await trio.sleep(self.price_delay_s)
        return self.prices.get(key)

    def _risk(self, user_id: UUID) -> RiskActor:
        return RiskActor(user_id, self.risk_context)

    def _executor(self, account_id: UUID) -> Executor:
        return Executor(account_id, USER, self.context)

    # what tests call

    @property
    def broker(self) -> MemoryBroker:
        return self.brokers[ACCOUNT]

    @property
    def executor(self) -> Executor:
        return self.crew.executor(ACCOUNT)

    def order(self, symbol: str = "INFY", **fields: Any) -> Order:
        """An approved order, later than all before it."""
        number = next(self._numbers)
        now = self.clock.now() + timedelta(microseconds=number)
        defaults: dict[str, Any] = {
            "id": uuid5(ACCOUNT, str(number)),
            "symbol": symbol,
            "strategy_id": STRATEGY,
            "tag": f"T{number:04d}",
            "trading_day": trading_day(now),
            "deadline": now + timedelta(seconds=60),
            "created_at": now,
            "updated_at": now,
        }
        return an_order(**(defaults | fields))

    def submit(self, order: Order) -> Order:
        """Admit and record an order as a risk actor does; return it as admitted."""
        admitted = self.crew.admit(order)
        self.ledger.append(
            LedgerEntry(
                new_orders=[admitted],
                audit=[AuditDraft(at=self.clock.now(), actor="test", action="ADMIT", subject="order", content={})],
                on_commit=lambda: self.crew.committed([admitted]),
                on_fail=lambda _error: self.crew.withdraw([admitted]),
            )
        )
        return admitted

    def block(self, scope: str = "global") -> None:
        held = self.kill.records.get(scope)
        version = 1 if held is None else held.version + 1
        self.kill.put(self._record(scope, version, KillState.BLOCKED))
        self.crew.wake()

    def release(self, scope: str = "global") -> None:
        self.kill.put(self._record(scope, self.kill.records[scope].version + 1, KillState.ARMED))
        self.crew.wake()

    def _record(self, scope: str, version: int, state: KillState) -> KillRecord:
        return KillRecord(scope=scope, version=version, state=state, reason="test", actor="test", at=self.clock.now())

    def status(self, order: Order) -> OrderStatus:
        return self.store.orders[order.id].status

    def message(self, order: Order) -> str:
        return self.store.orders[order.id].status_message or ""

    def row(self, order: Order) -> Order:
        return self.store.orders[order.id]

    def intent_status(self, intent_id: UUID) -> IntentStatus:
        status: IntentStatus = self.store.intents[intent_id].status
        return status

    def held(self, symbol: str = "INFY", account: UUID = ACCOUNT) -> int:
        """Net units of the account's position as the ledger has it."""
        return sum(
            p.quantity for p, _ in self.store.positions.values() if (p.symbol, p.account_id) == (symbol, account)
        )

    async def until(self, condition: Callable[[], bool], *, timeout_s: float = 600) -> None:
        """Wait until *condition* holds."""
        with trio.fail_after(timeout_s):
            while not condition():
                await trio.sleep(0.01)

    async def until_status(self, order: Order, *statuses: OrderStatus, timeout_s: float = 600) -> None:
        await self.until(lambda: order.id in self.store.orders and self.status(order) in statuses, timeout_s=timeout_s)

    def check(self) -> None:
        """What holds in every run: nothing twice, nothing without its row, one unresolved order an instrument."""
        for broker in self.brokers.values():
            assert not broker.unproven, f"left without a committed row: {broker.unproven}"
            ids = [order.id for order in broker.left]
            assert len(ids) == len(set(ids)), "an order left twice"


def a_signal(symbol: str = "INFY", **fields: Any) -> Signal:
    """A signal to buy 10 at 100."""
    defaults: dict[str, Any] = {
        "symbol": symbol,
        "exchange": Exchange.NSE,
        "transaction_type": TransactionType.BUY,
        "quantity": 10,
        "order_type": OrderType.LIMIT,
        "product_type": ProductType.MIS,
        "price": Decimal(100),
    }
    return Signal(**(defaults | fields))


SOURCE = UUID(int=77)


def a_delivery(world: World, *signals: Signal, key: str = "k1", body: bytes = b"1" * 32, **fields: Any) -> Delivery:
    """A delivery of the default strategy, received now."""
    defaults: dict[str, Any] = {
        "source_id": SOURCE,
        "strategy_id": STRATEGY,
        "user_id": USER,
        "idempotency_key": key,
        "body_sha256": body,
        "received_at": world.clock.now(),
        "request_id": None,
        "items": tuple(Item(position=i, signal=s) for i, s in enumerate(signals or (a_signal(),))),
    }
    return Delivery(**(defaults | fields))


class Running:
    """Starts, kills and restarts the actors of a world."""

    def __init__(self, world: World, nursery: trio.Nursery) -> None:
        self.world = world
        self._nursery = nursery
        self._scopes: list[trio.CancelScope] = []

    async def start(self) -> None:
        for run in (
            self.world.ledger.run,
            self.world.crew.users.run,
            self.world.crew.accounts.run,
            self.world.crew.run,
        ):
            await self._nursery.start(self._under_scope, run)

    async def _under_scope(self, run: Any, *, task_status: trio.TaskStatus[None]) -> None:
        with trio.CancelScope() as scope:
            self._scopes.append(scope)
            await run(task_status=task_status)

    async def restart_executor(self, account_id: UUID = ACCOUNT) -> None:
        await self.world.crew.accounts.restart_child(f"executor:{account_id}")

    async def restart_risk(self) -> None:
        await self.world.crew.users.restart_child(f"risk:{USER}")

    def stop(self) -> None:
        for scope in self._scopes:
            scope.cancel()


@asynccontextmanager
async def running(world: World) -> AsyncIterator[Running]:
    """Run the ledger and the crew of a world; at the end the invariants are checked."""
    async with trio.open_nursery() as nursery:
        run = Running(world, nursery)
        await run.start()
        world.crew.executor(ACCOUNT)
        await world.until(lambda: world.executor.is_ready, timeout_s=30)
        yield run
        nursery.cancel_scope.cancel()
    world.check()


async def crashed(world: World, **pace: int) -> World:
    """The world after the engine died and a new one started on the same store and brokers."""
    after = World(accounts=len(world.brokers), **pace)
    after.clock = world.clock
    after.store.__dict__.update(world.store.__dict__)
    for account, broker in world.brokers.items():
        broker._store = after.store
        after.brokers[account] = broker
    after.context = msgspec.structs.replace(after.context, clock=world.clock)
    after.risk_context = msgspec.structs.replace(after.risk_context, clock=world.clock)
    after._numbers = world._numbers
    await trio.lowlevel.checkpoint()
    return after


def make_instrument(symbol: str, token: int, **fields: Any) -> Instrument:
    """An NSE share with lots of one."""
    defaults: dict[str, Any] = {
        "token": token,
        "exchange": Exchange.NSE,
        "symbol": symbol,
        "lot_size": 1,
        "tick_size": Decimal("0.05"),
    }
    return Instrument(**(defaults | fields))


BOOK = InstrumentBook([make_instrument(symbol, 1 + i) for i, symbol in enumerate(("INFY", "SBIN", "TCS", "NOPRICE"))])
