"""The API document (OpenAPI 3.1), made from the registry, and a page that lists it.

Nothing is written by hand: a type that an endpoint reads or answers is in the document because the
endpoint says so. The page needs no script and no other host.
"""

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

import msgspec

from engine import __version__
from engine.http.docs_page import CONTENT_SECURITY_POLICY, STYLE, render
from engine.http.doors import SCHEMES
from engine.http.endpoint import ApiRequest, Endpoint, Raw, Registry, endpoint
from engine.http.errors import BareErrorEnvelope, ErrorEnvelope, encode
from engine.http.openapi_operation import HEADERS, operation_of
from engine.http.permissions import Permission

_REFERENCE = "#/components/schemas/{name}"
_JSON = "application/json"


def document(registry: Iterable[Endpoint]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of the endpoints of *registry*; pages for people are not in it."""
    endpoints = [item for item in registry if item.listed]
    schemas, components = _schemas(endpoints)
    paths: dict[str, dict[str, Any]] = {}
    for item in endpoints:
        paths.setdefault(item.template, {})[item.method.lower()] = operation_of(item, schemas, components)
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
            "securitySchemes": SCHEMES,
            "headers": HEADERS,
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
        return Raw(cached("json", lambda: encode(whole())), _JSON)

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
    types: list[Any] = [ErrorEnvelope, BareErrorEnvelope]
    for item in endpoints:
        types += [t for t in (item.body, item.response, item.list_of) if t is not None and t is not Raw]
        if item.door is not None:
            types += [type_ for _, type_ in item.door.accepts]
        if item.query is not None:
            types += [field.type for field in msgspec.structs.fields(item.query)]
    unique = list({repr(t): t for t in types}.values())
    found, components = msgspec.json.schema_components(unique, ref_template=_REFERENCE)
    return {repr(t): _numbers(s) for t, s in zip(unique, found, strict=True)}, _numbers(components)


def _number(default: Any) -> Any:
    value = None if default is None else Decimal(default)
    return value if value is None or value % 1 else int(value)


def _numbers(schema: Any) -> Any:
    # msgspec describes a Decimal as text; on this API it is a JSON number
    if isinstance(schema, dict):
        if schema.get("format") == "decimal":
            number = {**{key: value for key, value in schema.items() if key != "format"}, "type": "number"}
            return number | ({"default": _number(schema["default"])} if "default" in schema else {})
        if "default" in schema and {"type": "string", "format": "decimal"} in schema.get("anyOf", ()):
            schema = {**schema, "default": _number(schema["default"])}
        return {key: _numbers(value) for key, value in schema.items()}
    if isinstance(schema, list):
        return [_numbers(item) for item in schema]
    return schema
