"""Signatures of incoming webhooks: HMAC-SHA256 in lower-case hex over the raw bytes.

Signed is the body, or ``<X-Timestamp>.<body>`` when X-Timestamp is sent. The timestamp is plain ASCII
digits, so no byte can be moved between it and the body without breaking the signature (SEC-038 to 042).
"""

import hmac
import re
from datetime import datetime
from enum import StrEnum

_SIGNATURE = re.compile(r"[0-9a-f]{64}", re.ASCII)
TIMESTAMP = re.compile(r"[1-9][0-9]{0,11}", re.ASCII)
"""Unix seconds as plain digits: no sign, no dot, no leading zero."""


class SignatureFault(StrEnum):
    """Why a delivery is not believed."""

    MISSING_SIGNATURE = "MISSING_SIGNATURE"
    BAD_SIGNATURE = "BAD_SIGNATURE"
    TIMESTAMP_REQUIRED = "TIMESTAMP_REQUIRED"
    TIMESTAMP_MALFORMED = "TIMESTAMP_MALFORMED"
    TIMESTAMP_STALE = "TIMESTAMP_STALE"
    ID_MALFORMED = "ID_MALFORMED"


def sign(secret: bytes, body: bytes, timestamp: str | None = None) -> str:
    """Return the signature of *body*, sent at *timestamp* (Unix seconds as text) if given."""
    signed = body if timestamp is None else timestamp.encode() + b"." + body
    return hmac.digest(secret, signed, "sha256").hex()


def verify(
    secret: bytes,
    body: bytes,
    signature_header: str | None,
    timestamp_header: str | None,
    *,
    now: datetime,
    max_skew_s: int,
    require_timestamp: bool,
) -> SignatureFault | None:
    """Return None when the delivery is genuine and fresh, else what is wrong with it.

    The signature is judged before the age, so that a stranger learns nothing from the clock. An empty
    secret believes nothing: a secret that is not configured closes the door.
    """
    if signature_header is None or signature_header == "":
        return SignatureFault.MISSING_SIGNATURE
    if not secret or not _SIGNATURE.fullmatch(signature_header):
        return SignatureFault.BAD_SIGNATURE
    if timestamp_header is not None and not TIMESTAMP.fullmatch(timestamp_header):
        return SignatureFault.TIMESTAMP_MALFORMED
    expected = sign(secret, body, timestamp_header)
    if not hmac.compare_digest(expected.encode(), signature_header.encode()):
        return SignatureFault.BAD_SIGNATURE
    if timestamp_header is None:
        return SignatureFault.TIMESTAMP_REQUIRED if require_timestamp else None
    if abs(now.timestamp() - int(timestamp_header)) > max_skew_s:
        return SignatureFault.TIMESTAMP_STALE
    return None
