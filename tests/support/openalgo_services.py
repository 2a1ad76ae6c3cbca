"""Services of a trader with a strategy, for OpenAlgo's endpoints without an engine."""

from collections.abc import Collection, Iterable
from datetime import timedelta
from types import SimpleNamespace
from uuid import UUID

import msgspec

from engine.actors.ingest import Accepted
from engine.actors.intake import Receipt
from engine.config import Config
from engine.domain.delivery import Delivery
from engine.domain.directory import Directory, Source, Strategy
from engine.domain.enums import IntentStatus, Role, SourceType
from engine.domain.instruments import InstrumentBook
from engine.exchange.instruments import build_master
from engine.ids import uuid7
from engine.security.api_tokens import ApiToken, Scope, digest, new_token
from tests.support.api import ApiServices

PER_MINUTE = 3


class TradingServices(ApiServices):
    """Services of a trader with a strategy; what is taken in is kept, and the store cannot be read."""

    def __init__(self) -> None:
        limits = msgspec.structs.replace(Config().limits, api_per_minute=PER_MINUTE)
        super().__init__(config=msgspec.structs.replace(Config(), limits=limits))
        self.owner = self.add_user(Role.TRADER)
        self.directory = Directory()
        self.strategy = Strategy(id=uuid7(), user_id=self.owner.id, name="default")
        self.directory.put_strategy(self.strategy)
        self.source = Source(
            id=uuid7(),
            user_id=self.owner.id,
            strategy_id=self.strategy.id,
            type=SourceType.WEBHOOK,
            name="hook",
            api_key_hash=None,
            secret=None,
        )
        self.directory.put_source(self.source)
        book = InstrumentBook(build_master(self.clock.now().date()).by_key.values())
        self.master = SimpleNamespace(book=book, loaded_at=self.clock.now())
        self.taken: list[Delivery] = []
        self.ingest = self
        self.refuses: Exception | None = None
        self.crew = SimpleNamespace(executors={})

    def key(self) -> str:
        """Return a new key of the trader's."""
        token, now = new_token(), self.clock.now()
        self.api_tokens.put(
            ApiToken(
                id=uuid7(),
                user_id=self.owner.id,
                name="program",
                token_hash=digest(token),
                scopes=frozenset({Scope.TRADE}),
                ip_allowlist=(),
                created_at=now,
                expires_at=now + timedelta(days=1),
            )
        )
        return token

    async def earlier(self, _sources: Iterable[UUID], _key: str, _body_sha256: bytes) -> None:
        return None

    async def accept(self, delivery: Delivery, *, elsewhere: Collection[UUID] = ()) -> Accepted:
        if self.refuses is not None:
            raise self.refuses
        self.taken.append(delivery)
        receipts = tuple(
            Receipt(intent_id=intent.id, status=IntentStatus.RECEIVED, position=intent.position)
            for intent in delivery.intents()
        )
        return Accepted(receipts, duplicate=False)

    async def read_your_writes(self) -> None:
        return None
