"""Examples of the API document, made from its own schemas: each is valid where it stands, and reads like a day's."""

import re
from collections.abc import Mapping
from typing import Any

_REFERENCE = "#/components/schemas/"
_UUID = "01939c5e-7a10-7c4d-9b1e-3f6a52d8e041"
_AT = "2026-11-27T04:15:00.250Z"
_DEPTH = 8

# of the field, whatever type it has there; one that does not fit the schema is left out for what does
_BY_NAME: Mapping[str, Any] = {
    "symbol": "INFY",
    "exchange": "NSE",
    "transactionType": "BUY",
    "orderType": "LIMIT",
    "productType": "MIS",
    "variety": "regular",
    "validity": "DAY",
    "quantity": 10,
    "filledQuantity": 10,
    "price": 1520.5,
    "averagePrice": 1520.5,
    "lastPrice": 1522,
    "triggerPrice": 1515,
    "stopLoss": 1505,
    "target": 1560,
    "capital": 1000000,
    "email": "asha@desk.example",
    "password": "violet kite over the pier",
    "currentPassword": "violet kite over the pier",
    "newPassword": "seven brass gulls at dawn",
    "name": "morning breakout",
    "label": "main",
    "reason": "the feed went mad",
    "scope": "global",
    "role": "TRADER",
    "type": "webhook",
    "start": "09:15",
    "end": "15:20",
    "squareOffAt": "15:15",
    "tag": "E01939C5E7A107C4D9B1",
    "brokerOrderId": "261127000000001",
    "brokerUserId": "AB1234",
    "apiKey": "src_" + "0123456789abcdef" * 2,
    "secret": "the-43-characters-" + "shown-only-this-once-here",
    "webhookUrl": "https://desk.example/api/v1/signals/sheets/webhook",
    "accessToken": "eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.e30.c2lnbmF0dXJl",
    "refreshToken": "the-43-characters-" + "of-a-single-use-or-so-now",
    "version": "0.1.0",
    "ipAllowlist": ["203.0.113.0/24"],
    "allowedSymbols": ["INFY", "SBIN"],
    "user_id": "AB1234",
    "order_id": "261127000000001",
    "order_timestamp": "2026-11-27 09:45:00",
    "checksum": "a" * 64,
    "update_id": 901,
    "date": 1795752900,
    "text": "BUY INFY NSE 10 @ 1520.50 LIMIT MIS",
    "detail": "order sent",
    "actor": "user:" + _UUID,
    "subject": "order:" + _UUID,
    "action": "LOGIN",
    "status": "OPEN",
}


def example(schema: Mapping[str, Any], components: Mapping[str, Any], name: str = "", depth: int = 0) -> Any:
    """Return a value of *schema*, which may refer to *components*; *name* is the field that it is for."""
    if schema.get("examples"):
        return schema["examples"][0]
    if "$ref" in schema:
        return example(components[schema["$ref"].removeprefix(_REFERENCE)], components, name, depth + 1)
    if "const" in schema:
        return schema["const"]
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        some = [choice for choice in choices if choice.get("type") != "null"]
        return None if depth > _DEPTH or not some else example(some[0], components, name, depth)
    if "enum" in schema:
        return _BY_NAME[name] if _BY_NAME.get(name) in schema["enum"] else schema["enum"][0]
    kind = schema.get("type")
    kind = next((each for each in kind if each != "null"), None) if isinstance(kind, list) else kind
    if kind == "object":
        return _object(schema, components, depth)
    if kind == "array":
        return _array(schema, components, name, depth)
    return _scalar(schema, kind, name)


def _object(schema: Mapping[str, Any], components: Mapping[str, Any], depth: int) -> dict[str, Any]:
    required = set(schema.get("required", ()))
    return {
        field: example(inner, components, field, depth + 1)
        for field, inner in schema.get("properties", {}).items()
        if field in required or depth < _DEPTH
    }


def _array(schema: Mapping[str, Any], components: Mapping[str, Any], name: str, depth: int) -> list[Any]:
    if isinstance(_BY_NAME.get(name), list):
        return list(_BY_NAME[name])
    inner = schema.get("items")
    if not inner or (depth > _DEPTH and not schema.get("minItems")):
        return []
    return [example(inner, components, name, depth + 1) for _ in range(max(1, schema.get("minItems", 1)))]


def _scalar(schema: Mapping[str, Any], kind: str | None, name: str) -> Any:
    match schema.get("format"):
        case "uuid":
            return _UUID
        case "date-time":
            return _AT
        case "date":
            return "2026-11-27"
    known = _BY_NAME.get(name)
    match kind:
        case "boolean":
            return schema.get("default", True)
        case "integer":
            return _number(schema, known if isinstance(known, int) else 1)
        case "number":
            return _number(schema, known if isinstance(known, int | float) else 1)
        case "string":
            return _text(schema, known if isinstance(known, str) else (name or "text"))
    return {} if kind is None else None


def _number(schema: Mapping[str, Any], value: Any) -> Any:
    least, most = schema.get("minimum", value), schema.get("maximum", value)
    return max(least, min(value, most))


def _text(schema: Mapping[str, Any], value: str) -> str:
    pattern = schema.get("pattern")
    if pattern is not None and not re.search(pattern, value):
        value = "1795752900" if re.search(pattern, "1795752900") else value
    return value[: schema.get("maxLength", len(value))].ljust(schema.get("minLength", 0), "x")
