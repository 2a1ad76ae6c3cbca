"""What the exchange's rules make of an order of a signal: worked out once for all the accounts that want as much."""

from datetime import datetime
from decimal import Decimal

import msgspec

from engine.domain.attached import check_exits
from engine.domain.denial import Denial
from engine.domain.enums import OrderType, TransactionType, Variety
from engine.domain.instruments import SLICED, Instrument, check_order, iceberg_quantity
from engine.domain.risk_rules import RuleResult
from engine.domain.risk_state import RiskState
from engine.domain.signal import Signal
from engine.domain.wanted import cut

ORDER = "order"
"""Whose a rule is that is about the order itself and no limit of anybody."""


class Said(msgspec.Struct, frozen=True):
    """The reasons against an order, or, where there are none, the facts that speak for it."""

    denials: tuple[Denial, ...]
    facts: tuple[RuleResult, ...]


class Terms:
    """What is the same for every account of a decision; ``price`` is rupees, ``at`` now in the rules' time zone."""

    def __init__(self, signal: Signal, instrument: Instrument, price: Decimal | None, at: datetime) -> None:
        self._signal = signal
        self._instrument = instrument
        self._said: dict[tuple[TransactionType, int, bool, bool], Said] = {}
        self._slices: dict[int, tuple[int, ...]] = {}
        self.price = price
        self.at = at

    def said(self, side: TransactionType, quantity: int, *, is_odd: bool, attaches: bool) -> Said:
        """Return what the rules say of so many units of a side, odd ones or not, with the signal's exits or without."""
        key = (side, quantity, is_odd, attaches)
        found = self._said.get(key)
        if found is None:
            found = self._said[key] = self._judge(side, quantity, is_odd=is_odd, attaches=attaches)
        return found

    def slices(self, quantity: int) -> tuple[int, ...]:
        """Return the orders that so many units become, when nothing stands against them."""
        if self._signal.variety not in SLICED:
            return (quantity,)
        found = self._slices.get(quantity)
        if found is None:
            found = self._slices[quantity] = cut(quantity, self._instrument)
        return found

    def _judge(self, side: TransactionType, quantity: int, *, is_odd: bool, attaches: bool) -> Said:
        signal, instrument = self._signal, self._instrument
        static = check_order(
            instrument,
            quantity=quantity,
            price=signal.price,
            trigger_price=signal.trigger_price,
            order_type=signal.order_type,
            product_type=signal.product_type,
            variety=signal.variety,
            transaction_type=side,
            may_slice=signal.variety in SLICED,
        )
        if is_odd:
            # what is held is closed to the last unit, whatever the lot size is by now
            static = tuple(denial for denial in static if denial.code != "LOT_SIZE")
        exits = check_exits(
            instrument,
            side,
            stop_loss=signal.stop_loss if attaches else None,
            target=signal.target if attaches else None,
            price=self.price,
        )
        facts = [RuleResult("LOT_SIZE", ORDER, instrument.lot_size, quantity, ok=True)]
        if signal.price is not None:
            facts.append(RuleResult("TICK_SIZE", ORDER, instrument.tick_size, signal.price, ok=True))
        return Said((*static, *exits, *_iceberg(signal, quantity, instrument)), tuple(facts))


def _iceberg(signal: Signal, quantity: int, instrument: Instrument) -> list[Denial]:
    if signal.variety is not Variety.ICEBERG or not instrument.is_tradable:
        return []
    try:
        leg = iceberg_quantity(quantity, signal.options.iceberg_legs, instrument)
    except ValueError as error:
        return [Denial(code="ICEBERG_LEGS", text=f"{error}; use fewer legs")]
    freeze = instrument.freeze_quantity
    if freeze is not None and leg > freeze:
        return [Denial(code="FREEZE_QUANTITY", text=f"a leg of {leg} exceeds {freeze}; use more legs")]
    return []


def reference_price(signal: Signal, instrument: Instrument, state: RiskState) -> Decimal | None:
    """Return the price that an order is valued at: its own, its trigger, or the last one known."""
    if signal.order_type in (OrderType.LIMIT, OrderType.SL):
        return signal.price
    if signal.order_type is OrderType.SL_M:
        return signal.trigger_price
    return state.last_price(signal.exchange, signal.symbol) or (instrument.last_price or None)
