"""What a source asks for, before anything is decided about it.

A parser turns bytes into a `Signal` or a `Refusal`; neither knows which user, account or strategy is
meant. Prices are rupees as Decimal, quantities are units as the source wrote them.
"""

from decimal import Decimal

import msgspec

from engine.domain.enums import Exchange, OrderType, ProductType, TransactionType, Validity, Variety
from engine.domain.options import NO_OPTIONS, OrderOptions


class Signal(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A well-formed wish to trade.

    ``symbol`` is upper case: the exchange's trading symbol, an alias, or a contract in words
    (`engine.domain.contracts`); ``quantity`` is positive; ``price`` is set
    exactly for LIMIT and SL, ``trigger_price`` exactly for SL and SL-M, both in rupees. ``stop_loss`` and
    ``target`` (rupees) are exits to attach to what fills. ``account`` is the label of one account when the
    source named it, else None for all of the strategy. ``position_size`` (signed units) asks for a position instead
    of an order: the order is what is missing to it (`engine.domain.wanted`), ``quantity`` is then its size or 1, and
    ``transaction_type`` its side.
    """

    symbol: str
    exchange: Exchange
    transaction_type: TransactionType
    quantity: int
    order_type: OrderType
    product_type: ProductType
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    validity: Validity = Validity.DAY
    variety: Variety = Variety.REGULAR
    stop_loss: Decimal | None = None
    target: Decimal | None = None
    account: str | None = None
    position_size: int | None = None
    options: OrderOptions = NO_OPTIONS


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why bytes are not a signal.

    ``code`` is UPPER_SNAKE, ``message`` says what to mend, ``field`` names the JSON key or label and
    ``line`` quotes the offending line of a text (shortened to 80 characters) where there is one.
    """

    code: str
    message: str
    field: str | None = None
    line: str | None = None
