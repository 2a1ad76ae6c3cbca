"""Intents, orders, positions and trades as the API shows them (contract section 8)."""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from engine.domain.charges import FIRST_DAY, charges_of
from engine.domain.enums import (
    Exchange,
    IntentStatus,
    OrderStatus,
    OrderType,
    ProductType,
    TransactionType,
    Validity,
    Variety,
)
from engine.domain.fill import Fill
from engine.domain.instruments import Instrument
from engine.domain.intent import IntentEvent
from engine.domain.options import ExitMode, OrderRole
from engine.domain.order import Order, OrderOrigin
from engine.domain.position import Position, average_price, m2m, pnl, realised, unrealised
from engine.domain.verdict import IntentVerdict
from engine.http.endpoint import ApiStruct
from engine.http.views.group_shapes import GroupView
from engine.http.views.numbers import tidy, tidy_or_none
from engine.http.views.risk_verdict import IntentVerdictView, verdict_view
from engine.store.queries.holdings import HeldPosition, Trade
from engine.store.queries.intents import IntentStory
from engine.store.queries.orders import OrderStory


class OrderEventView(ApiStruct, frozen=True, kw_only=True):
    """One entry of an order's history; ``anomaly`` marks a report that the real world should not make."""

    at: datetime
    from_status: OrderStatus
    to_status: OrderStatus
    filled_quantity: int
    detail: str
    anomaly: bool


class FillView(ApiStruct, frozen=True, kw_only=True):
    """One trade of an order; ``price`` is rupees, ``filledAt`` the exchange's time."""

    trade_id: str
    quantity: int
    price: Decimal
    filled_at: datetime


class ChargesView(ApiStruct, frozen=True, kw_only=True):
    """What the fills of an order cost, in rupees, by the published rates of the day; the contract note is the truth."""

    brokerage: Decimal
    transaction_tax: Decimal
    exchange_turnover: Decimal
    sebi_turnover: Decimal
    stamp_duty: Decimal
    gst: Decimal
    total: Decimal


class OrderView(ApiStruct, frozen=True, kw_only=True):
    """One order on one account; prices are rupees, quantities units.

    ``origin`` is EXTERNAL for an order that was found at the broker and not sent from here, SQUARE_OFF for one that
    flattens a position. ``role`` is STOP or
    TARGET for an exit attached to the entry ``parentId``; for an order that replaces another, ``parentId`` is
    that one. ``stopLoss`` and ``target`` of an entry are the exits to attach to it; ``modifications`` counts the
    changes that the broker took, 25 at most. ``marketProtection`` is percent, -1 the broker's own table.
    """

    id: UUID
    intent_id: UUID | None
    account_id: UUID
    strategy_id: UUID | None
    user_id: UUID
    symbol: str
    exchange: Exchange
    transaction_type: TransactionType
    quantity: int
    filled_quantity: int
    price: Decimal | None
    trigger_price: Decimal | None
    average_price: Decimal
    order_type: OrderType
    product_type: ProductType
    validity: Validity
    variety: Variety
    status: OrderStatus
    status_message: str | None
    broker_order_id: str | None
    tag: str
    origin: OrderOrigin
    role: OrderRole
    parent_id: UUID | None
    stop_loss: Decimal | None
    target: Decimal | None
    modifications: int
    market_protection: Decimal | None
    disclosed_quantity: int | None
    validity_ttl: int | None
    iceberg_legs: int | None
    charges: ChargesView | None
    created_at: datetime
    updated_at: datetime
    events: tuple[OrderEventView, ...]
    fills: tuple[FillView, ...]


class TimelineEntry(ApiStruct, frozen=True, kw_only=True):
    """One thing that happened to an intent; the last of a finished one is its state."""

    at: datetime
    event: str
    detail: str


class RiskVerdictView(ApiStruct, frozen=True, kw_only=True):
    """What risk said: ``decision`` is APPROVED or REJECTED; ``leftOut`` names accounts that were denied."""

    decision: str
    reason: str | None
    left_out: tuple[str, ...]


class IntentView(ApiStruct, frozen=True, kw_only=True):
    """One accepted signal with its orders and timeline; ``riskVerdict`` is null until risk has decided.

    ``symbol`` is what the source wrote, ``resolvedSymbol`` the exchange's symbol that it came to. ``positionSize`` is
    the position that was asked for instead of an order. Until ``expiresAt`` a person may approve it; ``seenPrice`` is
    the price (rupees) when it came. ``verdict`` is every rule with the numbers it saw; it and ``group`` are null in
    lists.
    """

    id: UUID
    source_id: UUID
    strategy_id: UUID
    user_id: UUID
    symbol: str
    resolved_symbol: str
    exchange: Exchange
    transaction_type: TransactionType
    quantity: int
    price: Decimal | None
    trigger_price: Decimal | None
    order_type: OrderType
    product_type: ProductType
    validity: Validity
    variety: Variety
    stop_loss: Decimal | None
    target: Decimal | None
    exits: ExitMode | None
    disclosed_quantity: int | None
    validity_ttl: int | None
    iceberg_legs: int | None
    auction_number: str | None
    market_protection: Decimal | None
    account: str | None
    status: IntentStatus
    reason: str | None
    received_at: datetime
    updated_at: datetime
    request_id: str | None
    risk_verdict: RiskVerdictView | None
    verdict: IntentVerdictView | None
    orders: tuple[OrderView, ...]
    timeline: tuple[TimelineEntry, ...]
    position_size: int | None = None
    expires_at: datetime | None = None
    approved_at: datetime | None = None
    seen_price: Decimal | None = None
    group: GroupView | None = None


class PositionView(ApiStruct, frozen=True, kw_only=True):
    """Net position of an account, or what of it is one strategy's (``strategyId``) or the hand's.

    ``pnl`` is ``realisedPnl`` and ``unrealisedPnl`` together, ``dayPnl`` today's part.

    Quantities are signed units, all else rupees.
    """

    account_id: UUID
    strategy_id: UUID | None
    symbol: str
    exchange: Exchange
    product_type: ProductType
    quantity: int
    average_price: Decimal
    last_price: Decimal
    realised_pnl: Decimal
    unrealised_pnl: Decimal
    pnl: Decimal
    day_pnl: Decimal
    updated_at: datetime


class TradeView(ApiStruct, frozen=True, kw_only=True):
    """One execution at the exchange."""

    trade_id: str
    order_id: UUID
    broker_order_id: str
    intent_id: UUID | None
    account_id: UUID
    strategy_id: UUID | None
    symbol: str
    exchange: Exchange
    product_type: ProductType
    transaction_type: TransactionType
    quantity: int
    price: Decimal
    filled_at: datetime


def charges_view(order: Order, instrument: Instrument | None) -> ChargesView | None:
    """Return what *order* has cost so far; None before it has filled, or when its instrument is not known."""
    if instrument is None or not order.filled_quantity or order.trading_day < FIRST_DAY:
        return None
    found = charges_of(
        instrument,
        order.product_type,
        order.transaction_type,
        order.filled_quantity,
        order.average_price,
        order.trading_day,
    )
    return ChargesView(
        brokerage=tidy(found.brokerage),
        transaction_tax=tidy(found.transaction_tax),
        exchange_turnover=tidy(found.exchange_turnover),
        sebi_turnover=tidy(found.sebi_turnover),
        stamp_duty=tidy(found.stamp_duty),
        gst=tidy(found.gst),
        total=tidy(found.total),
    )


def order_view(story: OrderStory, instrument: Instrument | None = None) -> OrderView:
    """Return an order as the API shows it, with its charges where its *instrument* is known."""
    order = story.order
    return OrderView(
        id=order.id,
        intent_id=order.intent_id,
        account_id=order.account_id,
        strategy_id=order.strategy_id,
        user_id=order.user_id,
        symbol=order.symbol,
        exchange=order.exchange,
        transaction_type=order.transaction_type,
        quantity=order.quantity,
        filled_quantity=order.filled_quantity,
        price=tidy_or_none(order.price),
        trigger_price=tidy_or_none(order.trigger_price),
        average_price=tidy(order.average_price),
        order_type=order.order_type,
        product_type=order.product_type,
        validity=order.validity,
        variety=order.variety,
        status=order.status,
        status_message=order.status_message,
        broker_order_id=order.broker_order_id,
        tag=order.tag,
        origin=order.origin,
        role=order.role,
        parent_id=order.parent_id,
        stop_loss=tidy_or_none(order.stop_loss),
        target=tidy_or_none(order.target),
        modifications=order.modifications,
        market_protection=tidy_or_none(order.market_protection),
        disclosed_quantity=order.options.disclosed_quantity or None,
        validity_ttl=order.options.validity_ttl or None,
        iceberg_legs=order.options.iceberg_legs or None,
        charges=charges_view(order, instrument),
        created_at=order.created_at,
        updated_at=order.updated_at,
        events=tuple(
            OrderEventView(
                at=event.at,
                from_status=event.from_status,
                to_status=event.to_status,
                filled_quantity=event.filled_quantity,
                detail=event.detail,
                anomaly=event.anomaly,
            )
            for event in story.events
        ),
        fills=tuple(_fill_view(fill) for fill in story.fills),
    )


def _fill_view(fill: Fill) -> FillView:
    return FillView(trade_id=fill.trade_id, quantity=fill.quantity, price=tidy(fill.price), filled_at=fill.filled_at)


def intent_view(story: IntentStory, verdict: IntentVerdict | None = None) -> IntentView:
    """Return an intent as the API shows it, with its latest *verdict* where that is wanted."""
    intent, signal = story.intent, story.intent.signal
    return IntentView(
        id=intent.id,
        source_id=intent.source_id,
        strategy_id=intent.strategy_id,
        user_id=intent.user_id,
        symbol=intent.written_symbol or signal.symbol,
        resolved_symbol=signal.symbol,
        exchange=signal.exchange,
        transaction_type=signal.transaction_type,
        quantity=signal.quantity,
        price=tidy_or_none(signal.price),
        trigger_price=tidy_or_none(signal.trigger_price),
        order_type=signal.order_type,
        product_type=signal.product_type,
        validity=signal.validity,
        variety=signal.variety,
        stop_loss=tidy_or_none(signal.stop_loss),
        target=tidy_or_none(signal.target),
        exits=signal.options.exits,
        disclosed_quantity=signal.options.disclosed_quantity or None,
        validity_ttl=signal.options.validity_ttl or None,
        iceberg_legs=signal.options.iceberg_legs or None,
        auction_number=signal.options.auction_number or None,
        market_protection=tidy_or_none(signal.options.market_protection),
        account=signal.account,
        status=intent.status,
        reason=intent.reason,
        received_at=intent.received_at,
        updated_at=intent.updated_at,
        request_id=intent.request_id,
        risk_verdict=risk_verdict(story.timeline),
        verdict=None if verdict is None else verdict_view(verdict),
        orders=tuple(order_view(order) for order in story.orders),
        timeline=tuple(TimelineEntry(at=e.at, event=e.event, detail=e.detail) for e in story.timeline),
        position_size=signal.position_size,
        expires_at=intent.expires_at,
        approved_at=intent.approved_at,
        seen_price=tidy_or_none(intent.seen_price),
    )


def risk_verdict(timeline: Iterable[IntentEvent]) -> RiskVerdictView | None:
    """Read the verdict of risk off an intent's timeline; None when it never decided."""
    events = list(timeline)
    left_out = tuple(event.detail for event in events if event.event == "ACCOUNT_LEFT_OUT")
    for event in events:
        if event.event in (IntentStatus.APPROVED, IntentStatus.REJECTED):
            reason = event.detail if event.event == IntentStatus.REJECTED else None
            return RiskVerdictView(decision=event.event, reason=reason or None, left_out=left_out)
    return None


def position_view(held: HeldPosition, last_price: Decimal | None) -> PositionView:
    """Return a position as the API shows it, valued at *last_price* or, without one, at its own last price."""
    position: Position = held.position
    last = last_price or position.last_price or None
    return PositionView(
        account_id=position.account_id,
        strategy_id=position.strategy_id,
        symbol=position.symbol,
        exchange=position.exchange,
        product_type=position.product_type,
        quantity=position.quantity,
        average_price=tidy(average_price(position)),
        last_price=tidy(last or Decimal(0)),
        realised_pnl=tidy(realised(position)),
        unrealised_pnl=tidy(unrealised(position, last)),
        pnl=tidy(pnl(position, last)),
        day_pnl=tidy(m2m(position, last)),
        updated_at=held.updated_at,
    )


def trade_view(trade: Trade) -> TradeView:
    """Return a trade as the API shows it."""
    fill = trade.fill
    return TradeView(
        trade_id=fill.trade_id,
        order_id=fill.order_id,
        broker_order_id=fill.broker_order_id,
        intent_id=trade.intent_id,
        account_id=fill.account_id,
        strategy_id=trade.strategy_id,
        symbol=fill.symbol,
        exchange=fill.exchange,
        product_type=fill.product_type,
        transaction_type=fill.transaction_type,
        quantity=fill.quantity,
        price=tidy(fill.price),
        filled_at=fill.filled_at,
    )
