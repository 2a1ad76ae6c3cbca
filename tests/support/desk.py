"""A scripted world for the execution actors: clock, ledger store and broker in memory, real actors on them.

Time is trio's (use the autojump clock). The store keeps the constraints of the real schema that execution
leans on; the broker notes every request that left and whether the ledger had its row at that instant.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
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
from engine.actors.risk import RiskActor, RiskContext
from engine.actors.risk_messages import Parked
from engine.broker.base import (
    Broker,
)
from engine.clock import trading_day
from engine.domain.audit import AuditDraft
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
)
from engine.domain.instruments import Instrument, InstrumentBook
from engine.domain.killswitch import KillRecord, KillSwitches
from engine.domain.limits import RiskLimits
from engine.domain.order import Order
from engine.domain.signal import Signal
from engine.store.ledger import Write
from tests.support.memory_broker import MemoryBroker, accept, answer, not_sent, slow_gate
from tests.support.memory_store import MemoryStore
from tests.support.trade import ACCOUNT, NOW, STRATEGY, USER, an_order


class TrioClock:
    """The engine's clock driven by trio's; ``step`` (seconds) moves the wall clock alone, `sleep` both."""

    def __init__(self, start: datetime = NOW) -> None:
        self._start = start
        self._zero = trio.current_time()
        self.step = 0.0

    def sleep(self, seconds: float) -> None:
        """Be as after a sleep of the machine: trio's own clock does not count it."""
        self._zero -= seconds

    def now(self) -> datetime:
        return self._start + timedelta(seconds=trio.current_time() - self._zero + self.step)

    def boottime_ns(self) -> int:
        return int((trio.current_time() - self._zero + 1000) * 1e9)


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
        self.forgotten: list[UUID] = []
        self.alerts: list[tuple[str, str]] = []
        self.parked: list[Parked] = []
        self.leads = True
        self.suspect: str | None = None
        self.look_at_kill_file: Callable[[], None] = lambda: None
        self.statuses: list[tuple[UUID, AccountStatus]] = []
        self.trips: list[tuple[str, str]] = []
        self.prices: dict[str, Decimal] = {"NSE:INFY": Decimal(100), "NSE:SBIN": Decimal(100), "NSE:TCS": Decimal(100)}
        self.price_asks: list[str] = []
        # when a price was last confirmed (boot time), for those that are not all the time
        self.confirmed: dict[str, int] = {}
        self.book = BOOK
        self.learned: list[tuple[str, int]] = []
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
            note_queued=self.crew.note_queued,
            forget_broker=self.forgotten.append,
            alert=lambda subject, text: self.alerts.append((subject, text)),
            account_status_now=lambda account: self.directory.accounts[account].status,
            clock_suspect=lambda: self.suspect,
            max_age_s=60.0,
            still_leads=self._still_leads,
            instrument=lambda exchange, symbol: self.book.get(exchange, symbol),
            last_price=lambda exchange, symbol: self.prices.get(f"{exchange}:{symbol}"),
            protection=lambda account: self.directory.accounts[account].market_protection,
            learn_freeze=self._learn_freeze,
            look_at_kill_file=lambda: self.look_at_kill_file(),
            **pace,
        )
        self.risk_context = RiskContext(
            clock=self.clock,
            ledger=self.ledger,
            directory=self.directory,
            instruments=lambda: self.book,
            kill=self.kill,
            defaults=RiskLimits(**(limits or {})),
            rules=Rules(enforce_hours=False, max_age_s=60),
            orders=self.crew,
            prices=self,
            tag=self.context.tag,
            epoch=1,
            load=lambda user, day: self.store.user(user, day),
            alert=lambda subject, text: self.alerts.append((subject, text)),
            park=self._park,
            clock_suspect=lambda: self.suspect,
            load_late=lambda user, day: self.store.ended_short(user, day),
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
            self.brokers[account_id].now = lambda: self.clock.now()
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

    def confirmed_ns(self, key: str) -> int | None:
        return self.confirmed.get(key, self.clock.boottime_ns())

    async def ensure(self, key: str) -> Decimal | None:
        self.price_asks.append(key)
        await trio.sleep(self.price_delay_s)
        return self.prices.get(key)

    def _learn_freeze(self, exchange: Exchange, symbol: str, quantity: int) -> bool:
        self.learned.append((f"{exchange}:{symbol}", quantity))
        return True

    async def _still_leads(self) -> bool:
        return self.leads

    def _park(self, parked: Parked) -> list[Write]:
        self.parked.append(parked)
        return [Write(sql="INSERT INTO dead_letters", args=(parked.intent.id, parked.account))]

    def _risk(self, user_id: UUID) -> RiskActor:
        return RiskActor(user_id, self.risk_context)

    def _executor(self, account_id: UUID) -> Executor:
        return Executor(account_id, USER, self.context)

    # what tests call

    def freeze(self, quantity: int) -> None:
        """Let the exchange take at most *quantity* units of INFY in one order."""
        self.book = InstrumentBook([make_instrument("INFY", 1, freeze_quantity=quantity), make_instrument("SBIN", 2)])

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
            # a 429 that placed nothing is the one answer after which an order may leave once more
            ids = [order.id for order in broker.left if order.tag not in broker.rate_limited]
            tags = [order.tag for order in broker.left]
            assert len(tags) == len(set(tags)), "an attempt left twice"
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

__all__ = [
    "SOURCE",
    "MemoryBroker",
    "MemoryStore",
    "World",
    "a_delivery",
    "a_signal",
    "accept",
    "answer",
    "crashed",
    "not_sent",
    "running",
    "slow_gate",
]
