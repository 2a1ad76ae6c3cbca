"""``/kill`` in Telegram: two messages of a configured person, the second with the word that confirms, stop everything.

Only the users of ``[telegram] admin_user_ids`` are heard, in chats that a source lists; anybody else's words are an
unknown command, which is to say nothing. Tripping is the safe direction: it needs no password, and letting go is not
to be had here.
"""

from datetime import datetime, timedelta

from engine.domain.enums import KillMode
from engine.domain.killswitch import GLOBAL
from engine.http.services import Services
from engine.signals.telegram import Update

_COMMAND = "/kill"
_CONFIRM = "confirm"
_WITHIN = timedelta(minutes=2)
_ASKED = "telegram_kills"
_MOST = 100


def is_kill(services: Services, update: Update) -> bool:
    """Whether *update* is the command, of somebody who may give it."""
    word = update.text.strip().split(maxsplit=1)[:1]
    return (
        bool(word)
        and word[0].partition("@")[0].lower() == _COMMAND
        and update.sender_id != 0
        and update.sender_id in services.config.telegram.admin_user_ids
    )


def obey(services: Services, update: Update) -> str:
    """Ask for the confirmation, or take it and block everything; return what is said to the chat."""
    asked: dict[tuple[int, int], datetime] = services.extras.setdefault(_ASKED, {})
    now, who = services.clock.now(), (update.chat_id, update.sender_id)
    words = update.text.split()[1:]
    if not words or words[0].lower() != _CONFIRM:
        while len(asked) >= _MOST:
            del asked[next(iter(asked))]
        asked[who] = now
        return "This blocks all trading, cancels every order and closes every position. Write: /kill confirm"
    at = asked.pop(who, None)
    if at is None or now - at > _WITHIN:
        return "Write /kill first, then /kill confirm within two minutes."
    reason = " ".join(words[1:]) or "by Telegram"
    services.guardian.block_nowait(
        GLOBAL, reason=reason, actor=f"telegram:{update.sender_id}", mode=KillMode.SQUARE_OFF
    )
    return "Everything is blocked. It is let go in the API or with engine killswitch off."
