"""The words of the trade, as the wire and the store spell them.

Values are Kite Connect's (https://kite.trade/docs/connect/v3/orders/) where Kite has a word for the
thing, ours otherwise. Every enum is a ``StrEnum``: its members compare and encode as their value.
"""

from enum import StrEnum


class Exchange(StrEnum):
    """Exchange of an instrument."""

    NSE = "NSE"
    BSE = "BSE"
    NFO = "NFO"
    BFO = "BFO"
    CDS = "CDS"
    BCD = "BCD"
    MCX = "MCX"


class Segment(StrEnum):
    """Segment of an exchange, as the instrument dump names it: shares by their exchange alone."""

    NSE = "NSE"
    BSE = "BSE"
    NFO_FUT = "NFO-FUT"
    NFO_OPT = "NFO-OPT"
    BFO_FUT = "BFO-FUT"
    BFO_OPT = "BFO-OPT"
    CDS_FUT = "CDS-FUT"
    CDS_OPT = "CDS-OPT"
    BCD_FUT = "BCD-FUT"
    BCD_OPT = "BCD-OPT"
    MCX_FUT = "MCX-FUT"
    MCX_OPT = "MCX-OPT"


class TransactionType(StrEnum):
    """Side of an order."""

    BUY = "BUY"
    SELL = "SELL"

    @property
    def sign(self) -> int:
        """+1 for BUY, -1 for SELL."""
        return 1 if self is TransactionType.BUY else -1

    @property
    def opposite(self) -> "TransactionType":
        """The side that undoes this one."""
        return TransactionType.SELL if self is TransactionType.BUY else TransactionType.BUY


class OrderType(StrEnum):
    """How an order is priced."""

    MARKET = "MARKET"
    LIMIT = "LIMIT"
    SL = "SL"
    SL_M = "SL-M"

    @property
    def needs_price(self) -> bool:
        """Whether an order of this type carries a limit price."""
        return self in (OrderType.LIMIT, OrderType.SL)

    @property
    def needs_trigger(self) -> bool:
        """Whether an order of this type carries a trigger price."""
        return self in (OrderType.SL, OrderType.SL_M)


class ProductType(StrEnum):
    """Margin product: CNC delivery, NRML carry-forward F&O, MIS intraday, MTF margin funded.

    CO and BO are what the broker calls positions of cover and bracket orders (kite.md 5.2): they are read, and
    no order is placed in them.
    """

    CNC = "CNC"
    NRML = "NRML"
    MIS = "MIS"
    MTF = "MTF"
    CO = "CO"
    BO = "BO"

    @property
    def is_orderable(self) -> bool:
        """Whether an order can be placed in it."""
        return self not in (ProductType.CO, ProductType.BO)


class Validity(StrEnum):
    """How long an order stands."""

    DAY = "DAY"
    IOC = "IOC"
    TTL = "TTL"


class Variety(StrEnum):
    """Kite order variety."""

    REGULAR = "regular"
    AMO = "amo"
    CO = "co"
    ICEBERG = "iceberg"
    AUCTION = "auction"


class IntentStatus(StrEnum):
    """State of a trade intent (contract section 7)."""

    RECEIVED = "RECEIVED"
    PENDING_APPROVAL = "PENDING_APPROVAL"
    APPROVED = "APPROVED"
    REJECTED = "REJECTED"
    EXECUTING = "EXECUTING"
    EXECUTED = "EXECUTED"
    PARTIAL = "PARTIAL"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"

    @property
    def is_terminal(self) -> bool:
        """Whether the intent can change no more."""
        return self in _INTENT_TERMINAL


class OrderStatus(StrEnum):
    """State of an order (contract section 7)."""

    PENDING = "PENDING"
    SUBMITTING = "SUBMITTING"
    SUBMITTED = "SUBMITTED"
    OPEN = "OPEN"
    TRIGGER_PENDING = "TRIGGER_PENDING"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    COMPLETE = "COMPLETE"
    CANCELLED = "CANCELLED"
    REJECTED = "REJECTED"
    UNKNOWN = "UNKNOWN"
    EXPIRED = "EXPIRED"
    FAILED = "FAILED"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing but a late broker report can still change the order."""
        return self in _ORDER_TERMINAL

    @property
    def is_working(self) -> bool:
        """Whether the broker holds the order and may still fill it."""
        return self in _ORDER_WORKING

    @property
    def is_unresolved(self) -> bool:
        """Whether bytes may have left and the broker's answer is not known."""
        return self in (OrderStatus.SUBMITTING, OrderStatus.UNKNOWN)


_INTENT_TERMINAL = frozenset(
    {
        IntentStatus.REJECTED,
        IntentStatus.EXECUTED,
        IntentStatus.PARTIAL,
        IntentStatus.FAILED,
        IntentStatus.CANCELLED,
        IntentStatus.EXPIRED,
    }
)
_ORDER_TERMINAL = frozenset(
    {OrderStatus.COMPLETE, OrderStatus.CANCELLED, OrderStatus.REJECTED, OrderStatus.EXPIRED, OrderStatus.FAILED}
)
_ORDER_WORKING = frozenset(
    {OrderStatus.SUBMITTED, OrderStatus.OPEN, OrderStatus.TRIGGER_PENDING, OrderStatus.PARTIALLY_FILLED}
)


class Role(StrEnum):
    """What a person may do."""

    ADMIN = "ADMIN"
    TRADER = "TRADER"
    VIEWER = "VIEWER"


class SourceType(StrEnum):
    """Where signals of a source come from."""

    SHEETS = "sheets"
    TELEGRAM = "telegram"
    WEBHOOK = "webhook"
    TRADINGVIEW = "tradingview"


class SizingMode(StrEnum):
    """How an account's quantity follows from the signal's."""

    MULTIPLIER = "multiplier"
    FIXED = "fixed"
    CAPITAL_PCT = "capital_pct"
    LOTS = "lots"
    RISK_PCT = "risk_pct"


class GroupPolicy(StrEnum):
    """What is done when a signal has filled on some of its accounts and failed on others (`group_policy`)."""

    LEAVE = "leave"
    RETRY = "retry"
    UNWIND = "unwind"


class AccountStatus(StrEnum):
    """Whether an account can trade."""

    ACTIVE = "ACTIVE"
    LOGIN_REQUIRED = "LOGIN_REQUIRED"
    ORDERS_BLOCKED = "ORDERS_BLOCKED"


class CapitalFrom(StrEnum):
    """Who says what an account's capital is: a person, or the broker's margins as they are read."""

    STATED = "STATED"
    BROKER = "BROKER"


class KillState(StrEnum):
    """Stage of a kill switch scope (contract section 8)."""

    ARMED = "ARMED"
    BLOCKED = "BLOCKED"
    CANCELLING = "CANCELLING"
    FLATTENING = "FLATTENING"
    FLAT_VERIFIED = "FLAT_VERIFIED"
    FLAT_FAILED = "FLAT_FAILED"


class KillMode(StrEnum):
    """What a kill switch does beyond blocking: nothing, cancel what works, or cancel and square off (flatten)."""

    BLOCK = "BLOCK"
    CANCEL = "CANCEL"
    SQUARE_OFF = "SQUARE_OFF"

    @property
    def rank(self) -> int:
        """Order of strength: a second trip may only raise it."""
        return _KILL_MODES.index(self)


_KILL_MODES = tuple(KillMode)
