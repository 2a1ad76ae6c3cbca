"""Where the broker is: scheme, host and port, checked once.

Plain HTTP is for loopback only, where the paper exchange and the tests are.
"""

import ipaddress
from urllib.parse import urlsplit

import msgspec

from engine.errors import ConfigError


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP origin."""

    host: str
    port: int
    is_tls: bool

    @classmethod
    def parse(cls, url: str, *, key: str = "broker.kite.root_url") -> "Origin":
        """Return the origin of *url*; *key* names the configuration key in errors.

        Raises ConfigError for anything but ``https://host[:port]``, or ``http://`` on loopback.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as exc:
            raise ConfigError(f"{key}: {url!r} is not a URL; expected https://host[:port]") from exc
        host = parts.hostname or ""
        if parts.scheme not in ("http", "https") or not host or "@" in parts.netloc:
            raise ConfigError(f"{key}: {url!r} is not usable; expected https://host[:port]")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ConfigError(f"{key}: {url!r} has a path or query; Kite's paths start at the origin, leave it out")
        is_tls = parts.scheme == "https"
        if not is_tls and not is_loopback(host):
            raise ConfigError(f"{key}: {url!r} is plain HTTP outside loopback; use https://")
        return cls(host=host, port=port or (443 if is_tls else 80), is_tls=is_tls)

    def __str__(self) -> str:
        return f"{'https' if self.is_tls else 'http'}://{self.authority}"

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this machine."""
        return is_loopback(self.host)

    @property
    def authority(self) -> str:
        """Host and port as the Host header has them: a default port is left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.is_tls else 80) else f"{host}:{self.port}"


def is_loopback(host: str) -> bool:
    """Whether *host* is this machine itself, by name or by address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
