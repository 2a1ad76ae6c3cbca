"""Kite's routes of good-till-triggered orders."""

from typing import Any

from quart import Response
from quart_trio import QuartTrio

from engine.exchange.web import Gateway, form_fields, success


def add_gtt_routes(app: QuartTrio, gateway: Gateway) -> None:
    """Add the making, reading, changing and deleting of triggers to *app*."""
    exchange, clock = gateway.exchange, gateway.clock

    async def settled(data: Any) -> Response:
        await gateway.settle()
        return success(data)

    @app.get("/gtt/triggers")
    async def triggers() -> Response:
        return await settled(exchange.gtts.rows(gateway.reader(), clock.now()))

    @app.post("/gtt/triggers")
    async def place_trigger() -> Response:
        account, form, now = gateway.reader(), await form_fields(), clock.now()
        return await settled(exchange.gtts.place(account, form, exchange.roll(now), now))

    @app.get("/gtt/triggers/<int:trigger_id>")
    async def trigger(trigger_id: int) -> Response:
        return await settled(exchange.gtts.row(gateway.reader(), trigger_id))

    @app.put("/gtt/triggers/<int:trigger_id>")
    async def modify_trigger(trigger_id: int) -> Response:
        account, form, now = gateway.reader(), await form_fields(), clock.now()
        return await settled(exchange.gtts.modify(account, trigger_id, form, exchange.roll(now), now))

    @app.delete("/gtt/triggers/<int:trigger_id>")
    async def delete_trigger(trigger_id: int) -> Response:
        return await settled(exchange.gtts.delete(gateway.reader(), trigger_id, clock.now()))
