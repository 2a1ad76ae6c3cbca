"""The kill switch as a value: scopes, versions, and whether an order is covered.

Scopes nest: ``global`` covers everything, ``user:ID`` the user's accounts and strategies,
``account:ID``, ``strategy:ID`` and ``source:ID`` themselves. A scope's version grows with every change; of several
stores the highest version counts, and where two differ at the same version the switch is on.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from uuid import UUID

import msgspec

from engine.domain.enums import KillMode, KillState
from engine.domain.order import Order

GLOBAL = "global"
_KINDS = ("user", "account", "strategy", "source")


class KillRecord(msgspec.Struct, frozen=True, kw_only=True):
    """State of one scope. ``at`` is when it was last changed (UTC); ``reason`` is never empty when on.

    ``tripped_at`` (UTC) is when it went on; trips that join do not move it.
    ``mode`` is what is done beyond blocking; it only ever grows while the switch stays on, and so does ``day``:
    the IST day whose loss tripped it, which is not to be traded any more; of one that was turned off, the day whose
    loss was let pass. ``alone`` marks what a command wrote
    while no engine ran: it counts although the other stores do not have it. ``mac`` proves who wrote the record
    (`engine.security.kill_seal`).
    """

    scope: str
    version: int
    state: KillState
    reason: str
    actor: str
    at: datetime
    mode: KillMode = KillMode.BLOCK
    tripped_at: datetime | None = None
    day: date | None = None
    alone: bool = False
    mac: str = ""

    @property
    def since(self) -> datetime:
        """When the scope went on (UTC): later changes of its state do not move it."""
        return self.tripped_at or self.at

    @property
    def square_off(self) -> bool:
        """Whether positions of the scope are squared off."""
        return self.mode is KillMode.SQUARE_OFF

    @property
    def enabled(self) -> bool:
        """Whether the scope is blocked."""
        return self.state is not KillState.ARMED


Copy = Mapping[str, KillRecord] | None
"""The records of one store by scope, None when it cannot be read."""


def parse_scope(text: str) -> str:
    """Return the scope in its one spelling. Raises ValueError that names the mend."""
    if text == GLOBAL:
        return GLOBAL
    kind, _, number = text.partition(":")
    if kind in _KINDS:
        try:
            return f"{kind}:{UUID(number)}"
        except ValueError:
            pass
    raise ValueError("scope must be global, user:ID, account:ID, strategy:ID or source:ID with a UUID for ID")


def scopes_of(
    user_id: UUID, account_id: UUID, strategy_id: UUID | None, source_id: UUID | None = None
) -> tuple[str, ...]:
    """Return every scope that covers an order of these, the widest first."""
    narrow = (("strategy", strategy_id), ("source", source_id))
    return (GLOBAL, f"user:{user_id}", f"account:{account_id}", *(f"{k}:{i}" for k, i in narrow if i is not None))


def next_version(held: KillRecord | None, at: datetime) -> int:
    """Return the version of a change of *held* at *at*: the instant in milliseconds, or one more than held.

    So a change made while a store was away is newer than what that store holds, wherever it is compared.
    """
    return max((held.version if held else 0) + 1, int(at.timestamp() * 1000))


def tripped_at(held: KillRecord | None, now: datetime) -> datetime:
    """Return when a scope went on that is on from *now* (UTC) at the latest, *held* being its record so far."""
    return held.since if held is not None and held.enabled else now


def merge(records: Iterable[KillRecord]) -> dict[str, KillRecord]:
    """Fold records: per scope the highest version, on where equals differ, the stronger mode of two that are on."""
    merged: dict[str, KillRecord] = {}
    for record in records:
        held = merged.get(record.scope)
        if held is None or _counts_more(record, held):
            merged[record.scope] = record
    return merged


def _counts_more(record: KillRecord, held: KillRecord) -> bool:
    return (record.version, record.enabled, record.mode.rank) > (held.version, held.enabled, held.mode.rank)


def settle(copies: Sequence[Copy], at: datetime) -> dict[str, KillRecord]:
    """Return what counts at a start at *at* (UTC) of the copies of all stores; no readable one means blocked.

    The newest version counts, and on where equals differ. A release is written to every store before it holds:
    one that a single store has, while another has the block before it, was never completed, and the block
    stays, under a version newer than both. A scope of which a store has no record says nothing of it: an emptied
    store proves nothing.
    """
    readable = [copy for copy in copies if copy is not None]
    if not readable:
        return {GLOBAL: unreadable(at)}
    settled = merge(record for copy in readable for record in copy.values())
    for scope, newest in settled.items():
        if newest.enabled or newest.alone:
            continue
        held = [copy[scope] for copy in readable if scope in copy]
        if sum(record.version == newest.version for record in held) > 1:
            continue
        blocks = [record for record in held if record.enabled]
        if blocks:
            last = max(blocks, key=lambda record: record.version)
            settled[scope] = msgspec.structs.replace(last, version=next_version(newest, at), mac="")
    return settled


def unreadable(at: datetime) -> KillRecord:
    """Return the record that stands when a copy of the kill state cannot be read: newer than any other copy."""
    return KillRecord(
        scope=GLOBAL,
        version=next_version(None, at),
        state=KillState.BLOCKED,
        reason="KILL_STATE_UNREADABLE: the kill switch file is damaged; check it, then disable the switch",
        actor="system",
        at=at,
    )


class KillSwitches:
    """All scopes in memory. Reading it takes no wait, so the send gate can ask right before the wire."""

    def __init__(self, records: Iterable[KillRecord] = ()) -> None:
        self.records: dict[str, KillRecord] = merge(records)
        self.turn = 0
        """Counts the changes taken in: in one process it tells what came first, whatever the wall clock says."""
        self._released: dict[str, int] = {}
        self._last_released = 0
        self._on: frozenset[str] = frozenset()
        self._last_off: datetime | None = None
        self._refresh()

    def put(self, record: KillRecord) -> None:
        """Take in a change; an older version than the one held is ignored."""
        before = self.records.get(record.scope)
        self.records = merge([*self.records.values(), record])
        held = self.records[record.scope]
        if held is not before:
            self.turn += 1
            if not held.enabled:
                self._released[held.scope] = self._last_released = self.turn
        self._refresh()

    def _refresh(self) -> None:
        self._on = frozenset(scope for scope, record in self.records.items() if record.enabled)
        self._last_off = max((record.at for record in self.records.values() if not record.enabled), default=None)

    def covering(
        self, *, user_id: UUID, account_id: UUID, strategy_id: UUID | None, source_id: UUID | None = None
    ) -> KillRecord | None:
        """Return the widest record that blocks this account, strategy and source, or None."""
        on = self._on
        if not on:
            return None
        for scope in scopes_of(user_id, account_id, strategy_id, source_id):
            if scope in on:
                return self.records[scope]
        return None

    def covering_order(self, order: Order) -> KillRecord | None:
        """Return the widest record that blocks *order*, or None."""
        return self.covering(
            user_id=order.user_id,
            account_id=order.account_id,
            strategy_id=order.strategy_id,
            source_id=order.source_id,
        )

    def barring(
        self,
        turn: int | None,
        since: datetime,
        *,
        user_id: UUID,
        account_id: UUID,
        strategy_id: UUID | None,
        source_id: UUID | None = None,
    ) -> KillRecord | None:
        """Return the widest record that blocks these, or was turned off after they began; None for neither.

        What was on its way when a switch was on is not executed once it is off. *turn* is the `turn` at which this
        process saw it begin: the wall clock may be set back, and then nothing that begins is younger, by that clock,
        than what was turned off before. What an earlier process saw begin has no turn: it waited through all that
        this one saw, and of what went before there is only the wall clock to tell whether it was after *since* (UTC).
        """
        by_clock = turn is None and self._last_off is not None and self._last_off > since
        if not self._on and self._last_released <= (turn or 0) and not by_clock:
            return None
        for scope in scopes_of(user_id, account_id, strategy_id, source_id):
            record = self.records.get(scope)
            if record is None:
                continue
            was_off_since = self._released.get(scope, 0) > (turn or 0) or (turn is None and record.at > since)
            if record.enabled or was_off_since:
                return record
        return None
