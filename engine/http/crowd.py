"""The open connections, and which of them gives way when there are too many (SEC-093).

Choosing looks at a bounded number of connections: a flood of new ones must not cost more the more there are.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Any, Protocol

import trio

from engine.http.client_ip import UNKNOWN, Network, is_in, parse_address, rate_key
from engine.http.limits import ServerLimits
from engine.http.phase import Phase

_CANDIDATES = 32


class Member(Protocol):
    """What is asked of a connection."""

    peer: str

    @property
    def phase(self) -> Phase:
        """What it is doing."""

    @property
    def since(self) -> float:
        """Since when, in trio's time."""

    def abort(self) -> None:
        """Close at once."""


class Crowd:
    """Counts connections in all, and by address but for this machine's own and those of *uncounted* networks."""

    def __init__(self, limits: ServerLimits, uncounted: Sequence[Network]) -> None:
        self._limits = limits
        self._uncounted = uncounted
        # in the order of their coming, which is about that of how long they have been waiting
        self._open: dict[Member, None] = {}
        self._by_peer: dict[str, dict[Member, None]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def peer_of(self, address: Any) -> str:
        """Return what a connection from the socket *address* is counted under, empty when only in all."""
        host = address[0] if isinstance(address, tuple) and address else ""
        parsed = parse_address(str(host).partition("%")[0])
        if parsed is None:
            return UNKNOWN
        return "" if parsed.is_loopback or is_in(parsed, self._uncounted) else rate_key(str(parsed))

    def add(self, member: Member) -> None:
        """Count *member*."""
        self._open[member] = None
        if member.peer:
            self._by_peer.setdefault(member.peer, {})[member] = None

    def remove(self, member: Member) -> None:
        """Count *member* no more; harmless when it is gone already."""
        self._open.pop(member, None)
        theirs = self._by_peer.get(member.peer)
        if theirs is not None:
            theirs.pop(member, None)
            if not theirs:
                del self._by_peer[member.peer]

    def has_room(self, peer: str) -> bool:
        """Tell whether one more of *peer* may stay, after one that waits has given way if need be."""
        theirs = self._by_peer.get(peer, {}) if peer else {}
        if len(theirs) >= self._limits.connections_per_address and not self._give_way(theirs):
            return False
        return len(self._open) < self._limits.connections or self._give_way(self._open)

    def make_room(self) -> bool:
        """Close the connection that will be missed least; tell whether there was one."""
        return self._give_way(self._open)

    def abort(self, *phases: Phase) -> None:
        """Close every connection in one of *phases* at once."""
        for member in [item for item in self._open if item.phase in phases]:
            member.abort()

    def _give_way(self, among: dict[Member, None]) -> bool:
        stalled_before = trio.current_time() - self._limits.stalled_s
        waiting = (item for item in among if item.phase in (Phase.IDLE, Phase.RECEIVING))
        stalled = (item for item in among if item.phase is Phase.WRITING and item.since < stalled_before)
        candidates = list(islice(waiting, _CANDIDATES)) or list(islice(stalled, 1))
        if not candidates:
            return False
        victim = min(candidates, key=lambda item: (item.phase is not Phase.IDLE, item.since))
        self.remove(victim)
        victim.abort()
        return True
