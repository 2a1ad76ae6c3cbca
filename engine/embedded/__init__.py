"""PostgreSQL and Valkey out of Python wheels, run under the data directory as supervised children."""

from engine.embedded.postgres import EmbeddedPostgres
from engine.embedded.server import EmbeddedServerDied
from engine.embedded.servers import EmbeddedUrls, embedded_servers, running_urls, silent_server
from engine.embedded.valkey import EmbeddedValkey

__all__ = [
    "EmbeddedPostgres",
    "EmbeddedServerDied",
    "EmbeddedUrls",
    "EmbeddedValkey",
    "embedded_servers",
    "running_urls",
    "silent_server",
]
