"""The day's profit and loss as the API shows it (contract section 4)."""

from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

import msgspec

from engine.domain.books import HAND
from engine.domain.day_figures import DayFigures
from engine.domain.day_pnl import Part
from engine.http.endpoint import ApiStruct
from engine.http.views.numbers import tidy, tidy_or_none


class PnlView(ApiStruct, frozen=True, kw_only=True):
    """What one day made of an account, of a strategy's book, or of both.

    ``pnl`` is ``realisedPnl`` and ``unrealisedPnl`` less ``charges`` (brokerage, taxes, fees, by the published rates);
    ``peak`` its highest of the day, 0 at the least, and ``drawdown`` how far below that it is. ``trades`` are round
    trips that ended, ``losingStreak`` how many of the last in a row lost after charges. ``book`` is STRATEGY, HAND for
    what no strategy did, or ALL. ``pnlPct`` is percent of ``capital``, null without one. ``stale`` says that something
    held has had no price since ``staleSince``: the figures then stand on the last one known. Money is rupees.
    """

    account_id: UUID | None
    strategy_id: UUID | None
    book: str
    realised_pnl: Decimal
    unrealised_pnl: Decimal
    charges: Decimal
    pnl: Decimal
    peak: Decimal
    drawdown: Decimal
    trades: int
    losing_streak: int
    last_loss_at: datetime | None
    capital: Decimal | None
    capital_read_at: datetime | None
    pnl_pct: Decimal | None
    stale: bool
    stale_since: datetime | None


class DayPnlView(ApiStruct, frozen=True, kw_only=True):
    """The profit and loss of a user on an IST day, in all and by account and strategy; of a past day as it was kept.

    ``at`` is when the figures are of. Each of the lists adds up to ``total``.
    """

    user_id: UUID
    day: date = msgspec.field(name="date")
    at: datetime
    total: PnlView
    accounts: tuple[PnlView, ...]
    strategies: tuple[PnlView, ...]


class PnlPointView(ApiStruct, frozen=True, kw_only=True):
    """What a day had come to at an instant: rupees, net of charges."""

    at: datetime
    pnl: Decimal


class DayPointsView(ApiStruct, frozen=True, kw_only=True):
    """The curve of a user's IST day, oldest first: at most one point a minute, none where nothing moved."""

    user_id: UUID
    day: date = msgspec.field(name="date")
    points: tuple[PnlPointView, ...]


def pnl_view(
    part: Part, figures: DayFigures, *, capital: Decimal | None, capital_read_at: datetime | None = None
) -> PnlView:
    """Return the figures of a part of what a user has as the API shows them; *capital* is rupees."""
    account_id, owner = part
    book = "ALL" if owner is None else "HAND" if owner == HAND else "STRATEGY"
    share = None if not capital else (figures.net * 100 / capital).quantize(Decimal("0.0001"))
    return PnlView(
        account_id=account_id,
        strategy_id=owner if book == "STRATEGY" else None,
        book=book,
        realised_pnl=tidy(figures.realised),
        unrealised_pnl=tidy(figures.unrealised),
        charges=tidy(figures.charges),
        pnl=tidy(figures.net),
        peak=tidy(figures.peak),
        drawdown=tidy(figures.drawdown),
        trades=figures.trades,
        losing_streak=figures.losing_streak,
        last_loss_at=figures.last_loss_at,
        capital=tidy_or_none(capital or None),
        capital_read_at=capital_read_at,
        pnl_pct=tidy_or_none(share),
        stale=figures.stale_since is not None,
        stale_since=figures.stale_since,
    )
