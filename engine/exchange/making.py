"""Making an order, and what a modification makes of one, out of a form. Changes nothing."""

from datetime import datetime

import msgspec

from engine.domain.instruments import Instrument
from engine.exchange import ids, margin, matching, stages
from engine.exchange.config import ExchangeConfig
from engine.exchange.forms import OrderForm
from engine.exchange.market import Market
from engine.exchange.orders import AMO_RECEIVED, OPEN, PUT_RECEIVED, TRIGGER_PENDING, IcebergLeg, Order, Stage, advance
from engine.exchange.state import State


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where an order comes from when no request of its own made it; see `Order`.

    ``order_id`` is its id where that was given out before.
    """

    order_id: str | None = None
    tags: tuple[str, ...] = ()
    iceberg: IcebergLeg | None = None
    follows: str | None = None
    parent_order_id: str | None = None
    gtt: int | None = None
    gtt_leg: int = 0


class OrderMaker:
    """Gives new orders their ids and prices, by the market of the moment."""

    def __init__(self, state: State, market: Market, config: ExchangeConfig) -> None:
        self._state = state
        self._market = market
        self._config = config

    def next_id(self, now: datetime) -> int:
        """Return an order id that was never given out."""
        make = ids.next_snowflake if self._config.order_ids == "snowflake" else ids.next_dated
        self._state.last_order_id = make(self._state.last_order_id, now)
        return self._state.last_order_id

    def new_order(
        self, user_id: str, wanted: OrderForm, instrument: Instrument, origin: Origin, now: datetime
    ) -> Order:
        """Return the order that *wanted* asks for. A protected MARKET order is a LIMIT order from the start.

        That of an after-market order is priced when the market opens.
        """
        order_type, price = wanted.order_type, wanted.price
        tags: tuple[str, ...] = (wanted.tag,) if wanted.tag else ()
        last = self._market.last_price(instrument, now)
        sign = 1 if wanted.transaction_type == "BUY" else -1
        is_amo = wanted.variety == "amo"
        if order_type == "MARKET" and wanted.protection is not None and not is_amo:
            price, percent = matching.protected_price(sign, wanted.protection, instrument, last)
            order_type, tags = "LIMIT", matching.protection_tags(percent, wanted.tag)
        # rows of cover orders have a product that nobody can ask for (kite.md 5.2)
        product = "CO" if wanted.variety == "co" else wanted.product
        return Order(
            order_id=origin.order_id or str(self.next_id(now)),
            number=self._state.orders + 1,
            user_id=user_id,
            variety=wanted.variety,
            exchange=wanted.exchange,
            tradingsymbol=wanted.tradingsymbol,
            instrument_token=instrument.token,
            transaction_type=wanted.transaction_type,
            order_type=order_type,
            product=product,
            quantity=wanted.quantity,
            order_timestamp=now,
            status=AMO_RECEIVED if is_amo else PUT_RECEIVED,
            validity=wanted.validity,
            validity_ttl=wanted.validity_ttl,
            price=price,
            trigger_price=wanted.trigger_price,
            disclosed_quantity=wanted.disclosed_quantity,
            protection=wanted.protection,
            tag=wanted.tag,
            tags=(*origin.tags, *tags),
            unit_margin=margin.unit_margin(
                product, sign, margin.order_price(price, wanted.trigger_price, last), instrument
            ),
            iceberg=origin.iceberg,
            auction_number=wanted.auction_number,
            follows=origin.follows,
            parent_order_id=origin.parent_order_id,
            gtt=origin.gtt,
            gtt_leg=origin.gtt_leg,
        )

    def modified(self, order: Order, wanted: OrderForm, instrument: Instrument, now: datetime) -> Stage:
        """Return the last stage of a modify: the status to go on from and the new values."""
        last = self._market.last_price(instrument, now)
        stage = Stage(
            at=now,
            status_message=None,
            status_message_raw=None,
            order_type=wanted.order_type,
            validity=wanted.validity,
            quantity=wanted.quantity,
            price=wanted.price,
            trigger_price=wanted.trigger_price,
            disclosed_quantity=wanted.disclosed_quantity,
            protection=wanted.protection,
            exchange_timestamp=now,
            exchange_update_timestamp=now,
            modified=True,
            modifications=order.modifications + 1,
        )
        if wanted.order_type == "MARKET" and wanted.protection is not None and order.status != AMO_RECEIVED:
            asked = msgspec.structs.replace(order, protection=wanted.protection)
            stage = stages.to_limit(stage, asked, instrument, last)
        changed = advance(order, stage)
        is_live = order.status == TRIGGER_PENDING and changed.order_type == "LIMIT"
        price = margin.order_price(changed.price, changed.trigger_price, last)
        return msgspec.structs.replace(
            stage,
            status=OPEN if is_live else order.status,
            unit_margin=margin.unit_margin(order.product, order.sign, price, instrument),
        )
