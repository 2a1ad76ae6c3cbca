"""Logging in to Kite: the address to send a person to, and the exchange of the request token.

A token lives until about 06:00 IST of the next day (Kite Connect v3, user). A person must log in
every day; only the paper exchange, which asks nobody anything, is walked through by the program.
"""

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import parse_qs, urlencode, urlsplit

import msgspec
import structlog
import trio

from engine.broker.base import BrokerAuthError, BrokerLoginRefused
from engine.broker.kite import routes, rows
from engine.broker.kite.codec import moment
from engine.broker.kite.origin import Origin
from engine.broker.kite.reads import KiteReads, checked
from engine.errors import BrokerUnavailable, ConfigError

_BAD_INPUT = 400
_log = structlog.get_logger(__name__)

# What may stand in the Authorization header: a token that cannot be used must not pass for a login.
_TOKEN = re.compile(r"[!-9;-~]{1,512}", re.ASCII)


class KiteSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session: ``access_token`` is a secret. Lists say what the account may use."""

    access_token: str
    user_id: str
    user_name: str = ""
    public_token: str = ""
    exchanges: tuple[str, ...] = ()
    products: tuple[str, ...] = ()
    order_types: tuple[str, ...] = ()
    login_time: datetime | None = None

    def __repr__(self) -> str:
        return f"KiteSession(user_id={self.user_id!r}, access_token=…)"


def login_url(
    api_key: str, *, base: str = routes.DEFAULT_LOGIN, redirect_params: Mapping[str, str] | None = None
) -> str:
    """Return where a person logs in; *redirect_params* come back with the request token."""
    query = {"v": routes.API_VERSION, "api_key": api_key}
    if redirect_params:
        query["redirect_params"] = urlencode(redirect_params)
    return f"{base}?{urlencode(query)}"


def checksum(api_key: str, request_token: str, api_secret: str) -> str:
    """Return the hex SHA-256 that proves knowledge of the secret."""
    return hashlib.sha256(f"{api_key}{request_token}{api_secret}".encode()).hexdigest()


async def exchange_token(reads: KiteReads, *, api_key: str, api_secret: str, request_token: str) -> KiteSession:
    """Turn a one-time *request_token* into a session, which ends the one before.

    Raises BrokerAuthError or BrokerLoginRefused when the broker refuses, BrokerUnavailable when it cannot be reached.
    """
    form = {
        "api_key": api_key,
        "request_token": request_token,
        "checksum": checksum(api_key, request_token, api_secret),
    }
    headers = {"X-Kite-Version": routes.API_VERSION}
    status, _, body = await reads.request("POST", routes.TOKEN, headers=headers, form=form)
    try:
        body = checked(routes.TOKEN, status, body)
    except BrokerAuthError as error:
        raise BrokerAuthError(str(error).replace(request_token, "..."), error.code) from None
    except BrokerUnavailable as error:
        if status == _BAD_INPUT:
            # an API key that is not known, for one: nothing that goes away by waiting
            raise BrokerLoginRefused(str(error).replace(request_token, "...")) from None
        raise
    try:
        answer = rows.SESSION.decode(body)
    except (msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError):
        # Without the cause, which could quote the token.
        raise BrokerUnavailable(f"{routes.TOKEN}: the answer is no session") from None
    row = answer.data
    if answer.status != "success" or not _TOKEN.fullmatch(row.access_token) or not (row.user_id or "").isprintable():
        raise BrokerUnavailable(f"{routes.TOKEN}: the answer is no session")
    return KiteSession(
        access_token=row.access_token,
        user_id=row.user_id or "",
        user_name=row.user_name or "",
        public_token=row.public_token or "",
        exchanges=tuple(row.exchanges or ()),
        products=tuple(row.products or ()),
        order_types=tuple(row.order_types or ()),
        login_time=moment("login_time", row.login_time),
    )


async def end_session(reads: KiteReads, *, api_key: str, access_token: str) -> None:
    """Have the broker forget a session that must not be used; what it answers changes nothing here."""
    try:
        await reads.request(
            "DELETE",
            routes.TOKEN,
            headers={"X-Kite-Version": routes.API_VERSION},
            params=[("api_key", api_key), ("access_token", access_token)],
        )
    except BrokerUnavailable as error:
        # nobody holds the token but this call: it ends with the day
        _log.info("session.not_ended", error=type(error).__name__)


async def paper_login(root_url: str, *, api_key: str, api_secret: str, timeout_s: float = 7.0) -> KiteSession:
    """Log in to the paper exchange at *root_url*, which lets everybody through at once.

    Raises ConfigError for an address outside loopback, BrokerUnavailable when the exchange does not
    answer as one.
    """
    origin = Origin.parse(root_url)
    if not origin.is_loopback:
        raise ConfigError(f"paper_login: {root_url!r} is not on this machine; a person must log in to a real broker")
    reads = KiteReads(origin, timeout_s=timeout_s, total_s=2 * timeout_s, max_connections=1)
    try:
        status, headers, _ = await reads.request(
            "GET",
            routes.LOGIN_PATH,
            headers={"X-Kite-Version": routes.API_VERSION},
            params=[("v", routes.API_VERSION), ("api_key", api_key)],
        )
        request_token = parse_qs(urlsplit(headers.get("location", "")).query).get("request_token", [""])[0]
        if not 300 <= status < 400 or not request_token:
            raise BrokerUnavailable(f"{routes.LOGIN_PATH}: HTTP {status} without a request_token")
        return await exchange_token(reads, api_key=api_key, api_secret=api_secret, request_token=request_token)
    finally:
        # Closing only sends farewells: it must happen even when the caller was cancelled, and cannot take long.
        with trio.move_on_after(1, shield=True):
            await reads.aclose()
