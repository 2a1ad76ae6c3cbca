"""The API document is complete, consistent and valid."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import jsonschema_rs
import pytest
import schemathesis

from engine.errors import ConflictError
from engine.http.docs_page import render
from engine.http.endpoint import ApiBody, ApiRequest, ApiStruct, Page, Registry, endpoint
from engine.http.openapi import document, document_endpoints
from engine.http.paging import PageQuery
from engine.http.permissions import Permission
from engine.http.routes import auth


class ThingView(ApiStruct, frozen=True, kw_only=True):
    """A <thing>."""

    id: UUID
    unit_price: Decimal
    made_at: datetime
    parent: UUID | None = None


class ThingBody(ApiBody, frozen=True, kw_only=True):
    unit_price: Decimal


class ThingQuery(PageQuery, frozen=True, kw_only=True):
    status: str | None = None


@endpoint(
    "GET", "/things", permission=Permission.READ, summary="List", list_of=ThingView, query=ThingQuery, tags=("things",)
)
async def list_things(request: ApiRequest) -> Page[Any]:
    """Newest first."""
    return Page([], 50)


@endpoint(
    "PATCH",
    "/things/{id}",
    permission=Permission.TRADE,
    summary="Change <it>",
    body=ThingBody,
    response=ThingView,
    errors=(ConflictError,),
)
async def change_thing(request: ApiRequest) -> None:
    """Does nothing."""


@endpoint("POST", "/hooks/{sourceId:str}", permission=Permission.WEBHOOK, summary="Hook", raw_body=True, status=202)
async def hook(request: ApiRequest) -> None:
    """Does nothing."""


REGISTRY = Registry([*Registry.of(auth), list_things, change_thing, hook])
DOCUMENT = document([*REGISTRY, *document_endpoints(REGISTRY)])


def operation(method: str, path: str) -> dict[str, Any]:
    return dict(DOCUMENT["paths"][path][method])


def test_document_holds_every_endpoint_and_nothing_else() -> None:
    declared = {(item.method.lower(), item.template) for item in [*REGISTRY, *document_endpoints(REGISTRY)]}
    assert declared == {(method, path) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert ("get", "/openapi.json") in declared
    assert ("get", "/api/v1/openapi.json") in declared


def test_document_is_valid_openapi() -> None:
    schema = schemathesis.openapi.from_dict(DOCUMENT)
    assert len(list(schema.get_all_operations())) == sum(len(methods) for methods in DOCUMENT["paths"].values())
    schema.validate()


def test_document_operation_ids_are_unique() -> None:
    ids = [entry["operationId"] for methods in DOCUMENT["paths"].values() for entry in methods.values()]
    assert len(set(ids)) == len(ids)


def test_document_references_all_lead_somewhere() -> None:
    def references(value: Any) -> set[str]:
        if isinstance(value, dict):
            own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
            return own.union(*(references(inner) for inner in value.values())) if value else own
        if isinstance(value, list):
            return set().union(*(references(inner) for inner in value)) if value else set()
        return set()

    found = references(DOCUMENT)
    assert "#/components/schemas/ErrorEnvelope" in found
    for name in found:
        _, _, kind, key = name.split("/")
        assert key in DOCUMENT["components"][kind], name


def test_document_says_who_needs_a_bearer() -> None:
    assert operation("get", "/api/v1/things")["security"] == [{"bearer": []}]
    for open_one in (operation("post", "/api/v1/auth/login"), operation("post", "/api/v1/hooks/{sourceId}")):
        assert "security" not in open_one


def test_document_describes_queries_and_paths() -> None:
    parameters = {item["name"]: item for item in operation("get", "/api/v1/things")["parameters"]}
    assert set(parameters) == {"limit", "cursor", "from", "to", "status", "X-Request-Id"}
    (path,) = [item for item in operation("patch", "/api/v1/things/{id}")["parameters"] if item["in"] == "path"]
    assert path["schema"] == {"type": "string", "format": "uuid"}


def test_document_lists_success_and_errors_of_an_operation() -> None:
    responses = operation("patch", "/api/v1/things/{id}")["responses"]
    assert set(responses) == {"200", "400", "401", "403", "404", "409", "413", "415", "422", "429", "500", "503"}
    assert "202" in operation("post", "/api/v1/hooks/{sourceId}")["responses"]


def test_document_describes_money_as_numbers_and_lists_with_a_page() -> None:
    assert DOCUMENT["components"]["schemas"]["ThingView"]["properties"]["unitPrice"] == {"type": "number"}
    schema = operation("get", "/api/v1/things")["responses"]["200"]["content"]["application/json"]["schema"]
    answer = {"success": True, "data": [], "page": {"limit": 50, "nextCursor": None}}
    whole = {**schema, "components": DOCUMENT["components"]}
    jsonschema_rs.validate(whole, answer)
    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validate(whole, {"success": True, "data": []})


def test_page_lists_every_operation_and_needs_no_script_and_no_other_host() -> None:
    page = render(DOCUMENT)
    for path in DOCUMENT["paths"]:
        assert path in page
    assert "<script" not in page
    assert " style=" not in page
    assert "http://" not in page
    assert "https://" not in page
    assert "Change &lt;it&gt;" in page
    assert "A &lt;thing&gt;." in page
