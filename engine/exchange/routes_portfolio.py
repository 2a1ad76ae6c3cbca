"""Kite's routes of positions, holdings and funds."""

from quart import Response
from quart_trio import QuartTrio

from engine.exchange.errors import missing
from engine.exchange.web import Gateway, form_fields, form_pairs, success


def add_portfolio_routes(app: QuartTrio, gateway: Gateway) -> None:
    """Add positions, holdings and funds to *app*."""
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

    @app.put("/portfolio/positions")
    async def convert() -> Response:
        account, form, now = gateway.reader(), await form_fields(), clock.now()
        data = exchange.portfolio_desk.convert(account, form, exchange.roll(now), now)
        await gateway.settle()
        return success(data)

    @app.get("/portfolio/holdings/compact")
    async def compact_holdings() -> Response:
        data = exchange.compact_holdings(gateway.reader(), clock.now())
        await gateway.settle()
        return success(data)

    @app.get("/portfolio/holdings/summary")
    async def holdings_summary() -> Response:
        data = exchange.holdings_summary(gateway.reader(), clock.now())
        await gateway.settle()
        return success(data)

    @app.get("/portfolio/holdings/auctions")
    async def auctions() -> Response:
        data = exchange.holdings_auctions(gateway.reader(), clock.now())
        await gateway.settle()
        return success(data)

    @app.post("/portfolio/holdings/authorise")
    async def request_authorisation() -> Response:
        account, fields, now = gateway.reader(), await form_pairs(), clock.now()
        isins = [value for name, value in fields if name == "isin"]
        quantities = [value for name, value in fields if name == "quantity"]
        if len(isins) != len(quantities):
            raise missing("quantity" if len(isins) > len(quantities) else "isin")
        asked = list(zip(isins, quantities, strict=True))
        data = exchange.portfolio_desk.request_authorisation(account, asked, exchange.roll(now), now)
        await gateway.settle()
        return success(data)

    @app.get("/connect/portfolio/authorise/holdings/<api_key>/<request_id>")
    async def authorise(api_key: str, request_id: str) -> Response:
        # in the browser, where the owner of the account is logged in
        exchange.portfolio_desk.authorise(api_key, request_id, clock.now())
        await gateway.settle()
        return Response(b"The holdings are authorised for today.\n", content_type="text/plain")

    @app.get("/user/margins")
    @app.get("/user/margins/<segment>")
    async def margins(segment: str | None = None) -> Response:
        data = exchange.margins(gateway.reader(), segment, clock.now())
        await gateway.settle()
        return success(data)
