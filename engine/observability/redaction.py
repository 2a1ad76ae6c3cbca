"""What must not reach a log line: secrets by key, by type and by look, and control characters."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from engine.secret import Secret

STARS = "***"
MAX_TEXT = 16_384
_MAX_DEPTH = 8

_SECRET_PARTS = (
    "secret", "password", "passwd", "passphrase", "token", "apikey", "authorization", "signature",
    "cookie", "totp", "checksum", "credential", "privatekey", "masterkey", "dsn",
)  # fmt: skip
_SECRET_KEYS = frozenset({"otp", "pin", "auth", "pwd"})
# Kite's instrument_token is a public number, and the time a token ends is no secret.
_OPEN_KEYS = frozenset({"instrumenttoken", "instrumenttokens", "tokenexpiresat", "tokenexpiry", "secretversion"})

# In free text (exception messages, third-party warnings): key=value, Kite's and bearer authorization,
# Telegram's bot token inside a URL, the password inside a DSN, and the values that PostgreSQL quotes
# when a row breaks a constraint.
_TEXT_PATTERNS = (
    re.compile(r"(?i)\b(authorization)([\"']?\s*[:=]\s*[\"']?)(?:(?:token|bearer|basic)\s+)?[^\s\"',]+"),
    re.compile(
        r"(?i)\b((?!instrument)[\w-]{0,40}?(?:token|api[_-]?key|secret|password|passwd|signature|checksum|totp|cookie))"
        r"([\"']?\s*[=:]\s*[\"']?)[^\s&\"'\\,;)}\]]+"
    ),
    re.compile(r"(?i)\b(bearer|token)(\s+)[A-Za-z0-9._~+/-]+(?:[:.][A-Za-z0-9._~+/=-]+)+"),
    re.compile(r"(/bot)(\d+:)[A-Za-z0-9_-]{20,}"),
    re.compile(
        r"(\bKey )(\([^()]*(?:\([^()]*\)[^()]*)*\)=)\(.*?\)(?= (?:already exists|is |conflicts )|$)", re.MULTILINE
    ),
    re.compile(r"(\bFailing row contains )(\().*", re.DOTALL),
    re.compile(r"\b([a-z][a-z0-9+.-]{1,20}://[^\s:/@\"\\]*)(:)[^\s@/\"\\]+(?=@)"),
)
_TEXT_HINT = re.compile(
    r"(?i)token|key|secret|passw|signature|checksum|totp|cookie|bearer|authorization|/bot|@|\)=\(|failing row"
)

# In the JSON of an audit record, in small letters: what a key or a text has that may name or hold a secret.
_HINTS = (
    "secret", "passw", "passphrase", "token", "apikey", "api_key", "api-key", "authorization", "signature", "cookie",
    "totp", "checksum", "credential", "bearer", "private", "master", "dsn", "://", "/bot", '"otp"', '"pin"', '"auth"',
    '"pwd"', ")=(", "failing row",
)  # fmt: skip

# C0, DEL, C1, line separators, and marks that reorder or hide text in a terminal.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


@lru_cache(maxsize=4096)
def is_secret_key(key: str) -> bool:
    """Whether a value under *key* is secret, however the key is spelt (``apiKey``, ``X-Api-Key``, ``API_KEY``)."""
    plain = "".join(character for character in key.lower() if character.isalnum())
    if plain in _OPEN_KEYS:
        return False
    return plain in _SECRET_KEYS or any(part in plain for part in _SECRET_PARTS)


def may_hold_secret(content: str) -> bool:
    """Whether JSON has anything that `redact_mapping` might star; plain searches, for it is asked of every record."""
    lowered = content.lower()
    return any(hint in lowered for hint in _HINTS)


def redact_text(text: str) -> str:
    """Return *text* with what looks like a credential replaced by stars, cut at `MAX_TEXT` characters."""
    if len(text) > MAX_TEXT:
        text = f"{text[:MAX_TEXT]}… [{len(text) - MAX_TEXT} characters cut]"
    if _TEXT_HINT.search(text) is None:
        return text
    for pattern in _TEXT_PATTERNS:
        text = pattern.sub(rf"\1\2{STARS}", text)
    return text


def redact(value: Any, depth: int = 0) -> Any:
    """Return *value* fit for a log: containers copied, secrets starred; what is no plain value becomes text."""
    if isinstance(value, str):
        return redact_text(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Secret):
        return STARS
    if depth >= _MAX_DEPTH:
        return "…"
    if isinstance(value, msgspec.Struct):
        value = msgspec.structs.asdict(value)
    if isinstance(value, Mapping):
        return redact_mapping(value, depth + 1)
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(element, depth + 1) for element in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    return redact_text(str(value))


def redact_mapping(mapping: Mapping[Any, Any], depth: int = 0) -> dict[str, Any]:
    """Return a copy of *mapping* with text keys, values under secret keys starred."""
    return {
        str(key): STARS if is_secret_key(str(key)) and value is not None else redact(value, depth)
        for key, value in mapping.items()
    }


def escape_controls(text: str) -> str:
    """Return *text* with every control or direction character as ``\\uXXXX``, safe to show and to parse."""
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
