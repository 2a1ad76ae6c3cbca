"""Instruments, freeze quantities and market sessions as the API shows them."""

from datetime import UTC, date, datetime
from decimal import Decimal

from engine.clock import IST
from engine.domain.calendar import Calendar, Phase, next_open, phase_at, spans
from engine.domain.enums import Exchange
from engine.domain.freeze import FreezeOrigin, FreezeQuantity
from engine.domain.instrument_index import kind_of
from engine.domain.instruments import Instrument
from engine.http.endpoint import ApiStruct
from engine.http.views.numbers import tidy, tidy_or_none


class InstrumentView(ApiStruct, frozen=True, kw_only=True):
    """One instrument; prices are rupees.

    ``type`` is EQ, FUT, CE, PE or INDEX (not tradable). ``lotSize`` and ``freezeQuantity``, the largest single
    order (null when not known), are units, on MCX, CDS and BCD lots; ``multiplier`` turns price times quantity
    into rupees. ``lastPrice`` is the live one when ``isLive``, otherwise that of the daily dump, null without any.
    """

    exchange: Exchange
    symbol: str
    name: str
    type: str
    segment: str
    token: int
    is_tradable: bool
    tick_size: Decimal
    lot_size: int
    freeze_quantity: int | None
    multiplier: Decimal
    expiry: date | None
    strike: Decimal | None
    last_price: Decimal | None
    is_live: bool


class FreezeView(ApiStruct, frozen=True, kw_only=True):
    """The largest single order of a symbol, or of every contract on an underlying.

    ``origin``: ``default`` is built in, ``user`` was set here, ``learned`` came out of a refusal.
    """

    exchange: Exchange
    symbol: str
    quantity: int
    origin: FreezeOrigin
    as_of: date


class PhaseView(ApiStruct, frozen=True, kw_only=True):
    """A phase of the day; ``end`` is outside. Around and between them the exchange is CLOSED."""

    phase: Phase
    start: datetime
    end: datetime


class SessionView(ApiStruct, frozen=True, kw_only=True):
    """The sessions of an exchange on a day (IST); ``phase`` and ``nextOpen`` speak of now."""

    exchange: Exchange
    day: date
    holiday: str | None
    phase: Phase
    is_open: bool
    phases: tuple[PhaseView, ...]
    next_open: datetime | None


def instrument_view(instrument: Instrument, live: Decimal | None) -> InstrumentView:
    """Return an instrument as the API shows it, with its *live* price where there is one."""
    return InstrumentView(
        exchange=instrument.exchange,
        symbol=instrument.symbol,
        name=instrument.name,
        type=kind_of(instrument),
        segment=instrument.segment,
        token=instrument.token,
        is_tradable=instrument.is_tradable,
        tick_size=tidy(instrument.tick_size),
        lot_size=instrument.lot_size,
        freeze_quantity=instrument.freeze_quantity,
        multiplier=tidy(instrument.multiplier),
        expiry=instrument.expiry,
        strike=tidy_or_none(instrument.strike),
        last_price=tidy_or_none(live or instrument.last_price or None),
        is_live=live is not None,
    )


def freeze_view(row: FreezeQuantity) -> FreezeView:
    """Return a freeze quantity as the API shows it."""
    return FreezeView(
        exchange=row.exchange, symbol=row.symbol, quantity=row.quantity, origin=row.origin, as_of=row.as_of
    )


def session_view(exchange: Exchange, day: date, now: datetime, calendar: Calendar) -> SessionView:
    """Return the sessions of *exchange* on *day*."""
    phase, opens = phase_at(exchange, now, calendar), next_open(exchange, now, calendar)
    return SessionView(
        exchange=exchange,
        day=day,
        holiday=calendar.holidays.get(day),
        phase=phase,
        is_open=phase is Phase.OPEN,
        phases=tuple(
            PhaseView(
                phase=span.phase,
                start=datetime.combine(day, span.start, IST).astimezone(UTC),
                end=datetime.combine(day, span.end, IST).astimezone(UTC),
            )
            for span in spans(exchange, day, calendar)
        ),
        next_open=None if opens is None else opens.astimezone(UTC),
    )
