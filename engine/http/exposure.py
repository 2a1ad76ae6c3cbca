"""Whether the engine may listen where it is told to: clear text is for this machine only (SEC-059)."""

from pathlib import Path

from engine.config import ServerConfig
from engine.config.checks import is_loopback
from engine.errors import StartupError
from engine.http.limits import ServerLimits
from engine.http.tls import TlsFiles


def secured(server: ServerConfig) -> TlsFiles | None:
    """Return the certificate to listen with, None for plain HTTP.

    Raises StartupError for plain HTTP on an address that others can reach, unless a trusted proxy stands in
    front or the operator said that it may be; and for a certificate that cannot be used.
    """
    if server.tls_cert and server.tls_key:
        return TlsFiles(Path(server.tls_cert), Path(server.tls_key))
    if is_loopback(server.host) or server.trusted_proxies or server.allow_plain_http:
        return None
    raise StartupError(
        f"[server] host = {server.host!r} would speak plain HTTP to other machines: set tls_cert and tls_key, or "
        "trusted_proxies with the address of the proxy that does TLS, or allow_plain_http = true"
    )


def server_limits(server: ServerConfig) -> ServerLimits:
    """Return the server's limits as configured."""
    return ServerLimits(connections=server.connections, connections_per_address=server.connections_per_address)
