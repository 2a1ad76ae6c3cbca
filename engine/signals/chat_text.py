"""Texts for chats: the one place that says what may be in a message of the bot.

Every message goes out as plain text, without a parse mode: there is no markup in it that anybody's words could be
(SEC-104). What is left to take out is what the eye does not see: control characters, and marks that hide or turn
text around. Source of the bounds: Telegram Bot API, sendMessage (https://core.telegram.org/bots/api#sendmessage).
"""

import unicodedata

MAX_UNITS = 4096
"""The longest text of a message, in UTF-16 code units, as Telegram counts."""

_CUT = "…"
# control, format (direction marks, joiners, tags), surrogates, private use, unassigned
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
_BREAKS = frozenset({"\n"})
_LINES = frozenset({"Zl", "Zp"})


def clean(text: str, limit: int = MAX_UNITS) -> str:
    """Return *text* fit for a message: nothing hidden in it, at most *limit* UTF-16 units; line ends stay."""
    # what is longer than the limit in characters is longer in units too: nobody's novel is walked through
    shown = "".join(_shown(char) for char in text.replace("\r\n", "\n")[: limit * 2])
    return shown if units(shown) <= limit and len(text) <= limit * 2 else _cut(shown, limit)


def outside(text: str, limit: int = 200) -> str:
    """Return somebody else's words on one line, so that they cannot pass for a line of the engine's own."""
    return " ".join(clean(text, limit).replace("://", ": //").split())


def units(text: str) -> int:
    """Return how many UTF-16 code units *text* has."""
    return len(text) + sum(char > "\uffff" for char in text)


def _shown(char: str) -> str:
    if char in _BREAKS:
        return char
    category = unicodedata.category(char)
    if char == "\t" or category in _LINES:
        return " "
    return "" if category in _HIDDEN else char


def _cut(text: str, limit: int) -> str:
    kept, room = [], limit - len(_CUT)
    for char in text:
        room -= 2 if char > "\uffff" else 1
        if room < 0:
            break
        kept.append(char)
    return "".join(kept) + _CUT
