"""Kite's routes of orders and trades."""

from typing import Any

from quart import Response, request
from quart_trio import QuartTrio

from engine.exchange.core import Action
from engine.exchange.web import Gateway, form_fields, success, success_encoded


def add_order_routes(app: QuartTrio, gateway: Gateway) -> None:
    """Add placing, modifying, cancelling and the reading of orders and trades to *app*."""
    exchange, clock = gateway.exchange, gateway.clock

    async def write(action: Action, variety: str, order_id: str | None) -> Response:
        params = await form_fields()
        if action == "cancel":
            params |= request.args.to_dict()
        header = request.headers.get("Authorization", "")
        address = (request.scope.get("client") or (None,))[0]
        data = exchange.request_order(action, header, variety, order_id, params, clock.now(), address)
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
