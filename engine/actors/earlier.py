"""What is known of deliveries that ingest does not hold in memory any more."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from uuid import UUID

from engine.actors.intake import Receipt
from engine.domain.compact_set import CompactSet
from engine.domain.delivery import Delivery
from engine.errors import Unavailable, UnavailableError

_MOST = 1_000_000

KnownDeliveries = Callable[[Sequence[Delivery]], Awaitable[set[tuple[UUID, str]]]]
FindEarlier = Callable[[UUID, str], Awaitable[tuple[bytes, tuple[Receipt, ...]] | None]]


class EarlierDeliveries:
    """Deliveries that ingest no longer holds in memory: a set of short hashes, and the store behind it."""

    def __init__(
        self,
        find: FindEarlier | None = None,
        known: KnownDeliveries | None = None,
        keys: Iterable[tuple[UUID, str]] = (),
    ) -> None:
        self._find = find
        self._known = known
        self._recent: CompactSet[tuple[UUID, str]] = CompactSet(keys)
        self._older: CompactSet[tuple[UUID, str]] = CompactSet()
        self._count = len(self._recent)

    async def known(self, deliveries: Sequence[Delivery]) -> set[tuple[UUID, str]]:
        """Return the keys of those of *deliveries* that the ledger has. Raises StoreUnavailable."""
        return set() if self._known is None else await self._known(deliveries)

    def remember(self, key: tuple[UUID, str]) -> None:
        """Take note of a delivery that left the memory."""
        if self._count >= _MOST:
            # what falls out here is still refused by the ledger
            self._older, self._recent, self._count = self._recent, CompactSet(), 0
        self._recent.add(key)
        self._count += 1

    def may_hold(self, key: tuple[UUID, str]) -> bool:
        """Whether the store has to be asked about *key*."""
        return self._find is not None and (key in self._recent or key in self._older)

    async def find(self, key: tuple[UUID, str]) -> tuple[bytes, tuple[Receipt, ...]] | None:
        """Return body hash and receipts of an earlier delivery. Raises UnavailableError."""
        if self._find is None:
            return None
        try:
            return await self._find(*key)
        except Unavailable as exc:
            raise UnavailableError("whether this is a repeat cannot be told now; try again", retry_after_s=2) from exc
