"""Commands as text: what a person types to the bot to look or to act, never to trade.

    command = "/" name [ "@" bot ] { blank word }
    name    = 1 to 32 letters, digits or _, in any letter case

One line of at most 200 characters, read in one pass. Source: Telegram Bot API, commands
(https://core.telegram.org/bots/features#commands).
"""

import re

import msgspec

from engine.signals.chat_text import outside

_MOST_CHARS = 200
_HEAD = re.compile(r"/([A-Za-z0-9_]{1,32})(?:@[A-Za-z0-9_]{1,64})?", re.ASCII)


class ChatCommand(msgspec.Struct, frozen=True, kw_only=True):
    """A command: ``name`` without its stroke, in small letters; ``words`` are what follows, as typed."""

    name: str
    words: tuple[str, ...] = ()


def parse_command(text: str) -> ChatCommand | None:
    """Read *text* as a command; None for anything else. Never raises.

    Hidden characters and direction marks count for nothing, so that what is acted on is what the eye reads.
    """
    if not text.startswith("/") or len(text) > _MOST_CHARS or "\n" in text or "\r" in text:
        return None
    head, *words = outside(text, _MOST_CHARS).split(" ")
    match = _HEAD.fullmatch(head)
    return None if match is None else ChatCommand(name=match[1].lower(), words=tuple(words))
