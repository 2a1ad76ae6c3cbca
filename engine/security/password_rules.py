"""Which passwords are taken: length and a blocklist, no rules of composition (SP 800-63B-4, section 3.1.1.2).

The blocklist is the package's ``common_passwords.txt`` (its origin and licence stand beside it) and the words
that anyone would try here: the engine's, the market's, and the parts of the person's own e-mail address.
"""

import re
import unicodedata
from functools import cache
from importlib import resources
from itertools import pairwise

MIN_ALONE = 15
"""Characters of a password that is the only factor."""
MIN_WITH_CODE = 8
"""Characters of a password beside a confirmed one-time code."""
MAX_BYTES = 1024
"""Bytes of UTF-8 that are read at all: more would only burn time."""

_CONTEXT = (
    "tradingengine", "executionengine", "zerodha", "kiteconnect", "kite", "trading", "trader", "engine", "broker",
    "admin", "password", "reliance", "infosys", "hdfcbank", "icicibank", "banknifty", "finnifty", "nifty50", "nifty",
    "sensex", "sbin", "infy", "tcs", "nse", "bse", "mcx",
)  # fmt: skip
_MIN_OWN = 4
_MIN_COMMON = 8
_READ = 128  # characters that are searched for common passwords: a longer text has enough of its own
_FILLER = "0123456789 .-_!@#$%&*+=/"
_ROWS = (
    "qwertyuiopasdfghjklzxcvbnm",
    "1234567890",
    "abcdefghijklmnopqrstuvwxyz",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p",
)
_MIN_RUN = 4


@cache
def common_passwords() -> frozenset[str]:
    """Return the passwords that everybody tries first, lower case, of 8 characters or more."""
    text = resources.files("engine.security").joinpath("common_passwords.txt").read_text(encoding="utf-8")
    return frozenset(text.splitlines())


def check(password: str, email: str, *, alone: bool = True) -> list[str]:
    """Return what speaks against *password* as a new one for *email*; an empty list accepts it.

    *alone* says that it is the only factor; beside a one-time code it may be shorter.
    """
    try:
        text = unicodedata.normalize("NFC", password)
        size = len(text.encode())
    except UnicodeEncodeError:
        return ["must be text that UTF-8 can express"]
    faults = []
    least = MIN_ALONE if alone else MIN_WITH_CODE
    if len(text) < least:
        faults.append(f"must have at least {least} characters")
    if size > MAX_BYTES:
        faults.append(f"must have at most {MAX_BYTES} bytes")
    elif _is_guessable(text.casefold(), email.strip().casefold()):
        faults.append("is too easy to guess")
    return faults


def is_short(password: str) -> bool:
    """Tell whether *password* is too short to be the only factor."""
    return len(unicodedata.normalize("NFC", password)) < MIN_ALONE


def _is_guessable(text: str, email: str) -> bool:
    if len(set(text)) <= 3 or text in common_passwords() or _is_run(text) or _is_repeated(text):
        return True
    words = (*_parts(email), *_CONTEXT)
    own = text
    for word in sorted(words, key=len, reverse=True):
        own = own.replace(word, "\x00")
    own = _without_keyboard_runs(_without_common(own))
    # what is left after the words that anyone would try must still be worth guessing
    return own != text and len(own.replace("\x00", "").strip(_FILLER)) < _MIN_OWN


def _parts(email: str) -> list[str]:
    local, _, host = email.partition("@")
    parts = {email, local, host, *re.split(r"[^\w]+|_", local), *re.split(r"[^\w]+", host)}
    return [part for part in parts if len(part) >= 3]


def _without_common(text: str) -> str:
    if len(text) > _READ:
        return text
    known, left, at = common_passwords(), [], 0
    while at < len(text):
        found = next((end for end in range(len(text), at + _MIN_COMMON - 1, -1) if text[at:end] in known), None)
        left.append("\x00" if found is not None else text[at])
        at = found or at + 1
    return "".join(left)


def _without_keyboard_runs(text: str) -> str:
    for row in _ROWS:
        for line in (row, row[::-1]):
            for size in range(len(line), _MIN_RUN - 1, -1):
                for start in range(len(line) - size + 1):
                    text = text.replace(line[start : start + size], "\x00")
    return text


def _is_repeated(text: str) -> bool:
    # a text that stands in its own double before its end is one piece, said again and again
    period = (text + text).find(text, 1)
    return period < len(text) and (period < _MIN_COMMON or text[:period] in common_passwords())


def _is_run(text: str) -> bool:
    steps = {ord(after) - ord(before) for before, after in pairwise(text)}
    return len(steps) == 1 and next(iter(steps)) in {-1, 0, 1}
