"""TradingView alerts: the body is whatever the user typed into the alert, JSON or text.

TradingView cannot sign or set headers, so a body may carry the source's secret itself: a JSON key
``secret`` or a text line ``Secret:`` (contract section 8). It is taken out before anything is parsed, so
no refusal can quote it.
"""

import msgspec

from engine.domain.signal import Refusal
from engine.signals import json_guard, sheets
from engine.signals.refusals import RefusalCode
from engine.signals.sheets import Batch
from engine.signals.text import parse_text

_LABEL = "secret"


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """The secret that the body carried (None without any), and what else it held.

    The secret is whatever a stranger sent: compare it in constant time, never log it.
    """

    secret: str | None
    content: Batch | Refusal

    def __repr__(self) -> str:
        return f"Alert(secret={'***' if self.secret else None}, content={self.content!r})"


def parse(body: bytes) -> Alert:
    """Read an alert body: JSON when it begins with { or [, text otherwise. Never raises."""
    if len(body) > json_guard.MAX_BODY_BYTES:
        return _refused(RefusalCode.BODY_TOO_LARGE, f"send at most {json_guard.MAX_BODY_BYTES} bytes, not {len(body)}")
    if body.lstrip(b" \t\r\n")[:1] in (b"{", b"["):
        return _json(body)
    try:
        return _text(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        return _refused(RefusalCode.INVALID_ENCODING, f"send UTF-8: byte {error.start} is not")


def _json(body: bytes) -> Alert:
    value = json_guard.read(body)
    if isinstance(value, Refusal):
        return Alert(secret=None, content=value)
    secret = value.pop(_LABEL, None) if isinstance(value, dict) else None
    return Alert(secret=secret if isinstance(secret, str) else None, content=sheets.parse_value(value))


def _text(text: str) -> Alert:
    secrets: list[str] = []
    lines: list[str] = []
    for line in text.split("\n"):
        label, colon, value = line.partition(":")
        if colon and label.strip(" ").lower() == _LABEL:
            secrets.append(value.strip(" \r"))
        else:
            lines.append(line)
    if len(secrets) > 1:
        return _refused(RefusalCode.REPEATED_FIELD, "Secret is given twice: keep one")
    items = parse_text("\n".join(lines))
    return Alert(secret=secrets[0] if secrets else None, content=Batch(is_array=len(items) > 1, items=items))


def _refused(code: RefusalCode, message: str) -> Alert:
    return Alert(secret=None, content=Refusal(code=code, message=message))
