"""TradingView alerts: the body is whatever the user typed into the alert, JSON or text.

TradingView cannot sign or set headers, so a body may carry the source's secret itself: a JSON key
``secret`` or a text line ``Secret:`` (contract section 8). It is taken out before anything is parsed, so
no refusal can quote it.

Besides the fields of a sheet, JSON may use the names that TradingView's placeholders suggest: ``ticker``, ``action``,
``contracts``, and ``marketPosition`` (long, short or flat) with ``marketPositionSize``, which ask for a position rather
than an order. ``timenow`` (JSON) or a line ``Timenow:`` says when the alert fired. Exchanges come as TradingView writes
them: ``NSE:RELIANCE``, ``NSE_DLY`` of delayed data, and options and continuous futures under the cash exchange
(``NIFTY261126C24000``, ``NIFTY1!``), which become contracts in words (`engine.domain.contracts`).
"""

import re
from datetime import UTC, datetime

import msgspec

from engine.domain.enums import Exchange
from engine.domain.signal import Refusal
from engine.signals import json_guard, sheets
from engine.signals.json_guard import JsonValue
from engine.signals.refusals import RefusalCode, Refused, quote
from engine.signals.sheets import Batch
from engine.signals.text import MAX_TEXT_BYTES, parse_text

# room for the lines that are not the signal's
_MAX_TEXT = MAX_TEXT_BYTES + 512
_MAX_SYMBOL = 64
_SECRET, _TIMENOW = "secret", "timenow"
_ALIASES = {"ticker": "symbol", "action": "transactionType", "contracts": "quantity"}
# told for a person who reads the record; nothing is decided by them
_TOLD = frozenset({"time", "interval", "open", "high", "low", "close", "volume", "orderId", "comment", "strategy"})
_POSITION, _POSITION_SIZE = "marketPosition", "marketPositionSize"
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z", re.ASCII)
_PLACEHOLDER = re.compile(r"\{\{[^{}]{0,60}\}\}")
_DELAYED = re.compile(r"_DLY?$")
_OPTION = re.compile(r"([A-Z][A-Z0-9&_-]*?)(\d{2})(\d{2})(\d{2})([CP])(\d{1,7}(?:\.\d{1,4})?)", re.ASCII)
_CONTINUOUS = re.compile(r"([A-Z][A-Z0-9&_-]*?)([12])!", re.ASCII)
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DERIVATIVES_OF = {"NSE": "NFO", "BSE": "BFO"}
_EXCHANGES = frozenset(exchange.value for exchange in Exchange)


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """The secret that the body carried (None without any), what else it held, and when it fired if it says so.

    The secret is whatever a stranger sent: compare it in constant time, never log it. ``fired_at`` is aware UTC.
    """

    secret: str | None
    content: Batch | Refusal
    fired_at: datetime | None = None

    def __repr__(self) -> str:
        return f"Alert(secret={'***' if self.secret else None}, content={self.content!r})"


def parse(body: bytes) -> Alert:
    """Read an alert body: JSON when it begins with { or [, text otherwise. Never raises."""
    if len(body) > json_guard.MAX_BODY_BYTES:
        return _refused(RefusalCode.BODY_TOO_LARGE, f"send at most {json_guard.MAX_BODY_BYTES} bytes, not {len(body)}")
    if body.lstrip(b" \t\r\n")[:1] in (b"{", b"["):
        return _json(body)
    if len(body) > _MAX_TEXT:
        # before any of it is read: whoever sends it may be a stranger
        return _refused(RefusalCode.TEXT_TOO_LONG, f"send at most {MAX_TEXT_BYTES} bytes of text, not {len(body)}")
    try:
        return _text(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        return _refused(RefusalCode.INVALID_ENCODING, f"send UTF-8: byte {error.start} is not")


def _json(body: bytes) -> Alert:
    value = json_guard.read(body)
    if isinstance(value, Refusal):
        return Alert(secret=None, content=value)
    secret = value.pop(_SECRET, None) if isinstance(value, dict) else None
    known = secret if isinstance(secret, str) else None
    try:
        fired_at = _time(value.pop(_TIMENOW, None)) if isinstance(value, dict) else None
        rows = value if isinstance(value, list) else [value]
        read = [_row(row) if isinstance(row, dict) else row for row in rows]
    except Refused as refused:
        return Alert(secret=known, content=refused.refusal)
    content = sheets.parse_value(read if isinstance(value, list) else read[0])
    return Alert(secret=known, content=content, fired_at=fired_at)


def _time(value: JsonValue) -> datetime | None:
    if value is None:
        return None
    if isinstance(value, str) and _TIME.fullmatch(value):
        try:
            return datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        except ValueError:
            pass  # a month 13: told below like every other thing that is no instant
    raise Refused(
        RefusalCode.INVALID_VALUE, f"{_TIMENOW} must be {{{{timenow}}}}, which TradingView fills in", field=_TIMENOW
    )


def _row(row: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Return a row with the names and the symbol that the rest of the engine uses. Raises Refused."""
    found: dict[str, JsonValue] = {}
    for name, value in row.items():
        if isinstance(value, str) and (left := _PLACEHOLDER.search(value)):
            raise _unfilled(left[0], name)
        if name in _TOLD and not isinstance(value, dict | list):
            continue
        ours = _ALIASES.get(name, name)
        if ours in found:
            raise Refused(RefusalCode.REPEATED_FIELD, f"{name} says what {ours} says: keep one", field=name)
        found[ours] = value
    _place(found)
    _target(found)
    return found


def _unfilled(placeholder: str, name: str) -> Refused:
    return Refused(
        RefusalCode.INVALID_VALUE,
        f"{quote(placeholder, 40)} was not filled in: strategy placeholders work in alerts of strategies only",
        field=name,
    )


def _place(row: dict[str, JsonValue]) -> None:
    symbol, exchange = row.get("symbol"), row.get("exchange")
    if not isinstance(symbol, str) or not (exchange is None or isinstance(exchange, str)):
        return  # the reader of rows says what is wrong
    if len(symbol) > _MAX_SYMBOL:
        return
    symbol, named = symbol.strip(" ").upper(), _exchange(exchange or "")
    prefix, colon, rest = symbol.partition(":")
    if colon:
        if named and named != _exchange(prefix):
            raise Refused(
                RefusalCode.INVALID_VALUE,
                f"symbol says {quote(prefix, 20)}, exchange {quote(named, 20)}",
                field="symbol",
            )
        symbol, named = rest, _exchange(prefix)
    row["symbol"], row["exchange"] = contract(symbol, named)


def _exchange(text: str) -> str:
    return _DELAYED.sub("", text.strip(" ").upper())


def contract(symbol: str, exchange: str) -> tuple[str, str]:
    """Return *symbol* and *exchange* as the engine names them: TradingView lists derivatives with the cash market."""
    option, continuous = _OPTION.fullmatch(symbol), _CONTINUOUS.fullmatch(symbol)
    if option is not None and 1 <= int(option[3]) <= len(_MONTHS):
        underlying, year, month, day, kind, strike = option.groups()
        words = f"{underlying} {day}{_MONTHS[int(month) - 1]}{year} {strike} {kind}E"
        return words, _DERIVATIVES_OF.get(exchange, exchange)
    if continuous is not None:
        words = f"{continuous[1]} FUT" + (" NEXT" if continuous[2] == "2" else "")
        return words, _DERIVATIVES_OF.get(exchange, exchange)
    return symbol, exchange


def _target(row: dict[str, JsonValue]) -> None:
    """Turn a market position and its size, which is never negative, into a signed position to reach."""
    if _POSITION not in row and _POSITION_SIZE not in row:
        return
    position, size = row.pop(_POSITION, None), row.pop(_POSITION_SIZE, None)
    if "positionSize" in row:
        raise Refused(RefusalCode.REPEATED_FIELD, f"{_POSITION} says what positionSize says: keep one", field=_POSITION)
    kind = position.strip(" ").lower() if isinstance(position, str) else None
    if kind not in ("long", "short", "flat"):
        raise Refused(RefusalCode.INVALID_VALUE, f"{_POSITION} must be long, short or flat", field=_POSITION)
    if kind == "flat":
        row["positionSize"] = 0
        return
    text = "" if size is None or isinstance(size, bool | list | dict) else str(size).strip(" ")
    whole = text.removesuffix(".0")
    if not whole.isascii() or not whole.isdigit() or whole.startswith("0"):
        raise Refused(
            RefusalCode.INVALID_VALUE,
            f"{_POSITION_SIZE} must be a whole number above 0 for {kind}",
            field=_POSITION_SIZE,
        )
    row["positionSize"] = whole if kind == "long" else f"-{whole}"


def _text(text: str) -> Alert:
    secrets: list[str] = []
    times: list[str] = []
    lines: list[str] = []
    for line in text.split("\n"):
        label, colon, value = line.partition(":")
        name = label.strip(" ").lower() if colon else ""
        if name == _SECRET:
            secrets.append(value.strip(" \r"))
        elif name == _TIMENOW:
            times.append(value.strip(" \r"))
        else:
            lines.append(_first_line(line))
    for what, given in (("Secret", secrets), ("Timenow", times)):
        if len(given) > 1:
            return _refused(RefusalCode.REPEATED_FIELD, f"{what} is given twice: keep one")
    secret = secrets[0] if secrets else None
    try:
        fired_at = _time(times[0]) if times else None
        if left := _PLACEHOLDER.search("\n".join(lines)):
            raise _unfilled(left[0], "text")
    except Refused as refused:
        return Alert(secret=secret, content=refused.refusal)
    items = parse_text("\n".join(lines))
    return Alert(secret=secret, content=Batch(is_array=len(items) > 1, items=items), fired_at=fired_at)


def _first_line(line: str) -> str:
    """Return a line with the symbol and exchange of its first three words as the engine names them."""
    words = line.strip(" \r").split(" ")
    if len(words) < 2 or words[0].upper() not in ("BUY", "SELL"):
        return line
    prefix, colon, rest = words[1].upper().partition(":")
    if colon and _exchange(prefix) in _EXCHANGES:
        named = _exchange(words[2]) if len(words) > 2 else ""
        words[1:2] = [rest] if named == _exchange(prefix) else [rest, _exchange(prefix)]
    if len(words) > 2:
        words[1], words[2] = contract(words[1].upper(), _exchange(words[2]))
    return " ".join(words)


def _refused(code: RefusalCode, message: str) -> Alert:
    return Alert(secret=None, content=Refusal(code=code, message=message))
