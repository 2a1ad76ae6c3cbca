"""What OpenAlgo's endpoints answer, as its documentation has it (docs.openalgo.in).

Fields of our own are marked as such: OpenAlgo's clients pass them by.
"""

from decimal import Decimal
from uuid import UUID

from msgspec import UNSET, UnsetType

from engine.http.openalgo.door import OpenAlgoStruct


class AccountOrder(OpenAlgoStruct, frozen=True, kw_only=True):
    """One order of a call (ours): ``orderid`` is the broker's, or our own while there is none."""

    account: str
    orderid: str
    id: UUID
    status: str
    quantity: int
    message: str | UnsetType = UNSET


class PlacedData(OpenAlgoStruct, frozen=True, kw_only=True):
    """What a call came to on every account (ours)."""

    intent_id: UUID
    intent_status: str
    duplicate: bool
    orders: tuple[AccountOrder, ...]


class PlacedAnswer(OpenAlgoStruct, frozen=True, kw_only=True):
    """``orderid`` is the broker's id of the one order; our intent's id where there is none yet, or are several.

    Any of them may be given to orderstatus, modifyorder and cancelorder. It is left out where nothing was to be done.
    """

    status: str
    data: PlacedData
    orderid: str | UnsetType = UNSET
    message: str | UnsetType = UNSET


class BasketResult(OpenAlgoStruct, frozen=True, kw_only=True):
    """What became of one order of a basket."""

    symbol: str
    status: str
    orderid: str | UnsetType = UNSET
    message: str | UnsetType = UNSET
    data: PlacedData | UnsetType = UNSET


class BasketAnswer(OpenAlgoStruct, frozen=True, kw_only=True):
    """``status`` is success when at least one order was taken."""

    status: str
    results: tuple[BasketResult, ...]
    message: str | UnsetType = UNSET


class SplitResult(OpenAlgoStruct, frozen=True, kw_only=True):
    """What became of one part of an order."""

    order_num: int
    quantity: int
    status: str
    orderid: str | UnsetType = UNSET
    message: str | UnsetType = UNSET
    data: PlacedData | UnsetType = UNSET


class SplitAnswer(OpenAlgoStruct, frozen=True, kw_only=True):
    """``status`` is success when at least one part was taken."""

    status: str
    split_size: int
    total_quantity: int
    results: tuple[SplitResult, ...]
    message: str | UnsetType = UNSET


class DoneAnswer(OpenAlgoStruct, frozen=True, kw_only=True):
    """``orders`` are those that were changed or cancelled, as they are now (ours)."""

    status: str
    orderid: str
    message: str | UnsetType = UNSET
    orders: tuple[AccountOrder, ...] = ()


class FailedCancellation(OpenAlgoStruct, frozen=True, kw_only=True):
    """An order that was not cancelled, and why."""

    orderid: str
    reason: str


class CancelAllAnswer(OpenAlgoStruct, frozen=True, kw_only=True):
    """``status`` is error when none of several orders was cancelled."""

    status: str
    message: str
    canceled_orders: tuple[str, ...]
    failed_cancellations: tuple[FailedCancellation, ...]


class KeptPosition(OpenAlgoStruct, frozen=True, kw_only=True):
    """A position of shares for delivery, which is left (ours)."""

    account: str
    symbol: str
    exchange: str
    product: str
    quantity: str


class CloseAnswer(OpenAlgoStruct, frozen=True, kw_only=True):
    """Success only when every position is closed, by proof of the broker's positions."""

    status: str
    message: str
    closed: int
    kept: tuple[KeptPosition, ...] = ()


class OrderRow(OpenAlgoStruct, frozen=True, kw_only=True):
    """An order; prices are rupees. From ``account`` on the fields are ours."""

    action: str
    symbol: str
    exchange: str
    orderid: str
    product: str
    quantity: str
    price: Decimal
    pricetype: str
    order_status: str
    trigger_price: Decimal
    timestamp: str
    average_price: Decimal
    account: str
    filled_quantity: str
    engine_status: str
    status_message: str | None
    id: UUID
    intent_id: UUID | None


class OrderStatistics(OpenAlgoStruct, frozen=True, kw_only=True):
    """How many orders of the day."""

    total_buy_orders: int
    total_sell_orders: int
    total_completed_orders: int
    total_open_orders: int
    total_rejected_orders: int


class OrderBookData(OpenAlgoStruct, frozen=True, kw_only=True):
    """The orders of the day, newest first."""

    orders: tuple[OrderRow, ...]
    statistics: OrderStatistics


class OrderBookAnswer(OpenAlgoStruct, frozen=True, kw_only=True):
    """``message`` says so when there are more than can be shown."""

    status: str
    data: OrderBookData
    message: str | UnsetType = UNSET


class OrderStatusAnswer(OpenAlgoStruct, frozen=True, kw_only=True):
    """One order; ``orders`` are all that the id means (ours)."""

    status: str
    data: OrderRow
    orders: tuple[OrderRow, ...]


class TradeRow(OpenAlgoStruct, frozen=True, kw_only=True):
    """A trade; money is rupees, ``account`` is ours."""

    action: str
    symbol: str
    exchange: str
    orderid: str
    product: str
    quantity: int
    average_price: Decimal
    timestamp: str
    trade_value: Decimal
    account: str


class TradeBookAnswer(OpenAlgoStruct, frozen=True, kw_only=True):
    """The trades of the day, newest first."""

    status: str
    data: tuple[TradeRow, ...]
    message: str | UnsetType = UNSET


class PositionRow(OpenAlgoStruct, frozen=True, kw_only=True):
    """A net position; numbers as text, as OpenAlgo has them. ``account`` is ours."""

    symbol: str
    exchange: str
    product: str
    quantity: str
    average_price: str
    ltp: str
    pnl: str
    account: str


class PositionBookAnswer(OpenAlgoStruct, frozen=True, kw_only=True):
    """Positions of the day, those that are closed included."""

    status: str
    data: tuple[PositionRow, ...]
    message: str | UnsetType = UNSET


class HoldingRow(OpenAlgoStruct, frozen=True, kw_only=True):
    """Shares that are held; money is rupees, ``account`` is ours."""

    symbol: str
    exchange: str
    product: str
    quantity: int
    pnl: Decimal
    pnlpercent: Decimal
    average_price: Decimal
    account: str


class HoldingStatistics(OpenAlgoStruct, frozen=True, kw_only=True):
    """What all holdings are worth, cost and made, in rupees."""

    totalholdingvalue: Decimal
    totalinvvalue: Decimal
    totalprofitandloss: Decimal
    totalpnlpercentage: Decimal


class HoldingsData(OpenAlgoStruct, frozen=True, kw_only=True):
    """Holdings as the broker states them now."""

    holdings: tuple[HoldingRow, ...]
    statistics: HoldingStatistics


class HoldingsAnswer(OpenAlgoStruct, frozen=True, kw_only=True):
    """The demat accounts of the caller."""

    status: str
    data: HoldingsData


class FundsData(OpenAlgoStruct, frozen=True, kw_only=True):
    """Funds in rupees, as text with two decimals."""

    availablecash: str
    collateral: str
    m2mrealized: str
    m2munrealized: str
    utiliseddebits: str


class AccountFunds(FundsData, frozen=True, kw_only=True):
    """Funds of one account (ours)."""

    account: str


class FundsAnswer(OpenAlgoStruct, frozen=True, kw_only=True):
    """All accounts of the caller together; ``accounts`` are they one by one (ours)."""

    status: str
    data: FundsData
    accounts: tuple[AccountFunds, ...]


class AccountQuantity(OpenAlgoStruct, frozen=True, kw_only=True):
    """A net position of one account, and what of it the strategy's own orders made (ours)."""

    account: str
    quantity: str
    strategy_quantity: str


class OpenPositionAnswer(OpenAlgoStruct, frozen=True, kw_only=True):
    """``quantity`` is of the strategy's first account; ``accounts`` are all of them (ours)."""

    status: str
    quantity: str
    accounts: tuple[AccountQuantity, ...]


class PongData(OpenAlgoStruct, frozen=True, kw_only=True):
    """The broker of the caller's accounts: zerodha, or paper."""

    message: str
    broker: str


class PingAnswer(OpenAlgoStruct, frozen=True, kw_only=True):
    """The key is good, and an account of its owner can trade."""

    status: str
    data: PongData


class SymbolRow(OpenAlgoStruct, frozen=True, kw_only=True):
    """An instrument; ``br`` is the broker's name, prices are rupees."""

    id: int
    name: str
    symbol: str
    brsymbol: str
    exchange: str
    brexchange: str
    instrumenttype: str
    expiry: str
    strike: Decimal
    lotsize: int
    tick_size: Decimal
    freeze_qty: int | None
    token: str


class SymbolAnswer(OpenAlgoStruct, frozen=True, kw_only=True):
    """One instrument."""

    status: str
    data: SymbolRow


class SearchAnswer(OpenAlgoStruct, frozen=True, kw_only=True):
    """Up to 200 instruments, the best first."""

    status: str
    message: str
    data: tuple[SymbolRow, ...]


class ExpiryAnswer(OpenAlgoStruct, frozen=True, kw_only=True):
    """Expiries as DD-MMM-YY, the nearest first."""

    status: str
    message: str
    data: tuple[str, ...]


class OptionSymbolAnswer(OpenAlgoStruct, frozen=True, kw_only=True):
    """The option, and the underlying's price by which it was chosen."""

    status: str
    symbol: str
    exchange: str
    lotsize: int
    tick_size: Decimal
    freeze_qty: int | None
    underlying_ltp: Decimal
