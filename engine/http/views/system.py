"""The state of the engine itself, as the API shows it."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from msgspec import UNSET, UnsetType

from engine.domain.enums import OrderStatus
from engine.http.endpoint import ApiStruct
from engine.runtime.child import ChildState, Status
from engine.runtime.holder import read as read_holder
from engine.runtime.holder import told as told_holder
from engine.runtime.mailbox import MailboxStats
from engine.store.lease import Lease


class HealthView(ApiStruct, frozen=True, kw_only=True):
    """The process lives and answers."""

    status: str
    version: str


class SettingView(ApiStruct, frozen=True, kw_only=True):
    """A key of the configuration; ``value`` is null for a secret, of which ``isSet`` is all that is told.

    ``isDefault`` tells whether it is what the engine does without being told. Addresses are without passwords, commands
    without arguments.
    """

    section: str
    key: str
    value: Any
    is_secret: bool
    is_set: bool
    is_default: bool


class SettingsView(ApiStruct, frozen=True, kw_only=True):
    """The configuration that this engine runs with, in the order of engine.toml.example."""

    settings: tuple[SettingView, ...]


class CheckView(ApiStruct, frozen=True, kw_only=True):
    """One thing that the engine needs: whether it is well, and what is the matter."""

    ok: bool
    detail: str


class ChecksView(ApiStruct, frozen=True, kw_only=True):
    """Everything that the engine needs."""

    database: CheckView
    journal: CheckView
    broker: CheckView
    migrations: CheckView
    clock: CheckView
    lease: CheckView


class LeaderView(ApiStruct, frozen=True, kw_only=True):
    """Who may write and send: the lease as the store has it; ``ageS`` is seconds since it was last renewed.

    ``isThisEngine`` is whether it is the lease that this engine works under.
    """

    holder: str
    host: str | None
    process: int | None
    epoch: int
    age_s: float
    released: bool
    is_this_engine: bool


class FeedsView(ApiStruct, frozen=True, kw_only=True):
    """The broker's tickers: accounts that should have one and that have; without one orders and prices are polled.

    A missing feed costs about a second and no more, so that it does not make the engine degraded.
    """

    wanted: int
    connected: int
    detail: str


class ReadyView(ApiStruct, frozen=True, kw_only=True):
    """``status`` is ok, or degraded when a check is not; ``leader`` is null while the store cannot be asked.

    All but ``status`` is for callers on the engine's own machine: strangers are told no detail.
    """

    status: str
    checks: ChecksView | UnsetType = UNSET
    feeds: FeedsView | UnsetType = UNSET
    leader: LeaderView | UnsetType | None = UNSET


class MailboxView(ApiStruct, frozen=True, kw_only=True):
    """A mailbox: how many messages wait, for how long, and how many were refused or dropped since the start."""

    capacity: int
    depth: int
    oldest_age_s: float
    refused: int
    dropped: int


class ActorView(ApiStruct, frozen=True, kw_only=True):
    """An actor or a supervisor with its children; ``runningS`` is the seconds since its last start."""

    name: str
    state: Status
    restarts: int
    last_error: str | None
    running_s: float | None
    mailbox_depth: int | None
    mailbox: MailboxView | None
    children: tuple["ActorView", ...]


class QueueView(ApiStruct, frozen=True, kw_only=True):
    """One stage: what waits and for how long, what is under way, what was tried again, what gave up.

    ``dead`` is null while the store cannot be asked.
    """

    name: str
    depth: int
    oldest_age_s: float
    in_flight: int
    retries: int
    dead: int | None


class FlagView(ApiStruct, frozen=True, kw_only=True):
    """One flag of the store; ``version`` grows with every change."""

    name: str
    value: dict[str, Any]
    version: int
    updated_at: datetime


def actor_view(child: ChildState, now_s: float) -> ActorView:
    """Return an actor and everything below it; *now_s* is trio's clock."""
    stats = child.mailbox
    return ActorView(
        name=child.name,
        state=child.state,
        restarts=child.restarts,
        last_error=child.last_error,
        running_s=None if child.started_at is None else round(max(0.0, now_s - child.started_at), 3),
        mailbox_depth=None if stats is None else stats.depth,
        mailbox=None
        if stats is None
        else MailboxView(
            capacity=stats.capacity,
            depth=stats.depth,
            oldest_age_s=round(stats.oldest_age_s, 3),
            refused=stats.refused,
            dropped=stats.dropped,
        ),
        children=tuple(actor_view(member, now_s) for member in child.children),
    )


def leader_view(held: Lease, *, epoch: int) -> LeaderView:
    """Return who holds the lease; *epoch* is that of the engine that answers."""
    holder = read_holder(held.holder)
    return LeaderView(
        holder=told_holder(held.holder),
        host=None if holder is None else holder.host,
        process=None if holder is None else holder.process,
        epoch=held.epoch,
        age_s=round(max(0.0, held.age_s), 3),
        released=held.released,
        is_this_engine=held.epoch == epoch,
    )


def ready_view(checks: ChecksView, feeds: FeedsView, leader: LeaderView | None) -> ReadyView:
    """Return the readiness that follows from *checks*."""
    each = (checks.database, checks.journal, checks.broker, checks.migrations, checks.clock, checks.lease)
    status = "ok" if all(check.ok for check in each) else "degraded"
    return ReadyView(status=status, checks=checks, feeds=feeds, leader=leader)


def queue_view(
    name: str,
    mailboxes: Iterable[MailboxStats],
    *,
    in_flight: int,
    waiting: int = 0,
    oldest_waiting_s: float = 0.0,
    retries: int = 0,
    dead: int | None,
) -> QueueView:
    """Fold the mailboxes of a stage, and what *waiting* elsewhere in it, into one queue."""
    stats = list(mailboxes)
    return QueueView(
        name=name,
        depth=waiting + sum(each.depth for each in stats),
        oldest_age_s=round(max([oldest_waiting_s, *(each.oldest_age_s for each in stats)]), 3),
        in_flight=in_flight,
        retries=retries,
        dead=dead,
    )


def oldest_pending_s(created: Iterable[tuple[OrderStatus, datetime]], now: datetime) -> float:
    """Return the seconds that the oldest PENDING order has waited, 0 without one."""
    ages = [(now - at).total_seconds() for status, at in created if status is OrderStatus.PENDING]
    return max(0.0, max(ages, default=0.0))


def find_child(tree: ChildState, name: str) -> ChildState | None:
    """Return the child called *name* anywhere below *tree*, or None."""
    for child in tree.children:
        found = child if child.name == name else find_child(child, name)
        if found is not None:
            return found
    return None
