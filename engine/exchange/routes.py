"""Kite Connect's HTTP routes over the exchange's core.

Every answer waits until what the core changed is on the disk, reads included: nobody may see an
order that a crash could still take back.
"""

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from engine.clock import Clock
from engine.exchange import rows
from engine.exchange.core import Action, Exchange
from engine.exchange.errors import KiteRefusal, bad_input, unknown_instrument
from engine.exchange.forms import EXCHANGES
from engine.exchange.quotes import QuoteForm
from engine.exchange.record import RecordWriter
from engine.exchange.state import Account

MAX_BODY_BYTES = 256 * 1024
_JSON = "application/json"
_MOST_QUOTES = {"full": 500, "ohlc": 1000, "ltp": 1000}


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


def build_app(gateway: Gateway) -> QuartTrio:
    """Return the application. It keeps no state of its own."""
    app = QuartTrio("engine.exchange", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.register_error_handler(KiteRefusal, _refusal_handler(gateway))
    app.register_error_handler(HTTPException, _http_error)
    _add_session_routes(app, gateway)
    _add_order_routes(app, gateway)
    _add_portfolio_routes(app, gateway)
    _add_market_routes(app, gateway)
    return app


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


async def form_fields() -> dict[str, str]:
    """Return the form-encoded body; of a repeated field the last, empty ones included."""
    body: bytes = await request.get_data(cache=True, as_text=False, parse_form_data=False)
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=100))
    except ValueError as exc:
        raise bad_input("The request body is not form-encoded UTF-8.") from exc


def _add_session_routes(app: QuartTrio, gateway: Gateway) -> None:
    exchange, clock = gateway.exchange, gateway.clock

    @app.get("/connect/login")
    async def log_in() -> Response:
        location = exchange.login_redirect(
            request.args.get("api_key", ""), request.args.get("redirect_params", ""), clock.now()
        )
        return Response(b"", status=302, headers={"Location": location}, content_type="text/plain")

    @app.post("/session/token")
    async def open_session() -> Response:
        data = exchange.open_session(await form_fields(), clock.now())
        await gateway.settle()
        return success(data)

    @app.delete("/session/token")
    async def close_session() -> Response:
        exchange.close_session(request.args.get("api_key", ""), request.args.get("access_token", ""), clock.now())
        await gateway.settle()
        return success(True)

    @app.get("/user/profile")
    async def profile() -> Response:
        return success(rows.profile_row(gateway.reader()))


def _add_order_routes(app: QuartTrio, gateway: Gateway) -> None:
    exchange, clock = gateway.exchange, gateway.clock

    async def write(action: Action, variety: str, order_id: str | None) -> Response:
        params = await form_fields()
        if action == "cancel":
            params |= request.args.to_dict()
        header = request.headers.get("Authorization", "")
        data = exchange.request_order(action, header, variety, order_id, params, clock.now())
        await gateway.settle()
        return success(data)

    @app.post("/orders/<variety>")
    async def place(variety: str) -> Response:
        return await write("place", variety, None)

    @app.put("/orders/<variety>/<order_id>")
    async def modify(variety: str, order_id: str) -> Response:
        return await write("modify", variety, order_id)

    @app.delete("/orders/<variety>/<order_id>")
    async def cancel(variety: str, order_id: str) -> Response:
        return await write("cancel", variety, order_id)

    @app.get("/orders")
    async def orders() -> Response:
        body = exchange.orders(gateway.reader(), clock.now())
        await gateway.settle()
        return success_encoded(body)

    @app.get("/orders/<order_id>")
    async def order_history(order_id: str) -> Response:
        return await settled(exchange.order_history(gateway.reader(), order_id, clock.now()))

    @app.get("/orders/<order_id>/trades")
    async def order_trades(order_id: str) -> Response:
        return await settled(exchange.order_trades(gateway.reader(), order_id, clock.now()))

    @app.get("/trades")
    async def trades() -> Response:
        return await settled(exchange.trades(gateway.reader(), clock.now()))

    async def settled(data: Any) -> Response:
        await gateway.settle()
        return success(data)


def _add_portfolio_routes(app: QuartTrio, gateway: Gateway) -> None:
    exchange, clock = gateway.exchange, gateway.clock

    @app.get("/portfolio/positions")
    async def positions() -> Response:
        data = exchange.positions(gateway.reader(), clock.now())
        await gateway.settle()
        return success(data)

    @app.get("/portfolio/holdings")
    async def holdings() -> Response:
        data = exchange.holdings(gateway.reader(), clock.now())
        await gateway.settle()
        return success(data)

    @app.get("/user/margins")
    @app.get("/user/margins/<segment>")
    async def margins(segment: str | None = None) -> Response:
        data = exchange.margins(gateway.reader(), segment, clock.now())
        await gateway.settle()
        return success(data)


def _add_market_routes(app: QuartTrio, gateway: Gateway) -> None:
    exchange, clock = gateway.exchange, gateway.clock

    def quotes(form: QuoteForm) -> Response:
        now = clock.now()
        account = exchange.authenticate(request.headers.get("Authorization", ""), now)
        exchange.limiter.quote(account.api_key, now)
        names = request.args.getlist("i")
        if len(names) > _MOST_QUOTES[form]:
            raise bad_input(f"At most {_MOST_QUOTES[form]} instruments can be asked for at a time.")
        return success(exchange.quotes(names, form, now))

    @app.get("/quote")
    async def full() -> Response:
        return quotes("full")

    @app.get("/quote/ohlc")
    async def ohlc() -> Response:
        return quotes("ohlc")

    @app.get("/quote/ltp")
    async def ltp() -> Response:
        return quotes("ltp")

    @app.get("/instruments")
    @app.get("/instruments/<exchange_name>")
    async def instruments(exchange_name: str | None = None) -> Response:
        # Kite does not check the session here (kite.md 2)
        now = clock.now()
        exchange.limiter.read(request.headers.get("Authorization", "").partition(":")[0], now)
        if exchange_name is not None and exchange_name not in EXCHANGES:
            raise unknown_instrument()
        return Response(exchange.roll(now).csv(exchange_name), content_type="text/csv")


def _refusal_handler(gateway: Gateway) -> Callable[[KiteRefusal], Awaitable[Response]]:
    async def answer(refusal: KiteRefusal) -> Response:
        await gateway.settle()
        return refused(refusal)

    return answer


async def _http_error(error: HTTPException) -> Response:
    status = error.code or 500
    match status:
        case 404:
            refusal = KiteRefusal(404, "GeneralException", "Route not found")
        case 405:
            refusal = KiteRefusal(405, "GeneralException", "Method not allowed")
        case 413:
            refusal = KiteRefusal(413, "InputException", f"The request body is over {MAX_BODY_BYTES} bytes.")
        case status if status < 500:
            refusal = KiteRefusal(status, "InputException", error.description or "Bad request")
        case _:
            refusal = KiteRefusal(500, "GeneralException", "Something went wrong. Please try again later.")
    return refused(refusal)
