"""What the broker shows of an account, as the planner of a flattening looks at it."""

from collections.abc import Iterable
from uuid import UUID

from engine.broker.values import BrokerOrder, BrokerPosition
from engine.domain.enums import OrderStatus, TransactionType, Variety
from engine.domain.flatten import BookRow, Held


def book_row(row: BrokerOrder, *, strategy_id: UUID | None) -> BookRow:
    """Return a row of the broker's book for the planner; one in words that are not ours is open while it may be."""
    variety = Variety(row.variety) if row.variety in Variety.__members__.values() else Variety.REGULAR
    side = TransactionType.SELL if row.transaction_type == "SELL" else TransactionType.BUY
    return BookRow(
        order_id=row.broker_order_id,
        place=(row.exchange, row.symbol, row.product),
        side=side,
        quantity=row.quantity,
        filled=row.filled_quantity,
        is_open=not row.status.is_terminal,
        tags=frozenset(tag.upper() for tag in (row.tag, *row.tags) if tag),
        strategy_id=strategy_id,
        variety=variety,
        parent_id=row.parent_order_id,
        is_refused=row.status is OrderStatus.REJECTED,
        said=row.status_message or "",
    )


def held_rows(rows: Iterable[BrokerPosition]) -> list[Held]:
    """Return the broker's net positions for the planner, flat rows included."""
    return [
        Held(
            place=(row.exchange, row.symbol, row.product),
            quantity=row.quantity,
            bought=row.day_buy_quantity,
            sold=row.day_sell_quantity,
        )
        for row in rows
    ]
