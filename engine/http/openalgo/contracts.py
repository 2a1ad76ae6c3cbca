"""symbol, search, expiry, optionsymbol: what today's instrument master has, by OpenAlgo's names."""

from decimal import Decimal
from functools import partial

import trio

from engine.domain.calendar import Calendar
from engine.domain.contracts import choose, parse_contract, spot_key
from engine.domain.denial import Denial
from engine.domain.enums import Exchange
from engine.domain.instruments import Instrument
from engine.domain.openalgo_symbols import (
    INDEX_EXCHANGES,
    dashed_expiry,
    expiry_date,
    expiry_word,
    find,
    name_of,
    readings,
)
from engine.domain.signal import Refusal
from engine.errors import BadRequestError, NotFoundError
from engine.http.endpoint import ApiRequest
from engine.http.openalgo.answers import ExpiryAnswer, OptionSymbolAnswer, SearchAnswer, SymbolAnswer, SymbolRow
from engine.http.openalgo.bodies import ExpiryBody, OptionSymbolBody, SearchBody, SymbolBody
from engine.http.openalgo.door import Fields, check_loaded, enter, only, openalgo, refused
from engine.http.permissions import Permission
from engine.http.services import Services
from engine.http.views.numbers import tidy
from engine.signals.openalgo import word

_MOST_FOUND = 200
_KINDS = {"futures": ("FUT",), "options": ("CE", "PE")}
_OPTIONS_OF = {
    **{"NSE_INDEX": Exchange.NFO, "NSE": Exchange.NFO, "NFO": Exchange.NFO},
    **{"BSE_INDEX": Exchange.BFO, "BSE": Exchange.BFO, "BFO": Exchange.BFO},
}
"""Where the options are listed on what is listed where; of commodities and currencies OpenAlgo knows none."""


@openalgo(
    "/symbol",
    needs=Permission.READ,
    summary="Show an instrument (OpenAlgo)",
    body=SymbolBody,
    response=SymbolAnswer,
)
async def symbol(request: ApiRequest) -> SymbolAnswer:
    """One instrument with lot, tick, freeze quantity and the broker's name."""
    fields = enter(request, Permission.READ)
    services: Services = request.services
    name, exchange = _word(fields, "symbol"), _word(fields, "exchange")
    only(fields, "symbol", "exchange")
    check_loaded(services)
    found = find(services.master.book, exchange, name)
    if isinstance(found, Refusal):
        raise NotFoundError(found.message, code=found.code)
    return SymbolAnswer(status="success", data=_row(services, found))


@openalgo(
    "/search",
    needs=Permission.READ,
    summary="Find instruments (OpenAlgo)",
    body=SearchBody,
    response=SearchAnswer,
)
async def search(request: ApiRequest) -> SearchAnswer:
    """Instruments of which symbol, name and type hold every word of the query, the best first, at most 200."""
    fields = enter(request, Permission.READ)
    services: Services = request.services
    query = _word(fields, "query", most=100)
    exchange = _word(fields, "exchange") if fields.get("exchange") not in (None, "") else None
    only(fields, "query", "exchange")
    check_loaded(services)
    at = None
    if exchange is not None:
        at = INDEX_EXCHANGES.get(exchange) or next((known for known in Exchange if known == exchange), None)
        if at is None:
            raise refused(Refusal(code="INVALID_VALUE", message=f"exchange {exchange} is not known", field="exchange"))
    kind = "INDEX" if exchange in INDEX_EXCHANGES else None
    look = partial(services.master.index.find, query, exchange=at, kind=kind, limit=_MOST_FOUND)
    found = [row.instrument for row in await trio.to_thread.run_sync(look)]
    rows = tuple(_row(services, instrument) for instrument in found)
    if exchange is not None:
        rows = tuple(row for row in rows if row.exchange == exchange)
    return SearchAnswer(status="success", message=f"Found {len(rows)} matching symbols", data=rows)


@openalgo(
    "/expiry",
    needs=Permission.READ,
    summary="List expiries (OpenAlgo)",
    body=ExpiryBody,
    response=ExpiryAnswer,
)
async def expiry(request: ApiRequest) -> ExpiryAnswer:
    """Expiries of the futures or options on an underlying that today's master lists."""
    fields = enter(request, Permission.READ)
    services: Services = request.services
    underlying, exchange = _word(fields, "symbol"), _word(fields, "exchange")
    kind = _word(fields, "instrumenttype").lower()
    only(fields, "symbol", "exchange", "instrumenttype")
    check_loaded(services)
    if kind not in _KINDS:
        raise refused(
            Refusal(code="INVALID_VALUE", message="instrumenttype must be futures or options", field="instrumenttype")
        )
    at = next((known for known in Exchange if known == exchange), None)
    days = (
        set()
        if at is None
        else {day for each in _KINDS[kind] for day in services.master.book.contracts(at, underlying, each)}
    )
    if not days:
        raise NotFoundError(f"{exchange} lists no {kind} on {underlying}; check both")
    message = f"Found {len(days)} expiry dates for {underlying} {kind} in {exchange}"
    return ExpiryAnswer(status="success", message=message, data=tuple(dashed_expiry(day) for day in sorted(days)))


@openalgo(
    "/optionsymbol",
    needs=Permission.READ,
    summary="Find an option by its distance from the money (OpenAlgo)",
    body=OptionSymbolBody,
    response=OptionSymbolAnswer,
)
async def option_symbol(request: ApiRequest) -> OptionSymbolAnswer:
    """The option that is so many strikes from the one nearest to the underlying's last price."""
    fields = enter(request, Permission.READ)
    services: Services = request.services
    exchange = _word(fields, "exchange")
    name = _word(fields, "underlying")
    text = _word(fields, "expiry_date") if fields.get("expiry_date") not in (None, "") else None
    offset, kind = _word(fields, "offset"), _word(fields, "option_type")
    only(fields, "exchange", "underlying", "expiry_date", "offset", "option_type", "strategy", "strike_int")
    check_loaded(services)
    at = _OPTIONS_OF.get(exchange)
    if at is None:
        message = f"exchange {exchange} must be one of {', '.join(_OPTIONS_OF)}"
        raise refused(Refusal(code="INVALID_VALUE", message=message, field="exchange"))
    day = None if text is None else expiry_date(text)
    future = next(iter(readings(name)), None)
    if future is not None and future.kind == "FUT":
        name, day = future.underlying, day or future.expiry
    if day is None:
        message = "expiry_date must be written as 28MAR24, unless underlying is a future"
        raise refused(Refusal(code="INVALID_VALUE", message=message, field="expiry_date"))
    contract = parse_contract(f"{name} {expiry_word(day)} {offset} {kind}")
    if contract is None or contract.level is None or "+" in offset or "-" in offset:
        message = "offset must be ATM, ITM1 to ITM50 or OTM1 to OTM50, and option_type CE or PE"
        raise refused(Refusal(code="INVALID_VALUE", message=message, field="offset"))
    calendar: Calendar = services.extras["calendar"]
    now, book = services.clock.now(), services.master.book
    key = spot_key(contract, exchange=at, book=book, now=now, calendar=calendar)
    if isinstance(key, Denial):
        raise BadRequestError(key.text, code=key.code)
    spot: Decimal | None = None if key is None else await services.prices.ensure(key)
    chosen = choose(contract, exchange=at, book=book, spot=spot, now=now, calendar=calendar)
    if isinstance(chosen, Denial):
        raise BadRequestError(chosen.text, code=chosen.code)
    row = _row(services, chosen.instrument)
    return OptionSymbolAnswer(
        status="success",
        symbol=row.symbol,
        exchange=row.exchange,
        lotsize=row.lotsize,
        tick_size=row.tick_size,
        freeze_qty=row.freeze_qty,
        underlying_ltp=spot or Decimal(0),
    )


def _row(services: Services, plain: Instrument) -> SymbolRow:
    instrument = services.master.book.get(plain.exchange, plain.symbol) or plain
    name = name_of(instrument)
    return SymbolRow(
        id=instrument.token,
        name=instrument.name,
        symbol=name.symbol,
        brsymbol=instrument.symbol,
        exchange=name.exchange,
        brexchange=instrument.exchange.value,
        instrumenttype=instrument.instrument_type,
        expiry="" if instrument.expiry is None else dashed_expiry(instrument.expiry),
        strike=tidy(instrument.strike or Decimal(0)),
        lotsize=instrument.lot_size,
        tick_size=tidy(instrument.tick_size),
        freeze_qty=instrument.freeze_quantity,
        token=str(instrument.token),
    )


def _word(fields: Fields, name: str, *, most: int = 50) -> str:
    found = word(fields, name, most=most)
    if isinstance(found, Refusal):
        raise refused(found)
    return found.upper()
