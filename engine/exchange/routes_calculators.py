"""Kite's routes of margin and charge calculators, which take JSON arrays."""

from typing import Any

from quart import Response, request
from quart_trio import QuartTrio

from engine.exchange.calculators import wants
from engine.exchange.web import Gateway, success


def add_calculator_routes(app: QuartTrio, gateway: Gateway) -> None:
    """Add the calculators to *app*."""
    exchange, clock = gateway.exchange, gateway.clock

    async def settled(data: Any) -> Response:
        await gateway.settle()
        return success(data)

    async def body() -> bytes:
        content: bytes = await request.get_data(cache=True, as_text=False, parse_form_data=False)
        return content

    def is_compact() -> bool:
        return request.args.get("mode") == "compact"

    @app.post("/margins/orders")
    async def order_margins() -> Response:
        gateway.reader()
        asked, now = await body(), clock.now()
        data = exchange.calculators.order_margins(asked, exchange.roll(now), now, is_compact=is_compact())
        return await settled(data)

    @app.post("/margins/basket")
    async def basket_margins() -> Response:
        account = gateway.reader()
        asked, now = await body(), clock.now()
        master = exchange.roll(now)
        held = exchange.state.portfolios[account.user_id] if wants(request.args, "consider_positions") else None
        data = exchange.calculators.basket_margins(asked, held, master, now, is_compact=is_compact())
        return await settled(data)

    @app.post("/charges/orders")
    async def order_charges() -> Response:
        gateway.reader()
        asked, now = await body(), clock.now()
        return await settled(exchange.calculators.order_charges(asked, exchange.roll(now), now))

    @app.get("/instruments/trigger_range/<side>")
    async def trigger_ranges(side: str) -> Response:
        gateway.reader()
        now = clock.now()
        names = request.args.getlist("i")
        return await settled(exchange.calculators.trigger_ranges(side, names, exchange.roll(now), now))
