"""The configuration as it may be looked at: every key with its value, and of a secret only whether it is set."""

from collections.abc import Iterator
from typing import Any

import msgspec

from engine.config.reading import is_secret
from engine.config.section import Section
from engine.config.sections import Config, masked_url

_COMMANDS = frozenset({"after"})
# whoever receives it may have put a token into the path
_HOST_ALONE = frozenset({"otlp_url"})


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One key of ``[section]``; ``value`` is None for a secret, of which ``is_set`` is all that is told.

    ``is_default`` tells whether it is what the engine does without being told.
    """

    section: str
    key: str
    value: Any
    is_secret: bool
    is_set: bool
    is_default: bool


def shown(config: Config) -> tuple[Setting, ...]:
    """Return every key of *config* in the order of the sections, no secret among the values."""
    return tuple(_of(config, ""))


def _of(section: Section, name: str) -> Iterator[Setting]:
    inner: list[tuple[str, Section]] = []
    for field in msgspec.structs.fields(section):
        value = getattr(section, field.name)
        if isinstance(value, Section) and isinstance(field.default, Section):
            inner.append((f"{name}.{field.name}" if name else field.name, value))
            continue
        hidden = is_secret(field.type)
        yield Setting(
            section=name,
            key=field.name,
            value=None if hidden else _plain(_without_tokens(field.name, value)),
            is_secret=hidden,
            is_set=bool(value) if hidden else value not in (None, "", (), {}),
            is_default=value == _default(field),
        )
    for below, value in inner:
        yield from _of(value, below)


def _default(field: msgspec.structs.FieldInfo) -> Any:
    made = field.default_factory
    return field.default if made is msgspec.NODEFAULT else made()


def _without_tokens(key: str, value: Any) -> Any:
    """Return a command without its arguments and an address without its path, where a secret may be among them."""
    if key in _COMMANDS and len(value) > 1:
        return (*value[:1], "…")
    if key in _HOST_ALONE:
        scheme, mark, rest = value.partition("://")
        host, slash, _ = rest.partition("/")
        return f"{scheme}{mark}{host}{slash and '/…'}"
    return value


def _plain(value: Any) -> Any:
    """Return *value* as JSON has it, passwords in addresses masked."""
    if isinstance(value, str):
        return masked_url(value)
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, msgspec.Struct):
        return _plain(msgspec.structs.asdict(value))
    return value
