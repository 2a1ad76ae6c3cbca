"""The stages that an order goes through, each at its instant (kite.md 6.5). Pure."""

from datetime import datetime, timedelta
from decimal import Decimal

import msgspec

from engine.domain.instruments import Instrument
from engine.exchange import ids, matching
from engine.exchange.config import Latency
from engine.exchange.orders import (
    CANCEL_PENDING,
    CANCELLED,
    MODIFIED,
    MODIFY_PENDING,
    MODIFY_VALIDATING,
    OPEN,
    OPEN_PENDING,
    PUT_RECEIVED,
    REJECTED,
    TRIGGER_PENDING,
    VALIDATING,
    Order,
    Stage,
)


def accepted(order: Order, latency: Latency, now: datetime) -> tuple[Stage, ...]:
    """Return the stages of a new order up to the exchange's book, or up to its wait for the trigger."""
    validating, pending, done = _instants(latency, now)
    return (
        Stage(at=validating, status=VALIDATING),
        Stage(at=pending, status=OPEN_PENDING),
        Stage(
            at=done,
            status=TRIGGER_PENDING if order.order_type in ("SL", "SL-M") else OPEN,
            exchange_order_id=ids.exchange_order_id(order.number, done),
            exchange_timestamp=done,
            exchange_update_timestamp=done,
        ),
    )


def rejected(message: str, raw: str, latency: Latency, now: datetime) -> tuple[Stage, ...]:
    """Return the stages of a new order that the broker (*raw* begins with ``RMS:``) or the exchange refuses."""
    validating, pending, done = _instants(latency, now)
    texts = Stage(at=pending, status=REJECTED, status_message=message, status_message_raw=raw)
    if raw.startswith("RMS:"):
        return (Stage(at=validating, status=VALIDATING), texts)
    return (
        Stage(at=validating, status=VALIDATING),
        Stage(at=pending, status=OPEN_PENDING),
        msgspec.structs.replace(texts, at=done),
    )


def released(order: Order, latency: Latency, now: datetime) -> tuple[Stage, ...]:
    """Return the stages of an after-market order when the market takes it, before those of any order."""
    return (Stage(at=now, status=PUT_RECEIVED, order_timestamp=now), *accepted(order, latency, now))


def modified(final: Stage, latency: Latency, now: datetime) -> tuple[Stage, ...]:
    """Return the stages of a modification that ends with the values of *final*."""
    pending = _after(now, latency.validation_s)
    done = _after(pending, latency.exchange_s)
    return (
        Stage(at=now, status=MODIFY_VALIDATING),
        Stage(at=pending, status=MODIFY_PENDING),
        Stage(at=done, status=MODIFIED, exchange_update_timestamp=done),
        msgspec.structs.replace(final, at=done, exchange_timestamp=done, exchange_update_timestamp=done),
    )


def modify_refused(order: Order, message: str, latency: Latency, now: datetime) -> tuple[Stage, ...]:
    """Return the stages of a modification that ends with the old values and a message."""
    pending = _after(now, latency.validation_s)
    done = _after(pending, latency.exchange_s)
    return (
        Stage(at=now, status=MODIFY_VALIDATING),
        Stage(at=pending, status=MODIFY_PENDING),
        refused_change(order, message, done),
    )


def refused_change(order: Order, message: str, at: datetime) -> Stage:
    """Return the stage that ends a modification of *order*, as it was before, with nothing changed."""
    return Stage(
        at=at,
        status=OPEN if order.can_fill else TRIGGER_PENDING,
        status_message=message,
        status_message_raw=message,
        modifications=order.modifications + 1,
    )


def cancelling(order: Order, latency: Latency, now: datetime) -> tuple[Stage, ...]:
    """Return the stages of a cancellation that the caller asked for."""
    return (Stage(at=now, status=CANCEL_PENDING), cancelled(order, _after(now, latency.exchange_s)))


def cancelled(order: Order, at: datetime) -> Stage:
    """Return the stage that ends what is left of *order*."""
    return Stage(at=at, status=CANCELLED, cancelled_quantity=order.remaining, exchange_update_timestamp=at)


def triggered(order: Order, instrument: Instrument, last: Decimal, now: datetime) -> Stage:
    """Return the stage by which a stop goes live at *last*: an SL-M becomes a protected limit."""
    stage = Stage(at=now, status=OPEN, triggered=True, exchange_update_timestamp=now)
    if order.order_type != "SL-M" or order.protection is None:
        return stage
    return to_limit(stage, order, instrument, last)


def to_limit(stage: Stage, order: Order, instrument: Instrument, last: Decimal) -> Stage:
    """Return *stage* with the limit that market protection makes of a market order at *last*."""
    protection = Decimal(-1) if order.protection is None else order.protection
    price, percent = matching.protected_price(order.sign, protection, instrument, last)
    own = tuple(tag for tag in order.tags if tag != order.tag and not tag.startswith("mktp"))
    tags = (*own, *matching.protection_tags(percent, order.tag))
    return msgspec.structs.replace(stage, order_type="LIMIT", price=price, tags=tags)


def _instants(latency: Latency, now: datetime) -> tuple[datetime, datetime, datetime]:
    validating = _after(now, latency.received_s)
    pending = _after(validating, latency.validation_s)
    return validating, pending, _after(pending, latency.exchange_s)


def _after(start: datetime, seconds: float) -> datetime:
    return start + timedelta(seconds=seconds) if seconds else start
