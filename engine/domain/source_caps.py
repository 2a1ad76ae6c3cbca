"""What a source may open, whoever holds its secret: symbols and order values (SEC-035)."""

from decimal import Decimal

from engine.domain.denial import Denial
from engine.domain.directory import Source
from engine.domain.intent import Intent


def symbol_cap(source: Source | None, intent: Intent) -> Denial | None:
    """Return why the source of *intent* may not trade its symbol, or None."""
    if source is None or source.allowed_symbols is None:
        return None
    if not source.allowed_symbols.isdisjoint({intent.signal.symbol, intent.written_symbol}):
        return None
    text = f"{intent.signal.symbol} is not among the symbols of the source {source.name}"
    return Denial(code="SOURCE_ALLOWED_SYMBOLS", text=text)


def value_cap(source: Source | None, quantity: int, price: Decimal | None, multiplier: Decimal) -> Denial | None:
    """Return why an order of *quantity* units at *price* rupees is over the cap of its source, or None.

    Without a price the value is not known, and a source with a cap opens nothing then.
    """
    if source is None or source.max_order_value is None:
        return None
    if price is None:
        text = f"the value is not known without a price; the source {source.name} may order {source.max_order_value:f}"
        return Denial(code="SOURCE_MAX_ORDER_VALUE", text=text)
    value = quantity * price * multiplier
    if value <= source.max_order_value:
        return None
    return Denial(code="SOURCE_MAX_ORDER_VALUE", text=f"{value:.2f} exceeds {source.max_order_value:f}")
