"""Good-till-triggered orders: taking, changing, firing and showing them (kite.md 13).

A trigger lives at the broker, over days and restarts, until a price fires it; only then its order
passes the checks of any order, and may be refused by them.
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, TypeVar

import msgspec

from engine.exchange import errors
from engine.exchange.desk import OrderDesk
from engine.exchange.events import GttChanged
from engine.exchange.forms import EQUITY_EXCHANGES, PRODUCTS, OrderForm, find_tradable, is_price, is_quantity
from engine.exchange.gtts import (
    ACTIVE,
    CANCELLED,
    DELETED,
    EXPIRED,
    Gtt,
    GttOrder,
    GttResult,
    expiry,
    fired,
    is_shown,
    leg_hit,
)
from engine.exchange.instruments import Master
from engine.exchange.making import Origin
from engine.exchange.market import Market
from engine.exchange.rows import number, stamp
from engine.exchange.state import Account, State

_LEGS = {"single": 1, "two-leg": 2}
T = TypeVar("T")


class _Condition(msgspec.Struct):
    exchange: str
    tradingsymbol: str
    trigger_values: list[Decimal]
    last_price: Decimal


class _Order(msgspec.Struct):
    transaction_type: str
    quantity: int
    product: str
    price: Decimal
    exchange: str | None = None
    tradingsymbol: str | None = None
    order_type: str = "LIMIT"


class GttDesk:
    """The triggers of every account."""

    def __init__(self, state: State, market: Market, desk: OrderDesk) -> None:
        self._state = state
        self._market = market
        self._desk = desk

    def place(self, account: Account, form: Mapping[str, str], master: Master, now: datetime) -> dict[str, int]:
        """Take a new trigger; returns Kite's answer. Raises KiteRefusal."""
        made = _read(account, form, master, self._state.last_gtt + 1, now)
        self._state.record(GttChanged(at=now, gtt=made))
        return {"trigger_id": made.trigger_id}

    def modify(
        self, account: Account, trigger_id: int, form: Mapping[str, str], master: Master, now: datetime
    ) -> dict[str, int]:
        """Replace an active trigger; returns Kite's answer. Raises KiteRefusal."""
        old = self._active(account, trigger_id)
        made = _read(account, form, master, trigger_id, now)
        if made.key != old.key:
            raise errors.bad_input("The instrument of a trigger cannot be changed.")
        changed = msgspec.structs.replace(made, created_at=old.created_at, expires_at=old.expires_at)
        self._state.record(GttChanged(at=now, gtt=changed))
        return {"trigger_id": trigger_id}

    def delete(self, account: Account, trigger_id: int, now: datetime) -> dict[str, int]:
        """End an active trigger; returns Kite's answer. Raises KiteRefusal."""
        self._end(self._active(account, trigger_id), DELETED, now)
        return {"trigger_id": trigger_id}

    def rows(self, account: Account, now: datetime) -> list[dict[str, Any]]:
        """Return the answer of ``GET /gtt/triggers``: what is active, and what ended within seven days."""
        return [
            _row(gtt)
            for gtt in self._state.gtts.values()
            if gtt.user_id == account.user_id and gtt.status != DELETED and is_shown(gtt, now)
        ]

    def row(self, account: Account, trigger_id: int) -> dict[str, Any]:
        """Return the answer of ``GET /gtt/triggers/{id}``. Raises KiteRefusal when there is none."""
        return _row(self._own(account, trigger_id))

    def tick(self, master: Master, now: datetime) -> None:
        """Fire the triggers that the prices of *now* hit, and end those whose time or contract is over."""
        for key in list(self._state.active_gtts):
            instrument = master.by_key.get(key)
            for trigger_id in sorted(self._state.active_gtts.get(key, ())):
                gtt = self._state.gtts[trigger_id]
                if instrument is None:
                    self._end(gtt, CANCELLED, now)
                elif now >= gtt.expires_at:
                    self._end(gtt, EXPIRED, now)
                elif self._desk.is_open(gtt.exchange, now):
                    last = self._market.last_price(instrument, now)
                    leg = leg_hit(gtt, last)
                    if leg is not None:
                        self._fire(gtt, leg, last, master, now)

    def _fire(self, gtt: Gtt, leg: int, last: Decimal, master: Master, now: datetime) -> None:
        order = gtt.orders[leg]
        wanted = OrderForm(
            variety="regular",
            exchange=gtt.exchange,
            tradingsymbol=gtt.tradingsymbol,
            transaction_type=order.transaction_type,
            order_type="LIMIT",
            product=order.product,
            quantity=order.quantity,
            price=order.price,
        )
        account = self._state.accounts[gtt.user_id]
        try:
            self._desk.place_for_gtt(account, wanted, Origin(gtt=gtt.trigger_id, gtt_leg=leg), master, now)
        except errors.KiteRefusal as refusal:
            result = GttResult(at=now, price=last, rejection_reason=refusal.message)
            self._state.record(GttChanged(at=now, gtt=fired(gtt, leg, result)))

    def _end(self, gtt: Gtt, status: str, now: datetime) -> None:
        ended = msgspec.structs.replace(gtt, status=status, updated_at=now)
        self._state.record(GttChanged(at=now, gtt=ended))

    def _active(self, account: Account, trigger_id: int) -> Gtt:
        gtt = self._own(account, trigger_id)
        if gtt.status != ACTIVE:
            raise errors.bad_input(f"The trigger is {gtt.status} and cannot be changed.")
        return gtt

    def _own(self, account: Account, trigger_id: int) -> Gtt:
        gtt = self._state.gtts.get(trigger_id)
        if gtt is None or gtt.user_id != account.user_id:
            raise errors.unknown_trigger()
        return gtt


def _read(account: Account, form: Mapping[str, str], master: Master, trigger_id: int, now: datetime) -> Gtt:
    for field in ("type", "condition", "orders"):
        if not form.get(field):
            raise errors.missing(field)
    if form["type"] not in _LEGS:
        raise errors.invalid("type")
    kind: Literal["single", "two-leg"] = "single" if form["type"] == "single" else "two-leg"
    condition = _decoded(form, "condition", _Condition)
    orders = _decoded(form, "orders", list[_Order])
    if len(condition.trigger_values) != _LEGS[kind]:
        raise errors.invalid("trigger_values")
    if len(orders) != _LEGS[kind]:
        raise errors.invalid("orders")
    instrument = find_tradable(master.by_key.get(f"{condition.exchange}:{condition.tradingsymbol}"))
    for trigger in condition.trigger_values:
        if not is_price(trigger) or not trigger:
            raise errors.invalid("trigger_values")
        if trigger % instrument.tick_size:
            raise errors.off_tick(instrument.tick_size, "trigger price")
    for order in orders:
        _check_order(order, condition, instrument.lot_size, instrument.tick_size)
    _check_sides(kind, condition)
    return Gtt(
        trigger_id=trigger_id,
        user_id=account.user_id,
        kind=kind,
        exchange=condition.exchange,
        tradingsymbol=condition.tradingsymbol,
        instrument_token=instrument.token,
        last_price=condition.last_price,
        trigger_values=tuple(condition.trigger_values),
        orders=tuple(
            GttOrder(
                transaction_type=order.transaction_type,
                product=order.product,
                quantity=order.quantity,
                price=order.price,
            )
            for order in orders
        ),
        created_at=now,
        updated_at=now,
        expires_at=expiry(now),
    )


def _check_order(order: _Order, condition: _Condition, lot_size: int, tick: Decimal) -> None:
    is_equity = condition.exchange in EQUITY_EXCHANGES
    if order.order_type != "LIMIT":
        raise errors.invalid("order_type")
    if order.transaction_type not in ("BUY", "SELL"):
        raise errors.invalid("transaction_type")
    if order.product not in PRODUCTS or (order.product in ("CNC", "MTF")) != (is_equity and order.product != "MIS"):
        raise errors.invalid("product")
    for field, own in (("exchange", order.exchange), ("tradingsymbol", order.tradingsymbol)):
        if own is not None and own != getattr(condition, field):
            raise errors.invalid(field)
    if not is_quantity(order.quantity):
        raise errors.invalid("quantity")
    if order.quantity % lot_size:
        raise errors.off_lot(lot_size)
    if not is_price(order.price) or not order.price:
        raise errors.invalid("price")
    if order.price % tick:
        raise errors.off_tick(tick, "price")


def _check_sides(kind: str, condition: _Condition) -> None:
    last, values = condition.last_price, condition.trigger_values
    if not is_price(last) or not last:
        raise errors.invalid("last_price")
    if kind == "single" and values[0] == last:
        raise errors.bad_input("Trigger price cannot be the last price.")
    if kind == "two-leg" and not values[0] < last < values[1]:
        raise errors.bad_input("The last price has to be between the two trigger prices, the lower of them first.")


def _decoded(form: Mapping[str, str], field: str, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(form[field].encode(), type=kind)
    except msgspec.DecodeError as exc:
        raise errors.bad_input(f"Invalid `{field}`. {exc}") from exc


def _row(gtt: Gtt) -> dict[str, Any]:
    return {
        "id": gtt.trigger_id,
        "user_id": gtt.user_id,
        "parent_trigger": None,
        "type": gtt.kind,
        "created_at": stamp(gtt.created_at),
        "updated_at": stamp(gtt.updated_at),
        "expires_at": stamp(gtt.expires_at),
        "status": gtt.status,
        "condition": {
            "exchange": gtt.exchange,
            "last_price": number(gtt.last_price),
            "tradingsymbol": gtt.tradingsymbol,
            "trigger_values": [number(value) for value in gtt.trigger_values],
            "instrument_token": gtt.instrument_token,
        },
        "orders": [_order_row(gtt, order) for order in gtt.orders],
        "meta": {},
    }


def _order_row(gtt: Gtt, order: GttOrder) -> dict[str, Any]:
    asked: dict[str, Any] = {
        "exchange": gtt.exchange,
        "tradingsymbol": gtt.tradingsymbol,
        "product": order.product,
        "order_type": "LIMIT",
        "transaction_type": order.transaction_type,
        "quantity": order.quantity,
        "price": number(order.price),
    }
    result = order.result
    if result is None:
        return {**asked, "result": None}
    return {
        **asked,
        "result": {
            "account_id": gtt.user_id,
            **asked,
            "validity": "DAY",
            "meta": f'{{"gtt":{gtt.trigger_id}}}',
            "timestamp": stamp(result.at),
            "triggered_at": number(result.price),
            "order_result": {
                "status": "success" if result.order_id else "failed",
                "order_id": result.order_id,
                "rejection_reason": result.rejection_reason,
            },
        },
    }
