"""What a chat is told when somebody changes a message that was a signal: the first text stands, and how to stop it.

Telegram tells a bot of changed messages, of deleted ones nothing at all. Neither trades. Which message became which
intents is kept in memory: after a restart a change is passed over in silence.
"""

from collections import OrderedDict
from collections.abc import Sequence
from uuid import UUID

from engine.domain.enums import IntentStatus
from engine.domain.intent import Intent
from engine.errors import Unavailable
from engine.http.services import Services
from engine.signals.chat_text import outside
from engine.signals.telegram import Update
from engine.store.queries import intents as queries

_KNOWN = "telegram_messages"
_MOST = 2000
_MOST_TOLD = 5
_READ_S = 3.0

_Known = OrderedDict[tuple[int, int], tuple[UUID, ...]]


def remember(services: Services, update: Update, intent_ids: Sequence[UUID]) -> None:
    """Keep which intents a message became."""
    known: _Known = services.extras.setdefault(_KNOWN, OrderedDict())
    known[update.chat_id, update.message_id] = tuple(intent_ids)
    while len(known) > _MOST:
        known.popitem(last=False)


async def answer(services: Services, update: Update) -> str | None:
    """Return what the chat is told of an edit; None when nothing of the message can be stopped any more."""
    known: _Known = services.extras.setdefault(_KNOWN, OrderedDict())
    intent_ids = known.get((update.chat_id, update.message_id))
    if not intent_ids:
        return None
    try:
        live = [intent for intent in await _read(services, intent_ids) if not intent.status.is_terminal]
    except Unavailable:
        return "A changed message changes nothing: its first text stands, if it was taken in."
    if not live:
        return None
    lines = ["A changed message changes nothing: the first text stands."]
    lines += [f"{_told(intent)}\n{_mend(intent)}" for intent in live[:_MOST_TOLD]]
    return "\n".join(lines)


async def _read(services: Services, intent_ids: Sequence[UUID]) -> list[Intent]:
    await services.read_your_writes()
    found = []
    for intent_id in intent_ids[:_MOST_TOLD]:
        story = await services.database.run(
            lambda connection, wanted=intent_id: queries.find_intent(connection, wanted),  # type: ignore[misc]
            timeout_s=_READ_S,
        )
        if story is not None:
            found.append(story.intent)
    return found


def _told(intent: Intent) -> str:
    signal = intent.signal
    return (
        f"{intent.status}: {signal.transaction_type} {signal.quantity} {outside(signal.symbol, 60)} {signal.exchange}"
    )


def _mend(intent: Intent) -> str:
    if intent.status is IntentStatus.PENDING_APPROVAL:
        return f"To stop it press Reject under its question, or reject intent {intent.id} in the API."
    return f"To stop what has not filled: POST /api/v1/signals/intents/{intent.id}/cancel"
