"""The API document (OpenAPI 3.1), made from the registry, and a page that lists it.

Nothing is written by hand: a type that an endpoint reads or answers is in the document because the
endpoint says so. The page needs no script and no other host.
"""

from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

import msgspec

from engine import __version__
from engine.errors import (
    ApiError,
    BadRequestError,
    ForbiddenError,
    InternalServerError,
    NotFoundError,
    PayloadTooLargeError,
    RateLimitError,
    UnauthorizedError,
    UnavailableError,
    UnsupportedMediaTypeError,
    ValidationError,
)
from engine.http.docs_page import CONTENT_SECURITY_POLICY, STYLE, render
from engine.http.endpoint import ApiRequest, Endpoint, Raw, Registry, endpoint
from engine.http.errors import ErrorEnvelope
from engine.http.permissions import ROLES, WITHOUT_BEARER, Permission
from engine.http.ratelimit import RateClass

_REFERENCE = "#/components/schemas/{name}"
_JSON = "application/json"


def document(registry: Iterable[Endpoint]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of all endpoints of *registry*."""
    endpoints = list(registry)
    schemas, components = _schemas(endpoints)
    paths: dict[str, dict[str, Any]] = {}
    for item in endpoints:
        paths.setdefault(item.template, {})[item.method.lower()] = _operation(item, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Trading execution engine",
            "version": __version__,
            "description": "Turns trading signals into risk-checked, audited orders. Times are ISO 8601 in UTC, "
            "money is a JSON number in rupees.",
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
            },
        },
        "tags": [{"name": name} for name in sorted({tag for item in endpoints for tag in item.tags})],
    }


def document_endpoints(registry: Registry) -> list[Endpoint]:
    """Return the endpoints that serve the document of *registry* and its page; they are in it too."""
    made: list[Endpoint] = []
    cache: dict[str, bytes] = {}

    def cached(name: str, make: Callable[[], bytes]) -> bytes:
        if name not in cache:
            cache[name] = make()
        return cache[name]

    def whole() -> dict[str, Any]:
        return document([*registry, *made])

    async def api_document(request: ApiRequest) -> Raw:
        """The OpenAPI 3.1 document of this API."""
        return Raw(cached("json", lambda: msgspec.json.encode(whole())), _JSON)

    async def api_page(request: ApiRequest) -> Raw:
        """A page that lists every operation."""
        body = cached("html", lambda: render(whole()).encode())
        return Raw(body, "text/html; charset=utf-8", headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY})

    async def api_page_style(request: ApiRequest) -> Raw:
        """The style sheet of that page."""
        return Raw(STYLE.encode(), "text/css; charset=utf-8")

    public = Permission.PUBLIC
    for path, root in (("/openapi.json", True), ("/openapi.json", False)):
        declare = endpoint(
            "GET", path, root=root, permission=public, summary="This document", media_type=_JSON, tags=("document",)
        )
        made.append(msgspec.structs.replace(declare(api_document), response=Raw))
    for path, handler, kind in (("/docs", api_page, "text/html"), ("/docs/style.css", api_page_style, "text/css")):
        declare = endpoint(
            "GET",
            path,
            root=True,
            permission=public,
            summary=(handler.__doc__ or "").rstrip("."),
            media_type=kind,
            response=Raw,
            tags=("document",),
        )
        made.append(declare(handler))
    return made


def _schemas(endpoints: list[Endpoint]) -> tuple[dict[Any, Any], dict[str, Any]]:
    types: list[Any] = [ErrorEnvelope]
    for item in endpoints:
        types += [t for t in (item.body, item.response, item.list_of) if t is not None and t is not Raw]
        if item.query is not None:
            types += [field.type for field in msgspec.structs.fields(item.query)]
    unique = list({repr(t): t for t in types}.values())
    found, components = msgspec.json.schema_components(unique, ref_template=_REFERENCE)
    return {repr(t): _numbers(s) for t, s in zip(unique, found, strict=True)}, _numbers(components)


def _numbers(schema: Any) -> Any:
    # msgspec describes a Decimal as text; on this API it is a JSON number
    if isinstance(schema, dict):
        if schema.get("format") == "decimal":
            return {**{key: value for key, value in schema.items() if key != "format"}, "type": "number"}
        return {key: _numbers(value) for key, value in schema.items()}
    if isinstance(schema, list):
        return [_numbers(item) for item in schema]
    return schema


def _operation(item: Endpoint, schemas: dict[Any, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": f"{item.method.lower()}_" + item.template.strip("/").translate(str.maketrans("/{}.-", "_____")),
        "summary": item.summary,
        "description": " ".join(part for part in (item.description, _who(item.permission)) if part),
        "parameters": [*_path_parameters(item), *_query_parameters(item, schemas), _REQUEST_ID],
        "responses": _responses(item, schemas),
    }
    if item.tags:
        operation["tags"] = list(item.tags)
    if item.body is not None:
        operation["requestBody"] = {
            "required": item.body_required,
            "content": {_JSON: {"schema": schemas[repr(item.body)]}},
        }
    elif item.raw_body:
        operation["requestBody"] = {"required": True, "content": {"*/*": {"schema": {}}}}
    if item.permission not in WITHOUT_BEARER:
        operation["security"] = [{"bearer": []}]
    return operation


_REQUEST_ID = {
    "name": "X-Request-Id",
    "in": "header",
    "required": False,
    "description": "Taken over when well-formed, made otherwise; returned with every answer.",
    "schema": {"type": "string"},
}


def _who(permission: Permission) -> str:
    if permission is Permission.PUBLIC:
        return "Open to anyone."
    if permission is Permission.WEBHOOK:
        return "Authenticates its caller itself, without a bearer token."
    return f"Roles: {', '.join(sorted(ROLES[permission]))}."


def _path_parameters(item: Endpoint) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "format": "uuid"} if type_ is UUID else {"type": "string"},
        }
        for name, type_ in item.parameters
    ]


def _query_parameters(item: Endpoint, schemas: dict[Any, Any]) -> list[dict[str, Any]]:
    if item.query is None:
        return []
    return [
        {
            "name": field.encode_name,
            "in": "query",
            "required": field.required,
            "schema": _without_null(schemas[repr(field.type)]),
        }
        for field in msgspec.structs.fields(item.query)
    ]


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    choices = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    return choices[0] if len(choices) == 1 else schema


def _responses(item: Endpoint, schemas: dict[Any, Any]) -> dict[str, Any]:
    responses = {str(item.status): _success(item, schemas)}
    by_status: dict[int, list[type[ApiError]]] = {}
    for kind in _errors(item):
        by_status.setdefault(kind.status_code, []).append(kind)
    for status, kinds in sorted(by_status.items()):
        responses[str(status)] = {
            "description": " or ".join((kind.__doc__ or kind.__name__).partition(": ")[2] for kind in kinds),
            "content": {_JSON: {"schema": {"$ref": "#/components/schemas/ErrorEnvelope"}}},
        }
    return responses


def _success(item: Endpoint, schemas: dict[Any, Any]) -> dict[str, Any]:
    if item.media_type != _JSON or item.response is Raw:
        return {"description": item.summary, "content": {item.media_type: {"schema": {}}}}
    properties: dict[str, Any] = {"success": {"const": True}, "data": {}}
    required = ["success", "data"]
    if item.list_of is not None:
        properties["data"] = {"type": "array", "items": schemas[repr(item.list_of)]}
        properties["page"] = {
            "type": "object",
            "properties": {"limit": {"type": "integer"}, "nextCursor": {"type": ["string", "null"]}},
            "required": ["limit", "nextCursor"],
        }
        required.append("page")
    elif item.response is not None:
        properties["data"] = schemas[repr(item.response)]
    schema = {"type": "object", "properties": properties, "required": required}
    return {"description": item.summary, "content": {_JSON: {"schema": schema}}}


def _errors(item: Endpoint) -> list[type[ApiError]]:
    kinds: list[type[ApiError]] = [*item.errors, InternalServerError, BadRequestError]
    if item.permission not in WITHOUT_BEARER:
        kinds += [UnauthorizedError, ForbiddenError]
    if item.rate is not RateClass.NONE:
        kinds.append(RateLimitError)
    if item.parameters:
        kinds.append(NotFoundError)
    if item.query is not None or item.body is not None:
        kinds.append(ValidationError)
    if item.body is not None:
        kinds.append(UnsupportedMediaTypeError)
    if item.body is not None or item.raw_body:
        kinds.append(PayloadTooLargeError)
    if item.method != "GET" or item.permission not in WITHOUT_BEARER:
        kinds.append(UnavailableError)
    return list(dict.fromkeys(kinds))
