"""The fast lane: order writes and the reads that clients repeat, answered without an application framework.

It takes what `engine.exchange.routes` would do of a plain request and answers the same bytes at a tenth of the
cost. What it is not sure of, and what a fault could hit, it leaves alone: the routes, and the fault gate
in front of them, have it then.
"""

import logging
import re
import time
from collections.abc import Callable
from urllib.parse import parse_qsl

from engine.clock import Clock
from engine.exchange import rows
from engine.exchange.core import Action, Exchange
from engine.exchange.errors import KiteRefusal
from engine.exchange.fault_gate import kind_of
from engine.exchange.faults import Faults
from engine.exchange.lean_http import Answers, Request
from engine.exchange.record import RecordWriter
from engine.exchange.state import Account

_log = logging.getLogger("engine.exchange")

_PLACE = re.compile(r"/orders/([a-z]+)")
_CHANGE = re.compile(r"/orders/([a-z]+)/([0-9]+)")
_CHANGES: dict[bytes, Action] = {b"PUT": "modify", b"DELETE": "cancel"}
# nothing in it that two decoders could take differently
_PLAIN_QUERY = re.compile(r"(?:[A-Za-z0-9_.:=&+-]|%3[Aa]|%20|%26)*")
_MOST_FIELDS = 100
_MOST_LAST_PRICES = 1000
_SAME_AS_ROUTES = KiteRefusal(500, "GeneralException", "Something went wrong. Please try again later.")


class FastLane:
    """Answers plain requests. An answer may leave only after `settle`."""

    def __init__(
        self,
        exchange: Exchange,
        writer: RecordWriter,
        clock: Clock,
        faults: Faults,
        *,
        wall_time: Callable[[], float] = time.time,
    ) -> None:
        """*wall_time* is for the ``date`` header alone."""
        self._exchange = exchange
        self._writer = writer
        self._clock = clock
        self._faults = faults
        self._answers = Answers(wall_time)
        self._reads: dict[str, Callable[[Account], bytes]] = {
            "/orders": lambda account: exchange.orders(account, clock.now()),
            "/trades": lambda account: rows.encode(exchange.trades(account, clock.now())),
            "/portfolio/positions": lambda account: rows.encode(exchange.positions(account, clock.now())),
        }

    def answer(self, request: Request, address: str | None) -> tuple[bytes, ...] | None:
        """Do what *request* from *address* asks and return the parts of the answer.

        None, with nothing done, when it is not for this lane.
        """
        work = self._work(request, address)
        if work is None or (self._faults.are_on and self._could_be_hit(request)):
            return None
        try:
            answer = self._answers.json(200, b'{"status":"success","data":', work(), b"}")
        except KiteRefusal as refusal:
            answer = self._refused(refusal)
        except Exception:
            # as the routes do: one request's failure is its own
            _log.exception("a request failed: %s %s", request.method.decode(), request.path)
            answer = self._refused(_SAME_AS_ROUTES)
        self._writer.append(self._exchange.take_events())
        return answer

    async def settle(self) -> None:
        """Wait until everything that was answered so far is on the disk."""
        await self._writer.settled()

    def _refused(self, refusal: KiteRefusal) -> tuple[bytes, ...]:
        body = {"status": "error", "message": refusal.message, "data": None, "error_type": refusal.error_type}
        return self._answers.json(refusal.status, rows.encode(body))

    def _could_be_hit(self, request: Request) -> bool:
        return self._faults.could_hit(kind_of(request.method.decode(), request.path))

    def _work(self, request: Request, address: str | None) -> Callable[[], bytes] | None:
        if request.method == b"GET":
            return self._read(request)
        form = form_fields(request.body)
        if form is None:
            return None
        if request.method == b"POST":
            found = _PLACE.fullmatch(request.path)
            if found is None:
                return None
            return self._write("place", request, address, found[1], None, form)
        action = _CHANGES.get(request.method)
        found = _CHANGE.fullmatch(request.path)
        if action is None or found is None:
            return None
        if action == "cancel" and request.query:
            if not _PLAIN_QUERY.fullmatch(request.query):
                return None
            # of a repeated name the first, unlike in a form
            form |= dict(reversed(parse_qsl(request.query, keep_blank_values=True)))
        return self._write(action, request, address, found[1], found[2], form)

    def _write(
        self,
        action: Action,
        request: Request,
        address: str | None,
        variety: str,
        order_id: str | None,
        form: dict[str, str],
    ) -> Callable[[], bytes]:
        def work() -> bytes:
            header, now = request.authorization, self._clock.now()
            return rows.encode(self._exchange.request_order(action, header, variety, order_id, form, now, address))

        return work

    def _read(self, request: Request) -> Callable[[], bytes] | None:
        if request.path == "/quote/ltp":
            return self._last_prices(request)
        read = self._reads.get(request.path)
        if read is None or request.query:
            return None

        def work() -> bytes:
            now = self._clock.now()
            account = self._exchange.authenticate(request.authorization, now)
            self._exchange.limiter.read(account.api_key, now)
            return read(account)

        return work

    def _last_prices(self, request: Request) -> Callable[[], bytes] | None:
        if not _PLAIN_QUERY.fullmatch(request.query):
            return None
        names = [value for name, value in parse_qsl(request.query, keep_blank_values=True) if name == "i"]
        if len(names) > _MOST_LAST_PRICES:
            return None

        def work() -> bytes:
            now = self._clock.now()
            account = self._exchange.authenticate(request.authorization, now)
            self._exchange.limiter.quote(account.api_key, now)
            return rows.encode(self._exchange.quotes(names, "ltp", now))

        return work


def form_fields(body: bytes) -> dict[str, str] | None:
    """Return a form as ``dict(parse_qsl(…, keep_blank_values=True))`` does; None for one that cannot be read."""
    try:
        text = body.decode()
        if "%" in text or "+" in text:
            return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS))
    except ValueError:
        return None
    pieces = text.split("&")
    if len(pieces) > _MOST_FIELDS:
        return None
    form: dict[str, str] = {}
    for piece in pieces:
        if piece:
            name, _, value = piece.partition("=")
            form[name] = value
    return form
