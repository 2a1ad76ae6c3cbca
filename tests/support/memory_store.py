"""The ledger's store in memory, with the constraints of the real schema that execution leans on."""

from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import trio
import trio.lowlevel

from engine.actors.order_desk import AccountHistory
from engine.actors.risk import UserHistory
from engine.clock import trading_day
from engine.domain.audit import GENESIS
from engine.domain.books import Book, remarked
from engine.domain.enums import (
    OrderStatus,
)
from engine.domain.gtt import LIVE as LIVE_GTTS
from engine.domain.gtt import Gtt
from engine.domain.intent import Intent
from engine.domain.order import CHANGE_NOTES, Order
from engine.errors import StoreUnavailable
from engine.journal.keys import order_of
from engine.store import books as book_rows
from engine.store import gtts as gtt_rows
from engine.store.ledger import Batch, Head, JournalCursor, LedgerRefused

LIVE = ("PENDING", "SUBMITTING", "SUBMITTED", "OPEN", "TRIGGER_PENDING", "PARTIALLY_FILLED", "UNKNOWN")
WATCHED = ("CANCELLED", "REJECTED", "EXPIRED", "FAILED")


def _follows(new: JournalCursor, old: JournalCursor) -> bool:
    return new.epoch == old.epoch and order_of(new.position) > order_of(old.position)


BOOK_WRITES = (book_rows.PUT_BOOKS, book_rows.ADD_TRIPS, book_rows.PUT_RESULTS)


def apply_books(store: Any, write: Any) -> None:
    """Take what a write says of books, round trips and results of days into *store*."""
    if write.sql == book_rows.PUT_BOOKS:
        for row in book_rows.rows_of(write):
            book = book_rows.book_of(row)
            store.books[book.key, book.owner] = (book, row["trading_day"])
    elif write.sql == book_rows.ADD_TRIPS:
        store.trips += [(book_rows.trip_of(row), row["trading_day"]) for row in book_rows.rows_of(write)]
    elif write.sql == book_rows.PUT_RESULTS:
        for row in book_rows.rows_of(write):
            store.results[row["user_id"], row["trading_day"], row["scope"]] = row


def _marked(store: Any, book: Book) -> Book:
    position, _ = store.positions.get(book.key, (None, None))
    return book if position is None else remarked(book, position.last_price)


def books_of_account(store: Any, account_id: UUID, day: date) -> list[tuple[Book, date]]:
    """The books that an executor starts from; as engine.store.books reads them."""
    return [
        (_marked(store, book), of)
        for book, of in store.books.values()
        if book.key[0] == account_id and (book.position.quantity or of >= day)
    ]


def latest_signals(intents: Iterable[Intent]) -> list[tuple[datetime, UUID]]:
    """Return when and for which strategy the signals of the latest minute came, as the real store does."""
    came = sorted((intent.received_at, intent.strategy_id) for intent in intents)
    return [found for found in came if found[0] >= came[-1][0] - timedelta(minutes=1)]


def books_of_user(store: Any, user_id: UUID, accounts: set[UUID], day: date) -> dict[str, Any]:
    """What a risk actor starts from of books, trips and peaks; as engine.store.books reads them."""
    return {
        "books": book_rows.as_of(
            [found for account in accounts for found in books_of_account(store, account, day)], day
        ),
        "trips": [trip for trip, of in store.trips if of == day and trip.account_id in accounts],
        "peaks": [
            (book_rows.scope_of(scope), row["peak"])
            for (owner, of, scope), row in store.results.items()
            if owner == user_id and of == day and row["peak"] > 0
        ],
    }


class MemoryStore:
    """The ledger's store in memory, with the constraints that matter and scripted failures."""

    def __init__(self) -> None:
        self.intents: dict[UUID, Any] = {}
        self.intent_events: list[Any] = []
        self.orders: dict[UUID, Order] = {}
        self.order_events: list[Any] = []
        self.fills: dict[tuple[UUID, str], Any] = {}
        self.positions: dict[object, tuple[Any, date]] = {}
        self.books: dict[object, tuple[Book, date]] = {}
        self.trips: list[tuple[Any, date]] = []
        self.results: dict[tuple[UUID, date, str], Any] = {}
        self.gtts: dict[UUID, Gtt] = {}
        # state and attempt of every row of a trigger that came on disk
        self.gtt_log: list[tuple[UUID, str]] = []
        self.audit: list[Any] = []
        self.verdicts: list[Any] = []
        self.writes: list[Any] = []
        self.cursor: JournalCursor | None = None
        self.log: list[tuple[UUID, OrderStatus, int]] = []
        self.delay_s = 0.001
        self.is_down = False
        self.is_stuck = False  # nothing is committed, everything can be read
        self.lose_answers = 0
        self.refuse: Callable[[Batch], bool] = lambda _batch: False
        self.commits = 0

    async def commit(self, batch: Batch, *, epoch: int, timeout_s: float) -> None:
        await trio.sleep(self.delay_s)
        if self.is_down or self.is_stuck:
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
        for write in batch.writes:
            if write.sql == gtt_rows.INSERT and write.args[0] in self.gtts:
                raise LedgerRefused("gtts_pkey")
        after = self.orders | {o.id: o for o in batch.new_orders}
        after |= {o.id: o for o in batch.order_updates if o.id in after}
        tags = [order.tag for order in after.values()]
        if len(tags) != len(set(tags)):
            raise LedgerRefused("orders_tag_key")
        unresolved = [
            (o.account_id, o.exchange, o.symbol, o.product_type)
            for o in after.values()
            if o.status.is_unresolved and not o.is_square_off
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
            self._apply_gtt(write)
            apply_books(self, write)
            if write.sql.startswith("DELETE FROM fills"):
                self.fills.pop((write.args[0], write.args[1]), None)
        self.verdicts += batch.verdicts
        self.audit += batch.audit
        if batch.cursor is not None and (self.cursor is None or _follows(batch.cursor, self.cursor)):
            self.cursor = batch.cursor

    def _apply_gtt(self, write: Any) -> None:
        if write.sql == gtt_rows.INSERT:
            self.gtts[write.args[0]] = gtt_rows.row_to_gtt(dict(zip(gtt_rows.COLUMNS, write.args, strict=True)))
        elif write.sql == gtt_rows.UPDATE:
            held = self.gtts[write.args[0]]
            changes = dict(zip(gtt_rows.CHANGES, write.args[1:], strict=True))
            self.gtts[held.id] = msgspec.structs.replace(held, **changes)
        elif write.sql == gtt_rows.LINK:
            role, parent_id, account_id, broker_order_id, day = write.args
            for order in list(self.orders.values()):
                at = (order.account_id, order.broker_order_id)
                if order.is_external and at == (account_id, broker_order_id) and order.trading_day >= day:
                    self.orders[order.id] = msgspec.structs.replace(order, role=role, parent_id=parent_id)
            return
        else:
            return
        self.gtt_log.append((write.args[0], self.gtts[write.args[0]].status.value))

    async def head(self, *, timeout_s: float = 5.0) -> Head:
        await trio.lowlevel.checkpoint()
        if self.is_down:
            raise StoreUnavailable("scripted: down")
        return Head(seq=0, hash=GENESIS) if not self.audit else Head(seq=self.audit[-1].seq, hash=self.audit[-1].hash)

    async def has(self, head: Head, *, timeout_s: float = 5.0) -> bool:
        await trio.lowlevel.checkpoint()
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
        attached = [o for o in mine if o.origin == "ENGINE" and (o.is_attached or o.stop_loss or o.target)]
        recent = {o.id for o in attached if (day - o.trading_day).days < 7}
        recent |= {g.entry_id for g in self.gtts.values() if g.account_id == account_id and g.status in LIVE_GTTS}
        changes = [
            e.at
            for e in self.order_events
            if e.detail.startswith(CHANGE_NOTES) and trading_day(e.at) == day and e.order_id in {o.id for o in mine}
        ]
        return AccountHistory(
            live_orders=watched,
            fills=[f for f in self.fills.values() if f.order_id in ids],
            positions=[(p, d) for p, d in self.positions.values() if p.account_id == account_id],
            broker_ids_today=[o.broker_order_id for o in mine if o.broker_order_id and o.trading_day == day],
            sent_today=sum(max(o.attempt, 1) for o in mine if o.submitting_at and o.trading_day == day) + len(changes),
            recent_calls=[*(o.submitting_at for o in mine if o.submitting_at), *changes],
            earlier=[(o.broker_order_id, o.tag) for o in mine if o.broker_order_id],
            attached=[o for o in attached if o.id in recent or o.parent_id in recent],
            gtts=[g for g in self.gtts.values() if g.entry_id in recent],
            books=books_of_account(self, account_id, day),
            square_off_ids=frozenset(o.id for o in mine if o.is_square_off),
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
            orders_today=[
                (o.account_id, o.created_at, o.strategy_id)
                for o in mine
                if o.trading_day == day and not o.is_external and not o.is_attached
            ],
            live_intents=[
                (
                    i,
                    [
                        (o.id, o.status, o.quantity, o.filled_quantity, o.status_message)
                        for o in mine
                        if o.intent_id == i.id and not o.is_attached
                    ],
                )
                for i in live
            ],
            **books_of_user(self, user_id, {p.account_id for p, _ in self.positions.values()}, day),
            order_accounts={o.id: o.account_id for o in mine},
            latest_orders=[o for o in mine if o.trading_day == day and not o.is_external],
            latest_signals=latest_signals(i for i in self.intents.values() if i.user_id == user_id),
        )

    async def ended_short(self, user_id: UUID, day: date) -> list[Any]:
        await trio.sleep(self.delay_s)
        if self.is_down:
            raise StoreUnavailable("scripted: down")
        found = []
        for intent in self.intents.values():
            orders = [o for o in self.orders.values() if o.intent_id == intent.id and not o.is_attached]
            if (
                intent.user_id == user_id
                and intent.status in ("PARTIAL", "FAILED", "CANCELLED", "EXPIRED")
                and any(o.filled_quantity and o.trading_day == day for o in orders)
            ):
                ends = [(o.id, o.status, o.quantity, o.filled_quantity, o.status_message) for o in orders]
                found.append((intent, ends))
        return found
