"""HTTP 403 told apart: a dead session, the address, a permission, the person (Kite Connect v3, exceptions).

Kite answers 403 to quite different things, and only one of them is "log in again". The texts are those
that users of the API report; the error type alone does not decide, for some come with several types.
"""

import re

from engine.broker.outcome import RefusalCode

_NOT_ENABLED = re.compile(r"user is not enabled for the app", re.I)
# Both texts of the rule on static addresses (SEBI circular of February 2025; enforced since April 2026).
_ADDRESS = re.compile(r"\bIP \([^)]*\) is not allowed to place orders|\bno IPs configured for this app", re.I)
_ANY_ADDRESS = re.compile(r"\bIPs?\b")
_ADDRESS_NAMED = re.compile(r"\bIP \(([0-9A-Fa-f.:]{2,45})\)")
_BY_TYPE = {
    "TokenException": RefusalCode.TOKEN_DEAD,
    "TwoFAException": RefusalCode.TWO_FA,
    "UserException": RefusalCode.USER,
}


def judge(error_type: str, message: str) -> RefusalCode:
    """Return what a 403 of *error_type* with *message* is about; PERMISSION when nothing more is known."""
    if _NOT_ENABLED.search(message):
        return RefusalCode.NOT_ENABLED
    if is_about_address(message):
        return RefusalCode.STATIC_IP
    found = _BY_TYPE.get(error_type)
    if found is not None:
        return found
    return RefusalCode.STATIC_IP if _ANY_ADDRESS.search(message) else RefusalCode.PERMISSION


def is_about_address(message: str) -> bool:
    """Whether *message* is one of the two texts about the address that orders come from, whatever the status."""
    return bool(_ADDRESS.search(message))


def address_in(message: str) -> str | None:
    """Return the address that *message* says orders came from, None when it names none."""
    found = _ADDRESS_NAMED.search(message)
    return None if found is None else found[1]
