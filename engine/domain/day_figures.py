"""What a user, an account or a strategy made today: the figures that loss limits, locks and cool-downs read."""

from datetime import datetime
from decimal import Decimal

import msgspec

_ZERO = Decimal(0)


class DayFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The profit and loss of one scope on one IST trading day, in rupees, and how it came about.

    ``charges`` is what brokerage, taxes and fees took, a positive sum; ``peak`` is the highest ``net`` of the day,
    0 at the least, for the day begins flat. ``trades`` counts round trips that ended (the position came back to
    flat or turned over), ``losing_streak`` how many of the last of them in a row lost after charges, and
    ``last_loss_at`` (UTC) when the last of those ended. ``stale_since`` (UTC) is since when an open position has had
    no price, None while all prices are fresh: the figures then stand on the last price known.
    """

    realised: Decimal = _ZERO
    unrealised: Decimal = _ZERO
    charges: Decimal = _ZERO
    peak: Decimal = _ZERO
    trades: int = 0
    losing_streak: int = 0
    last_loss_at: datetime | None = None
    stale_since: datetime | None = None

    @property
    def net(self) -> Decimal:
        """Realised and unrealised, less charges."""
        return self.realised + self.unrealised - self.charges

    @property
    def drawdown(self) -> Decimal:
        """How far ``net`` is below the day's highest."""
        return self.peak - self.net
