"""Recovery codes: ten, for the day that the phone is lost; each signs in once.

A code has 80 random bits, so the store keeps a plain SHA-256 of it: there is nothing to guess through.
"""

import base64
import hashlib
import re
import secrets
from uuid import UUID

COUNT = 10
_BYTES = 10
_FORM = re.compile(r"[a-z2-7]{16}", re.ASCII)


def new_codes() -> tuple[str, ...]:
    """Return ten fresh codes in groups of four, for example ``abcd-efgh-2345-mnop``."""
    return tuple(_grouped(base64.b32encode(secrets.token_bytes(_BYTES)).decode().lower()) for _ in range(COUNT))


def digest(code: str, user_id: UUID) -> bytes | None:
    """Return what the store keeps of a code of *user_id*; None for what cannot be one. Case and dashes do not count."""
    plain = code.replace("-", "").replace(" ", "").lower()
    if not _FORM.fullmatch(plain):
        return None
    return hashlib.sha256(user_id.bytes + plain.encode()).digest()


def _grouped(code: str) -> str:
    return "-".join(code[start : start + 4] for start in range(0, len(code), 4))
