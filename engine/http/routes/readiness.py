"""Readiness: what the engine needs, looked at together and not more often than it makes sense."""

import functools

import trio

from engine.domain.enums import AccountStatus
from engine.errors import StoreUnavailable
from engine.http.services import Services
from engine.http.views.system import ChecksView, CheckView, FeedsView, ReadyView, find_child, leader_view, ready_view
from engine.runtime.child import Status
from engine.runtime.holder import told
from engine.store import lease
from engine.store.lease import Lease
from engine.store.migrate import available

_PING_TIMEOUT_S = 1.0
_READY_KEPT_S = 0.5


class ReadyKeeper:
    """Looks at the parts for every caller at once, so that a crowd of callers costs one look."""

    def __init__(self) -> None:
        self._lock = trio.Lock()
        self._seen_at = float("-inf")
        self._seen: ReadyView | None = None

    async def view(self, services: Services) -> ReadyView:
        """Return how the engine stands, at most half a second old."""
        async with self._lock:
            if self._seen is None or trio.current_time() - self._seen_at > _READY_KEPT_S:
                self._seen = await self._look(services)
                self._seen_at = trio.current_time()
            return self._seen

    async def _look(self, services: Services) -> ReadyView:
        tree = services.tree()
        held = await _lease(services)

        def server(name: str) -> str | None:
            child = find_child(tree, name)
            return None if child is None or child.state is Status.RUNNING else f"{name} is {child.state.lower()}"

        checks = ChecksView(
            database=_check(server("postgres") or _database_fault(services, held), "reachable"),
            journal=_check(
                server("valkey") or (None if services.journal.available else "the journal cannot be reached"),
                "reachable",
            ),
            broker=_check(server("exchange") or _broker_fault(services), f"{len(services.master.book)} instruments"),
            migrations=_check(_migrations_fault(services), f"schema version {services.schema_version}"),
            clock=_check(_clock_fault(services), "steady"),
            lease=_check(_lease_fault(services, held), f"held by this engine, epoch {services.lease.epoch}"),
        )
        leader = None if held is None else leader_view(held, epoch=services.lease.epoch)
        return ready_view(checks, _feeds(services), leader)


def _feeds(services: Services) -> FeedsView:
    state = services.extras["feeds"].state()
    well = "connected" if state.wanted == state.connected else "connecting; orders and prices are polled meanwhile"
    detail = "; ".join(state.reasons) or (well if state.wanted else "no account needs one now")
    return FeedsView(wanted=state.wanted, connected=state.connected, detail=detail)


def _clock_fault(services: Services) -> str | None:
    suspect: str | None = services.extras["clock_watch"].suspect()
    return suspect


def _check(fault: str | None, well: str) -> CheckView:
    return CheckView(ok=fault is None, detail=fault or well)


async def _lease(services: Services) -> Lease | None:
    """Return the lease, None while the store cannot be asked for it: that is what it is asked for first of all."""
    try:
        return await services.database.run(lease.read, timeout_s=_PING_TIMEOUT_S)
    except StoreUnavailable:
        return None


def _lease_fault(services: Services, held: Lease | None) -> str | None:
    if held is not None and held.epoch != services.lease.epoch:
        return f"{told(held.holder)} leads, epoch {held.epoch}: this engine sends nothing"
    return None if services.lease.holds() else "the lease is not held: nothing is sent"


def _database_fault(services: Services, held: Lease | None) -> str | None:
    if held is None:
        return "the database cannot be reached"
    ledger = services.ledger
    if not ledger.available and (ledger.in_flight or ledger.mailbox.depth):
        return "the ledger does not get its writes through"
    return None


def _broker_fault(services: Services) -> str | None:
    if services.master.loaded_at is None:
        return "no instruments have been read yet: that needs an account that is logged in"
    accounts = services.directory.accounts.values()
    waiting = sum(account.status is not AccountStatus.ACTIVE for account in accounts)
    # anybody may ask: which ones they are is for their owners, in /accounts
    return f"{waiting} of {len(accounts)} accounts cannot trade now" if waiting else None


def _migrations_fault(services: Services) -> str | None:
    newest = _newest_migration()
    # a start on a newer one is refused unless it has only additions that this program does not need
    if services.schema_version >= newest:
        return None
    return f"the schema is of version {services.schema_version}, this program of {newest}"


@functools.cache
def _newest_migration() -> int:
    return available()[-1].version
