"""Standard Webhooks signatures: ``v1,<base64>`` of HMAC-SHA256 over ``<id>.<timestamp>.<body>`` (standardwebhooks.com).

The id, the timestamp and the body are all signed, so none of them can be changed. Neither the id nor the timestamp may
hold a dot, so no byte can move between them and the body without breaking the signature (SEC-038, SEC-042).
"""

import base64
import binascii
import hmac
import re
from collections.abc import Sequence
from datetime import datetime

from engine.security.signatures import TIMESTAMP, SignatureFault

PREFIX = "whsec_"
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
_V1 = re.compile(r"v1,([A-Za-z0-9+/]{43}=)", re.ASCII)
_MAX_SIGNATURES = 8


def secret_form(secret: str) -> str:
    """Return a source's *secret* as Standard Webhooks libraries take it: ``whsec_`` and its bytes in base64."""
    return PREFIX + base64.b64encode(key_bytes(secret)).decode()


def key_bytes(secret: str) -> bytes:
    """Return the bytes of a source's *secret*; none for one that is no base64url, which then believes nothing."""
    try:
        return base64.urlsafe_b64decode(secret + "=" * (-len(secret) % 4))
    except (binascii.Error, ValueError):
        return b""


def sign(key: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    """Return the signature of *body*, as one entry of the header."""
    digest = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, "sha256")
    return "v1," + base64.b64encode(digest).decode()


def verify(
    keys: Sequence[bytes],
    body: bytes,
    *,
    message_id: str | None,
    timestamp: str | None,
    signatures: str | None,
    now: datetime,
    max_skew_s: int,
) -> SignatureFault | None:
    """Return None when one of the header's *signatures* (separated by blanks) is good under one of *keys* and fresh.

    Signatures of other versions are passed over, as the specification asks; of more than 8 only the first 8 count.
    The age is judged last, so that a stranger learns nothing from the clock.
    """
    if not signatures or not message_id:
        return SignatureFault.MISSING_SIGNATURE
    if timestamp is None:
        return SignatureFault.TIMESTAMP_REQUIRED
    if not TIMESTAMP.fullmatch(timestamp):
        return SignatureFault.TIMESTAMP_MALFORMED
    if not _ID.fullmatch(message_id):
        return SignatureFault.ID_MALFORMED
    expected = [sign(key, message_id, timestamp, body).encode() for key in keys if key]
    given = [part.encode() for part in signatures.split(" ")[:_MAX_SIGNATURES] if _V1.fullmatch(part)]
    # every pair is compared, whichever fits: what is equal is equally long by its form
    good = [hmac.compare_digest(ours, theirs) for ours in expected for theirs in given]
    if not any(good):
        return SignatureFault.BAD_SIGNATURE
    if abs(now.timestamp() - int(timestamp)) > max_skew_s:
        return SignatureFault.TIMESTAMP_STALE
    return None
