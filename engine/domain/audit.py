"""The audit log: drafts, sealed records and the hash chain that ties them together.

A record's hash covers its number, its fields and the hash before it, each with its length in front, so
that no two records have the same bytes (reliability.md, SEC-079 and SEC-080). The chain proves that no
part was rewritten; a tail cut off or rewritten whole shows only against a head kept elsewhere.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from hashlib import sha256
from struct import Struct
from typing import Any
from uuid import UUID

import msgspec

GENESIS = bytes(32)
"""What stands in place of a previous hash before the first record."""

_DOMAIN = b"engine.audit.record.v1\x00"
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_length = Struct(">Q").pack
_SURROGATE = re.compile("[\ud800-\udfff]")


class AuditDraft(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Something that happened, before it has a place in the chain.

    ``actor`` is ``user:ID``, ``source:ID``, ``system`` or ``cli:NAME``; ``action`` is UPPER_SNAKE;
    ``subject`` is ``kind:ID``; ``content`` holds JSON-able values and never a secret.
    """

    at: datetime
    actor: str
    action: str
    subject: str
    content: Mapping[str, Any] = {}


class AuditRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A draft with its place in the chain; ``content`` is the canonical JSON that was hashed."""

    seq: int
    at: datetime
    actor: str
    action: str
    subject: str
    content: str
    prev_hash: bytes
    hash: bytes


def canonical(draft: AuditDraft) -> str:
    """Return the content of *draft* as canonical JSON (after RFC 8785): one text for one meaning.

    Keys sorted by UTF-16 code units, no blanks, nothing escaped that need not be. Decimals become
    strings without exponent, UUIDs and enums their text, instants UTC with microseconds and ``Z``, bytes
    hex, structs objects, sets sorted arrays.

    Raises:
        TypeError: the content holds a thing that has no such form.
        ValueError: it holds a float that is not finite or an instant without a zone.
    """
    try:
        return _encode_common(_common(draft.content)).decode()
    except (_Uncommon, OverflowError, UnicodeEncodeError):
        text = _encode(_plain(draft.content))
    if text.isascii():
        return text
    # A lone surrogate has no UTF-8 form; its escape is the same JSON.
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def seal(prev_hash: bytes, seq: int, draft: AuditDraft) -> AuditRecord:
    """Give *draft* its place *seq* (from 1) in the chain, after the record whose hash is *prev_hash*.

    Raises:
        ValueError: *prev_hash* is not 32 bytes, *seq* is not positive or the instant has no zone.
        TypeError: as `canonical`.
    """
    if len(prev_hash) != len(GENESIS) or seq < 1:
        raise ValueError(f"record {seq} after a hash of {len(prev_hash)} bytes; need seq from 1 and 32 bytes")
    content = canonical(draft)
    at = draft.at if draft.at.tzinfo is UTC else datetime.fromisoformat(_instant(draft.at))
    return AuditRecord(
        seq=seq,
        at=at,
        actor=draft.actor,
        action=draft.action,
        subject=draft.subject,
        content=content,
        prev_hash=prev_hash,
        hash=_digest(prev_hash, seq, at, draft.actor, draft.action, draft.subject, content),
    )


def verify(records: Iterable[AuditRecord], *, prev: bytes = GENESIS, first_seq: int = 1) -> int | None:
    """Return the number at which the chain first breaks, or None when every record holds.

    *prev* is the hash before the first of *records*, *first_seq* its number. A missing record breaks the
    chain at its own number. Reads *records* once and keeps none.
    """
    for seq, record in enumerate(records, first_seq):
        if record.seq != seq or record.prev_hash != prev or record.hash != _rehash(record):
            return seq
        prev = record.hash
    return None


def _rehash(record: AuditRecord) -> bytes:
    return _digest(record.prev_hash, record.seq, record.at, record.actor, record.action, record.subject, record.content)


def _digest(prev_hash: bytes, seq: int, at: datetime, *texts: str) -> bytes:
    fields = [prev_hash, _instant(at).encode()]
    try:
        fields += [text.encode() for text in texts]
    except UnicodeEncodeError:
        fields[2:] = [text.encode("utf-8", "surrogatepass") for text in texts]
    parts = [_DOMAIN, seq.to_bytes(8, "big", signed=True)]
    for field in fields:
        parts += (_length(len(field)), field)
    return sha256(b"".join(parts)).digest()


def _instant(at: datetime) -> str:
    if at.tzinfo is None:
        raise ValueError(f"{at} has no time zone; audit times are aware")
    if at.tzinfo is not UTC:
        at = at.astimezone(UTC)
    return at.isoformat(timespec="microseconds")[: -len("+00:00")] + "Z"


class _Uncommon(Exception):
    """A content holds a thing that is not among those which nearly all hold."""


def _common(thing: Any) -> Any:
    """Return what `_plain` returns, for the things that nearly all contents are made of; raises _Uncommon.

    Of these msgspec writes the very text that json writes, in a tenth of the time; not of floats.
    """
    kind = type(thing)
    if kind in _COMMON:
        return thing
    if (form := _FORMS.get(kind)) is not None:
        return form(thing)
    if kind is dict:
        try:
            if "".join(thing).isascii():
                # most values are plain: a call for each of them would cost more than all else
                return {key: value if type(value := thing[key]) in _COMMON else _common(value) for key in sorted(thing)}
        except TypeError:  # keys that are no text
            pass
    elif kind is list or kind is tuple:
        return [_common(element) for element in thing]
    raise _Uncommon


_COMMON = frozenset({str, int, bool, type(None)})
_FORMS: dict[type, Callable[[Any], str]] = {
    UUID: str,
    datetime: _instant,
    Decimal: "{:f}".format,
}
_encode_common = msgspec.json.Encoder().encode
_AS_IT_IS = frozenset({str, int, float, bool, type(None)})


def _plain(thing: Any) -> Any:
    kind = type(thing)
    if kind in _AS_IT_IS:
        return thing
    if kind is dict and all(type(key) is str and key.isascii() for key in thing):
        # in ASCII the order of code units is that of the characters
        return {key: _plain(thing[key]) for key in sorted(thing)}
    match thing:
        case Enum():
            return _plain(thing.value)
        case None | bool() | int() | float() | str():
            return thing
        case Decimal():
            return format(thing, "f")
        case UUID():
            return str(thing)
        case datetime():
            return _instant(thing)
        case date():
            return thing.isoformat()
        case bytes():
            return thing.hex()
        case Mapping():
            members = {_key(key): _plain(value) for key, value in thing.items()}
            if len(members) < len(thing):
                raise ValueError("two keys of an audit content have one spelling")
            return dict(sorted(members.items(), key=lambda member: member[0].encode("utf-16-be", "surrogatepass")))
        case list() | tuple():
            return [_plain(element) for element in thing]
        case AbstractSet():
            return sorted((_plain(element) for element in thing), key=lambda element: json.dumps(element))
        case msgspec.Struct():
            return _plain({name: getattr(thing, name) for name in thing.__struct_fields__})
    raise TypeError(f"{type(thing).__name__} has no canonical form in the audit log; pass text or numbers")


def _key(key: Any) -> str:
    text = _plain(key)
    return text if isinstance(text, str) else json.dumps(text)
