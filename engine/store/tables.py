"""The ledger's tables as column lists, and the one statement that writes a whole batch of them.

Every table of a batch is one ``unnest`` over arrays, all of them in one statement: one round trip and
one implicit transaction. A table without rows is left out: PostgreSQL makes ready whatever a statement names, and
for a single order that is most of its work. The lease row is locked in the same statement; when the epoch is gone
nothing is inserted and the statement returns no row. The journal's cursor moves in it too: an entry of
the journal and the intents that it became are one commit.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from typing import Any, Generic, TypeVar

from engine.domain.audit import AuditRecord
from engine.domain.fill import Fill
from engine.domain.intent import Intent, IntentEvent
from engine.domain.options import encode_options
from engine.domain.order import Order, OrderEvent
from engine.domain.position import Position
from engine.domain.verdict import VerdictRow

Row = TypeVar("Row")


class Table(Generic[Row]):
    """How values of one type become rows: columns with their types, and what is done on them.

    *update_key*, when given, makes it an UPDATE of the other columns by that key instead of an INSERT. *key*, when
    given, is how many of the first columns name a row: of the rows of one name the last stays, also over the stored.
    """

    def __init__(
        self,
        name: str,
        columns: Sequence[tuple[str, str]],
        row: Callable[[Row], tuple[Any, ...]],
        *,
        update_key: str | None = None,
        key: int = 0,
        suffix: str = "",
    ) -> None:
        self.name = name
        self.columns = tuple(columns)
        self.row = row
        self.update_key = update_key
        self.key = key
        if key:
            keys = ", ".join(column for column, _ in self.columns[:key])
            sets = ", ".join(f"{column} = excluded.{column}" for column, _ in self.columns[key:])
            suffix = f" ON CONFLICT ({keys}) DO UPDATE SET {sets}"
        self.suffix = suffix

    def rows(self, values: Iterable[Row]) -> list[tuple[Any, ...]]:
        """Return the rows of *values*, of those with one key the last."""
        rows = map(self.row, values)
        return list({row[: self.key]: row for row in rows}.values() if self.key else rows)

    def sql(self, first: int = 1, *, single: bool = False, where: str = "") -> str:
        """Return the statement, or part of one, whose parameters start at ``$first``.

        They are an array for each column; with *single* the one row's values, which PostgreSQL is ready for in
        half of the time.
        """
        names = ", ".join(name for name, _ in self.columns)
        of = "" if single else "[]"
        values = [f"${number}::{kind}{of}" for number, (_, kind) in enumerate(self.columns, first)]
        from_arrays = f" FROM unnest({', '.join(values)}) AS v({names})"
        if self.update_key is None:
            rows = f"SELECT {', '.join(values)}" if single else f"SELECT *{from_arrays}"
            return f"INSERT INTO {self.name} ({names}) {rows}{where and f' WHERE {where}'}{self.suffix}"
        new = dict(zip((name for name, _ in self.columns), values, strict=True))
        if not single:
            new = {name: f"v.{name}" for name in new}
        its = f"t.{self.update_key} = {new.pop(self.update_key)}{where and f' AND {where}'}"
        sets = ", ".join(f"{name} = {value}" for name, value in new.items())
        return f"UPDATE {self.name} AS t SET {sets}{'' if single else from_arrays} WHERE {its}"  # noqa: S608 -- constants


_HELD = "EXISTS (SELECT FROM lease)"


def _number(position: str, part: int) -> str:
    return f"split_part({position}, '-', {part})::numeric"


# forward only, and only in the journal that the row names: another's positions mean nothing in it
_CURSOR = (
    "journal AS (UPDATE journal_cursor SET position = $3::text, updated_at = now() "  # noqa: S608 -- constants
    "WHERE only_row AND epoch = $2::uuid AND EXISTS (SELECT FROM lease) "
    f"AND ({_number('position', 1)}, {_number('position', 2)}) < ({_number('$3::text', 1)}, {_number('$3::text', 2)}))"
)


def compose(parts: Sequence[tuple[Table[Any], bool]]) -> str:
    """Return the one statement over *parts*, each a table and whether it gets a single row.

    ``$1`` is the epoch, ``$2`` and ``$3`` the journal and the position that its cursor moves to, or NULLs. The
    statement returns a row iff the lease held.
    """
    made = ["lease AS (SELECT epoch FROM engine_lease WHERE epoch = $1 FOR KEY SHARE)", _CURSOR]
    first = 4
    for number, (table, single) in enumerate(parts):
        made.append(f"t{number} AS ({table.sql(first, single=single, where=_HELD)})")
        first += len(table.columns)
    return f"WITH {', '.join(made)} SELECT epoch FROM lease"  # noqa: S608 -- constants


def _intent(i: Intent) -> tuple[Any, ...]:
    s = i.signal
    return (
        i.id,
        i.source_id,
        i.strategy_id,
        i.user_id,
        i.idempotency_key,
        i.position,
        i.body_sha256,
        s.symbol,
        s.exchange,
        s.transaction_type,
        s.quantity,
        s.price,
        s.trigger_price,
        s.order_type,
        s.product_type,
        s.validity,
        s.variety,
        s.stop_loss,
        s.target,
        s.account,
        encode_options(s.options),
        i.status,
        i.reason,
        i.request_id,
        i.received_at,
        i.updated_at,
        i.written_symbol,
        s.position_size,
        i.seen_price,
        i.expires_at,
    )


def standing_of(p: Position) -> tuple[Any, ...]:
    """Return how a position stands, as the tables of positions and of strategy books hold it."""
    return (
        p.quantity,
        p.overnight_quantity,
        p.buy_quantity,
        p.buy_value,
        p.sell_quantity,
        p.sell_value,
        p.day_buy_quantity,
        p.day_buy_value,
        p.day_sell_quantity,
        p.day_sell_value,
        p.close_price,
        p.last_price,
        p.multiplier,
    )


def _position(value: tuple[Position, date, datetime]) -> tuple[Any, ...]:
    p, day, at = value
    return (p.account_id, p.exchange, p.symbol, p.product_type, day, *standing_of(p), at)


def _order(o: Order) -> tuple[Any, ...]:
    return (
        o.id,
        o.intent_id,
        o.account_id,
        o.user_id,
        o.strategy_id,
        o.exchange,
        o.symbol,
        o.transaction_type,
        o.quantity,
        o.order_type,
        o.product_type,
        o.price,
        o.trigger_price,
        o.market_protection,
        o.validity,
        o.variety,
        o.status,
        o.status_message,
        o.broker_order_id,
        o.tag,
        o.attempt,
        o.epoch,
        o.trading_day,
        o.filled_quantity,
        o.average_price,
        o.deadline,
        o.submitting_at,
        o.created_at,
        o.updated_at,
        o.origin,
        o.role,
        o.parent_id,
        o.stop_loss,
        o.target,
        encode_options(o.options),
        o.modifications,
    )


NEW_INTENTS: Table[Intent] = Table(
    "trade_intents",
    [
        ("id", "uuid"),
        ("source_id", "uuid"),
        ("strategy_id", "uuid"),
        ("user_id", "uuid"),
        ("idempotency_key", "text"),
        ("position", "int"),
        ("body_sha256", "bytea"),
        ("symbol", "text"),
        ("exchange", "text"),
        ("transaction_type", "text"),
        ("quantity", "bigint"),
        ("price", "numeric"),
        ("trigger_price", "numeric"),
        ("order_type", "text"),
        ("product_type", "text"),
        ("validity", "text"),
        ("variety", "text"),
        ("stop_loss", "numeric"),
        ("target", "numeric"),
        ("account_label", "text"),
        ("options", "text"),
        ("status", "text"),
        ("reason", "text"),
        ("request_id", "text"),
        ("received_at", "timestamptz"),
        ("updated_at", "timestamptz"),
        ("written_symbol", "text"),
        ("position_size", "bigint"),
        ("seen_price", "numeric"),
        ("expires_at", "timestamptz"),
    ],
    _intent,
)
INTENT_UPDATES: Table[Intent] = Table(
    "trade_intents",
    [
        ("id", "uuid"),
        ("status", "text"),
        ("reason", "text"),
        ("updated_at", "timestamptz"),
        ("approved_at", "timestamptz"),
    ],
    lambda i: (i.id, i.status, i.reason, i.updated_at, i.approved_at),
    update_key="id",
)
INTENT_EVENTS: Table[IntentEvent] = Table(
    "intent_events",
    [("intent_id", "uuid"), ("at", "timestamptz"), ("event", "text"), ("detail", "text")],
    lambda e: (e.intent_id, e.at, e.event, e.detail),
)
NEW_ORDERS: Table[Order] = Table(
    "orders",
    [
        ("id", "uuid"),
        ("intent_id", "uuid"),
        ("account_id", "uuid"),
        ("user_id", "uuid"),
        ("strategy_id", "uuid"),
        ("exchange", "text"),
        ("symbol", "text"),
        ("transaction_type", "text"),
        ("quantity", "bigint"),
        ("order_type", "text"),
        ("product_type", "text"),
        ("price", "numeric"),
        ("trigger_price", "numeric"),
        ("market_protection", "numeric"),
        ("validity", "text"),
        ("variety", "text"),
        ("status", "text"),
        ("status_message", "text"),
        ("broker_order_id", "text"),
        ("tag", "text"),
        ("attempt", "int"),
        ("epoch", "bigint"),
        ("trading_day", "date"),
        ("filled_quantity", "bigint"),
        ("average_price", "numeric"),
        ("deadline", "timestamptz"),
        ("submitting_at", "timestamptz"),
        ("created_at", "timestamptz"),
        ("updated_at", "timestamptz"),
        ("origin", "text"),
        ("role", "text"),
        ("parent_id", "uuid"),
        ("stop_loss", "numeric"),
        ("target", "numeric"),
        ("options", "text"),
        ("modifications", "int"),
    ],
    _order,
)
ORDER_UPDATES: Table[Order] = Table(
    "orders",
    [
        ("id", "uuid"),
        ("quantity", "bigint"),
        ("order_type", "text"),
        ("price", "numeric"),
        ("trigger_price", "numeric"),
        ("validity", "text"),
        ("status", "text"),
        ("status_message", "text"),
        ("broker_order_id", "text"),
        ("tag", "text"),
        ("attempt", "int"),
        ("epoch", "bigint"),
        ("trading_day", "date"),
        ("filled_quantity", "bigint"),
        ("average_price", "numeric"),
        ("submitting_at", "timestamptz"),
        ("updated_at", "timestamptz"),
        ("modifications", "int"),
        ("options", "text"),
    ],
    lambda o: (
        o.id,
        o.quantity,
        o.order_type,
        o.price,
        o.trigger_price,
        o.validity,
        o.status,
        o.status_message,
        o.broker_order_id,
        o.tag,
        o.attempt,
        o.epoch,
        o.trading_day,
        o.filled_quantity,
        o.average_price,
        o.submitting_at,
        o.updated_at,
        o.modifications,
        encode_options(o.options),
    ),
    update_key="id",
)
ORDER_EVENTS: Table[OrderEvent] = Table(
    "order_events",
    [
        ("order_id", "uuid"),
        ("at", "timestamptz"),
        ("from_status", "text"),
        ("to_status", "text"),
        ("filled_quantity", "bigint"),
        ("detail", "text"),
        ("anomaly", "boolean"),
    ],
    lambda e: (e.order_id, e.at, e.from_status, e.to_status, e.filled_quantity, e.detail, e.anomaly),
)
VERDICTS: Table[VerdictRow] = Table(
    "risk_verdicts",
    [("intent_id", "uuid"), ("at", "timestamptz"), ("body", "text")],
    lambda v: (v.intent_id, v.at, v.body),
)
FILLS: Table[Fill] = Table(
    "fills",
    [
        ("account_id", "uuid"),
        ("order_id", "uuid"),
        ("trade_id", "text"),
        ("broker_order_id", "text"),
        ("exchange", "text"),
        ("symbol", "text"),
        ("product_type", "text"),
        ("transaction_type", "text"),
        ("quantity", "bigint"),
        ("price", "numeric"),
        ("synthetic", "boolean"),
        ("filled_at", "timestamptz"),
    ],
    lambda f: (
        f.account_id,
        f.order_id,
        f.trade_id,
        f.broker_order_id,
        f.exchange,
        f.symbol,
        f.product_type,
        f.transaction_type,
        f.quantity,
        f.price,
        f.synthetic,
        f.filled_at,
    ),
    suffix=" ON CONFLICT DO NOTHING",
)
_STANDING = (
    ("quantity", "bigint"),
    ("overnight_quantity", "bigint"),
    ("buy_quantity", "bigint"),
    ("buy_value", "numeric"),
    ("sell_quantity", "bigint"),
    ("sell_value", "numeric"),
    ("day_buy_quantity", "bigint"),
    ("day_buy_value", "numeric"),
    ("day_sell_quantity", "bigint"),
    ("day_sell_value", "numeric"),
    ("close_price", "numeric"),
    ("last_price", "numeric"),
    ("multiplier", "numeric"),
)
"""How a position stands, in columns; `standing_of` has its values."""

POSITIONS: Table[tuple[Position, date, datetime]] = Table(
    "positions",
    [
        ("account_id", "uuid"),
        ("exchange", "text"),
        ("symbol", "text"),
        ("product_type", "text"),
        ("trading_day", "date"),
        *_STANDING,
        ("updated_at", "timestamptz"),
    ],
    _position,
    key=4,
)
BOOKS: Table[tuple[Any, ...]] = Table(
    "strategy_positions",
    [
        ("account_id", "uuid"),
        ("exchange", "text"),
        ("symbol", "text"),
        ("product_type", "text"),
        ("book", "uuid"),
        ("trading_day", "date"),
        *_STANDING,
        ("charges", "numeric"),
        ("trip_value", "numeric"),
        ("trip_charges", "numeric"),
        ("updated_at", "timestamptz"),
    ],
    tuple,
    key=5,
)
TRIPS: Table[tuple[Any, ...]] = Table(
    "round_trips",
    [
        ("account_id", "uuid"),
        ("book", "uuid"),
        ("exchange", "text"),
        ("symbol", "text"),
        ("product_type", "text"),
        ("trading_day", "date"),
        ("result", "numeric"),
        ("charges", "numeric"),
        ("ended_at", "timestamptz"),
    ],
    tuple,
)
RESULTS: Table[tuple[Any, ...]] = Table(
    "day_results",
    [
        ("user_id", "uuid"),
        ("trading_day", "date"),
        ("scope", "text"),
        ("realised", "numeric"),
        ("unrealised", "numeric"),
        ("charges", "numeric"),
        ("peak", "numeric"),
        ("trades", "int"),
        ("capital", "numeric"),
        ("updated_at", "timestamptz"),
    ],
    tuple,
    key=3,
)
AUDIT: Table[AuditRecord] = Table(
    "audit_logs",
    [
        ("seq", "bigint"),
        ("at", "timestamptz"),
        ("actor", "text"),
        ("action", "text"),
        ("subject", "text"),
        ("content", "text"),
        ("prev_hash", "bytea"),
        ("hash", "bytea"),
    ],
    lambda a: (a.seq, a.at, a.actor, a.action, a.subject, a.content, a.prev_hash, a.hash),
)
