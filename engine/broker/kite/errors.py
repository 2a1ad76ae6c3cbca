"""What the answer to a write proves: pure, and failing toward Unknown.

An answer is a refusal only if (status, error type) stands in `REFUSALS` and the message does not hint
that the order may live after all. Everything that is neither that, nor an order id, nor the proof
that no byte left, is Unknown.

Sources: Kite Connect v3 exceptions; kite.trade forum 35732 (a 400 "Order request timed out" whose
order was live 8 s later), 41029, 8124 (check the order book before any retry).
"""

import re
from enum import StrEnum
from typing import Any

import msgspec

from engine.broker.kite.denied import is_about_address
from engine.broker.kite.denied import judge as judge_denial
from engine.broker.outcome import Accepted, NotSent, RefusalCode, Refused, Unknown, WriteOutcome
from engine.observability.redaction import escape_controls


class Failure(StrEnum):
    """Why there is no whole answer."""

    GATED = "gated"
    CONNECT = "connect"
    DEADLINE = "deadline"
    LOST = "connection lost"
    PROTOCOL = "protocol"
    OVERSIZE = "oversize"


REFUSALS = frozenset(
    {
        (400, "InputException"),
        (400, "MarginException"),
        (400, "HoldingException"),
        (403, "TokenException"),
        (403, "PermissionException"),
        (403, "InputException"),
        (403, "UserException"),
        (403, "TwoFAException"),
        (428, "InputException"),
        (428, "MarginException"),
        (428, "HoldingException"),
    }
)
"""Pairs of status and error type that mean the order was not placed, if the message agrees.

403 and 428 are answered before the order management system is asked: session, address, account and
depository authorisation. 429 is judged apart, by any error type. A 400 OrderException is not here:
it may come from a placement that failed half-way.
"""

_TIMEOUT = re.compile(r"time.?d?.?out|confirm|status (?:is )?unknown|unknown status|before placing again", re.I)
_SEE_BOOK = re.compile(r"check (?:the )?order ?book", re.I)
# "Insufficient funds. … Check the orderbook for open orders." advises, it does not doubt.
_ADVICE = re.compile(r"\s*insufficient (?:funds|stock holding|holding|margin)", re.I)
_IDS = {"order_id": re.compile(r"[0-9]{8,20}"), "trigger_id": re.compile(r"[1-9][0-9]{0,19}")}
# A change (modify, cancel) creates no order, so that these texts are definite whatever the status.
_CHANGE_REFUSALS = (
    (re.compile(r"couldn't find that `?(?:order|trigger)_id`?|does not exist", re.I), RefusalCode.ORDER_NOT_FOUND),
    (re.compile(r"as it is being processed", re.I), RefusalCode.ORDER_BUSY),
    (re.compile(r"maximum allowed order modifications", re.I), RefusalCode.MODIFICATION_CAP),
)
_CHANGE_STATUSES = frozenset({400, 404, 429, 500, 503})
_CAUSES = (
    (re.compile(r"market protection", re.I), RefusalCode.MARKET_PROTECTION),
    (re.compile(r"tick size", re.I), RefusalCode.TICK_SIZE),
    (re.compile(r"maximum quantity|freeze quantity|order slicing", re.I), RefusalCode.FREEZE_QUANTITY),
    (re.compile(r"circuit|daily range|far away from the LTP", re.I), RefusalCode.PRICE_RANGE),
    (re.compile(r"markets? (?:are|is) not open|markets? (?:are|is) closed|have not been opened", re.I),
     RefusalCode.MARKET_CLOSED),
    (re.compile(r"as it is being processed", re.I), RefusalCode.ORDER_BUSY),
    (re.compile(r"insufficient stock|authori[sz]ation at depository|holding", re.I), RefusalCode.HOLDINGS),
    (re.compile(r"insufficient funds|margin", re.I), RefusalCode.FUNDS),
)  # fmt: skip

# A user that the broker blocks can still read: that is no dead session.
_DEAD = frozenset({RefusalCode.TOKEN_DEAD, RefusalCode.NOT_ENABLED, RefusalCode.TWO_FA})


class _OrderId(msgspec.Struct, frozen=True):
    order_id: str


class _Taken(msgspec.Struct, frozen=True):
    status: str
    data: _OrderId


class _Envelope(msgspec.Struct, frozen=True):
    status: Any = None
    message: Any = None
    error_type: Any = None
    data: Any = None


_taken = msgspec.json.Decoder(_Taken)
_envelope = msgspec.json.Decoder(_Envelope)
_UNREADABLE = (msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError)


def is_ambiguous(message: str) -> bool:
    """Whether an error *message* leaves open that the order was placed."""
    if _TIMEOUT.search(message):
        return True
    return bool(_SEE_BOOK.search(message)) and not _ADVICE.match(message)


def classify(
    *,
    status: int | None,
    content_type: str = "",
    body: bytes = b"",
    bytes_written: int,
    failure: Failure | None = None,
    detail: str = "",
    change: bool = False,
    key: str = "order_id",
) -> WriteOutcome:
    """Return what is proven about a write.

    *status*, *content_type* and *body* are the broker's answer if a whole one came; *bytes_written*
    counts what the kernel took of the request; *failure* and *detail* say why there is no answer.
    *change* is True for modify and cancel, which cannot create an order; *key* is where the id of what was
    made stands (``order_id``, ``trigger_id``).
    """
    if failure is not None:
        if bytes_written == 0:
            return NotSent(reason=detail or failure.value, gated=failure is Failure.GATED)
        return Unknown(reason=f"{failure.value} after {bytes_written} bytes: {detail}")
    if status is None:
        return Unknown(reason="no answer")
    if status == 200:
        return _accepted(body, key)
    return _refused(status, content_type, body, change, key)


def _accepted(body: bytes, key: str) -> Accepted | Unknown:
    try:
        taken = _taken.decode(body) if key == "order_id" else None
        found = taken.data.order_id if taken is not None and taken.status == "success" else ""
    except _UNREADABLE:
        found = ""
    found = found or _first_id(body, key)
    if _IDS[key].fullmatch(found):
        return Accepted(broker_order_id=found)
    return Unknown(reason=f"200 without a usable {key}: {_excerpt(body)}")


def _first_id(body: bytes, key: str) -> str:
    """Read the shapes that are not the plain one: a number for an id, the old list of slices."""
    envelope = _read(body)
    if envelope is None or envelope.status != "success":
        return ""
    found = envelope.data
    if isinstance(found, list):
        found = next((row for row in found if isinstance(row, dict) and key in row), None)
    if not isinstance(found, dict):
        return ""
    order_id = found.get(key)
    if isinstance(order_id, int) and not isinstance(order_id, bool):
        return str(order_id) if 0 <= order_id < 10**20 else ""
    return order_id if isinstance(order_id, str) else ""


def _refused(status: int, content_type: str, body: bytes, change: bool, key: str) -> Refused | Unknown:
    unknown = Unknown(reason=f"HTTP {status}: {_excerpt(body)}")
    if content_type and "json" not in content_type.lower():
        return unknown
    envelope = _read(body)
    if envelope is None or envelope.status != "error":
        return unknown
    if isinstance(envelope.data, dict) and envelope.data.get(key):
        return unknown
    message, error_type = envelope.message, envelope.error_type
    if message is None:
        message = ""
    if error_type is None:
        error_type = ""
    if not isinstance(message, str) or not isinstance(error_type, str) or is_ambiguous(message):
        return unknown
    code = None
    if change and status in _CHANGE_STATUSES:
        code = next((code for pattern, code in _CHANGE_REFUSALS if pattern.search(message)), None)
    if code is None and status == 429:
        cap = "maximum allowed order requests" in message.lower()
        code = RefusalCode.ORDER_CAP if cap else RefusalCode.RATE_LIMITED
    if code is None and (status, error_type) in REFUSALS:
        code = _cause(status, error_type, message)
    if code is None:
        return unknown
    return Refused(
        code=code,
        message=escape_controls(message),
        error_type=error_type,
        status=status,
        auth_blocked=code in _DEAD,
        rate_limited=code in (RefusalCode.RATE_LIMITED, RefusalCode.ORDER_CAP),
    )


def _cause(status: int, error_type: str, message: str) -> RefusalCode:
    if status == 403:
        return judge_denial(error_type, message)
    if is_about_address(message):
        return RefusalCode.STATIC_IP
    for pattern, code in _CAUSES:
        if pattern.search(message):
            return code
    if error_type == "MarginException":
        return RefusalCode.FUNDS
    return RefusalCode.HOLDINGS if error_type == "HoldingException" else RefusalCode.OTHER


def _read(body: bytes) -> _Envelope | None:
    try:
        return _envelope.decode(body)
    except _UNREADABLE:
        return None


def _excerpt(body: bytes) -> str:
    # no store takes a NUL, and what the ledger refuses would leave the order as it was before the answer
    return escape_controls(body[:200].decode("utf-8", "replace"))
