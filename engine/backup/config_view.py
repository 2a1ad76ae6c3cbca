"""The configuration as it goes into a backup: every value that counts, and no secret."""

from typing import Any

import msgspec

from engine.config import Config
from engine.config.sections import masked_url
from engine.secret import Secret


def without_secrets(config: Config) -> dict[str, Any]:
    """Return *config* as plain values; secrets, and passwords in addresses, are left out."""
    shown: dict[str, Any] = _plain(config)
    return shown


def _plain(value: Any, name: str = "") -> Any:
    if isinstance(value, msgspec.Struct):
        return {field: _plain(getattr(value, field), field) for field in value.__struct_fields__}
    if isinstance(value, Secret):
        return "***" if value else ""
    if isinstance(value, str) and name == "url":
        return masked_url(value)
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    return msgspec.to_builtins(value)
