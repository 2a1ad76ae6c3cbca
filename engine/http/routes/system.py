"""/system: whether the engine lives and is ready, and what goes on inside it."""

from collections.abc import Mapping
from typing import Any

import msgspec
import trio

from engine import __version__
from engine.config.shown import shown
from engine.errors import StoreUnavailable
from engine.http.client_ip import parse_address
from engine.http.endpoint import ApiRequest, Page, endpoint
from engine.http.paging import MAX_LIMIT
from engine.http.permissions import Permission
from engine.http.routes.readiness import ReadyKeeper
from engine.http.services import Services
from engine.http.views.system import (
    ActorView,
    FlagView,
    HealthView,
    QueueView,
    ReadyView,
    SettingsView,
    SettingView,
    actor_view,
    oldest_pending_s,
    queue_view,
)
from engine.store.flags import all_flags
from engine.store.queries import dead_letters

_TAGS = ("system",)
_READY = "ready_keeper"

Section = Mapping[str, int | float | bool | str | None]


@endpoint(
    "GET",
    "/system/health",
    permission=Permission.PUBLIC,
    summary="Is the engine alive",
    response=HealthView,
    tags=_TAGS,
)
async def health(request: ApiRequest) -> HealthView:
    """Answers whenever the process does, whatever state its servers are in."""
    return HealthView(status="ok", version=__version__)


@endpoint(
    "GET",
    "/system/ready",
    permission=Permission.PUBLIC,
    summary="Is the engine ready",
    response=ReadyView,
    tags=_TAGS,
)
async def ready(request: ApiRequest) -> ReadyView:
    """200 with ``ok``, or with ``degraded`` and the check that is not well; looked at twice a second at most.

    A caller on another machine is told the status alone; an administrator finds the rest under /system/actors.
    """
    services: Services = request.services
    keeper: ReadyKeeper = services.extras.setdefault(_READY, ReadyKeeper())
    seen = await keeper.view(services)
    address = parse_address(request.client_ip)
    return seen if address is not None and address.is_loopback else ReadyView(status=seen.status)


@endpoint(
    "GET",
    "/system/actors",
    permission=Permission.ADMIN,
    summary="Show the supervision tree",
    response=ActorView,
    tags=_TAGS,
)
async def actors(request: ApiRequest) -> ActorView:
    """Every supervisor and actor with its state, restarts, last error and mailbox."""
    services: Services = request.services
    return actor_view(services.tree(), trio.current_time())


@endpoint(
    "GET",
    "/system/queues",
    permission=Permission.ADMIN,
    summary="Show the queues",
    list_of=QueueView,
    tags=_TAGS,
)
async def queues(request: ApiRequest) -> Page[QueueView]:
    """The stages that a signal passes: signal, risk, execution, audit."""
    services: Services = request.services
    try:
        dead: dict[str, int] | None = await services.database.run(dead_letters.waiting_by_queue, timeout_s=2.0)
    except StoreUnavailable:
        dead = None
    return Page(queue_views(services, dead), MAX_LIMIT)


@endpoint(
    "GET",
    "/system/settings",
    permission=Permission.ADMIN,
    summary="Show the configuration",
    response=SettingsView,
    tags=_TAGS,
)
async def settings(request: ApiRequest) -> SettingsView:
    """What engine.toml, the environment and the defaults come to; of a secret only whether it is set."""
    services: Services = request.services
    found = (SettingView(**msgspec.structs.asdict(each)) for each in shown(services.config))
    return SettingsView(settings=tuple(found))


@endpoint(
    "GET",
    "/system/flags",
    permission=Permission.ADMIN,
    summary="List the flags",
    list_of=FlagView,
    tags=_TAGS,
)
async def flags(request: ApiRequest) -> Page[FlagView]:
    """What the store keeps across restarts, such as the kill switches."""
    services: Services = request.services
    await services.read_your_writes()
    return Page([FlagView(**flag) for flag in await services.database.run(all_flags)], MAX_LIMIT)


@endpoint(
    "GET",
    "/system/metrics",
    permission=Permission.ADMIN,
    summary="Show the counters",
    response=dict[str, Any],
    tags=_TAGS,
)
async def metrics(request: ApiRequest) -> dict[str, Any]:
    """Counters since the start and gauges of now, by part of the engine."""
    services: Services = request.services
    sections: dict[str, Any] = dict(counters(services))
    sections["orderBudgets"] = order_budgets(services)
    watchdog = services.extras.get("watchdog")
    if watchdog is not None:
        sections["eventLoop"] = _camel(msgspec.structs.asdict(watchdog.snapshot()))
    registry = services.extras.get("metrics")
    if registry is not None:
        sections["measured"] = registry.snapshot()
    return sections


def order_budgets(services: Services) -> list[dict[str, Any]]:
    """Return the order calls that each Zerodha account has used and has left; one may serve several accounts here."""
    found = {view.accounts: view for executor in services.crew.executors.values() for view in [executor.budget()]}
    budgets: list[dict[str, Any]] = []
    for view in found.values():
        usage = view.usage
        spans = (
            ("second", usage.second, usage.per_second),
            ("minute", usage.minute, usage.per_minute),
            ("day", usage.day, usage.per_day),
        )
        budgets.append(
            {
                "accountIds": [str(account) for account in view.accounts],
                **{name: {"used": used, "remaining": max(0, limit - used)} for name, used, limit in spans},
                "entriesHeldS": round(usage.held_s, 1),
                "dayCapped": usage.is_day_capped,
                "neededToFlatten": view.needed_to_flatten,
                "waiting": {
                    "exits": view.waiting_exits,
                    "cancels": view.waiting_cancels,
                    "entries": view.waiting_entries,
                },
            }
        )
    return budgets


def queue_views(services: Services, dead: Mapping[str, int] | None) -> list[QueueView]:
    """Return the four stages; *dead* counts the dead letters of each, None when they cannot be counted."""

    def gave_up(name: str) -> int | None:
        return None if dead is None else dead.get(name, 0)

    now = services.clock.now()
    executors = list(services.crew.executors.values())
    orders = [order for executor in executors for order in executor.desk.orders.values()]
    return [
        queue_view(
            "signal",
            [services.ingest.mailbox.stats()],
            in_flight=services.ingest.waiting,
            dead=gave_up("signal"),
        ),
        queue_view(
            "risk",
            [actor.mailbox.stats() for actor in services.crew.risk_actors.values()],
            in_flight=0,
            dead=gave_up("risk"),
        ),
        queue_view(
            "execution",
            [executor.mailbox.stats() for executor in executors],
            in_flight=services.crew.in_flight,
            waiting=services.crew.waiting_orders,
            oldest_waiting_s=oldest_pending_s(((o.status, o.created_at) for o in orders), now),
            retries=sum(max(0, order.attempt - 1) for order in orders),
            dead=gave_up("execution"),
        ),
        queue_view(
            "audit",
            [services.ledger.mailbox.stats()],
            in_flight=services.ledger.in_flight,
            dead=gave_up("audit"),
        ),
    ]


def counters(services: Services) -> dict[str, Section]:
    """Return the counters and gauges that the parts keep."""
    ingest, journal, ledger, crew, master = (
        services.ingest,
        services.journal,
        services.ledger,
        services.crew,
        services.master,
    )
    orders = [order for executor in crew.executors.values() for order in executor.desk.orders.values()]
    return {
        "signals": {"accepted": ingest.accepted, "duplicates": ingest.duplicates, "waiting": ingest.waiting},
        "journal": {
            "available": journal.available,
            "appended": journal.appended,
            "failed": journal.failed,
            "depth": journal.depth,
        },
        "ledger": {
            "available": ledger.available,
            "batches": ledger.batches,
            "entries": ledger.entries,
            "depth": ledger.mailbox.depth,
            "inFlight": ledger.in_flight,
        },
        "risk": {"users": len(crew.risk_actors)},
        "execution": {
            "accounts": len(crew.executors),
            "waitingOrders": crew.waiting_orders,
            "inFlight": crew.in_flight,
            "unknownOrders": sum(order.status == "UNKNOWN" for order in orders),
        },
        "feeds": services.extras["feeds"].counters(),
        "instruments": {
            "count": len(master.book),
            "loadedAt": None if master.loaded_at is None else master.loaded_at.isoformat().replace("+00:00", "Z"),
        },
        "killSwitch": {"blockedScopes": sum(r.enabled for r in services.guardian.switches.records.values())},
    }


def _camel(values: Mapping[str, Any]) -> dict[str, Any]:
    return {camel_case(name): value for name, value in values.items()}


def camel_case(name: str) -> str:
    """Return a snake_case name as the API spells it."""
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)
