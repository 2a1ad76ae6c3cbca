"""One endpoint as an operation of the API document: parameters, bodies, answers, errors, headers, examples."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from uuid import UUID

import msgspec

from engine.errors import (
    ApiError,
    BadRequestError,
    ConflictError,
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
from engine.http.doors import IDEMPOTENCY_KEY, Header
from engine.http.endpoint import Endpoint, Once, Raw
from engine.http.errors import BareErrorEnvelope, ErrorEnvelope
from engine.http.openapi_examples import example
from engine.http.permissions import ROLES, WITHOUT_BEARER, Permission
from engine.http.ratelimit import RateClass

_JSON = "application/json"
_REQUEST_ID = Header(
    name="X-Request-Id", description="Taken over when well-formed, made otherwise; returned with every answer."
)
HEADERS: dict[str, dict[str, Any]] = {
    "X-Request-Id": {
        "description": "Names the request in every log line and audit record.",
        "schema": {"type": "string"},
        "example": "01939c5e7a107c4d9b1e3f6a52d8e041",
    },
    "Retry-After": {
        "description": "Seconds after which a repeat may succeed.",
        "schema": {"type": "integer", "minimum": 1},
        "example": 2,
    },
    "WWW-Authenticate": {"description": "How to prove oneself.", "schema": {"type": "string"}, "example": "Bearer"},
    "Idempotency-Replayed": {
        "description": "true when this is the answer of an earlier call with the same Idempotency-Key.",
        "schema": {"type": "string", "enum": ["true"]},
    },
}


def operation_of(item: Endpoint, schemas: Mapping[Any, Any], components: Mapping[str, Any]) -> dict[str, Any]:
    """Return the operation object of *item*; *schemas* are those of its types by their repr."""
    operation: dict[str, Any] = {
        "operationId": f"{item.method.lower()}_" + item.template.strip("/").translate(str.maketrans("/{}.-", "_____")),
        "summary": item.summary,
        "description": " ".join(
            part for part in (item.description, _who(item.permission), _FRESH * item.fresh) if part
        ),
        "parameters": [*_path_parameters(item), *_query_parameters(item, schemas, components), *_headers(item)],
        "responses": _responses(item, schemas, components),
    }
    if item.tags:
        operation["tags"] = list(item.tags)
    if item.body is not None:
        operation["requestBody"] = {
            "required": item.body_required,
            "content": {_JSON: _with_example(schemas[repr(item.body)], components)},
        }
    elif item.door is not None and item.door.accepts:
        operation["requestBody"] = {
            "required": True,
            "content": {kind: _with_example(schemas[repr(type_)], components) for kind, type_ in item.door.accepts},
        }
    elif item.raw_body:
        operation["requestBody"] = {"required": True, "content": {"*/*": {"schema": {}}}}
    if item.permission not in WITHOUT_BEARER:
        operation["security"] = [{"bearer": []}]
    elif item.door is not None and item.door.schemes:
        operation["security"] = [{scheme: [] for scheme in item.door.schemes}]
    return operation


def _with_example(schema: Mapping[str, Any], components: Mapping[str, Any]) -> dict[str, Any]:
    return {"schema": schema, "example": example(schema, components)}


def _headers(item: Endpoint) -> list[dict[str, Any]]:
    wanted = [_REQUEST_ID, *(() if item.door is None else item.door.headers)]
    if item.once is not Once.NO:
        wanted.append(IDEMPOTENCY_KEY)
    return [
        {
            "name": header.name,
            "in": "header",
            "required": header.required,
            "description": header.description,
            "schema": {"type": "string"} | ({} if header.pattern is None else {"pattern": header.pattern}),
        }
        for header in wanted
    ]


_FRESH = "Needs a password or code given within the last 5 minutes (403 STEP_UP_REQUIRED: POST /auth/step-up)."


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
            "schema": {"type": "string", "format": "uuid"} if type_ is UUID else {"type": "string", "minLength": 1},
            "example": example({"type": "string", "format": "uuid" if type_ is UUID else ""}, {}, name),
        }
        for name, type_ in item.parameters
    ]


def _query_parameters(
    item: Endpoint, schemas: Mapping[Any, Any], components: Mapping[str, Any]
) -> list[dict[str, Any]]:
    if item.query is None:
        return []
    return [
        {
            "name": field.encode_name,
            "in": "query",
            "required": field.required,
            "schema": _without_null(schemas[repr(field.type)]),
            **_query_example(field.encode_name, _without_null(schemas[repr(field.type)]), components),
        }
        for field in msgspec.structs.fields(item.query)
    ]


def _query_example(name: str, schema: Mapping[str, Any], components: Mapping[str, Any]) -> dict[str, Any]:
    # a cursor is one's own last page's, and no window of an example is anybody's
    if name == "cursor":
        return {}
    return {
        "example": {"from": "2026-11-27", "to": "2026-11-27", "limit": 50}.get(name, example(schema, components, name))
    }


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    choices = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    return choices[0] if len(choices) == 1 else schema


def _responses(item: Endpoint, schemas: Mapping[Any, Any], components: Mapping[str, Any]) -> dict[str, Any]:
    responses = {str(item.status): _success(item, schemas, components)}
    envelope = (BareErrorEnvelope if item.bare else ErrorEnvelope).__name__
    by_status: dict[int, list[type[ApiError]]] = {}
    for kind in errors_of(item):
        by_status.setdefault(kind.status_code, []).append(kind)
    for status, kinds in sorted(by_status.items()):
        responses[str(status)] = {
            "description": " or ".join(map(_said, kinds)),
            "headers": _reply_headers(status, item),
            "content": {
                _JSON: {
                    "schema": {"$ref": f"#/components/schemas/{envelope}"},
                    "examples": {kind.default_code: {"value": _error_example(kind, bare=item.bare)} for kind in kinds},
                }
            },
        }
    return responses


def _said(kind: type[ApiError]) -> str:
    return (kind.__doc__ or kind.__name__).partition(": ")[2]


def _error_example(kind: type[ApiError], *, bare: bool) -> dict[str, Any]:
    fields = {"fields": {"quantity": "must be a number above 0"}} if kind is ValidationError else {}
    return {
        **({"status": "error", "message": _said(kind).rstrip(".")} if bare else {}),
        "success": False,
        "error": {
            "message": _said(kind).rstrip("."),
            "code": kind.default_code,
            "statusCode": kind.status_code,
            "timestamp": "2026-11-27T04:15:00.250Z",
            "details": fields,
        },
    }


def _reply_headers(status: int, item: Endpoint) -> dict[str, Any]:
    names = ["X-Request-Id"]
    if status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
        names.append("Retry-After")
    if status == HTTPStatus.UNAUTHORIZED:
        names.append("WWW-Authenticate")
    if status == item.status and item.once is not Once.NO:
        names.append("Idempotency-Replayed")
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _success(item: Endpoint, schemas: Mapping[Any, Any], components: Mapping[str, Any]) -> dict[str, Any]:
    headers = _reply_headers(item.status, item)
    if item.media_type != _JSON or item.response is Raw:
        return {"description": item.summary, "headers": headers, "content": {item.media_type: {"schema": {}}}}
    if item.bare:
        shown = _with_example(schemas[repr(item.response)], components)
        return {"description": item.summary, "headers": headers, "content": {_JSON: shown}}
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
    shown = _with_example(schema, components)
    if item.list_of is not None:
        shown["example"]["page"] = {"limit": 50, "nextCursor": None}
    return {"description": item.summary, "headers": headers, "content": {_JSON: shown}}


def errors_of(item: Endpoint) -> list[type[ApiError]]:
    """Return every error that *item* can answer: what it declares, and what its declaration brings about."""
    kinds: list[type[ApiError]] = [*item.errors, InternalServerError, BadRequestError]
    if item.permission not in WITHOUT_BEARER:
        kinds += [UnauthorizedError, ForbiddenError]
    if item.rate is not RateClass.NONE:
        kinds.append(RateLimitError)
    if item.parameters:
        kinds.append(NotFoundError)
    reads_body = item.body is not None and not item.raw_body
    if item.query is not None or reads_body:
        kinds.append(ValidationError)
    if reads_body:
        kinds.append(UnsupportedMediaTypeError)
    if item.body is not None or item.raw_body:
        kinds.append(PayloadTooLargeError)
    if item.once is not Once.NO:
        kinds += [ConflictError, ValidationError]
    if item.method != "GET" or item.permission not in WITHOUT_BEARER:
        kinds.append(UnavailableError)
    return list(dict.fromkeys(kinds))
