"""What OpenAlgo's endpoints read, as its documentation has it (docs.openalgo.in).

For the API document only: `engine.signals.openalgo` is the parser. A number may come as text or as a number. Fields
of our own are marked as such.
"""

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from engine.http.openalgo.door import OpenAlgoStruct

# of the API document only: what is read is read exactly, by the parser
Number = Annotated[str | int | float, Meta(examples=["10"])]
ApiKey = Annotated[
    str, Meta(description="An API token of this engine (POST /auth/tokens).", examples=["eng_0123456789abcdef"])
]
StrategyName = Annotated[
    str,
    Meta(description="A strategy of the caller; any other name means the one named default.", examples=["default"]),
]
Action = Annotated[str, Meta(description="BUY or SELL", examples=["BUY"])]
PriceType = Annotated[str, Meta(description="MARKET, LIMIT, SL or SL-M", examples=["LIMIT"])]
Product = Annotated[str, Meta(description="MIS, NRML or CNC", examples=["MIS"])]
Symbol = Annotated[str, Meta(description="OpenAlgo's symbol", examples=["INFY", "NIFTY28MAR2420800CE"])]
ExchangeName = Annotated[str, Meta(description="NSE, BSE, NFO, BFO, CDS, BCD or MCX", examples=["NSE"])]
OrderName = Annotated[
    str, Meta(description="orderid of an answer, or our id of an order or intent", examples=["250408000989443"])
]
AccountName = Annotated[str, Meta(description="The label of one account (ours); all of them without it.")]


class KeyBody(OpenAlgoStruct, frozen=True, kw_only=True):
    """A key alone; ``account`` narrows the answer to one account (ours)."""

    apikey: ApiKey
    account: AccountName | UnsetType = UNSET


class BareKeyBody(OpenAlgoStruct, frozen=True, kw_only=True):
    """A key alone."""

    apikey: ApiKey


class StrategyBody(OpenAlgoStruct, frozen=True, kw_only=True):
    """A key and the strategy that is meant."""

    apikey: ApiKey
    strategy: StrategyName | UnsetType = UNSET


class BasketRow(OpenAlgoStruct, frozen=True, kw_only=True):
    """One order. ``stoploss`` and ``target`` are prices (rupees) of exits to attach to what fills."""

    symbol: Symbol
    exchange: ExchangeName
    action: Action
    quantity: Number
    pricetype: PriceType | UnsetType = UNSET
    product: Product | UnsetType = UNSET
    price: Number | UnsetType = UNSET
    trigger_price: Number | UnsetType = UNSET
    disclosed_quantity: Number | UnsetType = UNSET
    stoploss: Number | UnsetType = UNSET
    target: Number | UnsetType = UNSET


class PlaceBody(BasketRow, frozen=True, kw_only=True):
    """An order."""

    apikey: ApiKey
    strategy: StrategyName | UnsetType = UNSET


class SmartBody(PlaceBody, frozen=True, kw_only=True):
    """A position to reach, in signed units; ``action`` and ``quantity`` are checked and not used."""

    position_size: Number


class SplitBody(PlaceBody, frozen=True, kw_only=True):
    """An order in parts of ``splitsize`` units."""

    splitsize: Number


class BasketBody(OpenAlgoStruct, frozen=True, kw_only=True):
    """Up to 100 orders; those that buy go first."""

    apikey: ApiKey
    orders: list[BasketRow]
    strategy: StrategyName | UnsetType = UNSET


class ModifyBody(OpenAlgoStruct, frozen=True, kw_only=True):
    """What an order shall be like; symbol, exchange, action and product must be its own."""

    apikey: ApiKey
    orderid: OrderName
    symbol: Symbol
    exchange: ExchangeName
    action: Action
    product: Product
    pricetype: PriceType
    quantity: Number
    price: Number | UnsetType = UNSET
    trigger_price: Number | UnsetType = UNSET
    disclosed_quantity: Number | UnsetType = UNSET
    strategy: StrategyName | UnsetType = UNSET


class OrderIdBody(OpenAlgoStruct, frozen=True, kw_only=True):
    """An order."""

    apikey: ApiKey
    orderid: OrderName
    strategy: StrategyName | UnsetType = UNSET


class OpenPositionBody(OpenAlgoStruct, frozen=True, kw_only=True):
    """A position."""

    apikey: ApiKey
    symbol: Symbol
    exchange: ExchangeName
    product: Product
    strategy: StrategyName | UnsetType = UNSET


class SymbolBody(OpenAlgoStruct, frozen=True, kw_only=True):
    """An instrument; ``exchange`` may be NSE_INDEX, BSE_INDEX or MCX_INDEX too."""

    apikey: ApiKey
    symbol: Symbol
    exchange: ExchangeName


class SearchBody(OpenAlgoStruct, frozen=True, kw_only=True):
    """Words that all occur in symbol, name or type."""

    apikey: ApiKey
    query: Annotated[str, Meta(examples=["NIFTY 24500 CE"])]
    exchange: ExchangeName | UnsetType = UNSET


class ExpiryBody(OpenAlgoStruct, frozen=True, kw_only=True):
    """An underlying; ``instrumenttype`` is futures or options."""

    apikey: ApiKey
    symbol: Annotated[str, Meta(examples=["NIFTY"])]
    exchange: Annotated[str, Meta(examples=["NFO"])]
    instrumenttype: Annotated[str, Meta(examples=["options"])]


class OptionSymbolBody(OpenAlgoStruct, frozen=True, kw_only=True):
    """An option by its distance from the money: ``offset`` is ATM, ITM1 to ITM50 or OTM1 to OTM50.

    ``expiry_date`` is DDMMMYY; without it ``underlying`` is a future, which bears it. ``strike_int`` is not used.
    """

    apikey: ApiKey
    underlying: Annotated[str, Meta(examples=["NIFTY"])]
    exchange: Annotated[str, Meta(examples=["NSE_INDEX"])]
    offset: Annotated[str, Meta(examples=["ATM"])]
    option_type: Annotated[str, Meta(examples=["CE"])]
    expiry_date: Annotated[str, Meta(examples=["28MAR24"])] | UnsetType = UNSET
    strategy: str | UnsetType = UNSET
    strike_int: Number | UnsetType = UNSET
