"""Reading and checking an order form, in the order in which Kite refuses (kite.md 17.3).

missing field, enum, instrument, lot, tick, freeze, protection; hours, circuit, funds and holdings
follow in `engine.exchange.desk`, which knows the market and the account. Fields that Kite knows and
does not need here (``algo_id``, ``iceberg_legs`` of a regular order), and those it does not know, are
passed over.
"""

import re
from collections.abc import Mapping
from decimal import Decimal

import msgspec

from engine.domain.instruments import Instrument
from engine.exchange import errors
from engine.exchange.orders import Order

EQUITY_EXCHANGES = frozenset({"NSE", "BSE"})
EXCHANGES = frozenset({"NSE", "BSE", "NFO", "BFO", "CDS", "BCD", "MCX"})
ORDER_TYPES = frozenset({"MARKET", "LIMIT", "SL", "SL-M"})
PRODUCTS = frozenset({"CNC", "NRML", "MIS", "MTF"})
VALIDITIES = frozenset({"DAY", "IOC", "TTL"})
VARIETIES = frozenset({"regular", "amo", "co", "iceberg", "auction"})
TAG_LENGTH = 20
_REQUIRED = ("exchange", "tradingsymbol", "transaction_type", "quantity", "product", "order_type")
_NEEDS_PRICE = frozenset({"LIMIT", "SL"})
_NEEDS_TRIGGER = frozenset({"SL", "SL-M"})
_NEEDS_PROTECTION = frozenset({"MARKET", "SL-M"})
_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?", re.ASCII)
_VARIETY_FIELDS = {
    "co": ("trigger_price",),
    "iceberg": ("iceberg_legs", "iceberg_quantity"),
    "auction": ("auction_number",),
}
_MOST_LEGS = 50
_MOST = 1_000_000_000
# shares of the quantity that must be shown at least, where a part may be hidden at all (kite.md 5.2)
_LEAST_DISCLOSED = {"NSE": 10, "BSE": 10, "MCX": 25}
_WORDS = {"true": True, "1": True, "false": False, "0": False, "": False}


class OrderForm(msgspec.Struct, frozen=True, kw_only=True):
    """What a place asks for, or what an order would be after a modify. Prices are rupees, 0 for none;
    ``protection`` is percent, -1 automatic, None when not asked for; ``trigger_price`` of a cover order is
    that of its stop; ``auction_number`` None and ``iceberg_legs`` 0 where they do not belong."""

    variety: str
    exchange: str
    tradingsymbol: str
    transaction_type: str
    order_type: str
    product: str
    quantity: int
    price: Decimal = Decimal(0)
    trigger_price: Decimal = Decimal(0)
    validity: str = "DAY"
    validity_ttl: int = 0
    disclosed_quantity: int = 0
    protection: Decimal | None = None
    tag: str | None = None
    autoslice: bool = False
    iceberg_legs: int = 0
    iceberg_quantity: int = 0
    auction_number: str | None = None

    @property
    def key(self) -> str:
        """``EXCHANGE:SYMBOL``."""
        return f"{self.exchange}:{self.tradingsymbol}"


def read_place(variety: str, form: Mapping[str, str]) -> OrderForm:
    """Return the form of a place. Raises KiteRefusal for a missing field or a value that cannot be."""
    order_type = form.get("order_type", "")
    for field in _REQUIRED:
        if not form.get(field):
            raise errors.missing(field)
    needed = [*_VARIETY_FIELDS.get(variety, ())]
    needed += ["price"] if order_type in _NEEDS_PRICE else []
    needed += ["trigger_price"] if order_type in _NEEDS_TRIGGER else []
    for field in needed:
        if not form.get(field):
            raise errors.missing(field)
    if variety not in VARIETIES:
        raise errors.invalid("variety")
    wanted = OrderForm(
        variety=variety,
        exchange=_word(form, "exchange", EXCHANGES),
        tradingsymbol=form["tradingsymbol"],
        transaction_type=_word(form, "transaction_type", {"BUY", "SELL"}),
        order_type=_word(form, "order_type", ORDER_TYPES),
        product=_word(form, "product", PRODUCTS),
        quantity=_quantity(form, "quantity"),
        price=_price(form, "price", order_type in _NEEDS_PRICE),
        trigger_price=_price(form, "trigger_price", order_type in _NEEDS_TRIGGER or variety == "co"),
        validity=_word(form, "validity", VALIDITIES) if form.get("validity") else "DAY",
        validity_ttl=_quantity(form, "validity_ttl") if form.get("validity") == "TTL" else 0,
        disclosed_quantity=_disclosed(form),
        protection=_protection(form),
        tag=form.get("tag") or None,
        autoslice=_flag(form, "autoslice") and variety == "regular",
        iceberg_legs=_quantity(form, "iceberg_legs") if variety == "iceberg" else 0,
        iceberg_quantity=_quantity(form, "iceberg_quantity") if variety == "iceberg" else 0,
        auction_number=form["auction_number"] if variety == "auction" else None,
    )
    _check_words(wanted)
    return wanted


def read_modify(order: Order, form: Mapping[str, str]) -> OrderForm:
    """Return what *order* would be after a modify with *form*; fields left out stay as they are.

    Raises KiteRefusal for a value that cannot be, a conversion that Kite does not allow, and a new
    price or trigger that the new order type needs and nobody gave.
    """
    order_type = _word(form, "order_type", ORDER_TYPES) if form.get("order_type") else order.order_type
    is_cover = order.variety == "co"
    needs_trigger = is_cover or order_type in _NEEDS_TRIGGER
    _check_conversion(order.order_type, order_type)
    protection = _protection(form)
    wanted = OrderForm(
        variety=order.variety,
        exchange=order.exchange,
        tradingsymbol=order.tradingsymbol,
        transaction_type=order.transaction_type,
        order_type=order_type,
        product=order.product,
        quantity=_quantity(form, "quantity") if form.get("quantity") else order.quantity,
        price=_modified_price(form, "price", order.price, order_type in _NEEDS_PRICE),
        trigger_price=_modified_price(form, "trigger_price", order.trigger_price, needs_trigger),
        validity=_word(form, "validity", VALIDITIES) if form.get("validity") else order.validity,
        validity_ttl=_quantity(form, "validity_ttl") if form.get("validity_ttl") else order.validity_ttl,
        disclosed_quantity=_disclosed(form) if form.get("disclosed_quantity") else order.disclosed_quantity,
        protection=order.protection if protection is None else protection,
        tag=order.tag,
        auction_number=order.auction_number,
    )
    if not is_cover:
        _check_words(wanted)
    elif order.is_cover_stop:
        _check_stop_modify(order, wanted)
    if wanted.quantity <= order.filled_quantity:
        raise errors.bad_input(f"Quantity should be more than the filled quantity {order.filled_quantity}.")
    return wanted


def find_tradable(instrument: Instrument | None) -> Instrument:
    """Return *instrument*. Raises KiteRefusal when there is none or it is an index."""
    if instrument is None:
        raise errors.unknown_instrument()
    if instrument.lot_size == 0:
        raise errors.not_tradable()
    return instrument


def check_against(instrument: Instrument, wanted: OrderForm) -> None:
    """Raise KiteRefusal when *wanted* does not fit: lot, tick, freeze, protection, in this order."""
    if wanted.quantity % instrument.lot_size:
        raise errors.off_lot(instrument.lot_size)
    if wanted.order_type in _NEEDS_PRICE and wanted.price % instrument.tick_size:
        raise errors.off_tick(instrument.tick_size, "price")
    if wanted.trigger_price % instrument.tick_size:
        raise errors.off_tick(instrument.tick_size, "trigger price")
    freeze = instrument.freeze_quantity
    one = wanted.iceberg_quantity or wanted.quantity
    if wanted.iceberg_legs > wanted.quantity // instrument.lot_size:
        raise errors.invalid("iceberg_legs")
    if wanted.iceberg_legs and wanted.iceberg_quantity != leg_quantities(wanted, instrument.lot_size)[0]:
        raise errors.invalid("iceberg_quantity")
    if wanted.autoslice:
        if freeze is None or wanted.quantity < freeze:
            raise errors.under_slice(freeze or wanted.quantity + 1)
    elif freeze is not None and one > freeze:
        raise errors.over_freeze(one, freeze, instrument.lot_size)
    if wanted.order_type in _NEEDS_PROTECTION and wanted.protection is None:
        raise errors.unprotected()


def leg_quantities(wanted: OrderForm, lot_size: int) -> list[int]:
    """Return the legs of an iceberg: whole lots, of an odd remainder the first legs take the larger part."""
    smaller, larger_legs = divmod(wanted.quantity // lot_size, wanted.iceberg_legs)
    return [(smaller + (leg < larger_legs)) * lot_size for leg in range(wanted.iceberg_legs)]


def is_price(value: Decimal) -> bool:
    """Whether a number from JSON may be a price: finite, not negative, below a billion, nine decimals at most."""
    exponent = value.as_tuple().exponent
    return isinstance(exponent, int) and exponent >= -9 and exponent <= 9 and 0 <= value < _MOST


def is_quantity(value: int) -> bool:
    """Whether a number from JSON may be a quantity: positive, below a billion."""
    return 0 < value < _MOST


def _check_words(wanted: OrderForm) -> None:
    is_equity = wanted.exchange in EQUITY_EXCHANGES
    if wanted.product == ("NRML" if is_equity else "CNC") or (wanted.product == "MTF" and not is_equity):
        raise errors.invalid("product")
    if wanted.validity == "IOC" and wanted.exchange == "MCX":
        raise errors.invalid("validity")
    if wanted.validity == "TTL" and not 1 <= wanted.validity_ttl <= 120:
        raise errors.invalid("validity_ttl")
    if wanted.variety in ("amo", "co", "auction") and wanted.validity != "DAY":
        raise errors.invalid("validity")
    if wanted.variety == "iceberg" and wanted.validity == "IOC":
        raise errors.invalid("validity")
    _check_variety(wanted)
    _check_disclosed(wanted)
    if wanted.tag is not None and len(wanted.tag) > TAG_LENGTH:
        raise errors.bad_input(f"Invalid `tag`. It should be at most {TAG_LENGTH} characters.")


def _check_variety(wanted: OrderForm) -> None:
    if wanted.variety in ("amo", "co") and wanted.order_type not in ("LIMIT", "MARKET"):
        raise errors.invalid("order_type")
    match wanted.variety:
        case "co" if wanted.product != "MIS":
            raise errors.invalid("product")
        case "auction" if wanted.transaction_type != "SELL":
            raise errors.invalid("transaction_type")
        case "auction" if wanted.product != "CNC":
            raise errors.invalid("product")
        case "auction" if wanted.order_type != "LIMIT":
            raise errors.invalid("order_type")
        case "iceberg" if wanted.iceberg_legs and not 2 <= wanted.iceberg_legs <= _MOST_LEGS:
            raise errors.invalid("iceberg_legs")


def _check_disclosed(wanted: OrderForm) -> None:
    if not wanted.disclosed_quantity:
        return
    least = _LEAST_DISCLOSED.get(wanted.exchange)
    if least is None or not least * wanted.quantity <= 100 * wanted.disclosed_quantity <= 100 * wanted.quantity:
        raise errors.invalid("disclosed_quantity")


def _check_stop_modify(order: Order, wanted: OrderForm) -> None:
    for field in ("order_type", "quantity", "price", "validity", "disclosed_quantity"):
        if getattr(wanted, field) != getattr(order, field):
            raise errors.bad_input(f"Only the trigger price of a cover order's stop can be changed, not `{field}`.")


def _check_conversion(old: str, new: str) -> None:
    # stop orders may become live ones, live ones no stop orders (kite.md 5.4)
    if new != old and new in _NEEDS_TRIGGER and old not in _NEEDS_TRIGGER:
        raise errors.bad_input(f"Order type cannot be changed from {old} to {new}.")


def _word(form: Mapping[str, str], field: str, allowed: frozenset[str] | set[str]) -> str:
    if form[field] not in allowed:
        raise errors.invalid(field)
    return form[field]


def _quantity(form: Mapping[str, str], field: str) -> int:
    text = form.get(field, "")
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) > 0):
        raise errors.invalid(field)
    return int(text)


def _disclosed(form: Mapping[str, str]) -> int:
    return _quantity(form, "disclosed_quantity") if form.get("disclosed_quantity", "0") not in ("", "0") else 0


def _price(form: Mapping[str, str], field: str, is_needed: bool) -> Decimal:
    """The price in *field*; one that the order type does not use is ignored, as Kite does."""
    if not is_needed:
        return Decimal(0)
    if not _NUMBER.fullmatch(form[field]) or not Decimal(form[field]):
        raise errors.invalid(field)
    return Decimal(form[field])


def _modified_price(form: Mapping[str, str], field: str, old: Decimal, is_needed: bool) -> Decimal:
    if not is_needed:
        return Decimal(0)
    if form.get(field):
        return _price(form, field, is_needed=True)
    if not old:
        raise errors.missing(field)
    return old


def _protection(form: Mapping[str, str]) -> Decimal | None:
    text = form.get("market_protection", "")
    if text in ("", "0", "0.0"):
        return None
    if text in ("-1", "-1.0"):
        return Decimal(-1)
    if not _NUMBER.fullmatch(text) or not 0 < Decimal(text) <= 100:
        raise errors.invalid("market_protection")
    return Decimal(text)


def _flag(form: Mapping[str, str], field: str) -> bool:
    value = _WORDS.get(form.get(field, "").lower())
    if value is None:
        raise errors.invalid(field)
    return value
