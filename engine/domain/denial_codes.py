"""Every code of a verdict, what it means and how it is mended; the table for people is made from here.

A code is a limit's name in UPPER_SNAKE, or a rule's. What a broker says of an order that left is not here: that
is its own text.
"""

from enum import StrEnum
from typing import NamedTuple


class Code(StrEnum):
    """What stands at the head of a reason, ``CODE: text``."""

    # limits
    MAX_DAILY_LOSS_PCT = "MAX_DAILY_LOSS_PCT"
    MAX_DAILY_LOSS_AMOUNT = "MAX_DAILY_LOSS_AMOUNT"
    PROFIT_TARGET_AMOUNT = "PROFIT_TARGET_AMOUNT"
    PROFIT_LOCK_GIVEBACK_PCT = "PROFIT_LOCK_GIVEBACK_PCT"
    MAX_DRAWDOWN_AMOUNT = "MAX_DRAWDOWN_AMOUNT"
    MAX_DRAWDOWN_PCT = "MAX_DRAWDOWN_PCT"
    COOLDOWN_AFTER_LOSSES = "COOLDOWN_AFTER_LOSSES"
    MAX_TRADES_PER_DAY = "MAX_TRADES_PER_DAY"
    MAX_POSITION_PCT = "MAX_POSITION_PCT"
    MAX_OPEN_POSITIONS = "MAX_OPEN_POSITIONS"
    MAX_ORDER_VALUE = "MAX_ORDER_VALUE"
    MAX_ORDER_QUANTITY = "MAX_ORDER_QUANTITY"
    PRICE_BAND_PCT = "PRICE_BAND_PCT"
    CIRCUIT_LIMIT = "CIRCUIT_LIMIT"
    LPP_RANGE = "LPP_RANGE"
    MAX_ORDERS_PER_MINUTE = "MAX_ORDERS_PER_MINUTE"
    MAX_ORDERS_PER_DAY = "MAX_ORDERS_PER_DAY"
    MAX_MESSAGES_PER_MINUTE = "MAX_MESSAGES_PER_MINUTE"
    DUPLICATE_WINDOW_S = "DUPLICATE_WINDOW_S"
    SELF_TRADE_GUARD = "SELF_TRADE_GUARD"
    ALLOWED_EXCHANGES = "ALLOWED_EXCHANGES"
    ALLOWED_PRODUCTS = "ALLOWED_PRODUCTS"
    ALLOWED_SEGMENTS = "ALLOWED_SEGMENTS"
    TRADING_WINDOW = "TRADING_WINDOW"
    CIRCUIT_BREAKER_FAILURES = "CIRCUIT_BREAKER_FAILURES"
    # what a limit needs and has not
    CAPITAL_UNKNOWN = "CAPITAL_UNKNOWN"
    PRICE_UNAVAILABLE = "PRICE_UNAVAILABLE"
    # whether anything is traded at all
    KILL_SWITCH = "KILL_SWITCH"
    LOGIN_REQUIRED = "LOGIN_REQUIRED"
    ORDERS_BLOCKED = "ORDERS_BLOCKED"
    MARKET_CLOSED = "MARKET_CLOSED"
    NOT_READY = "NOT_READY"
    CLOCK_SUSPECT = "CLOCK_SUSPECT"
    SIGNAL_TOO_OLD = "SIGNAL_TOO_OLD"
    ENTRY_WINDOW = "ENTRY_WINDOW"
    AFTER_SQUARE_OFF = "AFTER_SQUARE_OFF"
    # what waits for a person
    APPROVAL_EXPIRED = "APPROVAL_EXPIRED"
    PRICE_MOVED = "PRICE_MOVED"
    # closing what a torn group filled
    NOT_HELD = "NOT_HELD"
    # whom and what a signal is for
    STRATEGY_GONE = "STRATEGY_GONE"
    STRATEGY_DISABLED = "STRATEGY_DISABLED"
    ALLOWED_SYMBOLS = "ALLOWED_SYMBOLS"
    SOURCE_ALLOWED_SYMBOLS = "SOURCE_ALLOWED_SYMBOLS"
    SOURCE_MAX_ORDER_VALUE = "SOURCE_MAX_ORDER_VALUE"
    NO_ACCOUNTS = "NO_ACCOUNTS"
    ACCOUNT_NOT_FOUND = "ACCOUNT_NOT_FOUND"
    INSTRUMENTS_NOT_LOADED = "INSTRUMENTS_NOT_LOADED"
    UNKNOWN_SYMBOL = "UNKNOWN_SYMBOL"
    NO_SUCH_CONTRACT = "NO_SUCH_CONTRACT"
    NO_SUCH_EXPIRY = "NO_SUCH_EXPIRY"
    NO_SUCH_STRIKE = "NO_SUCH_STRIKE"
    INSTRUMENT_NOT_TRADABLE = "INSTRUMENT_NOT_TRADABLE"
    # the order itself
    SIZE_ZERO = "SIZE_ZERO"
    SIZE_TOO_LARGE = "SIZE_TOO_LARGE"
    SIZE_NEEDS_STOP = "SIZE_NEEDS_STOP"
    NOTHING_TO_DO = "NOTHING_TO_DO"
    TARGET_BUSY = "TARGET_BUSY"
    QUANTITY_REQUIRED = "QUANTITY_REQUIRED"
    LOT_SIZE = "LOT_SIZE"
    FREEZE_QUANTITY = "FREEZE_QUANTITY"
    TOO_MANY_SLICES = "TOO_MANY_SLICES"
    ICEBERG_LEGS = "ICEBERG_LEGS"
    PRODUCT_NOT_ALLOWED = "PRODUCT_NOT_ALLOWED"
    PRICE_REQUIRED = "PRICE_REQUIRED"
    PRICE_NOT_ALLOWED = "PRICE_NOT_ALLOWED"
    TRIGGER_PRICE_REQUIRED = "TRIGGER_PRICE_REQUIRED"
    TRIGGER_PRICE_NOT_ALLOWED = "TRIGGER_PRICE_NOT_ALLOWED"
    TRIGGER_PRICE_SIDE = "TRIGGER_PRICE_SIDE"
    PRICE_RANGE = "PRICE_RANGE"
    TICK_SIZE = "TICK_SIZE"
    STOP_LOSS_SIDE = "STOP_LOSS_SIDE"
    TARGET_SIDE = "TARGET_SIDE"
    EXIT_QUANTITY = "EXIT_QUANTITY"
    # the engine's own faults
    INTERNAL_ERROR = "INTERNAL_ERROR"


class Entry(NamedTuple):
    """One row of the table: what *code* says, and what mends it."""

    code: Code
    meaning: str
    mend: str


_LIMIT = "change it with PUT /risk/limits/{id} (loosening needs an ADMIN)"
_NEXT_DAY = "wait for the next trading day; reducing orders still pass"

CODES: tuple[Entry, ...] = (
    Entry(Code.MAX_DAILY_LOSS_PCT, "the day's net loss has reached this percentage of the capital", _NEXT_DAY),
    Entry(Code.MAX_DAILY_LOSS_AMOUNT, "the day's net loss has reached this amount", _NEXT_DAY),
    Entry(Code.PROFIT_TARGET_AMOUNT, "the day's net profit has reached its target", _NEXT_DAY),
    Entry(Code.PROFIT_LOCK_GIVEBACK_PCT, "of the day's highest profit this percentage was lost again", _NEXT_DAY),
    Entry(Code.MAX_DRAWDOWN_AMOUNT, "the day's result is this amount below its highest", _NEXT_DAY),
    Entry(Code.MAX_DRAWDOWN_PCT, "it is this percentage of the capital below its highest", _NEXT_DAY),
    Entry(Code.COOLDOWN_AFTER_LOSSES, "so many trades in a row lost; no entries for a while", "wait, or " + _LIMIT),
    Entry(Code.MAX_TRADES_PER_DAY, "so many round trips were made today", _NEXT_DAY),
    Entry(
        Code.MAX_POSITION_PCT, "the symbol's position would be worth more of the capital", "order less, or " + _LIMIT
    ),
    Entry(Code.MAX_OPEN_POSITIONS, "one more position than allowed would be open", "close one, or " + _LIMIT),
    Entry(Code.MAX_ORDER_VALUE, "the order is worth more than one order may be", "order less, or " + _LIMIT),
    Entry(Code.MAX_ORDER_QUANTITY, "the order has more units than one order may have", "order less, or " + _LIMIT),
    Entry(Code.PRICE_BAND_PCT, "the price is too far from the last price", "check the price, or " + _LIMIT),
    Entry(
        Code.CIRCUIT_LIMIT, "the price is outside the exchange's circuit limits", "use a price within the daily range"
    ),
    Entry(
        Code.LPP_RANGE, "the price is outside the exchange's limit price protection", "use a price nearer the market"
    ),
    Entry(Code.MAX_ORDERS_PER_MINUTE, "so many orders were made within 60 seconds", "wait a minute, or " + _LIMIT),
    Entry(Code.MAX_ORDERS_PER_DAY, "so many orders were made today", "wait for the next day, or " + _LIMIT),
    Entry(
        Code.MAX_MESSAGES_PER_MINUTE, "so many signals came within 60 seconds, refused ones counted", "slow the source"
    ),
    Entry(Code.DUPLICATE_WINDOW_S, "the same order was made a moment ago", "send it later, or " + _LIMIT),
    Entry(
        Code.SELF_TRADE_GUARD,
        "a live order of another strategy stands on the other side in the same account",
        "cancel that order, or let the strategies trade different accounts",
    ),
    Entry(Code.ALLOWED_EXCHANGES, "the exchange is not among the allowed", _LIMIT),
    Entry(Code.ALLOWED_PRODUCTS, "the product is not among the allowed", _LIMIT),
    Entry(Code.ALLOWED_SEGMENTS, "the instrument's segment is not among the allowed", _LIMIT),
    Entry(Code.TRADING_WINDOW, "positions are opened within these hours only", "send it within them, or " + _LIMIT),
    Entry(
        Code.CIRCUIT_BREAKER_FAILURES,
        "the broker refused or failed so many orders in a row; entries rest, then one is tried",
        "read the messages of the latest orders; it reopens by itself after the cool-down",
    ),
    Entry(
        Code.CAPITAL_UNKNOWN, "a percentage or a size needs the account's capital", "set the account's field capital"
    ),
    Entry(Code.PRICE_UNAVAILABLE, "a rule needs a price, and none is known", "send a price, or log an account in"),
    Entry(Code.KILL_SWITCH, "a kill switch covers it", "see GET /risk/killswitch/status; an ADMIN disables it"),
    Entry(Code.LOGIN_REQUIRED, "the account's session at the broker has ended", "log the account in"),
    Entry(Code.ORDERS_BLOCKED, "the broker takes no orders of this account", "see the account's statusReason"),
    Entry(Code.MARKET_CLOSED, "the exchange takes no orders now", "send it in market hours, or as an AMO"),
    Entry(
        Code.NOT_READY,
        "the checks of the morning have not passed, and [market] readiness_gate is block; what only reduces passes",
        "mend what GET /system/readiness names, or an ADMIN overrides it",
    ),
    Entry(
        Code.CLOCK_SUSPECT,
        "the wall clock cannot be trusted",
        "set the clock; `engine doctor` shows by how much it is off",
    ),
    Entry(Code.SIGNAL_TOO_OLD, "the signal waited longer than signals.max_age_s", "send it again if it still holds"),
    Entry(
        Code.ENTRY_WINDOW,
        "the strategy enters in other hours; what reduces a position passes at any time",
        "wait, or change the strategy's entryWindow",
    ),
    Entry(
        Code.AFTER_SQUARE_OFF,
        "what it would open was squared off by the clock today; what reduces a position passes",
        "wait for the next trading day, or change [market] square_off_at or the strategy's squareOffAt",
    ),
    Entry(Code.APPROVAL_EXPIRED, "nobody approved it in time", "approve sooner, or raise the strategy's approvalTtlS"),
    Entry(
        Code.PRICE_MOVED,
        "the price moved too far between receipt and approval",
        "send the signal anew, or raise the strategy's approvalPriceMovePct",
    ),
    Entry(
        Code.NOT_HELD,
        "what was to be closed is not held any more, or other orders close it",
        "look at the positions of the account",
    ),
    Entry(Code.STRATEGY_GONE, "the source's strategy was deleted", "give the source another strategy"),
    Entry(Code.STRATEGY_DISABLED, "the strategy is switched off", "PATCH /strategies/{id} {enabled: true}"),
    Entry(Code.ALLOWED_SYMBOLS, "the strategy does not trade this symbol", "add it to the strategy's allowedSymbols"),
    Entry(Code.SOURCE_ALLOWED_SYMBOLS, "the source may not trade this symbol", "add it to the source's allowedSymbols"),
    Entry(Code.SOURCE_MAX_ORDER_VALUE, "the order is worth more than its source may open", "raise maxOrderValue of it"),
    Entry(Code.NO_ACCOUNTS, "the strategy trades no account", "give the strategy an account"),
    Entry(Code.ACCOUNT_NOT_FOUND, "the strategy has no account of the name in the signal", "correct the name"),
    Entry(Code.INSTRUMENTS_NOT_LOADED, "the instrument master has not been loaded yet", "send it again in a moment"),
    Entry(Code.UNKNOWN_SYMBOL, "the instrument master does not have the symbol", "check symbol and exchange"),
    Entry(Code.NO_SUCH_CONTRACT, "no such future or option is listed", "check the underlying"),
    Entry(Code.NO_SUCH_EXPIRY, "the underlying has no contract of this expiry", "use one of the expiries in the text"),
    Entry(Code.NO_SUCH_STRIKE, "no option of this strike is listed", "use one of the strikes in the text"),
    Entry(Code.INSTRUMENT_NOT_TRADABLE, "an index cannot be ordered", "order its future or option"),
    Entry(Code.SIZE_ZERO, "sized for the account it is less than one lot", "raise the strategy's sizing"),
    Entry(Code.SIZE_TOO_LARGE, "sized for the account it is absurdly large", "correct the strategy's sizing"),
    Entry(Code.SIZE_NEEDS_STOP, "sized by risk it needs a stop loss, and has none", "send stopLoss with the signal"),
    Entry(Code.NOTHING_TO_DO, "the position is as asked for already, or soon will be", "nothing"),
    Entry(
        Code.TARGET_BUSY,
        "orders under way may end on either side of the position asked for",
        "cancel them, then send the signal again",
    ),
    Entry(Code.QUANTITY_REQUIRED, "the quantity is not one to trade", "send a positive number of units"),
    Entry(Code.LOT_SIZE, "the quantity is not a whole number of lots", "use a multiple of the lot size"),
    Entry(Code.FREEZE_QUANTITY, "the quantity is over the exchange's largest single order", "order less at a time"),
    Entry(Code.TOO_MANY_SLICES, "it would be split into too many orders", "check the quantity"),
    Entry(Code.ICEBERG_LEGS, "the legs do not fit the quantity", "use fewer legs"),
    Entry(
        Code.PRODUCT_NOT_ALLOWED, "the product does not go with the instrument or variety", "use the one in the text"
    ),
    Entry(Code.PRICE_REQUIRED, "an order of this type needs a price", "add one"),
    Entry(Code.PRICE_NOT_ALLOWED, "an order of this type takes no price", "leave it out"),
    Entry(Code.TRIGGER_PRICE_REQUIRED, "an order of this type needs a trigger price", "add one"),
    Entry(Code.TRIGGER_PRICE_NOT_ALLOWED, "an order of this type takes no trigger price", "leave it out"),
    Entry(Code.TRIGGER_PRICE_SIDE, "the price lies on the wrong side of the trigger", "swap them"),
    Entry(Code.PRICE_RANGE, "the price is none that anything trades at", "check the price"),
    Entry(Code.TICK_SIZE, "the price is not a multiple of the tick", "use one of the prices in the text"),
    Entry(Code.STOP_LOSS_SIDE, "the stop loss lies on the wrong side of the price", "correct it"),
    Entry(Code.TARGET_SIDE, "the target lies on the wrong side of the price", "correct it"),
    Entry(Code.EXIT_QUANTITY, "an attached exit cannot cover more than its entry filled", "make it smaller"),
    Entry(Code.INTERNAL_ERROR, "a fault of the engine; nothing was sent", "send it again, and report the fault"),
)


def table() -> str:
    """Return the table of all codes in Markdown, one row a line."""
    rows = [f"| `{entry.code}` | {entry.meaning} | {entry.mend} |" for entry in CODES]
    return "\n".join(["| code | meaning | mend |", "| --- | --- | --- |", *rows])


def document() -> str:
    """Return the page of all codes in Markdown: engine/CODES.md, written by ``engine codes``."""
    return (
        "# Codes of refusals\n\n"
        "How the `reason` of an intent begins that was refused, why an account was left out of it, and why a kill\n"
        "switch tripped by itself. `engine explain INTENT` shows the numbers. Made by `engine codes`.\n\n"
        f"{table()}\n"
    )
