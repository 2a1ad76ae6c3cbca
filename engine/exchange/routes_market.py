"""Quotes, instruments and candles over HTTP (kite.md 11, 12)."""

import trio
from quart import Response, request
from quart_trio import QuartTrio

from engine.exchange import history, rows
from engine.exchange.errors import bad_input, unknown_instrument
from engine.exchange.forms import EXCHANGES
from engine.exchange.quotes import QuoteForm
from engine.exchange.web import Gateway, success, success_encoded

_MOST_QUOTES = {"full": 500, "ohlc": 1000, "ltp": 1000}


def add_market_routes(app: QuartTrio, gateway: Gateway) -> None:
    """Add the market data routes to *app*."""
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
        master, headers = exchange.roll(now), {"Vary": "Accept-Encoding"}
        if request.accept_encodings["gzip"] <= 0:
            return Response(master.csv(exchange_name), headers=headers, content_type="text/csv")
        headers["Content-Encoding"] = "gzip"
        return Response(master.zipped_csv(exchange_name), headers=headers, content_type="text/csv")

    @app.get("/instruments/historical/<token>/<interval>")
    async def candles(token: str, interval: str) -> Response:
        now = clock.now()
        account = exchange.authenticate(request.headers.get("Authorization", ""), now)
        exchange.limiter.history(account.api_key, now)
        asked = history.read_request(token, interval, request.args, exchange.roll(now))

        def encoded() -> bytes:
            return rows.encode({"candles": history.candles(asked, exchange.market, now)})

        # pure, and some 100,000 candles take seconds: not in the way of orders
        return success_encoded(await trio.to_thread.run_sync(encoded))
