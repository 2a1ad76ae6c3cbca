"""The order desk: decides what a place, a modify, a cancel or a moved price does to orders.

Pure but for the state it is given: every decision becomes an event that is recorded, nothing else
changes. Later trades of an order come from `work`, which the ticker task calls on moved prices.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from engine.domain.instruments import Instrument
from engine.exchange import errors, ids, margin, matching
from engine.exchange.config import ExchangeConfig
from engine.exchange.events import OrderChanged, OrderRequested, Traded
from engine.exchange.forms import OrderForm, check_against, read_modify, read_place
from engine.exchange.hours import is_open
from engine.exchange.instruments import Master
from engine.exchange.market import Market
from engine.exchange.orders import (
    AMO_RECEIVED,
    CANCEL_PENDING,
    CANCELLED,
    CHANGEABLE,
    COMPLETE,
    MODIFIED,
    MODIFY_PENDING,
    MODIFY_VALIDATING,
    OPEN,
    OPEN_PENDING,
    PUT_RECEIVED,
    REJECTED,
    TRIGGER_PENDING,
    VALIDATING,
    BookEntry,
    Order,
    Stage,
    Trade,
    advance,
)
from engine.exchange.riskchecks import RiskChecks
from engine.exchange.state import Account, State


class OrderDesk:
    """Orders of every account. ``liquidity`` bounds how many units of a key may still trade, where set."""

    def __init__(self, state: State, market: Market, config: ExchangeConfig) -> None:
        self._state = state
        self._market = market
        self._config = config
        self._checks = RiskChecks(state, market)
        self.market_open = config.market_open
        self.liquidity: dict[str, int] = {}

    def place(
        self, account: Account, variety: str, params: Mapping[str, str], master: Master, now: datetime
    ) -> dict[str, Any]:
        """Take a new order; returns Kite's answer. Raises KiteRefusal, after which nothing is in the book."""
        wanted = read_place(variety, params)
        instrument = check_against(master.by_key.get(wanted.key), wanted)
        if wanted.autoslice:
            return self._place_slices(account, wanted, params, instrument, master, now)
        return {"order_id": self._place_one(account, wanted, params, instrument, master, now, "place")}

    def modify(
        self, account: Account, order_id: str, variety: str, params: Mapping[str, str], master: Master, now: datetime
    ) -> dict[str, Any]:
        """Change an order; returns Kite's answer. Raises KiteRefusal, after which nothing has changed."""
        entry = self._changeable(account, order_id, variety, "modified")
        order = entry.order
        if order.modifications >= self._config.limits.modifications_per_order:
            raise errors.modification_cap()
        wanted = read_modify(order, params)
        instrument = check_against(master.by_key.get(order.key), wanted)
        self._checks.circuit(wanted, instrument, account)
        final = self._modified(order, wanted, instrument, now)
        self._checks.funds(account, advance(order, final), master, now, before=order)
        stages: tuple[Stage, ...] = (final,)
        if order.status != AMO_RECEIVED:
            stages = (
                Stage(at=now, status=MODIFY_VALIDATING),
                Stage(at=now, status=MODIFY_PENDING),
                Stage(at=now, status=MODIFIED, exchange_update_timestamp=now),
                final,
            )
        self._record_request(account, "modify", variety, params, order_id, now, stages=stages)
        self.work(entry, instrument, now)
        return {"order_id": order_id}

    def cancel(
        self, account: Account, order_id: str, variety: str, params: Mapping[str, str], now: datetime
    ) -> dict[str, Any]:
        """Cancel what is left of an order; returns Kite's answer. Raises KiteRefusal."""
        order = self._changeable(account, order_id, variety, "cancelled").order
        done = _cancelled(order, now)
        stages = (done,) if order.status == AMO_RECEIVED else (Stage(at=now, status=CANCEL_PENDING), done)
        self._record_request(account, "cancel", variety, params, order_id, now, stages=stages)
        return {"order_id": order_id}

    def tick(self, master: Master, now: datetime) -> None:
        """Let every live order meet the price of *now*, and end those whose time is up."""
        for key in list(self._state.resting):
            instrument = master.by_key.get(key)
            last = self._market.last_price(instrument, now) if instrument is not None else None
            for entry in list(self._state.resting.get(key, {}).values()):
                if _is_past_ttl(entry.order, now):
                    self._change(entry, _cancelled(entry.order, now))
                elif instrument is not None:
                    self.work(entry, instrument, now, last)

    def end_days(self, now: datetime) -> None:
        """Cancel what earlier days left open: no order outlives its IST day."""
        for book in self._state.books.values():
            for entry in book.of_earlier_days(now):
                if not entry.order.is_terminal:
                    self._change(entry, _cancelled(entry.order, now))

    def is_open(self, now: datetime) -> bool:
        """Whether orders trade at *now*."""
        return self.market_open and (not self._config.enforce_hours or is_open(now))

    def work(self, entry: BookEntry, instrument: Instrument, now: datetime, last: Decimal | None = None) -> None:
        """Trigger and fill an order as far as *last*, or else the price of *now*, allows."""
        if entry.order.is_terminal or entry.order.status == AMO_RECEIVED or not self.is_open(now):
            return
        if last is None:
            last = self._market.last_price(instrument, now)
        if entry.order.status == TRIGGER_PENDING and matching.is_triggered(entry.order, last):
            self._change(entry, self._triggered(entry.order, instrument, last, now))
        if entry.order.status != OPEN:
            return
        if matching.is_marketable(entry.order, last):
            quantity = self._available(entry, instrument)
            if quantity:
                self._trade(entry, instrument, quantity, last, now)
        if entry.order.status == OPEN and entry.order.validity == "IOC":
            self._change(entry, _cancelled(entry.order, now))

    def _place_one(
        self,
        account: Account,
        wanted: OrderForm,
        params: Mapping[str, str],
        instrument: Instrument,
        master: Master,
        now: datetime,
        action: str,
        extra_tags: tuple[str, ...] = (),
    ) -> str:
        order = self._new_order(account, wanted, instrument, extra_tags, now)
        stages: tuple[Stage, ...]
        try:
            if order.variety != "amo" and not self.is_open(now):
                raise errors.closed_for_mis() if order.product == "MIS" else errors.closed()
            self._checks.circuit(wanted, instrument, account)
            self._checks.funds(account, order, master, now)
        except errors.KiteRefusal as refusal:
            if self._config.rejection == "sync" or not refusal.from_risk:
                raise
            rejected = Stage(at=now, status=REJECTED, status_message=refusal.message, status_message_raw=refusal.raw)
            stages = (Stage(at=now, status=VALIDATING), rejected)
        else:
            stages = self._accepted(order, now)
        self._record_request(account, action, wanted.variety, params, order.order_id, now, order=order, stages=stages)
        entry = self._state.entry(order.order_id)
        if entry is not None:
            self.work(entry, instrument, now)
        return order.order_id

    def _place_slices(
        self,
        account: Account,
        wanted: OrderForm,
        params: Mapping[str, str],
        instrument: Instrument,
        master: Master,
        now: datetime,
    ) -> dict[str, Any]:
        freeze = instrument.freeze_quantity or wanted.quantity
        parts = [freeze] * (wanted.quantity // freeze)
        if wanted.quantity % freeze:
            parts.append(wanted.quantity % freeze)
        if len(parts) > 10:
            raise errors.over_freeze(wanted.quantity, freeze * 10, instrument.lot_size)
        parent = str(self._next_id(now))
        self._record_request(account, "place", wanted.variety, params, parent, now)
        children: list[dict[str, Any]] = []
        for part in parts:
            one = msgspec.structs.replace(wanted, quantity=part)
            tags = ("autoslice", f"autoslice:{parent}")
            try:
                child = self._place_one(account, one, params, instrument, master, now, "slice", tags)
            except errors.KiteRefusal as refusal:
                error = {"code": refusal.status, "error_type": refusal.error_type, "message": refusal.message}
                children.append({"error": {**error, "data": None}})
            else:
                children.append({"order_id": child})
        return {"order_id": parent, "children": children}

    def _next_id(self, now: datetime) -> int:
        make = ids.next_snowflake if self._config.order_ids == "snowflake" else ids.next_dated
        self._state.last_order_id = make(self._state.last_order_id, now)
        return self._state.last_order_id

    def _new_order(
        self, account: Account, wanted: OrderForm, instrument: Instrument, extra_tags: tuple[str, ...], now: datetime
    ) -> Order:
        order_type, price = wanted.order_type, wanted.price
        tags: tuple[str, ...] = (wanted.tag,) if wanted.tag else ()
        last = self._market.last_price(instrument, now)
        sign = 1 if wanted.transaction_type == "BUY" else -1
        if order_type == "MARKET" and wanted.protection is not None:
            price, percent = matching.protected_price(sign, wanted.protection, instrument, last)
            order_type, tags = "LIMIT", matching.protection_tags(percent, wanted.tag)
        return Order(
            order_id=str(self._next_id(now)),
            number=self._state.orders + 1,
            user_id=account.user_id,
            variety=wanted.variety,
            exchange=wanted.exchange,
            tradingsymbol=wanted.tradingsymbol,
            instrument_token=instrument.token,
            transaction_type=wanted.transaction_type,
            order_type=order_type,
            product=wanted.product,
            quantity=wanted.quantity,
            order_timestamp=now,
            status=AMO_RECEIVED if wanted.variety == "amo" else PUT_RECEIVED,
            validity=wanted.validity,
            validity_ttl=wanted.validity_ttl,
            price=price,
            trigger_price=wanted.trigger_price,
            disclosed_quantity=wanted.disclosed_quantity,
            protection=wanted.protection,
            tag=wanted.tag,
            tags=(*extra_tags, *tags),
            unit_margin=margin.unit_margin(
                wanted.product, sign, margin.order_price(price, wanted.trigger_price, last), instrument
            ),
        )

    def _accepted(self, order: Order, now: datetime) -> tuple[Stage, ...]:
        if order.status == AMO_RECEIVED:
            return ()
        return (
            Stage(at=now, status=VALIDATING),
            Stage(at=now, status=OPEN_PENDING),
            Stage(
                at=now,
                status=TRIGGER_PENDING if order.order_type in ("SL", "SL-M") else OPEN,
                exchange_order_id=ids.exchange_order_id(order.number, now),
                exchange_timestamp=now,
                exchange_update_timestamp=now,
            ),
        )

    def _modified(self, order: Order, wanted: OrderForm, instrument: Instrument, now: datetime) -> Stage:
        """The last stage of a modify: the status to go on from and the new values."""
        order_type, price, tags = wanted.order_type, wanted.price, order.tags
        last = self._market.last_price(instrument, now)
        if order_type == "MARKET" and wanted.protection is not None:
            price, percent = matching.protected_price(order.sign, wanted.protection, instrument, last)
            order_type, tags = "LIMIT", matching.protection_tags(percent, order.tag)
        status = order.status
        if status == TRIGGER_PENDING and order_type == "LIMIT":
            status = OPEN
        return Stage(
            at=now,
            status=status,
            order_type=order_type,
            validity=wanted.validity,
            quantity=wanted.quantity,
            price=price,
            trigger_price=wanted.trigger_price,
            disclosed_quantity=wanted.disclosed_quantity,
            protection=wanted.protection,
            tags=tags,
            exchange_timestamp=now,
            exchange_update_timestamp=now,
            modified=True,
            modifications=order.modifications + 1,
            unit_margin=margin.unit_margin(
                order.product, order.sign, margin.order_price(price, wanted.trigger_price, last), instrument
            ),
        )

    def _triggered(self, order: Order, instrument: Instrument, last: Decimal, now: datetime) -> Stage:
        stage = Stage(at=now, status=OPEN, triggered=True, exchange_update_timestamp=now)
        if order.order_type != "SL-M" or order.protection is None:
            return stage
        price, percent = matching.protected_price(order.sign, order.protection, instrument, last)
        tags = matching.protection_tags(percent, order.tag)
        return msgspec.structs.replace(stage, order_type="LIMIT", price=price, tags=tags)

    def _available(self, entry: BookEntry, instrument: Instrument) -> int:
        quantity = entry.order.remaining
        if self._config.partial_fills:
            quantity = matching.part_to_fill(entry.order, instrument.lot_size, self._config.seed, len(entry.trades))
        return min(quantity, self.liquidity.get(entry.order.key, quantity))

    def _trade(self, entry: BookEntry, instrument: Instrument, quantity: int, price: Decimal, now: datetime) -> None:
        order = entry.order
        if order.key in self.liquidity:
            self.liquidity[order.key] -= quantity
        trade = Trade(
            trade_id=ids.trade_id(self._state.trades + 1),
            order_id=order.order_id,
            user_id=order.user_id,
            exchange=order.exchange,
            tradingsymbol=order.tradingsymbol,
            instrument_token=order.instrument_token,
            product=order.product,
            transaction_type=order.transaction_type,
            quantity=quantity,
            price=price,
            multiplier=instrument.multiplier,
            exchange_order_id=order.exchange_order_id or "",
            order_timestamp=order.order_timestamp,
            at=now,
        )
        filled = order.filled_quantity + quantity
        stage = Stage(
            at=now,
            status=COMPLETE if filled == order.quantity else OPEN,
            filled_quantity=filled,
            filled_value=order.filled_value + quantity * price,
            exchange_update_timestamp=now,
        )
        self._state.record(Traded(at=now, order_id=order.order_id, trade=trade, stage=stage))

    def _change(self, entry: BookEntry, *stages: Stage) -> None:
        self._state.record(OrderChanged(at=stages[0].at, order_id=entry.order.order_id, stages=stages))

    def _changeable(self, account: Account, order_id: str, variety: str, verb: str) -> BookEntry:
        entry = self._state.books[account.user_id].entries.get(order_id)
        if entry is None or entry.order.variety != variety:
            raise errors.unknown_order()
        if entry.order.status not in CHANGEABLE:
            raise errors.busy(verb)
        return entry

    def _record_request(
        self,
        account: Account,
        action: str,
        variety: str,
        params: Mapping[str, str],
        order_id: str,
        now: datetime,
        *,
        order: Order | None = None,
        stages: tuple[Stage, ...] = (),
    ) -> None:
        self._state.record(
            OrderRequested(
                at=now,
                api_key=account.api_key,
                user_id=account.user_id,
                action=action,
                variety=variety,
                params=dict(params),
                accepted=True,
                http_status=200,
                order_id=order_id,
                order=order,
                stages=stages,
            )
        )


def _cancelled(order: Order, now: datetime) -> Stage:
    return Stage(at=now, status=CANCELLED, cancelled_quantity=order.remaining, exchange_update_timestamp=now)


def _is_past_ttl(order: Order, now: datetime) -> bool:
    return order.validity == "TTL" and now >= order.order_timestamp + timedelta(minutes=order.validity_ttl)
