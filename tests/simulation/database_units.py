"""What stands for the engine's reads and lease statements: the same answers, out of the simulated server."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

import trio

from engine.actors import ledger_reader
from engine.clock import trading_day
from engine.domain.enums import IntentStatus
from engine.domain.freeze import FreezeQuantity
from engine.domain.options import OrderRole
from engine.domain.order import CHANGE_NOTES
from engine.domain.position import roll_day
from engine.errors import Fenced
from engine.store import dead_letters as letter_rows
from engine.store import freeze, history, late, lease
from engine.store.queries import dead_letters as letter_queries
from tests.simulation.database import LIVE, WATCHED, Connection
from tests.simulation.plan import START
from tests.support.memory_store import books_of_account, books_of_user, latest_signals

# what takes the place of functions of engine.store.lease and engine.store.history


async def read_lease(c: Connection) -> lease.Lease | None:
    def work() -> lease.Lease | None:
        held = c.server.lease
        if held is None:
            return None
        age = trio.current_time() - held["renewed_at"]
        return lease.Lease(
            epoch=held["epoch"],
            holder=held["holder"],
            renewed_at=START + timedelta(seconds=held["renewed_at"]),
            age_s=age,
            released=held["released"],
        )

    found: lease.Lease | None = await c.ask("lease", work)
    return found


async def take_lease(c: Connection, *, holder: str, seen: lease.Lease | None) -> int | None:
    def work() -> int | None:
        held = c.server.lease
        if (held is None) != (seen is None):
            return None
        if held is not None and seen is not None:
            renewed_at = START + timedelta(seconds=held["renewed_at"])
            if (held["epoch"], renewed_at) != (seen.epoch, seen.renewed_at):
                return None
        return grant(1 if seen is None else seen.epoch + 1)

    def grant(epoch: int) -> int:
        c.server.lease = {"epoch": epoch, "holder": holder, "renewed_at": trio.current_time(), "released": False}
        c.server.world.lease_taken(epoch, c.client.life)
        return epoch

    asked_at = trio.current_time()
    found: int | None = await c.ask("take", work, writes=True)
    c.client.life.renewed_at = asked_at
    return found


async def renew_lease(c: Connection, *, epoch: int) -> None:
    def work() -> None:
        held = c.server.lease
        if held is None or held["epoch"] != epoch:
            raise Fenced(f"the lease of epoch {epoch} has been taken by another engine")
        held["renewed_at"] = trio.current_time()

    asked_at = trio.current_time()
    await c.ask("renew", work)
    c.client.life.renewed_at = asked_at


async def release_lease(c: Connection, *, epoch: int) -> None:
    def work() -> None:
        held = c.server.lease
        if held is not None and held["epoch"] == epoch:
            held |= {"released": True, "renewed_at": trio.current_time()}

    await c.ask("release", work, writes=True)


async def account_history(c: Connection, account_id: UUID, day: date) -> dict[str, Any]:
    def work() -> dict[str, Any]:
        server = c.server
        mine = sorted(
            (o for o in server.orders.values() if o.account_id == account_id), key=lambda o: (o.created_at, o.id)
        )
        watched = [o for o in mine if o.status in LIVE or (o.trading_day == day and o.status in WATCHED)]
        ids = {o.id for o in watched}
        ours = {o.id for o in mine}
        changes = [
            e.at
            for e in server.order_events
            if e.detail.startswith(CHANGE_NOTES) and trading_day(e.at) == day and e.order_id in ours
        ]
        return {
            "live_orders": watched,
            "fills": [f for f in server.fills.values() if f.order_id in ids],
            "positions": [(p, d) for p, d in server.positions.values() if p.account_id == account_id],
            "books": books_of_account(server, account_id, day),
            "attached": [
                o
                for o in mine
                if not o.is_external and (o.is_attached or o.stop_loss is not None or o.target is not None)
            ],
            "broker_ids_today": [o.broker_order_id for o in mine if o.broker_order_id and o.trading_day == day],
            "sent_today": sum(max(o.attempt, 1) for o in mine if o.submitting_at and o.trading_day == day)
            + len(changes),
            "recent_calls": [*(o.submitting_at for o in mine if o.submitting_at), *changes],
            "earlier": [(o.broker_order_id, o.tag) for o in mine if o.broker_order_id],
        }

    found: dict[str, Any] = await c.ask("account", work)
    return found


async def account_histories(c: Connection, account_ids: Sequence[UUID], day: date) -> dict[UUID, dict[str, Any]]:
    return {account_id: await account_history(c, account_id, day) for account_id in account_ids}


def account_of(found: dict[UUID, dict[str, Any]], account_id: UUID) -> dict[str, Any]:
    return found[account_id]


async def user_history(c: Connection, user_id: UUID, day: date) -> dict[str, Any]:
    def work() -> dict[str, Any]:
        server = c.server
        mine = [o for o in server.orders.values() if o.user_id == user_id]
        accounts = server.world.accounts_of(user_id)
        live = [i for i in server.intents.values() if i.user_id == user_id and not i.status.is_terminal]
        of_intent: dict[UUID, list[Any]] = {}
        for o in mine:
            if o.role is OrderRole.ENTRY:
                row = (o.id, o.status, o.quantity, o.filled_quantity, o.status_message)
                of_intent.setdefault(o.intent_id, []).append(row)
        held = [(p, d) for p, d in server.positions.values() if p.account_id in accounts]
        return {
            "positions": [p if of == day else roll_day(p, p.last_price) for p, of in held],
            "live_orders": [o for o in mine if o.status in LIVE],
            "orders_today": sorted(
                (
                    (o.account_id, o.created_at, o.strategy_id)
                    for o in mine
                    if o.trading_day == day and not o.is_external
                ),
                key=lambda found: found[1],
            ),
            "live_intents": [(i, of_intent.get(i.id, [])) for i in live],
            **books_of_user(server, user_id, set(accounts), day),
            "order_accounts": {o.id: o.account_id for o in mine},
            "latest_orders": sorted(
                (o for o in mine if o.trading_day == day and not o.is_external), key=lambda o: (o.created_at, o.id)
            ),
            "latest_signals": latest_signals(i for i in server.intents.values() if i.user_id == user_id),
        }

    found: dict[str, Any] = await c.ask("user", work)
    return found


async def delivered_since(c: Connection, now: datetime, window_s: int) -> list[tuple[UUID, str]]:
    since = now - timedelta(seconds=window_s)
    found: list[tuple[UUID, str]] = await c.ask(
        "delivered",
        lambda: list(
            dict.fromkeys((i.source_id, i.idempotency_key) for i in c.server.intents.values() if i.received_at > since)
        ),
    )
    return found


async def delivery(c: Connection, source_id: UUID, idempotency_key: str) -> list[Any]:
    found: list[Any] = await c.ask(
        "delivery",
        lambda: [
            {"id": i.id, "status": i.status, "reason": i.reason, "position": i.position, "body_sha256": i.body_sha256}
            for i in c.server.intents.values()
            if (i.source_id, i.idempotency_key) == (source_id, idempotency_key)
        ],
    )
    return found


async def known_deliveries(c: Connection, keys: list[tuple[UUID, str]]) -> set[tuple[UUID, str]]:
    wanted = set(keys)
    found: set[tuple[UUID, str]] = await c.ask(
        "known",
        lambda: {key for i in c.server.intents.values() if (key := (i.source_id, i.idempotency_key)) in wanted},
    )
    return found


async def busy(c: Connection) -> tuple[list[UUID], list[UUID]]:
    def work() -> tuple[list[UUID], list[UUID]]:
        server = c.server
        live = [o for o in server.orders.values() if o.status in LIVE]
        users = {i.user_id: None for i in server.intents.values() if not i.status.is_terminal}
        users |= {o.user_id: None for o in live}
        accounts = {o.account_id: None for o in live}
        accounts |= {p.account_id: None for p, _ in server.positions.values() if p.quantity}
        return list(users), list(accounts)

    found: tuple[list[UUID], list[UUID]] = await c.ask("busy", work)
    return found


async def journal_cursor(c: Connection) -> tuple[UUID, str] | None:
    found: tuple[UUID, str] | None = await c.ask("cursor", lambda: c.server.cursor)
    return found


_SHORT = frozenset(IntentStatus(s) for s in ("PARTIAL", "FAILED", "CANCELLED", "EXPIRED"))


async def ended_short(c: Connection, user_id: UUID, day: date) -> list[tuple[Any, list[late.OrderEnd]]]:
    def work() -> list[tuple[Any, list[late.OrderEnd]]]:
        server = c.server
        found = []
        for intent in server.intents.values():
            if intent.user_id != user_id or intent.status not in _SHORT:
                continue
            theirs = sorted(
                (o for o in server.orders.values() if o.intent_id == intent.id and not o.is_attached),
                key=lambda o: (o.created_at, o.id),
            )
            if any(o.trading_day == day and o.filled_quantity for o in theirs):
                ends = [(o.id, o.status, o.quantity, o.filled_quantity, o.status_message) for o in theirs]
                found.append((intent, ends))
        return found

    found: list[tuple[Any, list[late.OrderEnd]]] = await c.ask("ended", work)
    return found


async def users_ended_short(c: Connection) -> list[UUID]:
    def work() -> list[UUID]:
        filled = {o.intent_id for o in c.server.orders.values() if o.filled_quantity and not o.is_attached}
        return list(
            dict.fromkeys(i.user_id for i in c.server.intents.values() if i.status in _SHORT and i.id in filled)
        )

    found: list[UUID] = await c.ask("ended", work)
    return found


async def attempts_of(c: Connection, epoch: UUID, positions: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = await c.ask(
        "attempts", lambda: {p: c.server.attempts[epoch, p] for p in positions if (epoch, p) in c.server.attempts}
    )
    return found


async def freeze_quantities(c: Connection) -> list[FreezeQuantity]:
    found: list[FreezeQuantity] = await c.ask("freeze", lambda: list(c.server.freeze.values()))
    return found


async def rounds(c: Connection) -> dict[str, str]:
    found: dict[str, str] = await c.ask("rounds", lambda: dict(c.server.rounds))
    return found


async def requeued(c: Connection) -> list[Any]:
    found: list[Any] = await c.ask("requeued", list)
    return found


PATCHES: tuple[tuple[Any, str, Any], ...] = (
    (lease, "read", read_lease),
    (lease, "take", take_lease),
    (lease, "renew", renew_lease),
    (lease, "release", release_lease),
    (history, "accounts", account_histories),
    (history, "account_of", account_of),
    (history, "user", user_history),
    (history, "delivered_since", delivered_since),
    (history, "delivery", delivery),
    (history, "known_deliveries", known_deliveries),
    (history, "busy", busy),
    (history, "journal_cursor", journal_cursor),
    (late, "ended_short", ended_short),
    (late, "users_ended_short", users_ended_short),
    (freeze, "freeze_quantities", freeze_quantities),
    (ledger_reader, "rounds", rounds),
    (letter_rows, "attempts_of", attempts_of),
    (letter_queries, "requeued", requeued),
)
"""(module, name, what stands for it)."""
