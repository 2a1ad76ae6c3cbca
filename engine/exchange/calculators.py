"""Kite's calculators: margins of orders and baskets, charges, trigger ranges (kite.md 10).

The margins are the ones that orders are judged by (`engine.exchange.margin`). A basket's final margin
counts each instrument's net quantity, and asks a quarter of the span of what is hedged: derivatives of
one underlying of which some gain where others lose. MARKET orders need no protection here.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from engine.clock import trading_day
from engine.domain.charges import Charges, charges_of
from engine.domain.enums import ProductType, TransactionType
from engine.domain.instruments import Instrument
from engine.exchange import errors
from engine.exchange.forms import EQUITY_EXCHANGES, ORDER_TYPES, find_tradable, is_price, is_quantity
from engine.exchange.instruments import Master
from engine.exchange.margin import MarginParts, margin_parts, order_price
from engine.exchange.market import Market
from engine.exchange.portfolio import Portfolio
from engine.exchange.riskchecks import cover_range
from engine.exchange.rows import number

_HEDGED_SPAN = Decimal("0.25")
_LEVERAGE = {"MIS": 5, "CO": 5, "MTF": 4}
_MOST_ORDERS = 500
_PARTS = ("span", "exposure", "option_premium", "var")
_CHARGES = ("transaction_tax", "exchange_turnover_charge", "sebi_turnover_charge", "brokerage", "stamp_duty")
T = TypeVar("T")


class AskedOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order of a margin calculator; 0 for prices that it does not have."""

    exchange: str
    tradingsymbol: str
    transaction_type: str
    quantity: int
    product: str
    order_type: str = "MARKET"
    variety: str = "regular"
    price: Decimal | None = None
    trigger_price: Decimal | None = None


class ExecutedOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order of the charges calculator; ``average_price`` is rupees per unit."""

    exchange: str
    tradingsymbol: str
    transaction_type: str
    quantity: int
    product: str
    average_price: Decimal
    order_id: str = ""
    variety: str = "regular"
    order_type: str = "MARKET"


class Calculators:
    """Answers of the calculators by the market of the moment; changes nothing. Each raises KiteRefusal."""

    def __init__(self, market: Market) -> None:
        self._market = market

    def order_margins(self, body: bytes, master: Master, now: datetime, *, is_compact: bool) -> list[dict[str, Any]]:
        """Return the answer of ``POST /margins/orders``."""
        return [
            _margin_row(order, instrument, parts, charges, is_compact)
            for order, instrument, parts, charges, _ in self._judged(body, master, now)
        ]

    def basket_margins(
        self, body: bytes, portfolio: Portfolio | None, master: Master, now: datetime, *, is_compact: bool
    ) -> dict[str, Any]:
        """Return the answer of ``POST /margins/basket``; *portfolio* None leaves positions out of account."""
        judged = list(self._judged(body, master, now))
        initial = MarginParts()
        for _, _, parts, _, _ in judged:
            initial = initial.plus(parts)
        held = [] if portfolio is None else _held(portfolio, master)
        ordered = [_Leg(instrument, o.product, _sign(o) * o.quantity, price) for o, instrument, _, _, price in judged]
        final, blocked = _netted([*held, *ordered]), _netted(held)
        left = MarginParts(
            **{field: max(Decimal(0), getattr(final, field) - getattr(blocked, field)) for field in _PARTS}
        )
        total = _sum(charges for _, _, _, charges, _ in judged)
        return {
            "initial": _totals_row(initial, is_compact),
            "final": _totals_row(left, is_compact),
            "orders": [_margin_row(o, i, parts, charges, is_compact) for o, i, parts, charges, _ in judged],
            "charges": total,
        }

    def order_charges(self, body: bytes, master: Master, now: datetime) -> list[dict[str, Any]]:
        """Return the answer of ``POST /charges/orders``, by the rates of today."""
        found = []
        for order in _decoded(body, list[ExecutedOrder]):
            instrument = _checked(order, master)
            if not order.average_price:
                raise errors.invalid("average_price")
            found.append(
                {
                    "transaction_type": order.transaction_type,
                    "tradingsymbol": order.tradingsymbol,
                    "exchange": order.exchange,
                    "variety": order.variety,
                    "product": order.product,
                    "order_type": order.order_type,
                    "quantity": order.quantity,
                    "price": number(order.average_price),
                    "charges": charges_row(_charges(order, instrument, order.average_price, now)),
                }
            )
        return found

    def trigger_ranges(self, side: str, names: Iterable[str], master: Master, now: datetime) -> dict[str, Any]:
        """Return the answer of ``GET /instruments/trigger_range/{buy|sell}``; unknown names are left out."""
        if side not in ("buy", "sell"):
            raise errors.invalid("transaction_type")
        found = {}
        for name in names:
            instrument = master.find(name)
            if instrument is not None and instrument.is_tradable:
                last = self._market.last_price(instrument, now)
                lower, upper = cover_range(side.upper(), last, instrument)
                found[name] = {
                    "instrument_token": instrument.token,
                    "lower": number(lower),
                    "upper": number(upper),
                }
        return found

    def _judged(
        self, body: bytes, master: Master, now: datetime
    ) -> Iterable[tuple[AskedOrder, Instrument, MarginParts, Charges, Decimal]]:
        for order in _decoded(body, list[AskedOrder]):
            instrument = _checked(order, master)
            last = self._market.last_price(instrument, now)
            asked = order.price if order.order_type in ("LIMIT", "SL") else None
            price = order_price(asked or Decimal(0), order.trigger_price or Decimal(0), last)
            parts = margin_parts(order.product, _sign(order), price, order.quantity, instrument)
            yield order, instrument, parts, _charges(order, instrument, price, now), price


class _Leg(msgspec.Struct, frozen=True):
    instrument: Instrument
    product: str
    quantity: int
    price: Decimal


def charges_row(charges: Charges | None) -> dict[str, Any]:
    """Return the charges as Kite shows them, zeros for None."""
    if charges is None:
        gst: dict[str, Any] = {"igst": 0, "cgst": 0, "sgst": 0, "total": 0}
        return {**dict.fromkeys(_CHARGES, 0), "transaction_tax_type": "", "gst": gst, "total": 0}
    return {
        "transaction_tax": number(charges.transaction_tax),
        "transaction_tax_type": "ctt" if charges.is_commodity else "stt",
        "exchange_turnover_charge": number(charges.exchange_turnover),
        "sebi_turnover_charge": number(charges.sebi_turnover),
        "brokerage": number(charges.brokerage),
        "stamp_duty": number(charges.stamp_duty),
        "gst": {"igst": number(charges.gst), "cgst": 0, "sgst": 0, "total": number(charges.gst)},
        "total": number(charges.total),
    }


def _sum(all_charges: Iterable[Charges]) -> dict[str, Any]:
    rows = list(all_charges)
    if not rows:
        return charges_row(None)
    fields = ("transaction_tax", "exchange_turnover", "sebi_turnover", "brokerage", "stamp_duty", "gst")
    sums: dict[str, Decimal] = {field: sum((getattr(row, field) for row in rows), Decimal(0)) for field in fields}
    return charges_row(Charges(is_commodity=all(row.is_commodity for row in rows), **sums))


def _charges(order: AskedOrder | ExecutedOrder, instrument: Instrument, price: Decimal, now: datetime) -> Charges:
    product = ProductType.MIS if order.product == "CO" else ProductType(order.product)
    side = TransactionType(order.transaction_type)
    return charges_of(instrument, product, side, order.quantity, price, trading_day(now))


def _margin_row(
    order: AskedOrder, instrument: Instrument, parts: MarginParts, charges: Charges, is_compact: bool
) -> dict[str, Any]:
    row = {
        "type": "commodity" if instrument.exchange == "MCX" else "equity",
        "tradingsymbol": order.tradingsymbol,
        "exchange": order.exchange,
    }
    leverage = _LEVERAGE.get(order.product, 1) if order.exchange in EQUITY_EXCHANGES else 1
    return {**row, **_parts_row(parts, leverage, charges, is_compact)}


def _totals_row(parts: MarginParts, is_compact: bool) -> dict[str, Any]:
    return {"type": "", "tradingsymbol": "", "exchange": "", **_parts_row(parts, 0, None, is_compact)}


def _parts_row(parts: MarginParts, leverage: int, charges: Charges | None, is_compact: bool) -> dict[str, Any]:
    if is_compact:
        return {"total": number(parts.total)}
    return {
        "span": number(parts.span),
        "exposure": number(parts.exposure),
        "option_premium": number(parts.option_premium),
        "additional": 0,
        "bo": 0,
        "cash": 0,
        "var": number(parts.var),
        "pnl": {"realised": 0, "unrealised": 0},
        "leverage": leverage,
        "charges": charges_row(charges),
        "total": number(parts.total),
    }


def _held(portfolio: Portfolio, master: Master) -> list[_Leg]:
    legs = []
    for key, totals in portfolio.positions.items():
        instrument = master.by_key.get(key.instrument)
        if instrument is not None and totals.quantity:
            price = totals.open_value / abs(totals.quantity) / totals.multiplier
            legs.append(_Leg(instrument, key.product, totals.quantity, price))
    return legs


def _netted(legs: Iterable[_Leg]) -> MarginParts:
    """What *legs* block together: the net of each instrument, less three quarters of the span that is hedged."""
    net: dict[tuple[str, str], _Leg] = {}
    for leg in legs:
        name = (leg.instrument.key, leg.product)
        before = net.get(name)
        quantity = leg.quantity + (before.quantity if before else 0)
        net[name] = _Leg(leg.instrument, leg.product, quantity, leg.price)
    total = MarginParts()
    spans: dict[tuple[str, str], list[tuple[Decimal, int]]] = {}
    for leg in net.values():
        if not leg.quantity:
            continue
        sign = 1 if leg.quantity > 0 else -1
        parts = margin_parts(leg.product, sign, leg.price, abs(leg.quantity), leg.instrument)
        total = total.plus(parts)
        if leg.instrument.instrument_type != "EQ":
            gains_with_rise = leg.quantity if leg.instrument.instrument_type != "PE" else -leg.quantity
            group = (leg.instrument.name, str(leg.instrument.exchange))
            spans.setdefault(group, []).append((parts.span, gains_with_rise))
    return msgspec.structs.replace(
        total, span=total.span - sum((_benefit(group) for group in spans.values()), Decimal(0))
    )


def _benefit(group: list[tuple[Decimal, int]]) -> Decimal:
    rising = sum(units for _, units in group if units > 0)
    falling = -sum(units for _, units in group if units < 0)
    span = sum((part for part, _ in group), Decimal(0))
    return span * 2 * min(rising, falling) / (rising + falling) * (1 - _HEDGED_SPAN)


def _checked(order: AskedOrder | ExecutedOrder, master: Master) -> Instrument:
    if order.transaction_type not in ("BUY", "SELL"):
        raise errors.invalid("transaction_type")
    if order.product not in ("CNC", "NRML", "MIS", "MTF", "CO"):
        raise errors.invalid("product")
    if order.order_type not in ORDER_TYPES:
        raise errors.invalid("order_type")
    if not is_quantity(order.quantity):
        raise errors.invalid("quantity")
    for field in ("price", "trigger_price", "average_price"):
        value = getattr(order, field, None)
        if value is not None and not is_price(value):
            raise errors.invalid(field)
    return find_tradable(master.by_key.get(f"{order.exchange}:{order.tradingsymbol}"))


def _sign(order: AskedOrder) -> int:
    return 1 if order.transaction_type == "BUY" else -1


def _decoded(body: bytes, kind: type[T]) -> T:
    try:
        orders = msgspec.json.decode(body, type=kind, strict=False)
    except msgspec.DecodeError as exc:
        raise errors.bad_input(f"The request body is not a JSON array of orders: {exc}") from exc
    if isinstance(orders, list) and len(orders) > _MOST_ORDERS:
        raise errors.bad_input(f"At most {_MOST_ORDERS} orders can be asked for at a time.")
    return orders


def wants(params: Mapping[str, str], field: str) -> bool:
    """Return whether a query asks for *field*; the official client writes ``True``."""
    return params.get(field, "").lower() in ("true", "1")
