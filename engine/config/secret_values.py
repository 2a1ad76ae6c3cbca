"""Secrets in the configuration: where they are read from, and which are too weak to use."""

import base64
import binascii
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from engine.errors import ConfigError
from engine.secret import Secret

MIN_KEY_BYTES = 32
_MAX_FILE_BYTES = 64 * 1024
# 32 random bytes have fewer different values than this once in more than 10^40 keys.
_MIN_DIFFERENT_BYTES = 8
_HEX_KEY = re.compile(r"[0-9a-fA-F]{64}")
_CREDENTIAL_NAME = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,128}")
_BASE64URL_KEY = re.compile(r"[A-Za-z0-9_-]{43}=?")
# Anchored, but for the one that people wrap: a random token must never look like a placeholder.
_PLACEHOLDER = re.compile(r"(?:replace-?|place-?holder|your-|insert-|example|<|\$\{)|.*change-?me")
_PLACEHOLDER_WORDS = frozenset({"secret", "password", "todo", "default", "none", "null", "xxx"})


def resolve_secret(value: str, base: Path, environ: Mapping[str, str]) -> Secret:
    """Return the secret that *value* stands for.

    ``file:PATH`` is the content of a file (relative to *base*, without surrounding white space),
    ``env:NAME`` an environment variable, ``credential:NAME`` what systemd hands the service under that
    name (LoadCredential=), anything else the secret as written. Raises `ConfigError` naming the mend
    when the file or variable is missing, empty or readable by others.
    """
    return Secret(resolve_text(value, base, environ))


def resolve_text(value: str, base: Path, environ: Mapping[str, str]) -> str:
    """Do as `resolve_secret` for a value that holds a secret among other things, such as a URL."""
    if value.startswith("file:"):
        return _read_file(base / value.removeprefix("file:"))
    if value.startswith("env:"):
        name = value.removeprefix("env:")
        if not environ.get(name):
            raise ConfigError(f"environment variable {name} is not set: set it, or give the secret as file:PATH")
        return environ[name]
    if value.startswith("credential:"):
        return _read_credential(value.removeprefix("credential:"), environ)
    return value


def _read_credential(name: str, environ: Mapping[str, str]) -> str:
    folder = environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise ConfigError(
            f"credential {name} is handed over by systemd alone: set LoadCredential={name}:PATH in the unit, or give "
            "the secret as file:PATH"
        )
    if not _CREDENTIAL_NAME.fullmatch(name):
        raise ConfigError("a credential is named by letters, digits, _, - and dots: credential:NAME")
    return _read_file(Path(folder) / name, handed_over=True)


def decode_key(text: str) -> bytes:
    """Return the bytes of a key.

    64 hex digits and 43 or 44 characters of base64url are the 32 bytes they encode; anything else is
    taken as written, in UTF-8 (contract section 8). Raises `ConfigError` for fewer than 32 bytes and for
    keys nobody drew at random.
    """
    key = _decoded(text)
    if len(key) < MIN_KEY_BYTES:
        raise ConfigError(f"has {len(key)} bytes, expected at least {MIN_KEY_BYTES}: make one with engine init")
    if len(set(key)) < _MIN_DIFFERENT_BYTES or (key == text.encode("utf-8", "surrogatepass") and is_placeholder(text)):
        raise ConfigError("is a placeholder, expected random bytes: make them with engine init")
    return key


def is_placeholder(text: str) -> bool:
    """Whether *text* is what examples print in place of a secret."""
    plain = text.strip().lower().replace("_", "-").replace(" ", "-")
    return plain in _PLACEHOLDER_WORDS or bool(_PLACEHOLDER.match(plain))


def _decoded(text: str) -> bytes:
    if _HEX_KEY.fullmatch(text):
        return bytes.fromhex(text)
    if _BASE64URL_KEY.fullmatch(text):
        try:
            return base64.urlsafe_b64decode(text.rstrip("=") + "=")
        except binascii.Error:
            pass  # 43 characters that encode no 32 bytes: a passphrase, to be taken as written
    return text.encode("utf-8", "surrogatepass")


def _read_file(path: Path, *, handed_over: bool = False) -> str:
    try:
        # Non-blocking, so that a named pipe put in place of the file cannot hold up the start.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = (error.strerror or "error").lower() if isinstance(error, OSError) else "not a path"
        raise ConfigError(f"cannot read {path}: {reason}; engine init makes key files") from None
    try:
        content = _read_private(descriptor, path, handed_over=handed_over)
    finally:
        os.close(descriptor)
    if len(content) > _MAX_FILE_BYTES:
        raise ConfigError(f"{path} is over {_MAX_FILE_BYTES} bytes: name a file that holds just the secret")
    try:
        text = content.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not text: write the key as hex or base64url") from None
    if not text:
        raise ConfigError(f"{path} is empty: write the secret into it")
    return text


def _read_private(descriptor: int, path: Path, *, handed_over: bool) -> bytes:
    # Judged by the open file, not by its name, which could be pointed elsewhere in between.
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{path} is not a file: name a file that holds the secret")
    if handed_over and status.st_uid == 0 and not status.st_mode & 0o037:
        return os.read(descriptor, _MAX_FILE_BYTES + 1)  # the manager's, opened to this service by an access list
    if status.st_uid != os.geteuid():
        raise ConfigError(f"{path} belongs to another user: chown {os.geteuid()} {path}")
    if status.st_mode & 0o077:
        raise ConfigError(f"{path} can be read by others: chmod 600 {path}")
    return os.read(descriptor, _MAX_FILE_BYTES + 1)
