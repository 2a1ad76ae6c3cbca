"""The bounds of the HTTP server; the figures are those of reliability F41 and group K."""

import msgspec


class ServerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much and how long; times in seconds.

    ``connections_per_address`` counts those of one address, or one /64 of IPv6. ``handshake_s`` is for TLS,
    ``head_s`` for the head of a request to arrive, ``body_silence_s`` between two parts of its body, ``request_s``
    for all of it, ``keep_alive_s`` for a connection between two of at most ``keep_alive_requests`` requests,
    ``write_s`` for a client to take what is sent (``stalled_s`` when its place is needed),
    ``drain_s`` for requests at hand to end when the server closes, ``linger_s`` and ``linger_bytes``
    for reading away the rest of a body.
    """

    connections: int = 512
    connections_per_address: int = 32
    handshake_s: float = 5.0
    head_s: float = 5.0
    body_silence_s: float = 5.0
    request_s: float = 10.0
    keep_alive_s: float = 30.0
    keep_alive_requests: int = 10_000
    write_s: float = 10.0
    stalled_s: float = 1.0
    drain_s: float = 4.0
    linger_s: float = 2.0
    linger_bytes: int = 4 * 1024 * 1024
    backlog: int = 1024
