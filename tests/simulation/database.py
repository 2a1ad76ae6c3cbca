"""PostgreSQL as the engine sees it: one server that outlives engines, and what they hold of it.

Every change is atomic and durable, checks the fencing epoch and the constraints of the real schema. Answers can be
late or lost, transactions can be committed after whoever sent them has given up or died.
"""

from collections.abc import Callable, Sequence
from datetime import date
from typing import Any
from uuid import UUID

import trio

from engine.domain.audit import GENESIS
from engine.domain.enums import Exchange, OrderStatus
from engine.domain.freeze import FreezeOrigin, FreezeQuantity
from engine.domain.order import Order
from engine.errors import Fenced, StoreUnavailable
from engine.journal import keys
from engine.store import history
from engine.store.ledger import Batch, Head, LedgerRefused
from tests.simulation.scheduling import start_as
from tests.support.memory_store import BOOK_WRITES, apply_books

LIVE = frozenset(
    OrderStatus(s)
    for s in ("PENDING", "SUBMITTING", "SUBMITTED", "OPEN", "TRIGGER_PENDING", "PARTIALLY_FILLED", "UNKNOWN")
)
WATCHED = frozenset(OrderStatus(s) for s in ("CANCELLED", "REJECTED", "EXPIRED", "FAILED"))

_WAY_S = 0.0004


class Server:
    """The database's server and what it has on disk."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.intents: dict[UUID, Any] = {}
        self.intent_events: list[Any] = []
        self.orders: dict[UUID, Order] = {}
        self.order_events: list[Any] = []
        self.tags: dict[str, UUID] = {}
        self.written_at: dict[str, float] = {}
        self.broker_ids: dict[tuple[Any, ...], UUID] = {}
        self.unresolved: dict[tuple[Any, ...], UUID] = {}
        self.fills: dict[tuple[UUID, str], Any] = {}
        self.positions: dict[object, tuple[Any, date]] = {}
        self.books: dict[object, tuple[Any, date]] = {}
        self.trips: list[tuple[Any, date]] = []
        self.results: dict[tuple[UUID, date, str], Any] = {}
        self.audit: list[Any] = []
        self.cursor: tuple[UUID, str] | None = None
        self.flags: dict[str, Any] = {}
        self.freeze: dict[tuple[str, str], FreezeQuantity] = {}
        self.rounds: dict[str, str] = {}
        self.account_status: dict[UUID, tuple[Any, Any]] = {}
        self.dead_letters: dict[UUID, Any] = {}
        self.attempts: dict[tuple[UUID, str], int] = {}
        self.lease: dict[str, Any] | None = None
        self.refusals: list[str] = []
        self.commits: list[tuple[float, int, Batch]] = []
        # faults
        self.down = 0
        self.slow_s = 0.0
        self.lose = 0
        self.renew_hangs = 0
        self.generation = 0
        # safety of the store itself, for bugs to take away
        self.checks_epoch = True
        self.checks_repeats = True

    def crash(self) -> None:
        """The server dies: what it had not committed is gone."""
        self.down += 1
        self.generation += 1

    # writing

    def apply(self, batch: Batch, epoch: int) -> None:
        """Commit a batch, or refuse it whole."""
        if self.lease is None or self.lease["epoch"] != epoch:
            if self.checks_epoch:
                raise Fenced(f"the lease of epoch {epoch} has been taken by another engine")
            self.world.broken("F43", f"the ledger took a batch of epoch {epoch}, which leads no more")
        try:
            self._check(batch)
        except LedgerRefused as refused:
            self.refusals.append(str(refused))
            raise
        for intent in [*batch.new_intents, *batch.intent_updates]:
            self.intents[intent.id] = intent
        self.intent_events += batch.intent_events
        for order in batch.new_orders:
            self._put(order)
        for order in batch.order_updates:
            if order.id in self.orders:
                self._put(order)
        self.order_events += batch.order_events
        for fill in batch.fills:
            self.fills.setdefault((fill.order_id, fill.trade_id), fill)
        for position, day, _ in batch.positions:
            self.positions[position.key] = (position, day)
        for write in batch.writes:
            if write.sql in BOOK_WRITES:
                apply_books(self, write)
            else:
                self._write(write.sql.strip(), write.args)
        if batch.cursor is not None:
            self._move_cursor(batch.cursor.epoch, batch.cursor.position)
        self.audit += batch.audit
        self.commits.append((trio.current_time(), epoch, batch))
        self.world.committed(batch, epoch)

    def _check(self, batch: Batch) -> None:
        for intent in batch.new_intents:
            if self.checks_repeats and intent.id in self.intents:
                raise LedgerRefused(f"trade_intents_pkey {intent.id}")
        for order in batch.new_orders:
            if self.checks_repeats and order.id in self.orders:
                raise LedgerRefused(f"orders_pkey {order.id}")
        changed = {o.id: o for o in batch.new_orders}
        changed |= {o.id: o for o in batch.order_updates if o.id in self.orders or o.id in changed}
        unresolved: dict[tuple[Any, ...], UUID] = {}
        for order in changed.values():
            held = self.tags.get(order.tag)
            if held not in (None, order.id):
                raise LedgerRefused(f"orders_tag_key {order.tag}")
            if order.broker_order_id is not None:
                found = self.broker_ids.get((order.account_id, order.trading_day, order.broker_order_id))
                if found not in (None, order.id):
                    raise LedgerRefused(f"orders_broker_id {order.broker_order_id}")
            if order.status.is_unresolved:
                key = _key(order)
                other = self.unresolved.get(key)
                if unresolved.get(key) is not None or (
                    other not in (None, order.id) and (other not in changed or changed[other].status.is_unresolved)
                ):
                    raise LedgerRefused(f"orders_one_unresolved {order.symbol}")
                unresolved[key] = order.id
        if batch.audit:
            last = self.audit[-1] if self.audit else None
            if batch.audit[0].seq != (last.seq if last else 0) + 1:
                raise LedgerRefused("audit_logs_pkey")
            if batch.audit[0].prev_hash != (last.hash if last else GENESIS):
                raise LedgerRefused("audit chain")

    def _put(self, order: Order) -> None:
        self.orders[order.id] = order
        self.tags.setdefault(order.tag, order.id)
        if order.status is OrderStatus.SUBMITTING:
            self.written_at.setdefault(order.tag, trio.current_time())
        if order.broker_order_id is not None:
            self.broker_ids[order.account_id, order.trading_day, order.broker_order_id] = order.id
        key = _key(order)
        if order.status.is_unresolved:
            self.unresolved[key] = order.id
        elif self.unresolved.get(key) == order.id:
            del self.unresolved[key]

    def _move_cursor(self, epoch: UUID, position: str) -> None:
        # forward only, and only in the journal that the row names
        if self.cursor is not None and self.cursor[0] == epoch:
            self.cursor = max(self.cursor, (epoch, position), key=lambda held: keys.order_of(held[1]))

    def _write(self, sql: str, args: tuple[Any, ...]) -> None:
        if sql == history.CURSOR.strip():
            self.cursor = (args[0], args[1])
        elif sql.startswith("DELETE FROM fills"):
            self.fills.pop((args[0], args[1]), None)
        elif sql.startswith("INSERT INTO system_flags") and args[0] == "broker-rounds":
            self.rounds |= args[1]
        elif sql.startswith("INSERT INTO freeze_quantities"):
            exchange, symbol, quantity, origin, as_of, _ = args
            self.freeze[exchange, symbol] = FreezeQuantity(
                exchange=Exchange(exchange), symbol=symbol, quantity=quantity, origin=FreezeOrigin(origin), as_of=as_of
            )
        elif sql.startswith("INSERT INTO system_flags"):
            held = self.flags.get(args[0])
            if held is None or held[1] < args[2] or (held[1] == args[2] and args[1]["state"] != "ARMED"):
                self.flags[args[0]] = (args[1], args[2])
                self.world.flag_stored(args[1])
        elif sql.startswith("UPDATE kite_accounts SET status"):
            self.account_status[args[0]] = (args[1], args[2])
        elif sql.startswith("INSERT INTO dead_letters"):
            self.dead_letters.setdefault(args[0], args)
        elif sql.startswith("UPDATE dead_letters"):
            pass  # nobody requeues here
        elif sql.startswith(("INSERT INTO pnl_points", "DELETE FROM pnl_points")):
            pass  # nobody looks at the curve here
        elif sql.startswith("INSERT INTO journal_attempts"):
            self.attempts |= {(args[0], position): count for position, count in zip(args[1], args[2], strict=True)}
        elif sql.startswith("DELETE FROM journal_attempts"):
            self.attempts.clear()
        else:
            raise AssertionError(f"the simulated database does not know this statement: {sql[:120]}")


def _key(order: Order) -> tuple[Any, ...]:
    return (order.account_id, order.exchange, order.symbol, order.product_type)


class _Call:
    """One request to the server, which goes on when its caller does not."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work = work
        self.ended = trio.Event()
        self.result: Any = None
        self.error: Exception | None = None
        self.cancelled = False
        self.applied = False


class Client:
    """What one life has of the server: calls that can be slow, lost, or cut by the life's death."""

    def __init__(self, life: Any, server: Server) -> None:
        self.life = life
        self.server = server
        self.doubtful: list[_Call] = []

    async def call(self, name: str, work: Callable[[], Any], *, timeout_s: float, writes: bool = False) -> Any:
        """Do *work* at the server. Raises StoreUnavailable, and what *work* raises."""
        server, life = self.server, self.life
        await trio.lowlevel.checkpoint_if_cancelled()
        life.point(f"db.sent:{name}")
        if not (server.slow_s or server.renew_hangs):
            return await self._quick(name, work, writes)
        call = _Call(work)
        if writes:
            self.doubtful.append(call)
        start_as(None, server.world.nursery, self._serve, call, name, server.generation)
        with trio.move_on_after(timeout_s):
            await call.ended.wait()
        if not call.ended.is_set():
            raise StoreUnavailable("no answer in time")
        if call in self.doubtful and not isinstance(call.error, StoreUnavailable):
            self.doubtful.remove(call)
        if call.error is not None:
            raise call.error
        return call.result

    async def _quick(self, name: str, work: Callable[[], Any], writes: bool) -> Any:
        server, life = self.server, self.life
        generation = server.generation
        await trio.sleep(_WAY_S)
        self._reachable(generation)
        result = work()
        lost = writes and server.lose > 0
        if lost:
            server.lose -= 1
        life.point("db.applied")
        life.point(f"db.applied:{name}")
        await trio.sleep(_WAY_S)
        self._reachable(generation)
        if lost:
            raise StoreUnavailable("the connection broke")
        return result

    def _reachable(self, generation: int) -> None:
        if self.life.is_dead:
            raise StoreUnavailable("the process is dead")
        if self.server.down or generation != self.server.generation:
            raise StoreUnavailable("connection refused")

    async def _serve(self, call: _Call, name: str, generation: int) -> None:
        server = self.server
        dice = server.world.dice
        await trio.sleep(_WAY_S)
        if name == "renew":
            while server.renew_hangs:
                await trio.sleep(0.25)
        if server.slow_s:
            await trio.sleep(server.slow_s * dice.uniform(0.3, 1.0))
        if server.down or generation != server.generation or call.cancelled:
            call.error = StoreUnavailable("the server went away")
        else:
            try:
                call.result = call.work()
                call.applied = True
            except Exception as error:
                call.error = error
            if server.lose and call.applied:
                server.lose -= 1
                call.error = StoreUnavailable("the connection broke")
        await trio.sleep(_WAY_S)
        call.ended.set()

    def end_doubtful(self) -> None:
        """End every transaction of this life that may still be under way."""
        for call in self.doubtful:
            call.cancelled = True
        self.doubtful.clear()


class SimLedgerStore:
    """Stands for engine.store.ledger.LedgerStore."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._server = client.server

    async def commit(self, batch: Batch, *, epoch: int, timeout_s: float) -> None:
        with trio.CancelScope(shield=True):
            await self._client.call(
                "commit", lambda: self._server.apply(batch, epoch), timeout_s=timeout_s, writes=True
            )

    async def head(self, *, timeout_s: float = 5.0) -> Head:
        def work() -> Head:
            audit = self._server.audit
            return Head(seq=audit[-1].seq, hash=audit[-1].hash) if audit else Head(seq=0, hash=GENESIS)

        found: Head = await self._client.call("head", work, timeout_s=timeout_s)
        return found

    async def has(self, head: Head, *, timeout_s: float = 5.0) -> bool:
        def work() -> bool:
            self._client.end_doubtful()
            audit = self._server.audit
            return 0 < head.seq <= len(audit) and audit[head.seq - 1].hash == head.hash

        found: bool = await self._client.call("has", work, timeout_s=timeout_s)
        return found

    async def known_intents(self, ids: Sequence[UUID], *, timeout_s: float = 5.0) -> set[UUID]:
        found: set[UUID] = await self._client.call(
            "known", lambda: {i for i in ids if i in self._server.intents}, timeout_s=timeout_s
        )
        return found

    async def close(self) -> None:
        return None


class SimDatabase:
    """Stands for engine.store.database.Database; a unit of work gets this life's client for a connection."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def run(
        self, unit: Callable[[Any], Any], *, timeout_s: float = 5.0, shield: bool = False, **_options: Any
    ) -> Any:
        connection = Connection(self._client, timeout_s)
        with trio.CancelScope(shield=shield):
            return await unit(connection)

    async def close(self, *, timeout_s: float = 1.0) -> None:
        return None


class Connection:
    """What a unit of work is handed: the patched functions of engine.store call the server through it."""

    def __init__(self, client: Client, timeout_s: float) -> None:
        self.client = client
        self.server = client.server
        self.timeout_s = timeout_s

    async def ask(self, name: str, work: Callable[[], Any], *, writes: bool = False) -> Any:
        """Do *work* at the server in one round trip."""
        return await self.client.call(name, work, timeout_s=self.timeout_s, writes=writes)

    async def execute(self, sql: str, *args: Any) -> str:
        """Run one of the statements that are written as SQL where they are used."""
        await self.ask("execute", lambda: self.server._write(sql.strip(), args), writes=True)
        return "UPDATE 1"
