"""What a value of the configuration must be beyond its type.

Each check returns what was expected, in plain words, or None when the value is fine. None of them
quotes the value: it may be a secret, or hold one.
"""

import re
from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from ipaddress import ip_address, ip_network
from typing import Any
from urllib.parse import SplitResult, urlsplit
from zoneinfo import ZoneInfo

from engine.config.alert_sections import RouteConfig
from engine.config.secret_values import decode_key, is_placeholder
from engine.config.sections import EMBEDDED, SessionConfig, WindowConfig
from engine.domain.alert_rules import Severity
from engine.domain.contracts import parse_contract
from engine.domain.drill_schedule import DAYS
from engine.domain.enums import Exchange
from engine.domain.limits import PAIRS
from engine.errors import ConfigError
from engine.secret import Secret

Check = Callable[[Any], str | None]

_CLOCK_TIME = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]")
_DRILL_TIME = re.compile(rf"(?:(?:{'|'.join(DAYS)}) )?{_CLOCK_TIME.pattern}")
_HEADER_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,256}")
_SYMBOL = re.compile(r"[A-Z0-9&_\-.]+(?: [A-Z0-9&_\-.]+)*")
_HOST_NAME = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*|\[?[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]?")
_EMAIL = re.compile(r"[^@\s\x00-\x1f]+@[^@\s\x00-\x1f]+")
_VISIBLE = re.compile(r"[!-~]+")
_DATABASE_SCHEMES = ("postgresql", "postgres")
_REDIS_SCHEMES = ("redis", "rediss", "unix")


def is_loopback(host: str) -> bool:
    """Whether *host*, a name or an address as it stands in a URL, can only be this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _split(url: str) -> SplitResult | None:
    # Only what every URL reader understands the same way: no white space, no backslash, no user in front
    # of the host, a port that is a number.
    if not _VISIBLE.fullmatch(url) or "\\" in url:
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts if parts.hostname and "@" not in parts.netloc and not parts.query and not parts.fragment else None


def _secure_url(secure: str, plain: str) -> Check:
    def check(url: str) -> str | None:
        parts = _split(url)
        if parts and (parts.scheme == secure or (parts.scheme == plain and is_loopback(parts.hostname or ""))):
            return None
        return f"a {secure}:// address without user, query or fragment ({plain}:// only for this machine)"

    return check


def _public_url(url: str) -> str | None:
    parts = _split(url) if url else None
    if not url or (parts and parts.scheme in ("https", "http") and parts.path in ("", "/")):
        return None
    return "an address like https://engine.example.com, or an empty text"


def _store_url(schemes: tuple[str, ...], shown: str) -> Check:
    def check(url: str) -> str | None:
        scheme, mark, rest = url.partition("://")
        if url == EMBEDDED or (mark and scheme in schemes and rest and not re.search(r"\s", url)):
            return None
        return f'"{EMBEDDED}", or an address beginning with {shown}'

    return check


def _owner_url(url: str) -> str | None:
    if url != EMBEDDED and (not url or _store_url(_DATABASE_SCHEMES, "postgresql://")(url) is None):
        return None
    return "an address beginning with postgresql://, or an empty text"


def _host(host: str) -> str | None:
    return None if _VISIBLE.fullmatch(host) and "/" not in host else "a host name or an IP address"


def _hosts(hosts: tuple[str, ...]) -> str | None:
    wish = 'a list of names and addresses such as ["engine.example.com", "10.0.0.5"], without port'
    return None if all(_HOST_NAME.fullmatch(host) for host in hosts) else wish


def _local_address(text: str) -> str | None:
    wish = "an IP address of this machine, such as 203.0.113.7, or an empty text"
    if not text:
        return None
    try:
        address = ip_address(text)
    except ValueError:
        return wish
    unusable = address.is_unspecified or address.is_multicast or "%" in text
    return wish if unusable else None


def _networks(networks: tuple[str, ...]) -> str | None:
    for network in networks:
        try:
            ip_network(network)
        except ValueError:
            return "a list of IP addresses and networks such as 10.0.0.0/8, without bits set after the prefix"
    return None


def _timezone(name: str) -> str | None:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        return "the name of a time zone, such as Asia/Kolkata"
    return None


def _clock_time(text: str) -> str | None:
    return None if _CLOCK_TIME.fullmatch(text) else "a clock time HH:MM from 00:00 to 23:59"


def _drill_time(text: str) -> str | None:
    return None if _DRILL_TIME.fullmatch(text) else 'a time HH:MM, with a day before it for a weekly one: "SAT 10:00"'


def _window(window: WindowConfig | None) -> str | None:
    if window is None or (_is_time(window.start) and _is_time(window.end) and window.start < window.end):
        return None
    return '{start = "HH:MM", end = "HH:MM"} with the start before the end'


def _dates(days: tuple[str, ...]) -> str | None:
    return None if all(_is_date(day) for day in days) else 'a list of dates "YYYY-MM-DD"'


def _sessions(sessions: tuple[SessionConfig, ...]) -> str | None:
    for session in sessions:
        is_timed = _is_time(session.start) and _is_time(session.end) and session.start < session.end
        if not is_timed or not _is_date(session.date):
            return '{date = "YYYY-MM-DD", start = "HH:MM", end = "HH:MM"} each, with the start before the end'
    return None


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _aliases(aliases: dict[str, str]) -> str | None:
    for name, symbol in aliases.items():
        if not _SYMBOL.fullmatch(name) or not (_SYMBOL.fullmatch(symbol) or parse_contract(symbol)):
            return 'symbols in capital letters, such as {MYBANK = "HDFCBANK", CALL = "NIFTY ATM CE"}'
        if symbol in aliases:
            return "names of symbols, none of which is the name of another alias"
    return None


def _is_time(text: str) -> bool:
    return _clock_time(text) is None


def _clock_times(times: Mapping[Exchange, str]) -> str | None:
    wrong = next((text for text in times.values() if not _is_time(text)), None)
    return None if wrong is None else "a clock time HH:MM for each exchange"


def _amount(most: int) -> Check:
    def check(amount: Decimal | None) -> str | None:
        if amount is None or (amount.is_finite() and 0 < amount <= most):
            return None
        return f'a number above 0, at most {most}, or "none" for no limit'

    return check


def _key(secret: Secret | None) -> str | None:
    if secret is None:
        return None
    try:
        decode_key(secret.reveal())
    except ConfigError as error:
        return str(error)
    return None


def _token(secret: Secret) -> str | None:
    text = secret.reveal()
    if not text or (_VISIBLE.fullmatch(text) and not is_placeholder(text)):
        return None
    return "a token without white space that is not a placeholder, or an empty text"


def _email(text: str) -> str | None:
    return None if len(text) <= 254 and _EMAIL.fullmatch(text) else "an e-mail address such as admin@localhost"


def _header_token(secret: Secret) -> str | None:
    text = secret.reveal()
    if not text or (_HEADER_TOKEN.fullmatch(text) and not is_placeholder(text)):
        return None
    return "1 to 256 letters, digits, _ or - that are not a placeholder, or an empty text"


def _directory(name: str) -> str | None:
    return None if name.strip() and name.isprintable() else "the name of a folder"


def _outside_url(secret: Secret) -> str | None:
    """An address that may hold a secret in its path or query; it must not have a user in front of the host."""
    url = secret.reveal()
    if not url:
        return None
    parts = _split(url.partition("?")[0])
    if parts and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))):
        return None
    return "an https:// address without user (http:// only for this machine), or an empty text"


def _otlp_url(url: str) -> str | None:
    return None if not url else _secure_url("https", "http")(url)


def _signing_secret(secret: Secret) -> str | None:
    text = secret.reveal()
    if not text or (len(text) >= _MIN_SIGNING and _VISIBLE.fullmatch(text) and not is_placeholder(text)):
        return None
    return f"at least {_MIN_SIGNING} characters without white space that are not a placeholder, or an empty text"


def _mail_host(host: str) -> str | None:
    return None if not host or _HOST_NAME.fullmatch(host) else "the name of a mail server, or an empty text"


def _mail_addresses(addresses: tuple[str, ...]) -> str | None:
    return None if all(map(_MAIL.fullmatch, addresses)) else 'a list of e-mail addresses such as ["desk@example.com"]'


def _mail_address(text: str) -> str | None:
    return None if not text or _MAIL.fullmatch(text) else "an e-mail address such as engine@example.com"


def _quiet_hours(text: str) -> str | None:
    start, mark, end = text.partition("-")
    if not text or (mark and _is_time(start) and _is_time(end) and start != end):
        return None
    return 'two clock times such as "22:00-07:00", or an empty text'


def _severities(severities: dict[str, str]) -> str | None:
    if all(_CODE.fullmatch(code) and severity in tuple(Severity) for code, severity in severities.items()):
        return None
    return 'codes with "info", "warning" or "critical", such as { SOURCE_SILENT = "critical" }'


def _routes(routes: tuple[RouteConfig, ...]) -> str | None:
    for route in routes:
        if not route.channels or set(route.channels) - set(CHANNELS) or not all(map(_CODE.fullmatch, route.codes)):
            return f"channels of {', '.join(CHANNELS)} in each route, and codes in capital letters"
    return None


_MIN_SIGNING = 24
_CODE = re.compile(r"[A-Z][A-Z0-9_]{1,63}")
_MAIL = re.compile(r"[^\s@<>,;\"]{1,64}@[A-Za-z0-9.-]{1,255}")
CHANNELS = ("telegram", "email", "webhook", "ntfy", "apprise")
_TLS_PAIR = (("tls_cert", "tls_key"),)
_MAIL_PAIRS = (("host", "sender"), ("host", "to"), ("user", "password"))
_WEBHOOK_PAIR = (("url", "secret"),)
_PERCENT, _RUPEES = 100_000, 1_000_000_000_000

CHECKS: Mapping[str, Check] = {
    "server.host": _host,
    "server.trusted_proxies": _networks,
    "server.public_url": _public_url,
    "server.allowed_hosts": _hosts,
    "database.url": _store_url(_DATABASE_SCHEMES, "postgresql://"),
    "database.owner_url": _owner_url,
    "redis.url": _store_url(_REDIS_SCHEMES, "redis://, rediss:// or unix://"),
    "broker.kite.root_url": _secure_url("https", "http"),
    "broker.kite.ws_url": _secure_url("wss", "ws"),
    "broker.kite.login_url": _secure_url("https", "http"),
    "broker.kite.local_address": _local_address,
    "broker.kite.readiness_at": _clock_time,
    "broker.kite.remind_at": _clock_time,
    "market.readiness_at": _clock_time,
    "telegram.api_url": _secure_url("https", "http"),
    "telegram.bot_token": _token,
    "telegram.secret_token": _header_token,
    "telegram.ip_ranges": _networks,
    "risk.max_daily_loss_pct": _amount(_PERCENT),
    "risk.max_daily_loss_amount": _amount(_RUPEES),
    "risk.max_position_pct": _amount(_PERCENT),
    "risk.max_order_value": _amount(_RUPEES),
    "risk.price_band_pct": _amount(_PERCENT),
    "risk.profit_target_amount": _amount(_RUPEES),
    "risk.profit_lock_trigger_amount": _amount(_RUPEES),
    "risk.profit_lock_giveback_pct": _amount(_PERCENT),
    "risk.max_drawdown_amount": _amount(_RUPEES),
    "risk.max_drawdown_pct": _amount(_PERCENT),
    "risk.trading_window": _window,
    "market.timezone": _timezone,
    "market.square_off_at": _clock_time,
    "market.square_off_by_exchange": _clock_times,
    "market.holidays": _dates,
    "market.special_sessions": _sessions,
    "signals.aliases": _aliases,
    "security.master_key": _key,
    "security.master_key_previous": _key,
    "security.jwt_secret": _key,
    "security.jwt_secret_previous": _key,
    "security.metrics_token": _token,
    "security.admin_email": _email,
    "drill.at": _drill_time,
    "backup.at": _clock_time,
    "logging.dir": _directory,
    "alerts.quiet_hours": _quiet_hours,
    "alerts.severities": _severities,
    "alerts.routes": _routes,
    "alerts.email.host": _mail_host,
    "alerts.email.sender": _mail_address,
    "alerts.email.to": _mail_addresses,
    "alerts.webhook.url": _outside_url,
    "alerts.webhook.secret": _signing_secret,
    "alerts.ntfy.url": _outside_url,
    "alerts.ntfy.token": _token,
    "alerts.apprise.url": _outside_url,
    "alerts.heartbeat.url": _outside_url,
    "tracing.otlp_url": _otlp_url,
}

_PAIRS = {"risk": PAIRS, "server": _TLS_PAIR, "alerts.email": _MAIL_PAIRS, "alerts.webhook": _WEBHOOK_PAIR}


def half_of_pair(path: str, values: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the key in the section at *path* that does nothing without another, and that other, which is missing.

    Of ``[risk]`` these are limits that are made of two keys, of ``[server]`` certificate and key; None when each
    has both or neither.
    """
    for pair in _PAIRS.get(path, ()):
        given = [name for name in pair if values.get(name)]
        if len(given) == 1:
            (missing,) = set(pair) - set(given)
            return f"{path}.{given[0]}", f"{path}.{missing}"
    return None
