"""Declaring endpoints: nothing is reachable by default (SEC-030)."""

from types import ModuleType
from typing import Any
from uuid import UUID

import pytest

from engine.errors import StartupError
from engine.http.app import create_app
from engine.http.endpoint import ApiRequest, Endpoint, Registry, endpoint
from engine.http.permissions import Permission
from engine.http.ratelimit import RateClass
from engine.http.routes import auth
from tests.support.api import ApiServices


async def handler(request: ApiRequest) -> None:
    """Does nothing."""


def declare(method: str = "GET", path: str = "/things", **changes: Any) -> Endpoint:
    return endpoint(method, path, **{"permission": Permission.READ, "summary": "s", **changes})(handler)


def test_endpoint_without_a_permission_cannot_be_declared() -> None:
    with pytest.raises(TypeError):
        endpoint("GET", "/things", summary="s")  # type: ignore[call-arg]


@pytest.mark.parametrize("permission", [None, "", "ADMIN", True])
def test_endpoint_with_something_else_for_a_permission_cannot_be_declared(permission: Any) -> None:
    with pytest.raises(StartupError, match="permission"):
        declare(permission=permission)


@pytest.mark.parametrize(("method", "path"), [("BREW", "/x"), ("get", "/x"), ("GET", "x")])
def test_endpoint_that_cannot_be_served_cannot_be_declared(method: str, path: str) -> None:
    with pytest.raises(StartupError):
        declare(method, path)


def test_endpoint_paths_are_under_the_base_unless_said_otherwise() -> None:
    assert declare().path == "/api/v1/things"
    assert declare(root=True).path == "/things"


def test_endpoint_parameters_are_uuids_unless_said_otherwise() -> None:
    item = declare(path="/a/{id}/b/{name:str}")
    assert item.parameters == (("id", UUID), ("name", str))
    assert item.template == "/api/v1/a/{id}/b/{name}"
    assert item.rule == "/api/v1/a/<id>/b/<name>"


def test_endpoint_with_bearer_is_rate_limited_by_default() -> None:
    assert declare().rate is RateClass.API
    assert declare(permission=Permission.WEBHOOK).rate is RateClass.NONE
    assert declare(rate=RateClass.KILL_SWITCH).rate is RateClass.KILL_SWITCH


def test_registry_collects_the_endpoints_of_a_module_in_order() -> None:
    module = ModuleType("routes")
    module.__dict__.update(a=declare(path="/a"), number=1, b=declare(path="/b"))
    assert [item.path for item in Registry.of(module)] == ["/api/v1/a", "/api/v1/b"]


def test_registry_with_one_address_twice_is_refused() -> None:
    with pytest.raises(StartupError, match="twice"):
        Registry([declare(path="/a/{id}"), declare(path="/a/{id:str}")])


async def test_app_with_a_bare_route_does_not_start() -> None:
    app = create_app(ApiServices(), Registry.of(auth))

    @app.get("/api/v1/backdoor")
    async def backdoor() -> str:
        return "open"

    with pytest.raises(StartupError, match="backdoor"):
        await app.startup()


def test_app_serves_no_files_and_no_automatic_options() -> None:
    app = create_app(ApiServices(), Registry.of(auth))
    rules = list(app.url_map.iter_rules())
    assert all("OPTIONS" not in (rule.methods or ()) for rule in rules)
    assert not any("static" in rule.rule for rule in rules)


def test_request_without_a_principal_has_no_user() -> None:
    services = ApiServices()
    app = create_app(services, Registry())
    request = ApiRequest(
        services=services,
        endpoint=declare(),
        method="GET",
        headers={"x-a": "1"},
        request_id="r",
        client_ip="127.0.0.1",
        draining=app.draining,
    )
    assert request.header("X-A") == "1"
    with pytest.raises(Exception, match="sign in"):
        _ = request.user
