"""KiteBroker: one Zerodha account, or one of any exchange that speaks Kite Connect v3.

Writes go over the order wire, reads over `KiteReads`; both may be shared by all accounts of an
origin. It keeps no state but the session: what an outcome means is the executor's to decide.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import TypeVar
from urllib.parse import quote

import trio

from engine import __version__
from engine.broker.base import Broker, BrokerAuthError, OrderNotCommitted
from engine.broker.book import Book
from engine.broker.kite import codec, routes
from engine.broker.kite.errors import classify
from engine.broker.kite.forms import (
    OrderNotEncodable,
    checked_order_id,
    checked_trigger_id,
    gtt_form,
    place_form,
    replace_form,
)
from engine.broker.kite.instruments import parse_instruments
from engine.broker.kite.kept_book import KeptBook
from engine.broker.kite.origin import Origin
from engine.broker.kite.read_pacer import ReadPacer
from engine.broker.kite.reads import KiteReads, Params, ReadRateLimited
from engine.broker.kite.ticker import Ticket
from engine.broker.kite.wire import OrderWire
from engine.broker.outcome import Gate, PlaceOutcome, RefusalCode, Refused, WriteOutcome, always_open
from engine.broker.values import (
    BrokerHolding,
    BrokerMargins,
    BrokerOrder,
    BrokerPositions,
    BrokerProfile,
    BrokerTrade,
)
from engine.clock import Clock
from engine.domain.enums import OrderStatus, OrderType, Validity, Variety
from engine.domain.gtt import BrokerGtt, Gtt, GttStatus
from engine.domain.instruments import Instrument
from engine.domain.live_units import Bounds
from engine.domain.order import Order
from engine.errors import BrokerUnavailable, ConfigError

T = TypeVar("T")

_USER_AGENT = f"trading-execution-engine/{__version__}"
_PRICES_PER_CALL = 1000
_QUOTES_PER_CALL = 500
# Above this a body takes milliseconds to decode, which is for a worker thread.
_THREAD_FROM_BYTES = 64 * 1024
_TRIGGER = "trigger_id"
_PLACE_PATHS = {variety: routes.ORDER_PLACE.format(variety=variety) for variety in Variety}


class KiteBroker(Broker):
    """A Broker (engine.broker.base) over Kite Connect v3.

    *root_url* is the API's origin: HTTPS, or HTTP on loopback. *access_token* may be None until
    somebody logs in: writes are then refused with ``auth_blocked``, reads raise BrokerAuthError.
    *timeout_s* bounds a write. *wire* and *reads*, when given, are shared and stay open on aclose: with
    many accounts always share them, for each loads the certificate store and keeps its own pool.
    *read_pacer* is that of the API key, which outlives sessions; without one reads are not paced.
    Raises ConfigError for an unusable address or token.
    """

    def __init__(
        self,
        root_url: str,
        api_key: str,
        access_token: str | None,
        clock: Clock,
        timeout_s: float = routes.DEFAULT_TIMEOUT_S,
        *,
        wire: OrderWire | None = None,
        reads: KiteReads | None = None,
        read_pacer: ReadPacer | None = None,
    ) -> None:
        origin = Origin.parse(root_url)
        self._clock = clock
        self._api_key = _header_safe("api_key", api_key)
        self._owned_wire = wire is None
        self._owned_reads = reads is None
        self._wire = wire or OrderWire(origin, timeout_s=timeout_s)
        self._reads = reads or KiteReads(origin, timeout_s=timeout_s)
        self._read_pacer = read_pacer
        self._head = (
            f" HTTP/1.1\r\nHost: {origin.authority}\r\nX-Kite-Version: {routes.API_VERSION}\r\n"
            f"User-Agent: {_USER_AGENT}\r\nAccept: application/json\r\nAccept-Encoding: identity\r\n"
        )
        self._orders = KeptBook[BrokerOrder](clock, codec.decode_order_row)
        # a trade without a time has that of its reading
        self._trades = KeptBook[BrokerTrade](clock, codec.decode_trade_row, _has_its_time)
        self._authorization: str | None = None
        self._write_head = ""
        self._read_headers: dict[str, str] = {}
        self.set_access_token(access_token)

    def set_access_token(self, access_token: str | None) -> None:
        """Use *access_token* from the next request on; None when the session ended. Raises ConfigError."""
        if not access_token:
            self._authorization = None
            return
        self._authorization = f"token {self._api_key}:{_header_safe('access_token', access_token)}"
        self._write_head = f"{self._head}Authorization: {self._authorization}\r\n"
        self._read_headers = {
            "X-Kite-Version": routes.API_VERSION,
            "User-Agent": _USER_AGENT,
            "Authorization": self._authorization,
        }

    def ticket(self, ws_url: str) -> Ticket | None:
        """Return what opens this session's ticker at *ws_url*, None while nobody is logged in."""
        if self._authorization is None:
            return None
        return Ticket(url=ws_url, api_key=self._api_key, access_token=self._authorization.rpartition(":")[2])

    async def warm(self, connections: int = 1) -> None:
        """Open order connections ahead of use. Raises OSError or trio.TooSlowError."""
        await self._wire.warm(connections)

    async def place(self, order: Order, gate: Gate) -> PlaceOutcome:
        """Send *order*, the committed row in SUBMITTING; see Broker.place."""
        if order.status is not OrderStatus.SUBMITTING:
            raise OrderNotCommitted(f"order {order.id} is {order.status}; only a committed SUBMITTING row may be sent")
        try:
            form = place_form(order)
        except OrderNotEncodable as exc:
            return _not_encodable(exc)
        return await self._write("POST", _PLACE_PATHS[order.variety], form, gate)

    async def cancel(
        self, broker_order_id: str, variety: Variety, *, parent_order_id: str | None = None, gate: Gate | None = None
    ) -> WriteOutcome:
        """Ask to cancel an order; see Broker.cancel."""
        try:
            path = routes.ORDER_CANCEL.format(variety=variety, order_id=checked_order_id(broker_order_id))
            if parent_order_id is not None:
                path += f"?parent_order_id={checked_order_id(parent_order_id)}"
        except OrderNotEncodable as exc:
            return _not_encodable(exc)
        return await self._write("DELETE", path, b"", gate or always_open, change=True)

    async def replace(
        self,
        broker_order_id: str,
        variety: Variety,
        *,
        quantity: int | None = None,
        price: Decimal | None = None,
        trigger_price: Decimal | None = None,
        order_type: OrderType | None = None,
        validity: Validity | None = None,
        market_protection: Decimal | None = None,
        gate: Gate | None = None,
    ) -> WriteOutcome:
        """Ask to change an open order; see Broker.replace."""
        try:
            form = replace_form(
                broker_order_id,
                variety,
                quantity=quantity,
                price=price,
                trigger_price=trigger_price,
                order_type=order_type,
                validity=validity,
                market_protection=market_protection,
            )
        except OrderNotEncodable as exc:
            return _not_encodable(exc)
        path = routes.ORDER_MODIFY.format(variety=variety, order_id=broker_order_id)
        return await self._write("PUT", path, form, gate or always_open, change=True)

    async def place_gtt(self, gtt: Gtt, gate: Gate) -> WriteOutcome:
        """Send *gtt*, the committed row in SUBMITTING; see Broker.place_gtt."""
        if gtt.status is not GttStatus.SUBMITTING:
            raise OrderNotCommitted(f"GTT {gtt.id} is {gtt.status}; only a committed SUBMITTING row may be sent")
        try:
            form = gtt_form(gtt)
        except OrderNotEncodable as exc:
            return _not_encodable(exc)
        return await self._write("POST", routes.GTT_PLACE, form, gate, key=_TRIGGER)

    async def replace_gtt(self, trigger_id: str, gtt: Gtt, gate: Gate) -> WriteOutcome:
        """Ask to give a trigger the terms of *gtt*; see Broker.replace_gtt."""
        try:
            path = routes.GTT_MODIFY.format(trigger_id=checked_trigger_id(trigger_id))
            form = gtt_form(gtt)
        except OrderNotEncodable as exc:
            return _not_encodable(exc)
        return await self._write("PUT", path, form, gate, change=True, key=_TRIGGER)

    async def cancel_gtt(self, trigger_id: str, gate: Gate | None = None) -> WriteOutcome:
        """Ask to end a trigger; see Broker.cancel_gtt."""
        try:
            path = routes.GTT_DELETE.format(trigger_id=checked_trigger_id(trigger_id))
        except OrderNotEncodable as exc:
            return _not_encodable(exc)
        return await self._write("DELETE", path, b"", gate or always_open, change=True, key=_TRIGGER)

    async def gtts(self) -> list[BrokerGtt]:
        """Return the triggers that are active or ended lately."""
        return await _decoded(codec.decode_gtts, await self._look(routes.GTTS))

    async def orders(self) -> Book[BrokerOrder]:
        """Return the order book of the day."""
        book, known = await _decoded(self._orders.read, await self._look(routes.ORDERS))
        self._orders.keep(known)
        return book

    async def order_history(self, broker_order_id: str) -> list[BrokerOrder]:
        """Return the snapshots of one order, oldest first."""
        return codec.decode_orders(await self._look(_path_of(routes.ORDER_INFO, broker_order_id)))

    async def trades(self) -> Book[BrokerTrade]:
        """Return the trade book of the day."""
        book, known = await _decoded(self._trades.read, await self._look(routes.TRADES))
        self._trades.keep(known)
        return book

    async def order_trades(self, broker_order_id: str) -> list[BrokerTrade]:
        """Return the trades of one order."""
        body = await self._look(_path_of(routes.ORDER_TRADES, broker_order_id))
        return codec.decode_trades(body, self._clock.now())

    async def positions(self) -> BrokerPositions:
        """Return net and day positions."""
        return codec.decode_positions(await self._look(routes.POSITIONS))

    async def holdings(self) -> list[BrokerHolding]:
        """Return the shares in the demat account."""
        return codec.decode_holdings(await self._get(routes.HOLDINGS))

    async def instruments(self, exchange: str | None = None) -> list[Instrument]:
        """Return the instruments of *exchange*, or of all, with its indices."""
        path = (
            routes.INSTRUMENTS if exchange is None else routes.INSTRUMENTS_OF.format(exchange=quote(exchange, safe=""))
        )
        return await _decoded(parse_instruments, await self._get(path))

    async def last_prices(self, keys: Sequence[str]) -> dict[str, Decimal]:
        """Return last prices of *keys*, 1000 to a call, one call a second."""
        found: dict[str, Decimal] = {}
        for start in range(0, len(keys), _PRICES_PER_CALL):
            params = [("i", key) for key in keys[start : start + _PRICES_PER_CALL]]
            found.update(codec.decode_last_prices(await self._get(routes.LAST_PRICES, params)))
        return found

    async def price_bounds(self, keys: Sequence[str]) -> dict[str, Bounds]:
        """Return the circuit limits of up to 500 *keys*, in one call."""
        params = [("i", key) for key in keys[:_QUOTES_PER_CALL]]
        return codec.decode_price_bounds(await self._get(routes.QUOTES, params))

    async def margins(self) -> BrokerMargins:
        """Return the funds of the account."""
        return codec.decode_margins(await self._get(routes.MARGINS))

    async def profile(self) -> BrokerProfile:
        """Return whose session it is."""
        return codec.decode_profile(await self._get(routes.PROFILE))

    async def aclose(self) -> None:
        """Close what is not shared."""
        self._orders.forget()
        self._trades.forget()
        if self._owned_wire:
            await self._wire.aclose()
        if self._owned_reads:
            await self._reads.aclose()

    async def _write(
        self, method: str, path: str, form: bytes, gate: Gate, *, change: bool = False, key: str = "order_id"
    ) -> WriteOutcome:
        if self._authorization is None:
            return Refused(code=RefusalCode.TOKEN_DEAD, message="no access token: log in first", auth_blocked=True)
        if form:
            head = (
                f"{method} {path}{self._write_head}Content-Type: application/x-www-form-urlencoded\r\n"
                f"Content-Length: {len(form)}\r\n\r\n"
            )
        else:
            head = f"{method} {path}{self._write_head}\r\n"
        answer = await self._wire.send(head.encode("ascii") + form, gate)
        return classify(
            status=answer.status,
            content_type=answer.content_type,
            body=answer.body,
            bytes_written=answer.bytes_written,
            failure=answer.failure,
            detail=answer.detail,
            change=change,
            key=key,
        )

    async def _get(self, path: str, params: Params = ()) -> bytes:
        return await self._read(path, partial(self._reads.get, params=params))

    async def _look(self, path: str) -> bytes:
        return await self._read(path, self._reads.look)

    async def _read(self, path: str, read: Callable[..., Awaitable[bytes]]) -> bytes:
        if self._authorization is None:
            raise BrokerAuthError(f"{path}: no access token: log in first")
        pacer = self._read_pacer
        if pacer is None:
            return await read(path, headers=self._read_headers)
        await pacer.turn(path)
        try:
            return await read(path, headers=self._read_headers)
        except ReadRateLimited:
            pacer.limited(path)
            raise


def _has_its_time(trade: BrokerTrade, now: datetime) -> bool:
    return trade.filled_at is not now


def _path_of(route: str, broker_order_id: str) -> str:
    try:
        return route.format(order_id=checked_order_id(broker_order_id))
    except OrderNotEncodable as exc:
        raise BrokerUnavailable(str(exc)) from exc


async def _decoded(decode: Callable[[bytes], T], body: bytes) -> T:
    if len(body) < _THREAD_FROM_BYTES:
        return decode(body)
    return await trio.to_thread.run_sync(decode, body)


def _not_encodable(exc: OrderNotEncodable) -> Refused:
    return Refused(code=RefusalCode.NOT_ENCODABLE, message=str(exc))


def _header_safe(key: str, value: str) -> str:
    if not value or not value.isascii() or not value.isprintable() or " " in value or ":" in value:
        raise ConfigError(f"broker.kite {key}: expected printable ASCII without blanks and colons")
    return value
