"""What a source is allowed to ask for, checked before anything is written down (SEC-050).

A guard of the source's own against the finger that slipped or the loop that runs away: what it refuses never becomes an
intent. Tick, lot and freeze quantity belong to the instrument and are judged with every other limit by the risk actor.
"""

from decimal import Decimal

import msgspec

from engine.domain.money import plain
from engine.domain.signal import Refusal, Signal

_HUNDRED = Decimal(100)


class SourceChecks(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Bounds of one source; None means none.

    ``max_order_quantity`` is units, ``price_band_pct`` percent of the last price that a
    price may lie away from it, ``max_signals_per_minute`` counts signals, not deliveries.
    """

    max_order_quantity: int | None = None
    price_band_pct: Decimal | None = None
    max_signals_per_minute: int | None = None


NO_CHECKS = SourceChecks()


def refusal(signal: Signal, checks: SourceChecks, last_price: Decimal | None) -> Refusal | None:
    """Return why *signal* is more than its source may ask for, None when it is not.

    *last_price* (rupees) is what is known at this moment; without it a price's distance cannot be told here
    and is left to the risk limits. A signal for a position is bounded by the position's size.
    """
    quantity = signal.quantity if signal.position_size is None else abs(signal.position_size)
    if checks.max_order_quantity is not None and quantity > checks.max_order_quantity:
        return _refusal("MAX_ORDER_QUANTITY", "quantity", f"{quantity} exceeds {checks.max_order_quantity}")
    price = signal.price or signal.trigger_price
    if checks.price_band_pct is not None and price is not None and last_price:
        away = abs(price - last_price) * _HUNDRED / last_price
        if away > checks.price_band_pct:
            return _refusal(
                "PRICE_BAND_PCT",
                "price",
                f"{plain(price)} is {away:.2f} percent from the last price {plain(last_price)}, more than"
                f" {plain(checks.price_band_pct)}",
            )
    return None


def _refusal(code: str, field: str, what: str) -> Refusal:
    return Refusal(code=code, message=f"{code}: {what}, which is as much as this source may ask for", field=field)
