"""When an order trades, at what price and how much of it. Pure."""

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from hashlib import blake2b

from engine.domain.instruments import Instrument
from engine.exchange.instruments import round_to_tick
from engine.exchange.market import circuit_limits
from engine.exchange.orders import Order

# percent of the last price up to a price: Zerodha's published table (kite.md 5.2)
_SHARES_AND_FUTURES = ((Decimal(100), Decimal(2)), (Decimal(500), Decimal(1)))
_OPTIONS = ((Decimal(10), Decimal(5)), (Decimal(100), Decimal(3)), (Decimal(500), Decimal(2)))


def is_marketable(order: Order, last_price: Decimal) -> bool:
    """Whether a limit order trades at *last_price*: there is no spread."""
    return order.price >= last_price if order.sign > 0 else order.price <= last_price


def is_triggered(order: Order, last_price: Decimal) -> bool:
    """Whether a waiting stop order goes live at *last_price*."""
    return last_price >= order.trigger_price if order.sign > 0 else last_price <= order.trigger_price


def automatic_protection(instrument: Instrument, last_price: Decimal) -> Decimal:
    """Return the percentage that ``market_protection`` -1 stands for."""
    is_option = instrument.instrument_type in ("CE", "PE")
    if is_option:
        steps, beyond = _OPTIONS, Decimal(1)
        return next((percent for bound, percent in steps if last_price < bound), beyond)
    if last_price < _SHARES_AND_FUTURES[0][0]:
        return _SHARES_AND_FUTURES[0][1]
    return _SHARES_AND_FUTURES[1][1] if last_price <= _SHARES_AND_FUTURES[1][0] else Decimal("0.5")


def protected_price(
    sign: int, protection: Decimal, instrument: Instrument, last_price: Decimal
) -> tuple[Decimal, Decimal]:
    """Return the limit price that a market order becomes, and the percentage that was used.

    The price is rounded to the tick towards the less aggressive side and kept within the circuit limits.
    """
    percent = automatic_protection(instrument, last_price) if protection == -1 else protection
    rounding = ROUND_FLOOR if sign > 0 else ROUND_CEILING
    price = round_to_tick(last_price * (1 + sign * percent / 100), instrument.tick_size, rounding)
    lower, upper = circuit_limits(instrument)
    return min(max(price, lower), upper), percent


def protection_tags(percent: Decimal, tag: str | None) -> tuple[str, ...]:
    """Return the tags of a protected market order: the exchange's two, then the caller's."""
    return ("mktp", f"mktp:{percent:.2f}", *((tag,) if tag else ()))


def part_to_fill(order: Order, lot_size: int, seed: int, fills_before: int) -> int:
    """Return how much of *order* trades in one go when fills are partial: whole lots, at least one.

    Follows from the seed, the order's number and how often it was filled before. The fourth fill
    takes what is left, so that every order ends.
    """
    if fills_before >= 3:
        return order.remaining
    digest = blake2b(f"{seed}:{order.number}:{fills_before}".encode(), digest_size=4).digest()
    share = 0.2 + 0.6 * int.from_bytes(digest) / 2**32
    lots = order.remaining // lot_size
    return min(order.remaining, max(1, int(lots * share)) * lot_size)
