"""The signals of a benchmark: each has a price of its own, which is how its orders are known at the broker.

BUY and SELL of a symbol take turns, one unit each, so that positions stay flat.
"""

import hashlib
import hmac
import time
from collections.abc import Callable
from urllib.parse import urlsplit
from uuid import uuid4

SYMBOLS = (
    *("RELIANCE", "TCS", "INFY", "HDFCBANK", "ICICIBANK", "SBIN", "ITC", "LT", "AXISBANK", "KOTAKBANK"),
    *("BHARTIARTL", "HINDUNILVR", "BAJFINANCE", "MARUTI", "ASIANPAINT", "TITAN", "SUNPHARMA", "WIPRO", "HCLTECH"),
    "NTPC",
)
PATH = "/api/v1/signals/sheets/webhook"
_FIRST_PAISE, _APART_PAISE = 100_000, 5

Make = Callable[[int], bytes]
"""Returns the whole request of a signal by its number."""


def price_of(number: int) -> str:
    """Return the limit price of signal *number*, rupees."""
    paise = _FIRST_PAISE + _APART_PAISE * number
    return f"{paise // 100}.{paise % 100:02d}"


def number_of(price: str) -> int:
    """Return the signal whose price is *price*; -1 when there is none."""
    whole, _, part = price.partition(".")
    if not whole.isdecimal() or not (part or "0").isdecimal() or part[2:].strip("0"):
        return -1
    paise = int(whole) * 100 + int(part[:2].ljust(2, "0"))
    number, rest = divmod(paise - _FIRST_PAISE, _APART_PAISE)
    return -1 if rest or number < 0 else number


def body_of(number: int) -> bytes:
    """Return the JSON of signal *number*."""
    symbol = SYMBOLS[(number // 2) % len(SYMBOLS)]
    side = "SELL" if number & 1 else "BUY"
    return (
        f'{{"symbol":"{symbol}","exchange":"NSE","transactionType":"{side}","quantity":1,'
        f'"price":{price_of(number)},"orderType":"LIMIT","productType":"MIS"}}'
    ).encode()


def signer(url: str, key: str, secret: str, *, signs_time: bool = True) -> Make:
    """Return what makes the requests of the source *key* to the engine at *url*.

    With *signs_time* the timestamp is signed with the body, as this engine wants it; a peer may sign the body alone.
    """
    host = urlsplit(url).netloc
    octets = secret.encode()
    head = (f"POST {PATH} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nX-API-Key: {key}\r\n").encode()

    def make(number: int) -> bytes:
        body = body_of(number)
        timestamp = b"%d" % time.time()
        signed = timestamp + b"." + body if signs_time else body
        signature = hmac.new(octets, signed, hashlib.sha256).hexdigest().encode()
        return b"%bX-Timestamp: %b\r\nX-Signature: %b\r\nIdempotency-Key: %b\r\nContent-Length: %d\r\n\r\n%b" % (
            head,
            timestamp,
            signature,
            str(uuid4()).encode(),
            len(body),
            body,
        )

    return make
