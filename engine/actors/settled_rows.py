"""The rows of the order book that tell nothing any more, as most of a busy day do.

A block of the book (engine.broker.book) in which every row is settled is not looked into again while it is the same
object and nothing has changed of the orders that it shows.
"""

from engine.actors.order_desk import OrderDesk
from engine.actors.order_index import ENDED_SHORT
from engine.broker.book import Block, Book
from engine.broker.values import BrokerOrder
from engine.domain.order import Order


class SettledRows:
    """Which blocks of the last read of the order book are settled, as *desk* has the orders."""

    def __init__(self, desk: OrderDesk) -> None:
        self._desk = desk
        self._index = desk.index
        # with the orders that ended short and are kept for the day, as they were then
        self._blocks: dict[Block[BrokerOrder], tuple[Order, ...]] = {}

    def clear(self) -> None:
        """Hold nothing for settled: another day, or other books."""
        self._blocks.clear()

    def others(self, book: Book[BrokerOrder]) -> list[BrokerOrder]:
        """Return the rows of *book* that are not in a settled block."""
        return [row for block in book.blocks if not self._stands(block) for row in block.rows]

    def note(self, book: Book[BrokerOrder]) -> None:
        """Take note, after all of *book* was folded in, of which blocks are settled now; forget all others."""
        blocks: dict[Block[BrokerOrder], tuple[Order, ...]] = {}
        for block in book.blocks:
            ended = self._blocks[block] if self._stands(block) else self._settled(block)
            if ended is not None:
                block.let_go()
                blocks[block] = ended
        self._blocks = blocks

    def is_over(self, row: BrokerOrder) -> bool:
        """Whether *row* is of an order that the books let go, which most rows of a busy day are."""
        # of a leg the index takes note whose it is
        return (
            row.parent_order_id is None
            and row.broker_order_id not in self._index.by_broker_id
            and self._desk.closed.has(row.broker_order_id)
        )

    def _stands(self, block: Block[BrokerOrder]) -> bool:
        ended = self._blocks.get(block)
        return ended is not None and all(self._index.orders.get(order.id) is order for order in ended)

    def _settled(self, block: Block[BrokerOrder]) -> tuple[Order, ...] | None:
        """Return the orders of *block* that the books still have, None when one of its rows is not settled."""
        known, ended = self._desk.known_broker_ids, []
        for row in block.rows:
            if row.broker_order_id not in known:
                return None
            if self.is_over(row):
                continue
            order = self._ended_short(row)
            if order is None:
                return None
            ended.append(order)
        return tuple(ended)

    def _ended_short(self, row: BrokerOrder) -> Order | None:
        """Return the order of *row* when it has ended short and the row tells nothing that its books lack."""
        order = self._index.sole_of(row)
        if (
            order is None
            or order.status not in ENDED_SHORT
            or order.status is not row.status
            or order.filled_quantity != row.filled_quantity
            or self._desk.holdings.booked(row.broker_order_id)[0] < row.filled_quantity
        ):
            return None
        return order
