"""What the broker says of an account, as the API shows it (contract section 8)."""

from decimal import Decimal
from uuid import UUID

from engine.broker.values import BrokerHolding, BrokerMargins, BrokerPosition, MarginSegment
from engine.http.endpoint import ApiStruct
from engine.http.views.numbers import tidy


class SegmentView(ApiStruct, frozen=True, kw_only=True):
    """Funds of a segment in rupees: what came in, what is used, what can be deployed now."""

    available: Decimal
    used: Decimal
    net: Decimal


class MarginsView(ApiStruct, frozen=True, kw_only=True):
    """Funds of an account."""

    equity: SegmentView
    commodity: SegmentView


class HoldingView(ApiStruct, frozen=True, kw_only=True):
    """Shares in the demat account, those not settled yet included; prices are rupees."""

    symbol: str
    exchange: str
    quantity: int
    average_price: Decimal
    last_price: Decimal
    pnl: Decimal


class BrokerPositionView(ApiStruct, frozen=True, kw_only=True):
    """A net position at the broker; quantities are signed units, all else rupees."""

    account_id: UUID
    symbol: str
    exchange: str
    product_type: str
    quantity: int
    average_price: Decimal
    last_price: Decimal
    realised_pnl: Decimal
    unrealised_pnl: Decimal
    pnl: Decimal


def margins_view(margins: BrokerMargins) -> MarginsView:
    """Return funds as the API shows them."""
    return MarginsView(equity=_segment(margins.equity), commodity=_segment(margins.commodity))


def _segment(segment: MarginSegment) -> SegmentView:
    return SegmentView(available=tidy(segment.available), used=tidy(segment.used), net=tidy(segment.net))


def holding_view(row: BrokerHolding) -> HoldingView:
    """Return a holding as the API shows it."""
    return HoldingView(
        symbol=row.symbol,
        exchange=row.exchange,
        quantity=row.quantity + row.t1_quantity,
        average_price=tidy(row.average_price),
        last_price=tidy(row.last_price),
        pnl=tidy(row.pnl),
    )


def broker_position_view(account_id: UUID, row: BrokerPosition) -> BrokerPositionView:
    """Return a position of the broker as the API shows it."""
    unrealised = row.quantity * (row.last_price - row.average_price) * row.multiplier
    return BrokerPositionView(
        account_id=account_id,
        symbol=row.symbol,
        exchange=row.exchange,
        product_type=row.product,
        quantity=row.quantity,
        average_price=tidy(row.average_price),
        last_price=tidy(row.last_price),
        realised_pnl=tidy(row.pnl - unrealised),
        unrealised_pnl=tidy(unrealised),
        pnl=tidy(row.pnl),
    )
