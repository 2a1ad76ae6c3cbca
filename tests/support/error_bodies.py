"""The error answers that Kite is known to give (kite.md appendix B), byte for byte, and what each must come to."""

from dataclasses import dataclass

from engine.broker.base import (
    BrokerAuthError,
    BrokerNotPermitted,
    BrokerUnavailable,
    RefusalCode,
    Refused,
    Unknown,
    WriteOutcome,
)
from engine.broker.kite.reads import ReadRateLimited
from tests.support.kite_book import reply

JSON = "application/json"


@dataclass(frozen=True)
class ErrorAnswer:
    """One answer. ``placing`` and ``changing``: the code of the refusal it is to a placement and to a modify or
    cancel, None where it proves nothing; ``reading``: the very class of the error it is to a read."""

    name: str
    status: int
    body: bytes
    placing: RefusalCode | None
    changing: RefusalCode | None
    reading: type[BrokerUnavailable] = BrokerUnavailable
    content_type: str | None = JSON

    @property
    def raw(self) -> bytes:
        """The HTTP answer."""
        return reply(self.status, self.body, self.content_type)

    def check_write(self, outcome: WriteOutcome, *, change: bool) -> None:
        """Assert that *outcome* is what this answer to a write means."""
        code = self.changing if change else self.placing
        if code is None:
            assert isinstance(outcome, Unknown), outcome
            assert str(self.status) in outcome.reason
            return
        assert isinstance(outcome, Refused), outcome
        assert (outcome.code, outcome.status) == (code, self.status)
        assert outcome.auth_blocked is (code is RefusalCode.TOKEN_DEAD)
        assert outcome.orders_blocked is (code in (RefusalCode.STATIC_IP, RefusalCode.PERMISSION))
        assert outcome.rate_limited is (code in (RefusalCode.RATE_LIMITED, RefusalCode.ORDER_CAP))


_PAGE = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body><h1>502 Bad Gateway</h1></body>\r\n</html>\r\n"
_DOWN = b'{"status":"error","message":"Gateway timed out.","data":null,"error_type":"NetworkException"}'
C = RefusalCode

ANSWERS = (
    ErrorAnswer(
        "dead token", 403,
        b'{"status":"error","message":"Incorrect `api_key` or `access_token`.","data":null,'
        b'"error_type":"TokenException"}',
        C.TOKEN_DEAD, C.TOKEN_DEAD, BrokerAuthError,
    ),
    ErrorAnswer(
        "permission", 403,
        b'{"status":"error","message":"Insufficient permission for that call.","data":null,'
        b'"error_type":"PermissionException"}',
        C.PERMISSION, C.PERMISSION, BrokerNotPermitted,
    ),
    ErrorAnswer(
        "static IP", 403,
        b'{"status":"error","message":"IP (203.0.113.9) is not allowed to place orders for this app. Update allowed '
        b"IPs on the Kite developer console. Learn more - https://support.zerodha.com/category/trading-and-markets/"
        b'general-kite/kite-api/articles/static-ip","data":null,"error_type":"PermissionException"}',
        C.STATIC_IP, C.STATIC_IP, BrokerNotPermitted,
    ),
    ErrorAnswer(
        "market protection", 400,
        b'{"status":"error","message":"Market orders without market protection are not allowed via API. Please set '
        b'market protection or use a Limit order.","data":null,"error_type":"InputException"}',
        C.MARKET_PROTECTION, C.MARKET_PROTECTION,
    ),
    ErrorAnswer(
        "funds", 400,
        b'{"status":"error","message":"Insufficient funds. Required margin is 95417.84 but available margin is '
        b'74251.80. Check the orderbook for open orders.","data":null,"error_type":"MarginException"}',
        C.FUNDS, C.FUNDS,
    ),
    ErrorAnswer(
        "freeze quantity", 400,
        b'{"status":"error","message":"The order quantity 1000 (40 lots) is higher than the maximum quantity of 900 '
        b"(36 lots) allowed by the exchanges. Please reduce the order quantity or use iceberg orders.\","
        b'"data":null,"error_type":"InputException"}',
        C.FREEZE_QUANTITY, C.FREEZE_QUANTITY,
    ),
    ErrorAnswer(
        "in flight", 400,
        b'{"status":"error","message":"Order cannot be modified as it is being processed. Try later.","data":null,'
        b'"error_type":"InputException"}',
        C.ORDER_BUSY, C.ORDER_BUSY,
    ),
    ErrorAnswer(
        "timed out", 400,
        b'{"status":"error","message":"Order request timed out. Please check the order book and confirm before '
        b'placing again.","data":null,"error_type":"OrderException"}',
        None, None,
    ),
    ErrorAnswer(
        "depository", 428,
        b'{"status":"error","message":"10 quantity needs authorisation at depository.","data":null,'
        b'"error_type":"HoldingException"}',
        C.HOLDINGS, C.HOLDINGS,
    ),
    ErrorAnswer(
        "rate", 429,
        b'{"status":"error","message":"Too many requests","data":null,"error_type":"NetworkException"}',
        C.RATE_LIMITED, C.RATE_LIMITED, ReadRateLimited,
    ),
    ErrorAnswer(
        "order cap", 429,
        b'{"status":"error","message":"Maximum allowed order requests exceeded.","data":null,'
        b'"error_type":"NetworkException"}',
        C.ORDER_CAP, C.ORDER_CAP, ReadRateLimited,
    ),
    ErrorAnswer(
        "unknown order", 500,
        b'{"status":"error","message":"Couldn\'t find that `order_id`.","data":null,"error_type":"GeneralException"}',
        None, C.ORDER_NOT_FOUND,
    ),
    ErrorAnswer("CDN page", 502, _PAGE, None, None, content_type="text/html"),
    ErrorAnswer("API down", 503, _DOWN, None, None),
    ErrorAnswer("gateway timeout", 504, _DOWN, None, None),
    ErrorAnswer("gateway timeout without a content type", 504, b"", None, None, content_type=None),
)  # fmt: skip
BY_NAME = {answer.name: answer for answer in ANSWERS}
