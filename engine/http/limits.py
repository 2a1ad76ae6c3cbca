"""The bounds of the HTTP server; the figures are those of reliability F41 and group K."""

import msgspec


class ServerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much and how long; times in seconds.

    ``request_s`` is for a request to arrive whole, ``keep_alive_s`` for a connection between two
    requests, ``write_s`` for a client to take what is sent (``stalled_s`` when its place is needed),
    ``drain_s`` for requests at hand to end when the server closes, ``linger_s`` and ``linger_bytes``
    for reading away the rest of a body.
    """

    connections: int = 512
    request_s: float = 10.0
    keep_alive_s: float = 30.0
    write_s: float = 10.0
    stalled_s: float = 1.0
    drain_s: float = 4.0
    linger_s: float = 2.0
    linger_bytes: int = 4 * 1024 * 1024
    backlog: int = 1024
