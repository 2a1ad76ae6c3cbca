"""One key for each purpose, out of one secret."""

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def derive(master: bytes, purpose: str) -> bytes:
    """Return the 32-byte key for *purpose*: knowing one says nothing of the others (HKDF-SHA256)."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=f"engine {purpose} v1".encode()).derive(master)
