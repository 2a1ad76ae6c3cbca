"""The order desk: decides what a place, a modify, a cancel or a moved price does to orders.

Pure but for the state it is given: every decision becomes an event that is recorded, nothing else
changes. Later trades of an order come from `work`, which the ticker task calls on moved prices; what
one order makes of another (legs, stops) is in `engine.exchange.followups`.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from engine.domain.calendar import is_open
from engine.domain.enums import Exchange
from engine.domain.instruments import Instrument
from engine.exchange import errors, matching, stages
from engine.exchange.config import ExchangeConfig
from engine.exchange.events import OrderChanged, OrderRequested
from engine.exchange.filling import Filler
from engine.exchange.followups import FollowUps, first_leg
from engine.exchange.forms import OrderForm, check_against, find_tradable, read_modify, read_place
from engine.exchange.hours import amo_release
from engine.exchange.instruments import Master
from engine.exchange.making import OrderMaker, Origin
from engine.exchange.market import Market
from engine.exchange.orders import (
    AMO_RECEIVED,
    CANCELLED,
    CHANGEABLE,
    OPEN,
    PUT_RECEIVED,
    TRIGGER_PENDING,
    BookEntry,
    Order,
    Stage,
    advance,
)
from engine.exchange.riskchecks import RiskChecks
from engine.exchange.state import Account, State

_MOST_SLICES = 10
# what the exchange does by itself, once an order was taken
_BY_ITSELF = frozenset({"leg", "stop"})
_MOSTLY_SYNC = frozenset({"tick", "freeze"})
_NO_FORM: Mapping[str, str] = {}


class OrderDesk:
    """Orders of every account. ``liquidity`` bounds how many units of a key may still trade, where set.

    *count_order* is called with the account and the instant for each order beyond the one that a request
    stands for.
    """

    def __init__(
        self,
        state: State,
        market: Market,
        config: ExchangeConfig,
        count_order: Callable[[str, datetime], None] = lambda user_id, at: None,
    ) -> None:
        self._state = state
        self._market = market
        self._config = config
        self._checks = RiskChecks(state, market)
        self._maker = OrderMaker(state, market, config)
        self._follow_ups = FollowUps(state, self._place_one, self._change, count_order)
        self._is_resumed = False
        self.market_open = config.market_open
        self._filler = Filler(state, config)
        self.liquidity = self._filler.liquidity

    def place(
        self, account: Account, variety: str, params: Mapping[str, str], master: Master, now: datetime
    ) -> dict[str, Any] | list[dict[str, Any]]:
        """Take a new order; returns Kite's answer. Raises KiteRefusal, after which nothing is in the book."""
        wanted = read_place(variety, params)
        instrument = find_tradable(master.by_key.get(wanted.key))
        if wanted.autoslice:
            check_against(instrument, wanted)
            return self._place_slices(account, wanted, params, instrument, master, now)
        origin = Origin()
        if wanted.iceberg_legs:
            check_against(instrument, wanted)
            wanted, origin = first_leg(wanted, instrument)
        return {"order_id": self._place_one(account, wanted, params, instrument, master, now, "place", origin)}

    def place_for_gtt(self, account: Account, wanted: OrderForm, origin: Origin, master: Master, now: datetime) -> str:
        """Place the order of a trigger; returns its id. Raises KiteRefusal."""
        instrument = find_tradable(master.by_key.get(wanted.key))
        return self._place_one(account, wanted, _NO_FORM, instrument, master, now, "gtt", origin)

    def modify(
        self, account: Account, order_id: str, variety: str, params: Mapping[str, str], master: Master, now: datetime
    ) -> dict[str, Any]:
        """Change an order; returns Kite's answer. Raises KiteRefusal, after which nothing has changed."""
        entry = self._changeable(account, order_id, variety, "modified")
        order, behaviour = entry.order, self._state.behaviour
        if order.modifications >= self._config.limits.modifications_per_order:
            raise errors.modification_cap()
        wanted = read_modify(order, params)
        instrument = find_tradable(master.by_key.get(order.key))
        check_against(instrument, wanted)
        self._checks.prices(wanted, instrument, account, now)
        final = self._maker.modified(order, wanted, instrument, now)
        self._checks.funds(account, advance(order, final), master, now, before=order)
        steps: tuple[Stage, ...] = (final,)
        if order.status != AMO_RECEIVED:
            text = _for_key(behaviour.modify_rejects, order.key)
            steps = (
                stages.modified(final, behaviour.latency, now)
                if text is None
                else stages.modify_refused(order, text, behaviour.latency, now)
            )
        self._record_request(account, "modify", variety, params, order_id, now, steps=steps)
        self.work(entry, instrument, master, now)
        return {"order_id": order_id}

    def cancel(
        self, account: Account, order_id: str, variety: str, params: Mapping[str, str], master: Master, now: datetime
    ) -> dict[str, Any]:
        """Cancel what is left of an order, or let the stop of a cover order go; returns Kite's answer.

        Raises KiteRefusal.
        """
        entry = self._changeable(account, order_id, variety, "cancelled")
        order = entry.order
        if order.is_cover_stop:
            parent = params.get("parent_order_id")
            if not parent:
                raise errors.missing("parent_order_id")
            if parent != order.parent_order_id:
                raise errors.unknown_order()
            instrument = find_tradable(master.by_key.get(order.key))
            live = Stage(at=now, status=OPEN, triggered=True, exchange_update_timestamp=now)
            last = self._market.last_price(instrument, now)
            steps: tuple[Stage, ...] = (stages.to_limit(live, order, instrument, last),)
        elif order.status == AMO_RECEIVED:
            steps = (stages.cancelled(order, now),)
        else:
            steps = stages.cancelling(order, self._state.behaviour.latency, now)
        self._record_request(account, "cancel", variety, params, order_id, now, steps=steps)
        found = master.by_key.get(order.key)
        if found is not None:
            self.work(entry, found, master, now)
        return {"order_id": order_id}

    def catch_up(self, master: Master, now: datetime) -> None:
        """Let every stage happen that is due by *now*."""
        while (entry := self._state.pop_due(now)) is not None:
            order, stage = entry.order, entry.due[0]
            if stage.status == CANCELLED:
                stage = stages.cancelled(order, stage.at)
            elif isinstance(stage.quantity, int) and stage.quantity <= order.filled_quantity:
                stage = stages.refused_change(order, "The order was filled before it could be modified.", stage.at)
            self._change(entry, stage, at=now, due=1)
            instrument = master.by_key.get(order.key)
            if instrument is not None:
                self.work(entry, instrument, master, now)

    def tick(self, master: Master, now: datetime) -> None:
        """Let every live order meet the price of *now*, and end those whose time is up."""
        self.catch_up(master, now)
        if not self._is_resumed:
            # the record may end between an order and what follows from it
            self._is_resumed = True
            self._resume(master, now)
        if self._state.waiting:
            self.release_amos(master, now, is_early=False)
        for key in list(self._state.resting):
            instrument = master.by_key.get(key)
            last = self._market.last_price(instrument, now) if instrument is not None else None
            for entry in list(self._state.resting.get(key, {}).values()):
                if _is_past_ttl(entry.order, now):
                    self._change(entry, stages.cancelled(entry.order, now))
                elif instrument is not None:
                    self.work(entry, instrument, master, now, last)

    def release_amos(self, master: Master, now: datetime, *, is_early: bool) -> None:
        """Send after-market orders to the exchange whose session begins by *now*; all of them when *is_early*."""
        for entry in list(self._state.waiting.values()):
            order = entry.order
            instrument = master.by_key.get(order.key)
            if not is_early and now < amo_release(order.order_timestamp):
                continue
            if instrument is None:
                self._change(entry, stages.cancelled(order, now))
                continue
            self._change(entry, *self._released(order, instrument, master, now), at=now)
            self.work(entry, instrument, master, now)

    def end_days(self, now: datetime) -> None:
        """Cancel what earlier days left open: no order outlives its IST day, but for an AMO that waits."""
        for book in self._state.books.values():
            for entry in book.of_earlier_days(now):
                if not entry.order.is_terminal:
                    self._change(entry, stages.cancelled(entry.order, now))

    def is_open(self, exchange: str, now: datetime) -> bool:
        """Whether orders of *exchange* trade at *now*."""
        return self.market_open and (not self._config.enforce_hours or is_open(Exchange(exchange), now))

    def work(
        self, entry: BookEntry, instrument: Instrument, master: Master, now: datetime, last: Decimal | None = None
    ) -> None:
        """Trigger and fill an order as far as *last*, or else the price of *now*, allows."""
        if entry.order.is_terminal or entry.order.status == AMO_RECEIVED:
            return
        if not self.is_open(entry.order.exchange, now):
            return
        if last is None:
            last = self._market.last_price(instrument, now)
        if entry.order.status == TRIGGER_PENDING and matching.is_triggered(entry.order, last):
            self._change(entry, stages.triggered(entry.order, instrument, last, now))
        if not entry.order.can_fill:
            return
        if matching.is_marketable(entry.order, last):
            self._filler.fill(entry, instrument, last, now)
        if entry.order.status == OPEN and entry.order.validity == "IOC":
            self._change(entry, stages.cancelled(entry.order, now))
        if entry.order.iceberg is not None or entry.order.variety == "co":
            self._follow_ups.after(entry, instrument, master, now)

    def _resume(self, master: Master, now: datetime) -> None:
        for book in self._state.books.values():
            for entry in list(book.entries.values()):
                instrument = master.by_key.get(entry.order.key)
                if instrument is not None and (entry.order.iceberg is not None or entry.order.variety == "co"):
                    self._follow_ups.after(entry, instrument, master, now)

    def _place_one(
        self,
        account: Account,
        wanted: OrderForm,
        params: Mapping[str, str],
        instrument: Instrument,
        master: Master,
        now: datetime,
        action: str,
        origin: Origin,
    ) -> str:
        """Record an order and let it meet the market; returns its id.

        Raises KiteRefusal for what is refused at once. What the exchange does by itself has nobody to
        refuse it to: there every refusal becomes a REJECTED order.
        """
        behaviour = self._state.behaviour
        latency = behaviour.latency
        order = self._maker.new_order(account.user_id, wanted, instrument, origin, now)
        text = _for_key(behaviour.order_rejects, wanted.key)
        steps: tuple[Stage, ...]
        try:
            self._check(account, wanted, order, instrument, master, now, action)
        except errors.KiteRefusal as refusal:
            if not self._is_async(refusal) and action not in _BY_ITSELF:
                raise
            steps = stages.rejected(refusal.message, refusal.raw or refusal.message, latency, now)
        else:
            if order.status == AMO_RECEIVED:
                steps = ()
            elif text is not None:
                steps = stages.rejected(text, text, latency, now)
            else:
                steps = stages.accepted(order, latency, now)
        self._record_request(account, action, wanted.variety, params, order.order_id, now, order=order, steps=steps)
        entry = self._state.entry(order.order_id)
        if entry is not None:
            self.work(entry, instrument, master, now)
        return order.order_id

    def _check(
        self,
        account: Account,
        wanted: OrderForm,
        order: Order,
        instrument: Instrument,
        master: Master,
        now: datetime,
        action: str,
    ) -> None:
        """Raise KiteRefusal by the first check that *order* does not pass, in Kite's order (kite.md 17.3)."""
        check_against(instrument, wanted)
        if action not in _BY_ITSELF:
            if order.variety != "amo" and not self.is_open(order.exchange, now):
                raise errors.closed_for_mis() if wanted.product == "MIS" else errors.closed()
            self._checks.auction(account, wanted, instrument)
            self._checks.prices(wanted, instrument, account, now)
        self._checks.funds(account, order, master, now)

    def _is_async(self, refusal: errors.KiteRefusal) -> bool:
        if refusal.about is None:
            return False
        way = self._state.behaviour.rejections.get(refusal.about)
        return (way or ("sync" if refusal.about in _MOSTLY_SYNC else self._config.rejection)) == "async"

    def _released(self, order: Order, instrument: Instrument, master: Master, now: datetime) -> tuple[Stage, ...]:
        """The stages of an after-market order from the opening of the market on."""
        latency = self._state.behaviour.latency
        try:
            self._checks.funds(self._state.accounts[order.user_id], order, master, now, before=order)
        except errors.KiteRefusal as refusal:
            refused = stages.rejected(refusal.message, refusal.raw or refusal.message, latency, now)
            return (Stage(at=now, status=PUT_RECEIVED, order_timestamp=now), *refused)
        steps = stages.released(order, latency, now)
        if order.order_type != "MARKET":
            return steps
        last = self._market.last_price(instrument, now)
        return (*steps[:-1], stages.to_limit(steps[-1], order, instrument, last))

    def _place_slices(
        self,
        account: Account,
        wanted: OrderForm,
        params: Mapping[str, str],
        instrument: Instrument,
        master: Master,
        now: datetime,
    ) -> dict[str, Any] | list[dict[str, Any]]:
        freeze = instrument.freeze_quantity or wanted.quantity
        parts = [freeze] * (wanted.quantity // freeze)
        if wanted.quantity % freeze:
            parts.append(wanted.quantity % freeze)
        if len(parts) > _MOST_SLICES:
            raise errors.over_freeze(wanted.quantity, freeze * _MOST_SLICES, instrument.lot_size)
        parent = str(self._maker.next_id(now))
        self._record_request(account, "place", wanted.variety, params, parent, now)
        is_v1 = self._state.behaviour.autoslice_answer == "v1"
        children: list[dict[str, Any]] = []
        for number, part in enumerate(parts):
            one = msgspec.structs.replace(wanted, quantity=part, autoslice=False)
            tags = ("autoslice", f"autoslice:{parent}")
            # in the old answer the first slice was the parent
            origin = Origin(tags=tags, order_id=parent if is_v1 and number == 0 else None)
            try:
                child = self._place_one(account, one, params, instrument, master, now, "slice", origin)
            except errors.KiteRefusal as refusal:
                error = {"code": refusal.status, "error_type": refusal.error_type, "message": refusal.message}
                children.append({"error": {**error, "data": None}})
            else:
                children.append({"order_id": child})
        if is_v1:
            return children
        return {"order_id": parent, "children": children}

    def _change(self, entry: BookEntry, *steps: Stage, at: datetime | None = None, due: int = 0) -> None:
        """Record *steps*; those later than *at* (by default the first one's instant) are due then."""
        self._state.record(OrderChanged(at=at or steps[0].at, order_id=entry.order.order_id, stages=steps, due=due))

    def _changeable(self, account: Account, order_id: str, variety: str, verb: str) -> BookEntry:
        entry = self._state.books[account.user_id].entries.get(order_id)
        if entry is None or entry.order.variety != variety:
            raise errors.unknown_order()
        if entry.order.status in CHANGEABLE:
            return entry
        is_told_apart = self._state.behaviour.finished_cancel == "does_not_exist"
        if verb == "cancelled" and entry.order.is_terminal and is_told_apart:
            raise errors.no_longer_there(order_id)
        raise errors.busy(verb)

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
        steps: tuple[Stage, ...] = (),
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
                stages=steps,
            )
        )


def _for_key(texts: Mapping[str, str], key: str) -> str | None:
    return texts.get(key) or texts.get("*")


def _is_past_ttl(order: Order, now: datetime) -> bool:
    return order.validity == "TTL" and now >= order.order_timestamp + timedelta(minutes=order.validity_ttl)
