"""As many connections as an account's instruments need: one, and up to three above 3,000 of them.

Kite allows three connections of an API key with 3,000 instruments each (kite.trade, WebSocket limits).
Order updates come on every one; the first is always there.
"""

import random
from collections.abc import Callable, Mapping
from itertools import islice

import trio

from engine.broker.kite.ticker import MAX_INSTRUMENTS, Ticker, TickerSink, Ticket
from engine.broker.kite.ticker_frames import Mode

MAX_CONNECTIONS = 3


class TickerPool:
    """The connections of one session; see `Ticker` for what is told to *sink* and when."""

    def __init__(self, ticket: Callable[[], Ticket | None], sink: TickerSink, *, rng: random.Random) -> None:
        self._ticket = ticket
        self._sink = sink
        self._rng = rng
        self._members: list[Ticker] = [self._member()]
        self._more = trio.Event()

    def _member(self) -> Ticker:
        return Ticker(self._ticket, self._sink, rng=self._rng)

    @property
    def is_open(self) -> bool:
        """Whether order updates come now."""
        return self._members[0].is_open

    @property
    def connects(self) -> int:
        """How often a connection was made."""
        return sum(member.connects for member in self._members)

    @property
    def connections(self) -> int:
        """How many connections are kept."""
        return len(self._members)

    def want(self, tokens: Mapping[int, Mode]) -> int:
        """Subscribe to *tokens*, in their order, and to nothing else; return how many were too many.

        An instrument stays with its connection, so that one more does not move all others.
        """
        kept = dict(islice(tokens.items(), MAX_CONNECTIONS * MAX_INSTRUMENTS))
        shares: list[dict[int, Mode]] = []
        homeless = dict(kept)
        for member in self._members:
            share = {token: kept[token] for token in member.wanted if token in kept}
            for token in share:
                del homeless[token]
            shares.append(share)
        for token, mode in homeless.items():
            if all(len(share) >= MAX_INSTRUMENTS for share in shares):
                shares.append({})
            roomy = next(share for share in shares if len(share) < MAX_INSTRUMENTS)
            roomy[token] = mode
        while len(self._members) < len(shares):
            self._members.append(self._member())
            self._more.set()
        for member, share in zip(self._members, shares, strict=True):
            member.want(share)
        return len(tokens) - len(kept)

    async def run(self) -> None:
        """Keep the connections until cancelled; one that has nothing to do any more stays for the next instrument."""
        async with trio.open_nursery() as nursery:
            running = 0
            while True:
                for member in self._members[running:]:
                    nursery.start_soon(member.run)
                running = len(self._members)
                await self._more.wait()
                self._more = trio.Event()
