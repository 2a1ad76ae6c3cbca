"""One-time codes by RFC 6238: six digits, SHA-1, 30 seconds, one step to either side.

Pure but for the making of a seed. That a code is used once is the store's to see to, by the step that is
returned here; so is that the seed is kept sealed.
"""

import hmac
import re
from datetime import datetime
from typing import NamedTuple

import pyotp
import segno

STEP_S = 30
AROUND = 1
"""Steps to either side of now that are accepted: a phone's clock may be off by that much (RFC 6238, section 5.2)."""
ISSUER = "Trading engine"
_CODE = re.compile(r"[0-9]{6}", re.ASCII)


class Enrolment(NamedTuple):
    """What an authenticator app needs: the seed in base 32, an otpauth address, and that as a QR code (SVG)."""

    secret: str
    uri: str
    qr_code: str


def new_seed() -> str:
    """Return a fresh random seed of 160 bits in base 32 (RFC 4226, section 4)."""
    return pyotp.random_base32(32)


def enrolment(seed: str, email: str) -> Enrolment:
    """Return how *email* puts *seed* into an app; the QR code is a ``data:`` address of an SVG image."""
    uri = pyotp.TOTP(seed).provisioning_uri(name=email, issuer_name=ISSUER)
    return Enrolment(secret=seed, uri=uri, qr_code=segno.make(uri, error="m", micro=False).svg_data_uri(scale=5))


def is_code(text: str) -> bool:
    """Tell whether *text* has the form of a code of an app; blanks inside do not count."""
    return _CODE.fullmatch(_plain(text)) is not None


def matching_step(seed: str, code: str, *, at: datetime) -> int | None:
    """Return the time step whose code *code* is, as of *at*; None when it is none of those that are valid now."""
    now, given, totp, found = int(at.timestamp()) // STEP_S, _plain(code), pyotp.TOTP(seed), None
    if not is_code(code):
        return None
    # all are compared, whichever matches: the time taken says nothing
    for step in range(now - AROUND, now + AROUND + 1):
        if hmac.compare_digest(totp.generate_otp(step).encode(), given.encode()):
            found = step
    return found


def _plain(text: str) -> str:
    return text.replace(" ", "")
