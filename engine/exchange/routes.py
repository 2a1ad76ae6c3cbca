"""Kite Connect's HTTP routes over the exchange's core: the application, sessions and market data."""

from collections.abc import Awaitable, Callable

from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from engine.exchange import rows
from engine.exchange.errors import KiteRefusal, wrong_token
from engine.exchange.page import add_page
from engine.exchange.routes_calculators import add_calculator_routes
from engine.exchange.routes_gtt import add_gtt_routes
from engine.exchange.routes_market import add_market_routes
from engine.exchange.routes_orders import add_order_routes
from engine.exchange.routes_portfolio import add_portfolio_routes
from engine.exchange.web import Gateway, form_fields, refused, success, success_encoded

__all__ = ["Gateway", "build_app", "form_fields", "refused", "success", "success_encoded"]

MAX_BODY_BYTES = 256 * 1024


def bare_app(gateway: Gateway) -> QuartTrio:
    """Return an application without routes that refuses as Kite does, and any write out of a page in a browser."""
    app = QuartTrio("engine.exchange", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.before_request(_refuse_pages)
    app.register_error_handler(KiteRefusal, _refusal_handler(gateway))
    app.register_error_handler(HTTPException, _http_error)
    return app


def build_app(gateway: Gateway) -> QuartTrio:
    """Return the application. It keeps no state of its own."""
    app = bare_app(gateway)
    _add_session_routes(app, gateway)
    add_order_routes(app, gateway)
    add_gtt_routes(app, gateway)
    add_portfolio_routes(app, gateway)
    add_calculator_routes(app, gateway)
    add_market_routes(app, gateway)
    add_page(app, gateway)
    return app


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

    @app.get("/user/profile/full")
    async def full_profile() -> Response:
        return success(rows.full_profile_row(gateway.reader()))

    @app.get("/user/profile")
    async def profile() -> Response:
        return success(rows.profile_row(gateway.reader()))


async def _refuse_pages() -> None:
    # no client of Kite is a page; one of a stranger can post forms here, and fill the record with them
    if "Origin" in request.headers and request.method not in ("GET", "HEAD"):
        raise wrong_token()


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
