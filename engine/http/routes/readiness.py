"""Readiness: what the engine needs, looked at together and not more often than it makes sense."""

import functools
from typing import Any

import trio

from engine.domain.enums import AccountStatus
from engine.errors import StoreUnavailable
from engine.http.services import Services
from engine.http.views.system import ChecksView, CheckView, ReadyView, StepWatch, find_child, ready_view
from engine.runtime.child import Status
from engine.store.migrate import available

_PING_TIMEOUT_S = 1.0
_READY_KEPT_S = 0.5


class ReadyKeeper:
    """Looks at the parts for every caller at once, so that a crowd of callers costs one look."""

    def __init__(self) -> None:
        self._lock = trio.Lock()
        self._steps = StepWatch()
        self._seen_at = float("-inf")
        self._seen: ReadyView | None = None

    async def view(self, services: Services) -> ReadyView:
        """Return how the engine stands, at most half a second old."""
        async with self._lock:
            if self._seen is None or trio.current_time() - self._seen_at > _READY_KEPT_S:
                self._seen = ready_view(await self._look(services))
                self._seen_at = trio.current_time()
            return self._seen

    async def _look(self, services: Services) -> ChecksView:
        tree = services.tree()

        def server(name: str) -> str | None:
            child = find_child(tree, name)
            return None if child is None or child.state is Status.RUNNING else f"{name} is {child.state.lower()}"

        return ChecksView(
            database=_check(server("postgres") or await _database_fault(services), "reachable"),
            journal=_check(
                server("valkey") or (None if services.journal.available else "the journal cannot be reached"),
                "reachable",
            ),
            broker=_check(server("exchange") or _broker_fault(services), f"{len(services.master.book)} instruments"),
            migrations=_check(_migrations_fault(services), f"schema version {services.schema_version}"),
            clock=_check(self._clock_fault(services), "steady"),
            lease=_check(
                None if services.lease.holds() else "the lease is not held: nothing is sent", "held by this engine"
            ),
        )

    def _clock_fault(self, services: Services) -> str | None:
        jumped = self._steps.look(services.clock.now().timestamp(), services.clock.boottime_ns() / 1e9)
        return None if jumped is None else f"the clock was set by {jumped:+.1f} s"


def _check(fault: str | None, well: str) -> CheckView:
    return CheckView(ok=fault is None, detail=fault or well)


async def _database_fault(services: Services) -> str | None:
    async def ping(connection: Any) -> None:
        await connection.execute("SELECT 1")

    try:
        await services.database.run(ping, timeout_s=_PING_TIMEOUT_S)
    except StoreUnavailable:
        return "the database cannot be reached"
    ledger = services.ledger
    if not ledger.available and (ledger.in_flight or ledger.mailbox.depth):
        return "the ledger does not get its writes through"
    return None


def _broker_fault(services: Services) -> str | None:
    if services.master.loaded_at is None:
        return "no instruments have been read from the broker yet"
    accounts = services.directory.accounts.values()
    waiting = [account.label for account in accounts if account.status is not AccountStatus.ACTIVE]
    return f"accounts that cannot trade now: {', '.join(sorted(waiting))}" if waiting else None


def _migrations_fault(services: Services) -> str | None:
    newest = _newest_migration()
    if services.schema_version == newest:
        return None
    return f"the schema is of version {services.schema_version}, this program of {newest}"


@functools.cache
def _newest_migration() -> int:
    return available()[-1].version
