"""The cookie of the console: the tokens of one session, for its own pages and nobody else.

It is never looked at outside ``/console``: the API knows bearer tokens alone. Over TLS its name has the prefix
``__Host-``, which browsers take from this host and over TLS only (RFC 6265bis, 4.1.3.2).
"""

import re
from typing import NamedTuple

PLAIN = "engine_console"
SECURE = "__Host-engine_console"
_TOKEN = re.compile(r"[A-Za-z0-9._-]{0,2048}", re.ASCII)
_PARTING = "~"


class PageTokens(NamedTuple):
    """What the cookie holds: an access token of minutes and a refresh token of days; either may be empty."""

    access: str
    refresh: str


def read_cookie(header: str | None, *, is_secure: bool) -> PageTokens | None:
    """Return the tokens of a Cookie header, None when it has none of ours, or two of one name."""
    wanted = SECURE if is_secure else PLAIN
    found = [
        text for name, _, text in (part.strip().partition("=") for part in (header or "").split(";")) if name == wanted
    ]
    if len(found) != 1:
        return None
    access, parting, refresh = found[0].partition(_PARTING)
    if not parting or not _TOKEN.fullmatch(access) or not _TOKEN.fullmatch(refresh):
        return None
    return PageTokens(access, refresh)


def write_cookie(tokens: PageTokens, *, is_secure: bool, keep_s: int) -> str:
    """Return the Set-Cookie header that keeps *tokens* for *keep_s* seconds."""
    name, over_tls = (SECURE, "; Secure") if is_secure else (PLAIN, "")
    value = _PARTING.join(tokens)
    return f"{name}={value}; Path=/; Max-Age={keep_s}; HttpOnly; SameSite=Strict{over_tls}"


def drop_cookie(*, is_secure: bool) -> str:
    """Return the Set-Cookie header that makes a browser forget the session."""
    return write_cookie(PageTokens("", ""), is_secure=is_secure, keep_s=0)


def page_authorization(header: bytes | None) -> str | None:
    """Return what the access token of a Cookie header would be as an Authorization header, None without one."""
    if header is None:
        return None
    text = header.decode("latin-1")
    tokens = read_cookie(text, is_secure=True) or read_cookie(text, is_secure=False)
    return None if tokens is None or not tokens.access else f"Bearer {tokens.access}"
