"""Kite's postback: a POST to the app's registered address when an order has changed. Pure.

The checksum is SHA-256 of order id, order timestamp and the app's secret (Kite Connect v3, postbacks). It
covers neither status, quantity nor user, so that the body proves nothing but that the order exists: it is a
reason to read the order book and never data.
"""

import hashlib
import hmac
import re

import msgspec

from engine.errors import BrokerUnavailable

_ORDER_ID = re.compile(r"[0-9A-Za-z]{1,40}", re.ASCII)
# of fixed length, so that no digit of the id can be moved into it under the same checksum
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", re.ASCII)


class Postback(msgspec.Struct, frozen=True):
    """What is used of a postback; the timestamp is kept exactly as it was sent.

    ``user_id`` is the Zerodha user whose order it is, None when it names nobody.
    """

    order_id: str
    order_timestamp: str
    checksum: str
    user_id: str | None = None

    def is_signed_with(self, secret: str) -> bool:
        """Whether the checksum was made with *secret*, in constant time; never with an empty one."""
        expected = hashlib.sha256(f"{self.order_id}{self.order_timestamp}{secret}".encode()).hexdigest()
        return hmac.compare_digest(self.checksum.encode(), expected.encode()) and bool(secret)


_DECODER = msgspec.json.Decoder(Postback)


def parse_postback(body: bytes) -> Postback:
    """Return the postback in *body*. Raises BrokerUnavailable naming what is missing."""
    try:
        postback = _DECODER.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
        raise BrokerUnavailable(f"postback cannot be read: {exc}") from exc
    if not _ORDER_ID.fullmatch(postback.order_id) or not _TIMESTAMP.fullmatch(postback.order_timestamp):
        raise BrokerUnavailable("postback: order_id or order_timestamp is not one of Kite's")
    return postback
