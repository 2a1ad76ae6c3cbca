"""Kite's routes of positions, holdings and funds."""

from quart import Response
from quart_trio import QuartTrio

from engine.exchange.web import Gateway, success


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

    @app.get("/user/margins")
    @app.get("/user/margins/<segment>")
    async def margins(segment: str | None = None) -> Response:
        data = exchange.margins(gateway.reader(), segment, clock.now())
        await gateway.settle()
        return success(data)
