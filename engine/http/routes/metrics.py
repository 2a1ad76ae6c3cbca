"""/metrics: the engine's numbers for Prometheus, for its own token or a scraper on this machine."""

import hmac
import re
from collections.abc import Iterator

from engine.errors import StoreUnavailable, UnauthorizedError
from engine.http.client_ip import parse_address
from engine.http.doors import METRICS
from engine.http.endpoint import ApiRequest, Raw, endpoint
from engine.http.permissions import Permission
from engine.http.routes.system import counters, queue_views
from engine.http.scrape import gather
from engine.http.services import Services
from engine.observability.prometheus import MEDIA_TYPE, Sample, render
from engine.store.queries import dead_letters

_GROWS = {"accepted", "duplicates", "appended", "failed", "batches", "entries"}
_HUMP = re.compile(r"(?<=[a-z0-9])([A-Z])")


@endpoint(
    "GET",
    "/metrics",
    root=True,
    permission=Permission.WEBHOOK,
    summary="Show the numbers for Prometheus",
    door=METRICS,
    response=Raw,
    media_type="text/plain",
    errors=(UnauthorizedError,),
    tags=("system",),
)
async def prometheus_metrics(request: ApiRequest) -> Raw:
    """Text exposition format 0.0.4. From another machine it needs security.metrics_token as bearer token.

    Without such a token configured only this machine may ask.
    """
    _authenticate(request)
    services: Services = request.services
    try:
        dead: dict[str, int] | None = await services.database.run(dead_letters.waiting_by_queue, timeout_s=2.0)
    except StoreUnavailable:
        dead = None
    found = [*samples(services, dead), *await gather(services)]
    text = render(found, services.extras.get("metrics"))
    return Raw(text.encode(), MEDIA_TYPE)


def samples(services: Services, dead: dict[str, int] | None) -> Iterator[Sample]:
    """Give every number that the engine keeps; *dead* counts dead letters by queue, None when nobody can."""
    for section, values in counters(services).items():
        for name, value in values.items():
            if value is None or isinstance(value, str):
                continue
            family = f"engine_{_snake(section)}_{_snake(name)}"
            grows = name in _GROWS
            yield Sample(name=family + "_total" * grows, value=float(value), is_counter=grows)
    for queue in queue_views(services, dead):
        labels = {"queue": queue.name}
        yield Sample(name="engine_queue_depth", value=queue.depth, labels=labels)
        yield Sample(name="engine_queue_oldest_age_seconds", value=queue.oldest_age_s or 0.0, labels=labels)
        yield Sample(name="engine_queue_in_flight", value=queue.in_flight, labels=labels)
        if queue.dead is not None:
            yield Sample(name="engine_queue_dead_letters", value=queue.dead, labels=labels)
    yield Sample(name="engine_schema_version", value=services.schema_version)


def _authenticate(request: ApiRequest) -> None:
    services: Services = request.services
    address = parse_address(request.client_ip)
    if address is not None and address.is_loopback:
        return
    token = services.config.security.metrics_token.reveal()
    given = (request.header("authorization") or "").removeprefix("Bearer ").strip()
    if not token or not hmac.compare_digest(given.encode(), token.encode()):
        raise UnauthorizedError("send security.metrics_token as bearer token, or ask from the engine's own machine")


def _snake(name: str) -> str:
    return _HUMP.sub(r"_\1", name).lower()
