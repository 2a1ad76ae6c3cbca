"""What a chat is told about its signals: short plain text."""

from collections.abc import Iterable
from uuid import UUID

import msgspec

from engine.domain.enums import IntentStatus
from engine.domain.signal import Refusal, Signal
from engine.signals.refusals import quote

# Telegram takes 4096 UTF-16 units; a text of at most 4 KiB cannot bring enough wide characters to pass
# that from here.
MAX_REPLY_CHARS = 3000
_MAX_REASON_CHARS = 300


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an accepted signal; ``reason`` is the intent's ``CODE: text``, when it has one."""

    signal: Signal
    status: IntentStatus
    reason: str | None = None
    intent_id: UUID | None = None
    duplicate: bool = False


def describe(verdict: Refusal | Outcome) -> str:
    """Return *verdict* as one to three lines of plain text, at most about 500 characters."""
    if isinstance(verdict, Outcome):
        return _outcome(verdict)
    lines = [f"Refused: {quote(verdict.message, _MAX_REASON_CHARS)}"]
    if verdict.line is not None:
        lines.append(f"Line: {quote(verdict.line)}")
    return "\n".join(lines)


def describe_all(verdicts: Iterable[Refusal | Outcome]) -> str:
    """Return all *verdicts* in one message that a chat takes, saying how many did not fit."""
    texts = [describe(verdict) for verdict in verdicts]
    kept: list[str] = []
    room = MAX_REPLY_CHARS
    for text in texts:
        room -= len(text) + 2
        if room < 0:
            break
        kept.append(text)
    if len(kept) < len(texts):
        kept.append(f"… and {len(texts) - len(kept)} more")
    return "\n\n".join(kept)


def _outcome(outcome: Outcome) -> str:
    signal = outcome.signal
    price = "" if signal.price is None else f" @ {signal.price:f}"
    trigger = "" if signal.trigger_price is None else f" trigger {signal.trigger_price:f}"
    lines = [
        f"{outcome.status}{' (already received)' if outcome.duplicate else ''}: "
        f"{signal.transaction_type} {signal.quantity} {signal.symbol} {signal.exchange}"
        f"{price}{trigger} {signal.order_type} {signal.product_type}"
    ]
    if outcome.reason:
        lines.append(quote(outcome.reason, _MAX_REASON_CHARS))
    if outcome.intent_id is not None:
        lines.append(f"Intent {outcome.intent_id}")
    return "\n".join(lines)
