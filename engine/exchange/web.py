"""What every route of the exchange needs: the core, the record, Kite's envelopes, the form.

Every answer waits until what the core changed is on the disk, reads included: nobody may see an
order that a crash could still take back.
"""

from typing import Any
from urllib.parse import parse_qsl

from quart import Response, request

from engine.clock import Clock
from engine.exchange import rows
from engine.exchange.core import Exchange
from engine.exchange.errors import KiteRefusal, bad_input
from engine.exchange.record import RecordWriter
from engine.exchange.state import Account

_JSON = "application/json"


class Gateway:
    """What a route needs: the core, the clock, and the record that answers wait for."""

    def __init__(self, exchange: Exchange, writer: RecordWriter, clock: Clock) -> None:
        self.exchange = exchange
        self.clock = clock
        self._writer = writer

    async def settle(self) -> None:
        """Wait until everything the core has changed is on the disk."""
        self._writer.append(self.exchange.take_events())
        await self._writer.settled()

    def reader(self) -> Account:
        """Return the account of the request after counting it as a read. Raises KiteRefusal."""
        now = self.clock.now()
        account = self.exchange.authenticate(request.headers.get("Authorization", ""), now)
        self.exchange.limiter.read(account.api_key, now)
        return account


def success(data: Any) -> Response:
    """Return Kite's envelope round *data*."""
    return Response(rows.encode({"status": "success", "data": data}), content_type=_JSON)


def success_encoded(data: bytes) -> Response:
    """Return Kite's envelope round what is already JSON."""
    return Response(b'{"status":"success","data":' + data + b"}", content_type=_JSON)


def refused(refusal: KiteRefusal) -> Response:
    """Return Kite's error envelope."""
    body = {
        "status": "error",
        "message": refusal.message,
        "data": None,
        "error_type": refusal.error_type,
    }
    return Response(rows.encode(body), status=refusal.status, content_type=_JSON)


async def form_pairs() -> list[tuple[str, str]]:
    """Return the form-encoded body as it came: repeated fields and empty ones included."""
    body: bytes = await request.get_data(cache=True, as_text=False, parse_form_data=False)
    try:
        return parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=100)
    except ValueError as exc:
        raise bad_input("The request body is not form-encoded UTF-8.") from exc


async def form_fields() -> dict[str, str]:
    """Return the form-encoded body; of a repeated field the last, empty ones included."""
    return dict(await form_pairs())
