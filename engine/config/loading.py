"""Read the configuration: TOML and environment, every value traced to where it was written.

A mistake is one line that names the file or variable, the dotted key and what was expected. Values are
never quoted in it.
"""

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from engine.config.checks import CHECKS, half_of_pair
from engine.config.reading import expected, from_environment, from_toml, is_secret
from engine.config.secret_values import resolve_text
from engine.config.section import Section
from engine.config.sections import Config
from engine.errors import ConfigError
from engine.secret import Secret

PREFIX = "ENGINE__"
# Addresses of stores hold passwords, so they too may stand in a file or a variable.
_RESOLVED_URLS = frozenset({"database.url", "database.owner_url", "redis.url"})

_DRILL = ("drill.at", "drill.schedule")
# Paths of files that other programs write, relative to the configuration's folder as those of secrets are.
_PATHS = frozenset({"server.tls_cert", "server.tls_key"})
_EGRESS = ("broker.kite.local_address", "broker.kite.ipv4_only")

SectionT = TypeVar("SectionT", bound=Section)


def load(path: Path | None, environ: Mapping[str, str]) -> Config:
    """Return the configuration of the file at *path* (None: defaults) as overridden by *environ*.

    ``ENGINE__SECTION__KEY`` overrides ``[section] key``, ``ENGINE__BROKER__KITE__KEY`` that of
    ``[broker.kite]``; lists are JSON or separated by commas, ``none`` is no value where that is allowed.
    Secrets are resolved; ``file:`` paths are relative to the file's folder. Raises `ConfigError`.
    """
    table = _read(path) if path is not None else {}
    _check_names(environ)
    base = path.parent if path is not None else Path()
    file = str(path) if path is not None else "defaults"
    config = _Loader(file=file, base=base, environ=environ).section(Config, table, ())
    if config.broker.kite.ipv4_only and ":" in config.broker.kite.local_address:
        where = next((name for name in map(_variable, _EGRESS) if name in environ), file)
        raise _error(where, "broker.kite.local_address: is an IPv6 address while broker.kite.ipv4_only is true")
    try:
        _ = config.drill.times
    except ValueError as error:
        where = next((name for name in map(_variable, _DRILL) if name in environ), file)
        raise _error(where, f"drill.at: {error}") from None
    return config


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file, parse_float=Decimal)
    except OSError as error:
        reason = (error.strerror or "error").lower()
        raise _error(str(path), f"cannot be read: {reason}; make one with engine init") from None
    except UnicodeDecodeError:
        raise _error(str(path), "is not UTF-8 text: save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise _error(str(path), f"is not TOML: {error}") from None


def _check_names(environ: Mapping[str, str]) -> None:
    known = {_variable(key): key for key in leaves(Config)}
    for name in environ:
        if name.startswith(PREFIX) and name not in known:
            raise _error(name, f"unknown variable; {_nearest(name.upper(), list(known))}")


def leaves(kind: type[Section], path: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the dotted name of every key of *kind*."""
    for field in msgspec.structs.fields(kind):
        inner = (*path, field.name)
        if _is_section(field.type):
            yield from leaves(field.type, inner)
        else:
            yield ".".join(inner)


class _Loader:
    """Builds sections from one file and one environment."""

    def __init__(self, *, file: str, base: Path, environ: Mapping[str, str]) -> None:
        self._file = file
        self._base = base
        self._environ = environ

    def section(self, kind: type[SectionT], table: Mapping[str, Any], path: tuple[str, ...]) -> SectionT:
        """Return the section *kind* that stands at *path* in the file."""
        fields = msgspec.structs.fields(kind)
        for name in table:
            if name not in {field.name for field in fields}:
                what = "key" if path else "section"
                raise _error(
                    self._file,
                    f"{'.'.join((*path, name))!r}: unknown {what}; {_nearest(name, [field.name for field in fields])}",
                )
        values: dict[str, Any] = {}
        for field in fields:
            inner = (*path, field.name)
            if _is_section(field.type):
                below = table.get(field.name, {})
                if not isinstance(below, dict):
                    raise _error(self._file, f"{'.'.join(inner)}: expected a table [{'.'.join(inner)}]")
                values[field.name] = self.section(field.type, below, inner)
            else:
                self._leaf(field, table, ".".join(inner), values)
        half = half_of_pair(".".join(path), values)
        if half is not None:
            given, missing = half
            where = _variable(given) if _variable(given) in self._environ else self._file
            raise _error(where, f"{given}: does nothing without {missing}; set both or neither")
        return kind(**values)

    def _leaf(
        self, field: msgspec.structs.FieldInfo, table: Mapping[str, Any], key: str, values: dict[str, Any]
    ) -> None:
        variable = _variable(key)
        if variable in self._environ:
            where, raw = variable, from_environment(self._environ[variable], field.type)
        elif field.name in table:
            where, raw = self._file, table[field.name]
        else:
            return
        try:
            value = from_toml(raw, field.type)
        except (msgspec.ValidationError, ValueError, ArithmeticError):
            raise _error(where, f"{key}: expected {expected(field.type)}") from None
        value = self._resolved(value, where, key, secret=is_secret(field.type))
        wish = CHECKS[key](value) if key in CHECKS else None
        if wish is not None:
            prefix = "" if wish.startswith(("has ", "is ")) else "expected "
            raise _error(where, f"{key}: {prefix}{wish}")
        values[field.name] = value

    def _resolved(self, value: Any, where: str, key: str, *, secret: bool) -> Any:
        if value and key in _PATHS:
            return str(self._base / value)
        if value is None or not (secret or key in _RESOLVED_URLS):
            return value
        try:
            text = resolve_text(value, self._base, self._environ)
        except ConfigError as error:
            raise _error(where, f"{key}: {error}") from None
        return Secret(text) if secret else text


def _is_section(kind: Any) -> bool:
    # Optional tables are values with a default of their own, not sections.
    return isinstance(kind, type) and issubclass(kind, Section)


def _variable(key: str) -> str:
    return PREFIX + key.upper().replace(".", "__")


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"nearest known: {close[0]}"
    return f"known: {', '.join(known)}" if len(known) <= 20 else "engine.toml.example lists all"


def _error(where: str, text: str) -> ConfigError:
    return ConfigError(" ".join(f"{where}: {text}".split()))
