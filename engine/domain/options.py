"""What a signal may ask of its orders beyond price and quantity, and what an attached exit belongs to.

Rules: Kite Connect v3, orders (variety, validity, disclosed quantity, iceberg, market protection).
"""

from decimal import Decimal
from enum import StrEnum

import msgspec


class ExitMode(StrEnum):
    """How the attached stop loss and target of an entry are kept.

    ORDERS: a stop order and a limit order that rest for the day, of which the engine cancels one when the
    other fills. GTT: a trigger kept by the broker, which outlives both the day and the engine.
    """

    ORDERS = "orders"
    GTT = "gtt"


class OrderRole(StrEnum):
    """What an order is for: the ENTRY is what a signal asked for, STOP and TARGET are the exits attached to one."""

    ENTRY = "ENTRY"
    STOP = "STOP"
    TARGET = "TARGET"


class OrderOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Terms that most orders leave out; 0, "" and None mean not given.

    ``disclosed_quantity`` is units shown to the market, ``validity_ttl`` minutes (with validity TTL),
    ``iceberg_legs`` 2 to 50 (with variety iceberg) and ``iceberg_quantity`` the units of the first of them,
    ``auction_number`` the auction's (with variety auction), ``market_protection`` percent of the last price (-1:
    the broker's own table), ``exits`` how an attached stop loss and target are kept. ``unit`` and
    ``unit_quantity`` (units) say of an exit which part of its entry's fills it is for.
    """

    disclosed_quantity: int = 0
    validity_ttl: int = 0
    iceberg_legs: int = 0
    iceberg_quantity: int = 0
    auction_number: str = ""
    market_protection: Decimal | None = None
    exits: ExitMode | None = None
    unit: int = 0
    unit_quantity: int = 0


NO_OPTIONS = OrderOptions()

_decoder = msgspec.json.Decoder(OrderOptions)


def encode_options(options: OrderOptions) -> str | None:
    """Return the text that a store keeps, None where nothing is asked for."""
    return None if options == NO_OPTIONS else msgspec.json.encode(options).decode()


def decode_options(text: str | None) -> OrderOptions:
    """Return the options of a stored text. Raises msgspec.DecodeError for what `encode_options` never wrote."""
    return NO_OPTIONS if text is None else _decoder.decode(text)
