"""What one order makes of another: the next leg of an iceberg, the stop of a cover order (kite.md 5.7)."""

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Protocol

import msgspec

from engine.domain.instruments import Instrument
from engine.exchange import stages
from engine.exchange.forms import OrderForm, leg_quantities
from engine.exchange.instruments import Master
from engine.exchange.making import Origin
from engine.exchange.orders import COMPLETE, BookEntry, IcebergLeg, Order, Stage
from engine.exchange.state import Account, State


class Place(Protocol):
    """Puts an order into the book; returns its id."""

    def __call__(
        self,
        account: Account,
        wanted: OrderForm,
        params: Mapping[str, str],
        instrument: Instrument,
        master: Master,
        now: datetime,
        action: str,
        origin: Origin,
    ) -> str: ...


class FollowUps:
    """Looks at an order and does what follows from it; what was done already is not done again.

    So it can be called at any time, and after a crash it mends what the record does not have.
    """

    def __init__(
        self,
        state: State,
        place: Place,
        change: Callable[[BookEntry, Stage], None],
        count_order: Callable[[str, datetime], None],
    ) -> None:
        self._state = state
        self._place = place
        self._change = change
        self._count_order = count_order

    def after(self, entry: BookEntry, instrument: Instrument, master: Master, now: datetime) -> None:
        """Do what follows from the order of *entry* as it is now."""
        order = entry.order
        if order.iceberg is not None:
            self._release_leg(entry, order.iceberg, instrument, master, now)
        elif order.is_cover_stop:
            self._end_entry(order, now)
        elif order.variety == "co":
            self._cover(entry, instrument, master, now)

    def _release_leg(
        self, entry: BookEntry, iceberg: IcebergLeg, instrument: Instrument, master: Master, now: datetime
    ) -> None:
        order, legs_left = entry.order, iceberg.legs - iceberg.leg
        if order.status != COMPLETE or not legs_left or entry.follower is not None:
            return
        lots = iceberg.remaining_quantity // instrument.lot_size
        quantity = -(-lots // legs_left) * instrument.lot_size
        leg = IcebergLeg(
            leg=iceberg.leg + 1,
            legs=iceberg.legs,
            leg_quantity=quantity,
            total_quantity=iceberg.total_quantity,
            remaining_quantity=iceberg.remaining_quantity - quantity,
        )
        origin = Origin(iceberg=leg, follows=order.order_id)
        self._count_order(order.user_id, now)
        self._place_for(order, _leg_form(order, quantity), instrument, master, now, "leg", origin)

    def _cover(self, entry: BookEntry, instrument: Instrument, master: Master, now: datetime) -> None:
        order = entry.order
        if not order.filled_quantity:
            return
        stop = self._state.entry(entry.follower) if entry.follower is not None else None
        if stop is None:
            origin = Origin(parent_order_id=order.order_id)
            self._place_for(order, _stop_form(order), instrument, master, now, "stop", origin)
        elif not stop.order.is_terminal and stop.order.quantity < order.filled_quantity:
            self._change(stop, Stage(at=now, quantity=order.filled_quantity))

    def _end_entry(self, stop: Order, now: datetime) -> None:
        """Once the stop works, the entry must not buy more of what is being left."""
        entry = self._state.entry(stop.parent_order_id or "")
        if entry is not None and not entry.order.is_terminal and (stop.triggered or stop.is_terminal):
            self._change(entry, stages.cancelled(entry.order, now))

    def _place_for(
        self,
        order: Order,
        wanted: OrderForm,
        instrument: Instrument,
        master: Master,
        now: datetime,
        action: str,
        origin: Origin,
    ) -> None:
        account = self._state.accounts[order.user_id]
        self._place(account, wanted, {}, instrument, master, now, action, origin)


def first_leg(wanted: OrderForm, instrument: Instrument) -> tuple[OrderForm, Origin]:
    """Return the form of an iceberg's first leg, and what makes it one."""
    quantity = leg_quantities(wanted, instrument.lot_size)[0]
    leg = IcebergLeg(
        leg=1,
        legs=wanted.iceberg_legs,
        leg_quantity=quantity,
        total_quantity=wanted.quantity,
        remaining_quantity=wanted.quantity - quantity,
    )
    one = msgspec.structs.replace(wanted, quantity=quantity, iceberg_legs=0, iceberg_quantity=0)
    return one, Origin(iceberg=leg)


def _leg_form(order: Order, quantity: int) -> OrderForm:
    is_market = any(tag.startswith("mktp") for tag in order.tags)
    return msgspec.structs.replace(
        _form(order),
        quantity=quantity,
        order_type="MARKET" if is_market else order.order_type,
        price=Decimal(0) if is_market else order.price,
        disclosed_quantity=min(order.disclosed_quantity, quantity),
    )


def _stop_form(order: Order) -> OrderForm:
    return msgspec.structs.replace(
        _form(order),
        transaction_type="SELL" if order.sign > 0 else "BUY",
        quantity=order.filled_quantity,
        order_type="SL-M",
        price=Decimal(0),
        protection=Decimal(-1),
    )


def _form(order: Order) -> OrderForm:
    return OrderForm(
        variety=order.variety,
        exchange=order.exchange,
        tradingsymbol=order.tradingsymbol,
        transaction_type=order.transaction_type,
        order_type=order.order_type,
        product=order.product,
        quantity=order.quantity,
        price=order.price,
        trigger_price=order.trigger_price,
        validity=order.validity,
        validity_ttl=order.validity_ttl,
        disclosed_quantity=order.disclosed_quantity,
        protection=order.protection,
        tag=order.tag,
    )
