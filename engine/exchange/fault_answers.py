"""The odd answers, byte for byte: error bodies of kite.md appendix B and what gateways send instead of one."""

from collections.abc import Mapping
from random import Random
from typing import Any

import msgspec

_JSON = "application/json"
_IP = (
    "IP (203.0.113.9) is not allowed to place orders for this app. Update allowed IPs on the Kite developer console. "
    "Learn more - https://support.zerodha.com/category/trading-and-markets/general-kite/kite-api/articles/static-ip"
)
_FUNDS = (
    "Insufficient funds. Required margin is 95417.84 but available margin is 74251.80. "
    "Check the orderbook for open orders."
)
_TIMED_OUT = "Order request timed out. Please check the order book and confirm before placing again."
_PAGE = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<h1>502 Bad Gateway</h1>\r\n</body></html>\r\n"
)


class Odd(msgspec.Struct, frozen=True, kw_only=True):
    """An answer: HTTP status, content type (None: no such header) and body."""

    status: int
    content_type: str | None
    body: bytes


def _error(status: int, error_type: str, message: str, content_type: str | None = _JSON) -> Odd:
    body = {"status": "error", "message": message, "data": None, "error_type": error_type}
    return Odd(status=status, content_type=content_type, body=msgspec.json.encode(body))


ANSWERS: Mapping[str, Odd] = {
    "timed_out": _error(400, "OrderException", _TIMED_OUT),
    "bad_input": _error(400, "InputException", "Invalid `quantity`."),
    "no_funds": _error(400, "MarginException", _FUNDS),
    "no_holdings": _error(
        400,
        "HoldingException",
        "Insufficient stock holding or there are pending sell orders for this stock. Check the orderbook.",
    ),
    "order_error": _error(400, "OrderException", "The order could not be placed."),
    "unauthorised_holdings": _error(428, "HoldingException", "10 quantity needs authorisation at depository."),
    "token": _error(403, "TokenException", "Incorrect `api_key` or `access_token`."),
    "permission": _error(403, "PermissionException", "Insufficient permission for that call."),
    "ip": _error(403, "PermissionException", _IP),
    "rate": _error(429, "NetworkException", "Too many requests"),
    "cap": _error(429, "NetworkException", "Maximum allowed order requests exceeded."),
    "server_error": _error(500, "GeneralException", "Something went wrong. Please try again later."),
    "oms_down": _error(502, "DataException", "Unknown response from the order management system."),
    "api_down": _error(503, "NetworkException", "Gateway is down. Please try again later."),
    "bad_gateway_page": Odd(status=502, content_type="text/html", body=_PAGE),
    "gateway_timeout": _error(504, "NetworkException", "Gateway timed out.", content_type=None),
    "truncated": Odd(status=200, content_type=_JSON, body=b'{"status":"success","data":{"order_id":"24112'),
    "wrong_type": Odd(status=200, content_type="text/plain", body=b"OK"),
    "no_order_id": Odd(status=200, content_type=_JSON, body=b'{"status":"success","data":{}}'),
    "not_json": Odd(status=200, content_type=_JSON, body=b"\x00\xff{]"),
}
"""Answers by their name in `engine.exchange.faults.FaultRule`."""


def emptied(body: bytes) -> bytes:
    """Return the answer to a read without any row."""
    return _rewritten(body, lambda rows: [])


def partial(body: bytes, dice: Random) -> bytes:
    """Return the answer to a read with about half of its rows, at least one of them missing if there are any."""

    def thin(rows: list[Any]) -> list[Any]:
        kept = [row for row in rows if dice.random() < 0.5]
        return kept[1:] if len(kept) == len(rows) else kept

    return _rewritten(body, thin)


def _rewritten(body: bytes, change: Any) -> bytes:
    envelope = msgspec.json.decode(body)
    content = envelope.get("data")
    if isinstance(content, list):
        envelope["data"] = change(content)
    elif isinstance(content, dict):
        envelope["data"] = {name: change(rows) if isinstance(rows, list) else rows for name, rows in content.items()}
    return msgspec.json.encode(envelope)
