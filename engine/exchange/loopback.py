"""Whether a request comes from this machine, and not out of a page of somebody else's in its browser."""

import ipaddress

from quart import abort, request


def is_loopback(address: str) -> bool:
    """Whether *address* is a loopback address; a name is not, but for localhost."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def only_loopback() -> None:
    """Answer the request with 404 unless it comes from this machine and names it.

    A page of another site can make a browser send requests here: those carry an Origin, or, where the site's
    name was pointed at this machine, a foreign Host.
    """
    host = request.host.rpartition(":")[0] if not request.host.endswith("]") else request.host
    is_named = is_loopback((host or request.host).strip("[]"))
    if not is_loopback((request.scope.get("client") or ("",))[0]) or not is_named or "Origin" in request.headers:
        abort(404)
