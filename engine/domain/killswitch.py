"""The kill switch as a value: scopes, versions, and whether an order is covered.

Scopes nest: ``global`` covers everything, ``user:ID`` the user's accounts and strategies,
``account:ID`` and ``strategy:ID`` themselves. A scope's version grows with every change; of several
stores the highest version counts, and where two differ at the same version the switch is on.
"""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

import msgspec

from engine.domain.enums import KillMode, KillState

GLOBAL = "global"


class KillRecord(msgspec.Struct, frozen=True, kw_only=True):
    """State of one scope. ``at`` is when it was last changed (UTC); ``reason`` is never empty when on.

    ``mode`` is what is done beyond blocking; it only ever grows while the switch stays on.
    ``tripped_at`` (UTC) is when it went on; trips that join do not move it.
    """

    scope: str
    version: int
    state: KillState
    reason: str
    actor: str
    at: datetime
    mode: KillMode = KillMode.BLOCK
    tripped_at: datetime | None = None

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


def parse_scope(text: str) -> str:
    """Return the scope in its one spelling. Raises ValueError that names the mend."""
    if text == GLOBAL:
        return GLOBAL
    kind, _, number = text.partition(":")
    if kind in ("user", "account", "strategy"):
        try:
            return f"{kind}:{UUID(number)}"
        except ValueError:
            pass
    raise ValueError("scope must be global, user:ID, account:ID or strategy:ID with a UUID for ID")


def tripped_at(held: KillRecord | None, now: datetime) -> datetime:
    """Return when a scope went on that is on from *now* (UTC) at the latest, *held* being its record so far."""
    return held.since if held is not None and held.enabled else now


def merge(records: Iterable[KillRecord]) -> dict[str, KillRecord]:
    """Fold the records of several stores: per scope the highest version, on where equals differ."""
    merged: dict[str, KillRecord] = {}
    for record in records:
        held = merged.get(record.scope)
        if (
            held is None
            or record.version > held.version
            or (record.version == held.version and record.enabled and not held.enabled)
        ):
            merged[record.scope] = record
    return merged


class KillSwitches:
    """All scopes in memory. Reading it takes no wait, so the send gate can ask right before the wire."""

    def __init__(self, records: Iterable[KillRecord] = ()) -> None:
        self.records: dict[str, KillRecord] = merge(records)
        self._on: frozenset[str] = frozenset()
        self._refresh()

    def put(self, record: KillRecord) -> None:
        """Take in a change; an older version than the one held is ignored."""
        self.records = merge([*self.records.values(), record])
        self._refresh()

    def _refresh(self) -> None:
        self._on = frozenset(scope for scope, record in self.records.items() if record.enabled)

    def covering(self, *, user_id: UUID, account_id: UUID, strategy_id: UUID | None) -> KillRecord | None:
        """Return the widest record that blocks this account and strategy, or None."""
        on = self._on
        if not on:
            return None
        for scope in (GLOBAL, f"user:{user_id}", f"account:{account_id}", f"strategy:{strategy_id}"):
            if scope in on:
                return self.records[scope]
        return None
