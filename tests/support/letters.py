"""Journal entries and dead letters for a real engine: made with its own key, put where its stores are."""

import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from typer.testing import CliRunner

from engine.cli.root import program
from engine.domain.delivery import Delivery, Item
from engine.domain.enums import Exchange, OrderType, ProductType, TransactionType
from engine.domain.signal import Signal
from engine.errors import EngineError
from engine.journal.entry import encode
from engine.security.keys import load_or_create
from tests.support import forks
from tests.support.engine import EngineProcess
from tests.support.servers import TestServers


class Letters:
    """Writes for *engine*, whose database is *database*; the engine must have started once."""

    def __init__(self, engine: EngineProcess, servers: TestServers, database: str) -> None:
        self._engine = engine
        self._servers = servers
        self._database = database
        self._key = load_or_create(master_key=None, jwt_secret=None, data_dir=engine.data_dir).journal
        source = engine.get("/sources")[0]
        self._source = {
            "source_id": UUID(source["id"]),
            "strategy_id": UUID(source["strategyId"]),
            "user_id": UUID(engine.get("/auth/me")["id"]),
        }

    def delivery(self, key: str, *, age_s: float = 0, symbol: str = "SBIN", quantity: int = 1) -> Delivery:
        """Return a delivery of one MARKET BUY of the engine's first source."""
        signal = Signal(
            symbol=symbol,
            exchange=Exchange.NSE,
            transaction_type=TransactionType.BUY,
            quantity=quantity,
            order_type=OrderType.MARKET,
            product_type=ProductType.MIS,
        )
        return Delivery(
            **self._source,
            idempotency_key=key,
            body_sha256=key.encode().ljust(32, b"."),
            received_at=datetime.now(UTC) - timedelta(seconds=age_s),  # noqa: TID251 -- outside the engine
            request_id=None,
            items=(Item(position=0, signal=signal),),
        )

    def entry(self, delivery: Delivery) -> bytes:
        """Return *delivery* as the engine's journal keeps it."""
        return encode(delivery, self._key)

    def bury(self, payload: bytes, *, kind: str = "UNRECORDED", queue: str = "signal") -> str:
        """Put a letter into the engine's database; return its id."""
        letter = str(uuid4())
        self._servers.sql(
            "INSERT INTO dead_letters (id, queue, kind, status, subject, payload, error, attempts, created_at,"
            f" updated_at) VALUES ('{letter}', '{queue}', '{kind}', 'WAITING', 'test', '\\x{payload.hex()}', 'because',"
            " 1, now(), now())",
            self._database,
        )
        return letter

    def program(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run ``engine dead-letters`` as the operator would."""
        return forks.command(
            "dead-letters",
            *words,
            cwd=self._engine.folder,
            env=self._engine._environment,
            timeout=60,
        )

    def command(self, *words: str) -> tuple[int, str]:
        """Run the command within this process, for speed; return its exit code and what it says, errors too."""
        words = (*words, "--data-dir", str(self._engine.data_dir))
        done = CliRunner().invoke(program(), ["dead-letters", *words], env=self._engine._environment)
        error = done.exception
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, EngineError):
            return 1, str(error)
        assert error is None or isinstance(error, SystemExit), error
        return done.exit_code, done.output

    def intent_of(self, key: str) -> dict[str, Any] | None:
        """Return the intent of the delivery with *key* as the API shows it."""
        found = self._servers.sql(f"SELECT id FROM trade_intents WHERE idempotency_key = '{key}'", self._database)
        ids = [word for word in found.split() if len(word) == 36 and word.count("-") == 4]
        assert len(ids) <= 1, f"{key} became {len(ids)} intents"
        return self._engine.get(f"/signals/intents/{ids[0]}") if ids else None

    def ended(self, key: str) -> dict[str, Any]:
        """Return the intent once it is in a final state."""

        def look() -> dict[str, Any] | None:
            intent = self.intent_of(key)
            return None if intent is None or intent["status"] in ("RECEIVED", "APPROVED", "EXECUTING") else intent

        intent: dict[str, Any] = self._engine.wait_for(f"the end of {key}", look)
        return intent
