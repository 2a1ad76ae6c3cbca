"""Refusals in Kite's own words: HTTP status, error_type and message (kite.md 3, 7 and appendix B)."""

from decimal import Decimal

from engine.errors import EngineError
from engine.exchange.config import RefusalClass


class KiteRefusal(EngineError):
    """A request the exchange refuses, as the wire says it.

    ``raw`` is the text of the order management system, shown as ``status_message_raw`` where the
    refusal becomes a REJECTED order; ``about`` is the class of those that may.
    """

    def __init__(
        self,
        status: int,
        error_type: str,
        message: str,
        *,
        raw: str | None = None,
        about: RefusalClass | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error_type = error_type
        self.message = message
        self.raw = raw
        self.about = about


def bad_input(message: str) -> KiteRefusal:
    """400 InputException with *message*."""
    return KiteRefusal(400, "InputException", message)


def missing(field: str) -> KiteRefusal:
    """A required form field is absent or empty."""
    return bad_input(f"Missing or empty field `{field}`")


def invalid(field: str) -> KiteRefusal:
    """A form field holds something it cannot hold."""
    return bad_input(f"Invalid `{field}`.")


def wrong_token() -> KiteRefusal:
    """The session is not valid."""
    return KiteRefusal(403, "TokenException", "Incorrect `api_key` or `access_token`.")


def wrong_request_token() -> KiteRefusal:
    """The request token was used before, is too old or was never issued."""
    return KiteRefusal(403, "TokenException", "Token is invalid or has expired.")


def wrong_checksum() -> KiteRefusal:
    """The login checksum does not fit."""
    return KiteRefusal(403, "TokenException", "Invalid `checksum`.")


def unknown_instrument() -> KiteRefusal:
    """No such instrument in today's master."""
    return bad_input("The instrument you are placing an order for has either expired or does not exist.")


def not_tradable() -> KiteRefusal:
    """An index cannot be bought."""
    return bad_input("The instrument you are placing an order for is not tradable.")


def off_lot(lot_size: int) -> KiteRefusal:
    """Quantity is not whole lots."""
    return bad_input(f"Quantity should be in multiples of the lot size {lot_size}.")


def off_tick(tick: Decimal, word: str) -> KiteRefusal:
    """A price is not a multiple of the tick; *word* is "price" or "trigger price"."""
    shown = f"{tick:.2f}" if tick == tick.quantize(Decimal("0.01")) else f"{tick}"
    return KiteRefusal(
        400,
        "InputException",
        f"Tick size for this script is {shown}. Kindly enter {word} in the multiple of tick size for this script",
        raw=f"16316 : The {word} is not a multiple of tick size",
        about="tick",
    )


def over_freeze(quantity: int, freeze: int, lot_size: int) -> KiteRefusal:
    """One order may not be larger than the freeze quantity."""
    return KiteRefusal(
        400,
        "InputException",
        f"The order quantity {quantity} ({quantity // lot_size} lots) is higher than the maximum quantity of "
        f"{freeze} ({freeze // lot_size} lots) allowed by the exchanges. "
        "Please reduce the order quantity or use iceberg orders.",
        raw="RMS:Rule: Check freeze quantity for NSE FO",
        about="freeze",
    )


def under_slice(freeze: int) -> KiteRefusal:
    """Autoslice of a quantity that needs none."""
    return bad_input(f"Quantity should be greater than or equal to {freeze} for order slicing.")


def unprotected() -> KiteRefusal:
    """MARKET or SL-M without market protection (refused since 1 April 2026)."""
    return bad_input(
        "Market orders without market protection are not allowed via API. "
        "Please set market protection or use a Limit order."
    )


def closed_for_mis() -> KiteRefusal:
    """Intraday order while the market is closed."""
    return KiteRefusal(
        400,
        "InputException",
        "MIS (intraday) are blocked as the markets are not open for trading today. Try placing an AMO order.",
        about="hours",
        raw="16278 : The markets have not been opened for trading",
    )


def closed() -> KiteRefusal:
    """Any other order while the market is closed."""
    text = "16278 : The markets have not been opened for trading"
    return KiteRefusal(400, "InputException", text, about="hours", raw=text)


def outside_circuit(price: Decimal, lower: Decimal, upper: Decimal, user_id: str) -> KiteRefusal:
    """Limit price outside the day's range."""
    low = price < lower
    bound = (
        f"lower than the current lower circuit limit of {lower}"
        if low
        else (f"higher than the current upper circuit limit of {upper}")
    )
    return KiteRefusal(
        400,
        "InputException",
        f"Your order price is {bound}. Place an order within the daily range.",
        about="circuit",
        raw=(
            f"RMS:Rule: Check circuit limit including square off order exceeds  for entity account-{user_id} "
            f"across exchange across segment across product : Circuit breach, Order Price :{price}, "
            f"Low Price Range:{lower} High Price Range:{upper}"
        ),
    )


def trigger_outside_circuit(side: str, lower: Decimal, upper: Decimal) -> KiteRefusal:
    """Trigger price outside the day's range."""
    text = (
        "Trigger price for stoploss sell orders cannot be below the lower circuit price. "
        f"Please try placing the order with trigger price above {lower}."
        if side == "SELL"
        else "Trigger price for stoploss buy orders cannot be above the upper circuit price. "
        f"Please try placing the order with trigger price below {upper}."
    )
    return KiteRefusal(400, "InputException", text, about="circuit", raw=text)


def beyond_price_protection() -> KiteRefusal:
    """Beyond the exchange's limit price protection, which is told as a circuit limit."""
    text = "Price exceeds circuit limits for the instrument. Place an order within the daily range."
    return KiteRefusal(400, "InputException", text, raw=f"17070 : {text}", about="lpp")


def far_limit() -> KiteRefusal:
    """A LIMIT order too far from the market."""
    text = (
        "LIMIT orders that are far away from the LTP are restricted as per exchange guidelines. "
        "Please use [GTT](https://support.zerodha.com/category/trading-and-markets/gtt)."
    )
    return KiteRefusal(400, "InputException", text, raw=f"RMS:Rule: {text}", about="far_limit")


def trigger_outside_cover(least: Decimal, most: Decimal) -> KiteRefusal:
    """The stop of a cover order is too far from its entry, or on its wrong side."""
    return KiteRefusal(
        400,
        "InputException",
        f"Trigger price of a cover order should be between {least} and {most}.",
        raw=f"RMS:Rule: Trigger price of cover order outside {least} to {most}",
        about="circuit",
    )


def short_of_funds(required: Decimal, available: Decimal, user_id: str) -> KiteRefusal:
    """The account's money does not reach."""
    return KiteRefusal(
        400,
        "MarginException",
        f"Insufficient funds. Required margin is {required:.2f} but available margin is {available:.2f}. "
        "Check the orderbook for open orders.",
        about="funds",
        raw=(
            f"RMS:Margin Exceeds,Required:{required:.2f}, Available:{available:.2f} for entity account-{user_id} "
            "across exchange across segment across product "
        ),
    )


def short_of_holdings(user_id: str) -> KiteRefusal:
    """A delivery sale of what is not held."""
    return KiteRefusal(
        400,
        "HoldingException",
        "Insufficient stock holding or there are pending sell orders for this stock. Check the orderbook.",
        about="holdings",
        raw=(
            "RMS:Rule: Check T1 holdings including TT/BE/Z/T/TS ,No Holdings Present  for entity "
            f"account-{user_id} across exchange across segment across product "
        ),
    )


def unauthorised(quantity: int) -> KiteRefusal:
    """Shares of the demat account whose delivery was not authorised."""
    return KiteRefusal(428, "HoldingException", f"{quantity} quantity needs authorisation at depository.")


def busy(verb: str) -> KiteRefusal:
    """Modify or cancel of what is in flight or over; *verb* is "modified" or "cancelled"."""
    return bad_input(f"Order cannot be {verb} as it is being processed. Try later.")


def no_longer_there(order_id: str) -> KiteRefusal:
    """Cancel of an order that has just ended, in the newer words of the order management system."""
    return KiteRefusal(400, "OrderException", f"The order for ID ({order_id}) does not exist.")


def unknown_order() -> KiteRefusal:
    """No such order in today's book of this account."""
    return KiteRefusal(500, "GeneralException", "Couldn't find that `order_id`.")


def unknown_trigger() -> KiteRefusal:
    """No such good-till-triggered order of this account."""
    return KiteRefusal(404, "GeneralException", "Couldn't find that `trigger_id`.")


def modification_cap() -> KiteRefusal:
    """The order was modified as often as it may be."""
    return KiteRefusal(429, "NetworkException", "Maximum allowed order modifications exceeded.")


def order_cap() -> KiteRefusal:
    """The minute's or day's order requests are used up."""
    return KiteRefusal(429, "NetworkException", "Maximum allowed order requests exceeded.")


def too_many() -> KiteRefusal:
    """Too many requests in this second, or still in the penalty for it."""
    return KiteRefusal(429, "NetworkException", "Too many requests")
