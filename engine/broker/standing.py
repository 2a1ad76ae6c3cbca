"""What a refusal of the broker does to an account: its state, the reason with a code first, and the mend.

A session that is dead needs a login; an address or a permission that is missing stops orders only, and
reads go on. The reasons are shown as ``statusReason``; programs read the code in front of the colon.
"""

from engine.broker.kite.denied import address_in
from engine.broker.outcome import LOGIN_CODES, RefusalCode, Refused

AUTH_BLOCKED = "AUTH_BLOCKED"
_MENDS = {
    RefusalCode.TOKEN_DEAD: "log in again",
    RefusalCode.NO_LOGIN: "log in to the broker first",
    RefusalCode.LOGIN_EXPIRED: "log in again for today",
    RefusalCode.WRONG_USER: "log in as the Zerodha user of this account",
    RefusalCode.NOT_ENABLED: "enable this Zerodha user for the app on the Kite developer console, then log in",
    RefusalCode.TWO_FA: "finish the two-factor login at Zerodha, then log in again",
    RefusalCode.USER: "settle it with Zerodha, then log in again",
}
# Found without asking the broker: there is nothing of its own to quote.
_OUR_OWN = (RefusalCode.NO_LOGIN, RefusalCode.LOGIN_EXPIRED)
_UNBLOCK = "unblock the account (POST /api/v1/accounts/ID/unblock, the console page, or a new login)"
_CONSOLE = "the Kite developer console (developers.kite.trade)"


def login_reason(code: RefusalCode, message: str) -> str:
    """Return the ``statusReason`` of an account that needs a login; *code* that is no login's counts as dead."""
    code = code if code in LOGIN_CODES else RefusalCode.TOKEN_DEAD
    if code in _OUR_OWN:
        return f"{AUTH_BLOCKED}: {code}: {_MENDS[code]}"
    return f"{AUTH_BLOCKED}: {code}: {_MENDS[code]}" + (f". The broker said: {message}" if message else "")


def blocked_reason(refused: Refused) -> str:
    """Return the ``statusReason`` of an account whose orders are refused while reads go on."""
    return f"{refused.code}: {_blocked_mend(refused)}. The broker said: {refused.message}"


def _blocked_mend(refused: Refused) -> str:
    if refused.code is RefusalCode.PERMISSION:
        return f"the app may not place orders: look at its plan and permissions on {_CONSOLE}, then {_UNBLOCK}"
    if refused.code is RefusalCode.USER:
        return f"the broker takes no orders of this user: settle it with Zerodha, then {_UNBLOCK}"
    address = address_in(refused.message)
    if address is None:
        return (
            f"no address may place orders for this app: add the engine's under allowed IPs on {_CONSOLE}, "
            f"then {_UNBLOCK}"
        )
    kind = " (an IPv6 address: have the engine use IPv4, or register this one)" if ":" in address else ""
    return (
        f"orders come from {address}{kind}, which this app does not allow: add it under allowed IPs on {_CONSOLE}, "
        f"which can be changed once a week, then {_UNBLOCK}"
    )
